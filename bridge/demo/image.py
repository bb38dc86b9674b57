"""A container image from nothing but a static binary: an archive for `docker load`, reproducible.

`docker import` stamps the time into an image, so its id differs each time. Here config and layer are written by hand,
and the id is the SHA-256 of the config: https://github.com/moby/docker-image-spec/blob/main/v1.2.md
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Final

from executor.errors import InvalidInput

CREATED: Final = "2026-01-01T00:00:00Z"
_FOLDERS: Final = ("inputs", "outputs", "tmp")


def build_image_archive(binary: Path, target: Path, program: str = "job", architecture: str = "") -> str:
    """Write to `target` the archive of an image that holds `binary` as /`program`, its entrypoint; the image's full id.

    architecture: in Go's words (amd64, arm64), of the binary; empty: this machine's.
    """
    layer = _layer(binary.read_bytes(), program)
    config = {
        "architecture": architecture or go_architecture(),
        "config": {"Entrypoint": [f"/{program}"], "Env": ["PATH=/"], "WorkingDir": "/"},
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": "insula demo"}],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"], "type": "layers"},
    }
    raw = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(raw).hexdigest()
    manifest = [{"Config": f"{digest}.json", "Layers": ["layer.tar"], "RepoTags": None}]
    members = {
        f"{digest}.json": raw,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode(),
    }
    target.write_bytes(_tar([(_member(name, len(data)), data) for name, data in members.items()]))
    return f"sha256:{digest}"


def build_demo_image(target: Path) -> str:
    """Build the demo's image from the static binary of `programs/histogram.c` for this machine; its full id.

    The binary is part of the package, so that the demo needs no compiler. InvalidInput for another processor.
    """
    binary = Path(__file__).parent / "programs" / f"histogram-{go_architecture()}"
    if not binary.exists():
        raise InvalidInput("image", f"the demo has no binary for {platform.machine()}; it has amd64 and arm64")
    return build_image_archive(binary, target, "histogram")


def go_architecture() -> str:
    """This machine's processor as images name it."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _layer(binary: bytes, program: str) -> bytes:
    folders = [(_member(f"{name}/", 0, tarfile.DIRTYPE), b"") for name in _FOLDERS]
    return _tar([*folders, (_member(program, len(binary)), binary)])


def _member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """Owned by root, readable and executable by all, of no time."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode, member.mtime = kind, size, 0o755, 0
    return member


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
