"""Whom an operator opens his own data and secrets to. Closed by default: what names nobody opens to nobody. Pure.

The requester and the callback contract are those that the chain knows (`NodeConfig.rpc_url`), never the bridge's word.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.leases import Address
from executor.protocol.spec import DockerEngine, JobSpec, is_image
from executor.protocol.wire import Request

MAX_LISTED = 4096
MIN_SECRET_BYTES = 8
"""A shorter one cannot be looked for in an output without finding it where it is not."""
MAX_SECRET_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def _cid(value: str) -> str:
    try:
        return str(Cid.parse(value))
    except InvalidInput as exc:
        raise ValueError(exc.problem) from exc


def _image(value: str) -> str:
    if not is_image(value):
        raise ValueError("must be sha256:<64 hex> or name@sha256:<64 hex>, as it stands in specs; a tag can change")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r:.80} is no name: small letters, digits, '.', '_' and '-', at most 63")
    return value


CidText = Annotated[str, AfterValidator(_cid)]
ImageText = Annotated[str, AfterValidator(_image)]
Name = Annotated[str, AfterValidator(_name)]


class Opening(BaseModel):
    """To whose jobs, and to which programs. Both must be named; `contracts` narrows it further where it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requesters: tuple[Address, ...] = Field(default=(), max_length=MAX_LISTED)
    contracts: tuple[Address, ...] = Field(default=(), max_length=MAX_LISTED)  # called back; "none" is the zero address
    images: tuple[ImageText, ...] = Field(default=(), max_length=MAX_LISTED)
    programs: tuple[CidText, ...] = Field(default=(), max_length=MAX_LISTED)  # wasm modules

    @property
    def is_shut(self) -> bool:
        """Whether it opens to nobody at all."""
        return not self.requesters or not (self.images or self.programs)

    def admits(self, request: Request, job: JobSpec) -> bool:
        """Whether it opens to this job of this requester."""
        if request.requester not in self.requesters:
            return False
        if self.contracts and request.order.callback not in self.contracts:
            return False
        if isinstance(job.engine, DockerEngine):
            return job.engine.image in self.images
        return str(job.engine.module) in self.programs


class SecretRules(Opening):
    """A secret of the operator's: a file on this node (mode 0600 or 0400), and who may refer to it by its name."""

    file: str = Field(min_length=1)  # relative to the node's work folder
