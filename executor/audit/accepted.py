"""The policy's list of known escapes of container runtimes that the operator accepts, by name. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

UNKNOWN_VERSION = "unknown-version"  # of a runtime that does not say which version it is
_NAME = re.compile(r"CVE-\d{4}-\d{4,}")


def _names(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if name != UNKNOWN_VERSION and not _NAME.fullmatch(name):
            raise ValueError(f'{name!r:.60} is no name of an escape: write "CVE-YYYY-NNNN" or "{UNKNOWN_VERSION}"')
    return value


AcceptedEscapes = Annotated[tuple[str, ...], Field(max_length=256), AfterValidator(_names)]
"""See executor/sandbox/escapes.py for those that are known."""
