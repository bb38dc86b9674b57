"""Image archives as no builder makes them: any member in a layer, any setting in the config, any number of layers."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from bridge.demo.image import CREATED, go_architecture


@dataclass(frozen=True)
class Member:
    """One member of a layer. link: its target, of a link; kind: of tarfile; pax: extended attributes."""

    name: str
    data: bytes = b""
    mode: int = 0o755
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    pax: tuple[tuple[str, str], ...] = ()


def folder(name, mode=0o755):
    return Member(f"{name}/", mode=mode, kind=tarfile.DIRTYPE)


def link(name, target):
    return Member(name, kind=tarfile.SYMTYPE, link=target)


def archive(path: Path, *layers, **config):
    """Write the archive of an image with these layers, each a list of members; its id."""
    packed = [_tar(layer) for layer in layers]
    raw = json.dumps(
        {
            "architecture": go_architecture(),
            "config": {"Env": ["PATH=/"], "WorkingDir": "/", **config},
            "created": CREATED,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in packed]},
        }
    ).encode()
    digest = hashlib.sha256(raw).hexdigest()
    names = [f"{number}/layer.tar" for number in range(len(packed))]
    manifest = json.dumps([{"Config": f"{digest}.json", "Layers": names, "RepoTags": None}]).encode()
    members = [(f"{digest}.json", raw), *zip(names, packed, strict=True), ("manifest.json", manifest)]
    path.write_bytes(_tar([Member(name, data) for name, data in members]))
    return f"sha256:{digest}"


def _tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as into:
        for one in members:
            member = tarfile.TarInfo(one.name)
            member.type, member.mode, member.linkname, member.size = one.kind, one.mode, one.link, len(one.data)
            member.pax_headers = dict(one.pax)
            into.addfile(member, io.BytesIO(one.data))
    return out.getvalue()
