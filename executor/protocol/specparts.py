"""What every dialect of job specs is read with: strict JSON, the limits, and the refusal that nodes attest. Pure."""

from __future__ import annotations

from typing import Any, NoReturn

from executor.errors import InvalidInput
from executor.protocol.canonical import DepthError, DuplicateKeyError, strict_json
from executor.protocol.reasons import Reason

MAX_SPEC_BYTES_BY_CID = 256 * 1024
MAX_INPUTS = 16
MAX_ARGS = 64
MAX_ENV = 64
MAX_STRING_BYTES = 4096

#: limit -> (default, smallest, largest), in the unit that its name says
LIMITS: dict[str, tuple[int, int, int]] = {
    "wallSeconds": (60, 1, 86_400),
    "cpuMillis": (1000, 100, 64_000),
    "memoryBytes": (256 * 2**20, 16 * 2**20, 64 * 2**30),
    "diskBytes": (64 * 2**20, 0, 64 * 2**30),
    "outputFiles": (1024, 0, 100_000),
    "logBytes": (64 * 2**10, 0, 16 * 2**20),
    "pids": (64, 1, 4096),
}


class InvalidSpec(InvalidInput):
    """The job spec can never run. `reason` is what nodes attest; `field` is a path like `engine.module`."""

    def __init__(self, reason: Reason, path: str, problem: str) -> None:
        super().__init__(path or "spec", problem)
        self.reason = reason


def parse_json(data: bytes, max_bytes: int) -> Any:
    """The JSON value of a spec's bytes; InvalidSpec for whatever is not one that all parsers read alike."""
    if len(data) > max_bytes:
        refuse(Reason.SPEC_TOO_LARGE, "", f"the spec has {len(data)} bytes; at most {max_bytes} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidSpec(Reason.SPEC_NOT_UTF8, "", f"byte {exc.start} is not UTF-8") from exc
    try:
        return strict_json(text)
    except DuplicateKeyError as exc:
        raise InvalidSpec(Reason.SPEC_DUPLICATE_KEY, f"{exc.key:.80}", "stands twice in one object") from exc
    except DepthError as exc:
        raise InvalidSpec(Reason.SPEC_TOO_LARGE, "", f"the spec is {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidSpec(Reason.SPEC_NOT_JSON, "", f"the spec is not JSON: {exc!s:.120}") from exc


def refuse(reason: Reason, path: str, problem: str) -> NoReturn:
    """Raise InvalidSpec."""
    raise InvalidSpec(reason, path, problem)


def string_of(value: Any, path: str, max_bytes: int = MAX_STRING_BYTES) -> str:
    """A value that has to be a string without NUL. InvalidSpec."""
    if not isinstance(value, str):
        refuse(Reason.SPEC_INVALID_FIELD, path, "must be a string")
    if "\0" in value:
        refuse(Reason.SPEC_INVALID_FIELD, path, "holds a NUL character")
    if len(value.encode()) > max_bytes:
        refuse(Reason.SPEC_INVALID_FIELD, path, f"is longer than {max_bytes} bytes")
    return value
