"""The content of an output: what is packed in it is looked at, and what explodes is stopped."""

import base64
import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.audit.content import ContentAudit
from executor.audit.needles import Seed
from executor.audit.outputrules import OutputRules
from executor.audit.rules import MAX_FINDINGS

VALUE = b"s3cr3t-Value-0123456789"
SEED = Seed("api", VALUE)
NOISE = random.Random(1).randbytes(3000)
HIDDEN = NOISE + VALUE + NOISE


def rules_of(data, size=2**20, seeds=(SEED,), **rules):
    audit = ContentAudit(OutputRules(**rules), seeds)
    audit.look("f", [data[at : at + size] for at in range(0, len(data), size)])
    return sorted({finding.rule for finding in audit.findings})


def zipped(data, method=zipfile.ZIP_DEFLATED, names=("a", "b")):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in names:
            archive.writestr(name, data)
    return file.getvalue()


class Unseekable(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *_):
        raise OSError

    def tell(self):
        raise OSError


def streamed_zip(data, method=zipfile.ZIP_DEFLATED):
    file = Unseekable()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a", data)
    return file.getvalue()


def tarred(data, mode="w", **fields):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        member = tarfile.TarInfo("folder")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
        member = tarfile.TarInfo("x" * 150)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def local_header(name, method, packed, extra=b""):
    return (
        struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, method, 0, 0x21, 0, packed, 0, len(name), len(extra))
        + name
        + extra
    )


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def within_header(data, before=0):
    """A zip whose directory points to a member that lies in another's extra field, `before` bytes before its end."""
    hidden = local_header(b"b", 8, len(deflated(data))) + deflated(data)
    cut = before or len(hidden)
    shell = local_header(b"a", 0, 0, hidden[:cut])
    listed = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0x21, zlib.crc32(data), len(deflated(data)),
                         len(data), 1, 0, 0, 0, 0, 0, len(shell) - cut) + b"b"  # fmt: skip
    body = shell + hidden[cut:]
    return body + listed + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(listed), len(body), 0)


def listed_with(extra):
    """An entry of a zip's directory, of an empty member."""
    fields = (20, 20, 0, 0, 0, 0, 0, 0, 0, 1, len(extra), 0, 0, 0, 0, 0)
    return struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", *fields) + b"a" + extra


def after_stored(data):
    """A zip with a member whose first two bytes are the last ones of a stored member."""
    hidden = local_header(b"b", 8, len(deflated(data))) + deflated(data)
    return local_header(b"a", 0, 4) + b"ab" + hidden + zipped(b"c")


def zip64(size):
    """A zip whose directory declares a size that only zip64 can tell."""
    whole = zipped(b"x" * 100, names=("a",))
    at = whole.index(b"PK\x01\x02")
    entry = bytearray(whole[at : whole.index(b"PK\x05\x06")])
    extra = struct.pack("<HHHHQ", 9, 0, 1, 8, size)
    entry[24:28], entry[30:32] = b"\xff" * 4, struct.pack("<H", len(extra))
    return whole[:at] + bytes(entry) + extra + whole[whole.index(b"PK\x05\x06") :]


