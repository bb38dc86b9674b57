"""An operator's scanners: programs of his own that judge an output in a sandbox, and what their word counts. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_SCANNERS: Final = 8
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_IMAGE: Final = re.compile(r"(?:[a-z0-9][a-z0-9._/:-]*@)?sha256:[0-9a-f]{64}")


class Scanner(BaseModel):
    """One scanner: a WASI module of the node's disk, or an image that its engine has.

    It is named by its hash, so that the policy's own hash says what judges. Limits are as of a job.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    module: str = ""  # a file, relative to the node's folder
    sha256: str = ""  # of the module, hex
    image: str = ""  # sha256:... or name@sha256:...
    tier: Literal["container", "gvisor"] = "container"  # of an image
    args: tuple[str, ...] = Field(default=(), max_length=64)
    on_finding: Literal["withhold", "hold"] = "withhold"  # "hold": the signers decide; see [release]
    wall_seconds: int = Field(default=60, ge=1, le=3600)
    cpu_millis: int = Field(default=1000, ge=100)
    memory_bytes: int = Field(default=256 * 2**20, ge=16 * 2**20)
    pids: int = Field(default=64, ge=1, le=4096)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name is a-z, 0-9 and hyphens, at most 40 characters")
        return value

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        if value and not _IMAGE.fullmatch(value):
            raise ValueError("must be sha256:<64 hex> or name@sha256:<64 hex>; tags can change")
        return value

    @field_validator("sha256")
    @classmethod
    def _sha256(cls, value: str) -> str:
        if value and not _SHA256.fullmatch(value):
            raise ValueError("must be 64 hex digits, of the module's SHA-256")
        return value

    @model_validator(mode="after")
    def _one_program(self) -> Self:
        if bool(self.module) == bool(self.image):
            raise ValueError("name one program: a module with its sha256, or an image")
        if bool(self.module) != bool(self.sha256):
            raise ValueError("sha256: a module is named with the SHA-256 of its bytes, an image says its own")
        return self

    @property
    def program(self) -> str:
        """What runs, by its hash."""
        return self.image or f"sha256:{self.sha256}"

    @property
    def needed_tier(self) -> str:
        """The sandbox that it runs in."""
        return self.tier if self.image else "wasm"


def scanners_problem(scanners: tuple[Scanner, ...], release_mode: str) -> str:
    """What is wrong with them as a whole; empty where nothing is."""
    names = [scanner.name for scanner in scanners]
    if len(set(names)) != len(names):
        return "scanners: two have the same name"
    if release_mode == "automatic" and any(scanner.on_finding == "hold" for scanner in scanners):
        return 'scanners: on_finding = "hold" needs signers who decide; set [release] mode'
    return ""
