"""What an output may look like to leave the node, as data. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from executor.audit.patterns import BadPattern, compiled

SecretForm = Literal["private-key", "aws-key", "ethereum-keystore"]
MAX_PATTERNS = 32


class ArchiveRules(BaseModel):
    """How far the audit looks into zip, tar, gzip, zlib, bzip2 and xz; what goes beyond breaks a rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=2**30, ge=0)  # unpacked, all archives of an output together
    max_ratio: int = Field(default=200, ge=1)  # unpacked to packed, of one file; looked at from 1 MiB on
    max_entries: int = Field(default=100_000, ge=0)  # members, all archives of an output together
    max_depth: int = Field(default=4, ge=0, le=16)  # archives within archives
    unreadable: Literal["allow", "withhold"] = "allow"  # encrypted, damaged or packed in a way that is not known


class OutputRules(BaseModel):
    """What an output may look like to leave the node. Breaking one withholds the whole output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=256 * 2**20, ge=0)  # with stdout and stderr
    max_files: int = Field(default=10_000, ge=0)  # files and directories
    max_depth: int = Field(default=32, ge=1, le=200)  # levels of directories
    max_path_bytes: int = Field(default=1024, ge=1)
    denied_names: tuple[str, ...] = Field(default=(), max_length=256)  # patterns like *.exe, for any part of a path
    allow_empty: bool = True
    allowed_types: tuple[str, ...] = Field(default=(), max_length=256)  # by content, like text or image/*; empty: all
    denied_types: tuple[str, ...] = Field(default=(), max_length=256)
    denied_patterns: tuple[str, ...] = Field(default=(), max_length=MAX_PATTERNS)  # `executor.audit.patterns`
    secret_forms: tuple[SecretForm, ...] = ("private-key", "aws-key", "ethereum-keystore")
    archives: ArchiveRules = ArchiveRules()

    @field_validator("denied_patterns")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                compiled(pattern)
            except BadPattern as exc:
                raise ValueError(f"{pattern!r:.100}: {exc}") from exc
        return value
