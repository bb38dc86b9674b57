"""Image archives (`docker save`) are checked before the engine sees them: all that is in them follows from the id.

The config's SHA-256 is the id; the config names the SHA-256 of each layer. So an archive that passes holds that image
and nothing else: no names (they could replace the node's own images), no second image, no links, nothing compressed.
Source: https://github.com/moby/docker-image-spec/blob/main/v1.2.md
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executor.errors import InsulaError
from executor.protocol.canonical import strict_json

MAX_MEMBERS: Final = 2000
MAX_JSON_BYTES: Final = 4 * 2**20
MAX_JSON_DEPTH: Final = 32
MAX_LAYERS: Final = 128
_CHUNK: Final = 2**20
_KINDS: Final = frozenset((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE))


class BadArchive(InsulaError):
    """An image archive is not what the job says it is, or holds more than one image should."""


@dataclass(frozen=True, slots=True)
class ImageArchive:
    """What an archive holds. config: the image's configuration as JSON."""

    image_id: str
    config: dict[str, Any]


def check_archive(path: Path, max_bytes: int) -> ImageArchive:
    """Read the whole archive once and check every hash in it. Raises BadArchive."""
    if path.stat().st_size > max_bytes:
        raise BadArchive(f"the image archive is larger than {max_bytes} bytes")
    try:
        with tarfile.open(path, "r:") as archive:
            return _check(archive)
    except (tarfile.TarError, EOFError, UnicodeDecodeError, ValueError) as exc:
        raise BadArchive(f"the image archive cannot be read: {exc!s:.200}") from exc


def _check(archive: tarfile.TarFile) -> ImageArchive:
    members = _members(archive)
    manifest = _json(_read(archive, members, "manifest.json"))
    if not isinstance(manifest, list) or len(manifest) != 1 or not isinstance(manifest[0], dict):
        raise BadArchive("manifest.json must list exactly one image")
    entry = manifest[0]
    if entry.get("RepoTags"):
        raise BadArchive("the archive gives its image a name (RepoTags); save it by id: docker save sha256:...")
    raw = _read(archive, members, entry.get("Config"))
    config = _json(raw)
    layers, hashes = entry.get("Layers") or [], _diff_ids(config)
    if len(layers) != len(hashes) or len(layers) > MAX_LAYERS:
        raise BadArchive(f"{len(layers)} layers in the manifest, {len(hashes)} in the config; at most {MAX_LAYERS}")
    for name, expected in zip(layers, hashes, strict=True):
        if f"sha256:{_hash(archive, members, name)}" != expected:
            raise BadArchive(f"layer {name!r:.120} does not hash to the config's {expected!r:.80} (is it compressed?)")
    return ImageArchive(f"sha256:{hashlib.sha256(raw).hexdigest()}", config)


def _members(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):
        if count >= MAX_MEMBERS:
            raise BadArchive(f"more than {MAX_MEMBERS} members")
        if member.type not in _KINDS or member.issparse():
            raise BadArchive(f"member {member.name!r:.120} is neither a plain file nor a folder")
        parts = member.name.rstrip("/").removeprefix("./").split("/")
        name = "/".join(parts)
        if name == "repositories":
            raise BadArchive("the archive names images (repositories); save it by id")
        if name in ("", "."):
            continue
        if ".." in parts or "" in parts or name in members:
            raise BadArchive(f"member {member.name!r:.120} leads elsewhere, or stands there twice")
        members[name] = member
    return members


def _diff_ids(config: Any) -> list[str]:
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    hashes = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(hashes, list) or not all(isinstance(item, str) for item in hashes):
        raise BadArchive("the image's config has no rootfs.diff_ids")
    return hashes


def _json(raw: bytes) -> Any:
    return strict_json(raw.decode(), MAX_JSON_DEPTH)


def _read(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: Any) -> bytes:
    member = members.get(name) if isinstance(name, str) else None
    if member is None or not member.isreg() or member.size > MAX_JSON_BYTES:
        raise BadArchive(f"{name!r:.120} is not in the archive, or larger than {MAX_JSON_BYTES} bytes")
    file = archive.extractfile(member)
    assert file is not None  # noqa: S101 - a regular file
    return file.read()


def _hash(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: Any) -> str:
    member = members.get(name) if isinstance(name, str) else None
    if member is None or not member.isreg():
        raise BadArchive(f"layer {name!r:.120} is not in the archive")
    file = archive.extractfile(member)
    assert file is not None  # noqa: S101 - a regular file
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
