"""Image archives from strangers: what is accepted, and what never reaches the engine."""

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from bridge.demo.image import build_image_archive
from executor.sandbox.archive import BadArchive, check_archive

LIMIT = 2**20


def parts(config_changes=(), layers=(b"layer",), manifest_changes=()):
    """The members of a good archive, by name."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    config = {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(x).hexdigest()}" for x in layers]}}
    raw = json.dumps({**config, **dict(config_changes)}).encode()
    name = hashlib.sha256(raw).hexdigest() + ".json"
    manifest = {"Config": name, "RepoTags": None, "Layers": names, **dict(manifest_changes)}
    return {
        name: raw,
        **dict(zip(names, layers, strict=True)),
        "manifest.json": json.dumps([manifest]).encode(),
    }


def write(path, members, extra=()):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return path


def typed(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_the_id_is_the_hash_of_the_config(tmp_path):
    members = parts()

    found = check_archive(write(tmp_path / "a.tar", members), LIMIT)

    assert found.image_id == "sha256:" + next(iter(members)).removesuffix(".json")


def test_what_the_demo_builds_passes(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x7fELF")

    image = build_image_archive(tmp_path / "binary", tmp_path / "a.tar")

    assert check_archive(tmp_path / "a.tar", LIMIT).image_id == image


def without(name):
    members = parts()
    del members[name]
    return members


def two_images():
    members = parts()
    members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) * 2).encode()
    return members


def nested(depth):
    return [nested(depth - 1)] if depth else []


BAD = {
    "no manifest": (without("manifest.json"), ()),
    "no layer": (without("0/layer.tar"), ()),
    "two images": (two_images(), ()),
    "a name for the image": (parts(manifest_changes={"RepoTags": ["ubuntu:latest"]}), ()),
    "the old file of names": ({**parts(), "repositories": b"{}"}, ()),
    "a config that is not there": (parts(manifest_changes={"Config": "x.json"}), ()),
    "a config that is a number": (parts(manifest_changes={"Config": 7}), ()),
    "more layers than hashes": (parts(manifest_changes={"Layers": ["0/layer.tar"] * 2}), ()),
    "no hashes": (parts(config_changes={"rootfs": {}}), ()),
    "another layer than the config says": ({**parts(), "0/layer.tar": b"other"}, ()),
    "a compressed layer": ({**parts(), "0/layer.tar": gzip.compress(b"layer")}, ()),
    "a manifest that is no JSON": ({**parts(), "manifest.json": b"["}, ()),
    "a manifest that nests without end": ({**parts(), "manifest.json": b"[" * 900_000}, ()),
    "a config that nests without end": (parts(config_changes={"rootfs": nested(90)}), ()),
    "a manifest that is an object": ({**parts(), "manifest.json": b"{}"}, ()),
    "a path that climbs out": ({**parts(), "../../etc/cron.d/x": b""}, ()),
    "an absolute path": ({**parts(), "/etc/cron.d/x": b""}, ()),
    "a symbolic link": (parts(), [typed("link", tarfile.SYMTYPE, "/etc/passwd")]),
    "a hard link": (parts(), [typed("link", tarfile.LNKTYPE, "manifest.json")]),
    "a device": (parts(), [typed("device", tarfile.CHRTYPE)]),
    "a FIFO": (parts(), [typed("fifo", tarfile.FIFOTYPE)]),
    "a sparse file": (parts(), [typed("sparse", tarfile.GNUTYPE_SPARSE)]),
    "a member twice": (parts(), [typed("manifest.json", tarfile.REGTYPE)]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused(name, tmp_path):
    members, extra = BAD[name]

    with pytest.raises(BadArchive):
        check_archive(write(tmp_path / "a.tar", members, extra), LIMIT)


def test_an_archive_over_the_limit_is_not_read(tmp_path):
    with pytest.raises(BadArchive, match="larger"):
        check_archive(write(tmp_path / "a.tar", parts()), 100)


NO_TAR = {
    "nothing": b"",
    "zeros": b"\0" * 10240,
    "text": b"not a tar at all",
    "compressed": gzip.compress(b"x" * 10_000),
}


@pytest.mark.parametrize("what", NO_TAR)
def test_what_is_no_plain_tar_is_refused(what, tmp_path):
    data = NO_TAR[what]
    (tmp_path / "a.tar").write_bytes(data)

    with pytest.raises(BadArchive):
        check_archive(tmp_path / "a.tar", LIMIT)


def test_a_cut_archive_is_refused(tmp_path):
    path = write(tmp_path / "a.tar", parts(layers=[b"x" * 50_000]))
    path.write_bytes(path.read_bytes()[:20_000])

    with pytest.raises(BadArchive):
        check_archive(path, LIMIT)