def tar_of_kind(data, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.size, member.type = len(data), kind
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def encrypted(data):
    """A zip whose first member claims to be encrypted."""
    return data[:6] + struct.pack("<H", 1) + data[8:]


def header(size=b"00000000000\0", checksum=None):
    """A tar with one header."""
    block = bytearray(512)
    block[:1], block[124:136], block[156:157], block[257:262] = b"s", size, b"0", b"ustar"
    block[148:156] = b" " * 8
    block[148:156] = checksum or b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


PACKED = {
    "gzip": gzip.compress(HIDDEN),
    "zlib": zlib.compress(HIDDEN),
    "zlib in the midst": NOISE + zlib.compress(HIDDEN) + NOISE,
    "gzip in the midst": NOISE + gzip.compress(HIDDEN),
    "bzip2 in the midst": NOISE + bz2.compress(HIDDEN),
    "xz in the midst": NOISE + lzma.compress(HIDDEN) + NOISE,
    "gzip in gzip": gzip.compress(gzip.compress(HIDDEN)),
    "the second of two gzips": gzip.compress(b"a") + gzip.compress(HIDDEN),
    "gzip after zeros": gzip.compress(b"a") + bytes(100_000) + gzip.compress(HIDDEN),
    "bzip2": bz2.compress(HIDDEN),
    "xz": lzma.compress(HIDDEN),
    "zip": zipped(HIDDEN),
    "zip, stored": zipped(HIDDEN, zipfile.ZIP_STORED),
    "zip, bzip2": zipped(HIDDEN, zipfile.ZIP_BZIP2),
    "zip, streamed": streamed_zip(HIDDEN),
    "zip in the midst": b"hello" + zipped(HIDDEN),
    "zip in a tar": tarred(zipped(HIDDEN)),
    "tar": tarred(HIDDEN),
    "tar in gzip": tarred(HIDDEN, "w:gz"),
    "tar in gzip in zip": zipped(tarred(HIDDEN, "w:gz")),
    "gzip in tar": tarred(gzip.compress(HIDDEN)),
    "base64 in gzip": gzip.compress(base64.b64encode(HIDDEN)),
    "a tar's member of no known kind": tar_of_kind(gzip.compress(HIDDEN), b"q"),
}


@pytest.mark.parametrize("size", [100, 2**20])
@pytest.mark.parametrize("packing", PACKED)
def test_abuse_a_secret_is_found_in_what_is_packed(packing, size):
    assert rules_of(PACKED[packing], size) == ["secrets"]


@settings(deadline=None)
@given(st.integers(20, 600), st.sampled_from(sorted(PACKED)))
def test_where_an_archive_is_cut_into_chunks_makes_no_difference(size, packing):
    assert rules_of(PACKED[packing], size) == ["secrets"]


UNREADABLE = {
    "lzma in zip": zipped(HIDDEN, zipfile.ZIP_LZMA),
    "a zip's member in a header": within_header(HIDDEN),
    "a zip's member that begins in a header": within_header(HIDDEN, 2),
    "a zip's member that begins in another": after_stored(HIDDEN),
    "a zip's member in a header that is cut": within_header(HIDDEN)[:4000],
    "a zip's member in the fixed part of a header": local_header(b"a", 0, 0)[:14] + b"PK\3\4" + bytes(40),
    "a zip's member in the directory": local_header(b"a", 0, 0) + listed_with(b"PK\3\4") + bytes(99),
    "encrypted": encrypted(zipped(HIDDEN)),
    "stored, no size": streamed_zip(HIDDEN, zipfile.ZIP_STORED),
    "zstd": b"\x28\xb5\x2f\xfd" + NOISE,
    "no gzip": b"\x1f\x8b" + NOISE,
    "no tar": tarred(b"x")[:100] + b"\xff" + tarred(b"x")[101:],
    "no bzip2": b"BZh9" + NOISE,
    "no gzip in gzip": gzip.compress(b"\x1f\x8bnothing" + NOISE),
    "a size": header(b"-0000000001\0"),
    "a sum": header(checksum=b"nothing\0"),
}


@pytest.mark.parametrize("row", UNREADABLE)
def test_what_cannot_be_unpacked_breaks_a_rule_only_where_something_may_be_hidden(row):
    data = UNREADABLE[row]
    assert "archives.unreadable" in rules_of(data)
    assert rules_of(data, seeds=()) == []
    assert rules_of(data, seeds=(), archives={"unreadable": "withhold"}) == ["archives.unreadable"]


def sparse(size):
    """A GNU tar member of one byte that would unpack to `size`."""
    block = bytearray(512)
    block[:1], block[156:157], block[257:262] = b"s", b"S", b"ustar"
    block[124:136] = b"00000000000\0"
    block[483:495] = (1 << 95 | size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def overlapping(times, size=2**16):
    """A zip whose directory lists its one member again and again."""
    whole = zipped(bytes(size), names=("a",))
    at = whole.index(b"PK\x01\x02")
    entry = whole[at : whole.index(b"PK\x05\x06")]
    return whole[:at] + entry * times + whole[whole.index(b"PK\x05\x06") :]


def sized(data, size):
    """A zip whose directory declares another size of its one member."""
    at = data.index(b"PK\x01\x02") + 24
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


BOMBS = {
    "ratio": (gzip.compress(bytes(2**22)), {}, "archives.max_ratio"),
    "ratio, nested": (gzip.compress(gzip.compress(bytes(2**25))), {}, "archives.max_ratio"),
    "ratio, bzip2": (bz2.compress(bytes(2**22)), {}, "archives.max_ratio"),
    "ratio, zip": (zipped(bytes(2**22)), {}, "archives.max_ratio"),
    "bytes": (gzip.compress(NOISE * 10), {"max_bytes": 20_000}, "archives.max_bytes"),
    "members of a tar": (tarred(b"x"), {"max_entries": 1}, "archives.max_entries"),
    "gzips in a row": (gzip.compress(b"x") * 30, {"max_entries": 20}, "archives.max_entries"),
    "members of a zip": (zipped(b"x"), {"max_entries": 1}, "archives.max_entries"),
    "listed members": (overlapping(50, 9), {"max_entries": 20}, "archives.max_entries"),
    "overlapping members": (overlapping(5000), {}, "archives.max_ratio"),
    "declared": (sized(zipped(b"x", names=("a",)), 2**32 - 1), {}, "archives.max_bytes"),
    "declared by zip64": (zip64(2**40), {}, "archives.max_bytes"),
    "a sparse member": (sparse(2**40), {}, "archives.max_bytes"),
    "depth": (gzip.compress(gzip.compress(gzip.compress(b"a" * 99))), {"max_depth": 2}, "archives.max_depth"),
    "depth, in the midst": (b"-" + zlib.compress(NOISE), {"max_depth": 0}, "archives.max_depth"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_abuse_an_archive_that_explodes_breaks_a_rule(bomb):
    data, limits, rule = BOMBS[bomb]

    assert rules_of(data, archives=limits) == [rule]
    assert rules_of(data, 50, archives=limits) == [rule]


def test_abuse_a_bomb_costs_little_memory():
    data = gzip.compress(bytes(2**26))
    tracemalloc.start()
    assert rules_of(data, seeds=(), archives={"max_ratio": 10**6}) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 8 * 2**20


HARMLESS = {
    "rest": gzip.compress(NOISE) + b"trailing",
    "zip": zipped(b"x"),
    "empty members": zipped(b"", zipfile.ZIP_STORED),
    "a cut member": zipped(NOISE)[:2000],
    "an empty member of a tar": header(),
    "zip64": zip64(100),
    "a cut zip": zip64(2**32)[: zip64(2**32).index(b"PK\x01\x02") + 60],
    "tar": tarred(b"x"),
    "noise": NOISE * 3,
    "text": b"x^2 + x\x01 " * 1000,
    "PK": b"PK",
    "many gzips in a row": gzip.compress(NOISE) * 12,
    "a zip in a zip": zipped(zipped(b"x"), zipfile.ZIP_STORED),
    "cut gzip": b"\x1f\x8b\x08",
    "empty": b"",
    "zlib": b"-" + zlib.compress(b"tiny"),
}


@pytest.mark.parametrize("row", HARMLESS)
def test_what_is_harmless_breaks_no_rule(row):
    assert rules_of(HARMLESS[row]) == []
    assert rules_of(HARMLESS[row], 3) == []


def test_a_few_bytes_that_look_packed_are_not_too_deep():
    assert rules_of(b"-" + zlib.compress(b"tiny"), archives={"max_depth": 0}) == []


def test_abuse_what_is_hidden_in_a_tar_of_an_unknown_kind_is_unpacked_without_secrets_too():
    data = tar_of_kind(gzip.compress(b"card 1234"), b"q")

    assert rules_of(data, seeds=(), denied_patterns=(r"card \d{4}",)) == ["denied_patterns"]


def test_abuse_a_zip_of_beginnings_takes_linear_time():
    data = local_header(b"a", 0, 0) + b"PK" * 2**22
    began = time.process_time()

    assert rules_of(data, seeds=()) == []
    assert time.process_time() - began < 2.0  # twelve where each beginning copies the rest


def test_after_a_bomb_the_rest_of_the_file_is_still_looked_through():
    assert rules_of(BOMBS["ratio"][0] + VALUE, 1000) == ["archives.max_ratio", "secrets"]


def test_each_file_begins_anew():
    audit = ContentAudit(OutputRules())
    audit.look("a", [BOMBS["ratio"][0]])
    audit.look("b", [BOMBS["ratio"][0]])

    assert [finding.text.split("'")[1] for finding in audit.findings] == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [b"-" + b"\x1f\x8b\x08\x08endless name" * 40, b"x\x9c" * 1001],
    ids=["gzips whose names do not end", "beginnings"],
)
def test_abuse_streams_that_run_into_one_another_end_somewhere(data):
    audit = ContentAudit(OutputRules(), [SEED], max_tries=1000)
    audit.look("f", [data])

    assert [finding.rule for finding in audit.findings] == ["archives.max_entries"]


@pytest.mark.parametrize(
    ("data", "rules", "broken"),
    [
        (b"\x89PNG\r\n\x1a\n" + NOISE, {"allowed_types": ("image/*",)}, []),
        (b"text", {"allowed_types": ("image/*",)}, ["allowed_types"]),
        (b"", {"allowed_types": ("image/*",)}, []),
        (b"\x7fELF" + NOISE, {"denied_types": ("application/x-elf",)}, ["denied_types"]),
        (b"text", {"denied_types": ("application/x-elf",)}, []),
    ],
    ids=["allowed", "not allowed", "empty", "denied", "not denied"],
)
@pytest.mark.parametrize("size", [3, 4096])
def test_types_are_told_by_content(data, rules, broken, size):
    assert rules_of(data, size, **rules) == broken


def test_names_are_looked_through_too():
    audit = ContentAudit(OutputRules(), [SEED])
    audit.names(["outputs/a", f"outputs/{VALUE.hex()}"])
    audit.names(["AKIAIOSFODNN7EXAMPLE"])

    assert [finding.rule for finding in audit.findings] == ["secrets", "secret_forms"]
    assert not audit.tells_secrets  # the last names hold none
    assert VALUE.decode() not in repr(audit.findings)


def test_findings_are_bounded_and_name_the_file():
    audit = ContentAudit(OutputRules(), [SEED])
    for number in range(100):
        audit.look(f"outputs/{number}", [VALUE])

    assert len(audit.findings) == MAX_FINDINGS
    assert audit.findings[3].text == "'outputs/3' holds the secret api as it is"


def test_chunks_go_on_as_they_are():
    audit = ContentAudit(OutputRules())

    assert list(audit.watch("f", [b"a", b"", b"b"])) == [b"a", b"", b"b"]
