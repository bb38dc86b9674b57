"""DAGs and CARs that attack (tests/hostile_dags.py), through every reader: refused with the reason, for little work."""

import re
import time

import pytest

from bridge.cli.content_verbs import write_out
from executor.content import varint
from executor.content.arrival import CarImport, Kept
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits, encode_header, export_car, write_car
from executor.content.dagpb import Link
from executor.content.export import export_tree
from executor.content.patience import Patience
from executor.content.reader import list_dir, manifest, read_file, stat, tree_size
from executor.content.retrieval import Pace, Retriever
from executor.content.roots import RootSet
from executor.content.survey import survey
from executor.content.walk import Descent, missing, stored_size, walk
from executor.errors import CarError, ContentError, ContentTooLarge, InsulaError, PeerUnavailable
from executor.protocol.cid import DAG_PB, RAW, Cid
from tests.faulty_sources import patient_source
from tests.hostile_dags import HARMLESS, LIMITS, ROWS, Builder, hostile
from tests.raw_server import RawServer, head, send

NOW = 1_800_000_000.0
MIB = 2**20


def refusal(act):
    """The one plain line that a reader refuses something with; None where it does not."""
    try:
        act()
    except InsulaError as exc:
        said = str(exc)
        assert "\n" not in said
        assert len(said) < 500
        return said
    return None


def read_all(source, root):
    for entry in manifest(source, root, LIMITS).entries:
        if entry.kind == "file":
            list(read_file(source, entry.cid, LIMITS.max_bytes))


@pytest.mark.parametrize("name", ROWS)
def test_abuse_no_reader_takes_a_hostile_dag_or_works_long_on_it(name, tmp_path):
    dag = hostile(name)

    said = refusal(lambda: export_tree(dag.blocks, dag.root, tmp_path / "out", LIMITS))

    assert said is not None
    assert re.search(dag.words, said), said
    assert dag.blocks.reads <= 2 * dag.reads, "an export looks at each node, then reads it"
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out"])
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_symlink()
        assert path.resolve().is_relative_to(tmp_path / "out")


@pytest.mark.parametrize("name", ROWS)
def test_abuse_a_hostile_dag_is_listed_for_little_work_or_not_at_all(name):
    dag = hostile(name)

    for act in (manifest, tree_size):
        dag.blocks.reads = 0
        said = refusal(lambda act=act: act(dag.blocks, dag.root, LIMITS))

        assert (said is not None) == dag.listed
        assert said is None or re.search(dag.words, said), said
        assert dag.blocks.reads <= dag.reads


@pytest.mark.parametrize("name", [name for name in ROWS if not name.startswith("a hundred million")])
def test_abuse_what_the_command_line_writes_of_a_hostile_dag_is_nothing(name, tmp_path):
    dag = hostile(name)

    assert refusal(lambda: write_out(dag.blocks, dag.root, tmp_path / "below" / "out"))
    assert list((tmp_path / "below").iterdir()) == []


@pytest.mark.parametrize("name", ROWS)
def test_abuse_a_hostile_dag_is_walked_block_by_block_or_not_at_all(name):
    dag = hostile(name)

    for act in (
        lambda: list(walk(dag.blocks, dag.root)),
        lambda: missing(dag.blocks, dag.root),
        lambda: stored_size(dag.blocks, dag.root),
        lambda: list(export_car(dag.blocks, dag.root)),
    ):
        dag.blocks.reads = 0
        said = refusal(act)

        assert said is None or dag.walk
        assert said is None or re.search(dag.walk, said), said
        assert dag.blocks.reads <= len(dag.blocks), "no block is read twice"


def car_of(dag):
    return b"".join(write_car([dag.root], reversed(dag.pairs)))


def fetch(server, store, root, max_bytes):
    patience = Patience(time.time() + 20, pause=lambda wanted: time.sleep(min(wanted, 0.01)))
    with Retriever([patient_source(server.url)], store, pace=Pace(hedge=0.1, progress=2)) as retriever:
        retriever.fetch(root, max_bytes=max_bytes, patience=patience)


def unsound(store, known=()):
    """What a store must not hold: damaged blocks, and blocks that nobody sent."""
    return [*store.damaged(), *(set(store) - set(known))]


@pytest.mark.parametrize("name", ROWS)
def test_abuse_a_car_with_a_hostile_dag_brings_verified_blocks_and_nothing_more(name, tmp_path):
    dag = hostile(name)
    store = BlockStore(tmp_path / "store")
    roots = RootSet(store)

    said = refusal(lambda: CarImport(store, roots, CarLimits(100 * MIB)).run([car_of(dag)], Kept("kept"), NOW))

    assert (said is not None) == bool(dag.walk)
    assert not unsound(store, dag.blocks)
    if said is not None:
        assert [root.label for root in roots.live(NOW)] == ["arriving"] * len(roots.live(NOW)), "nothing is pinned"
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    survey(store, dag.root, verify=True)  # comes to an end, and raises nothing


@pytest.mark.parametrize("name", ROWS)
def test_abuse_a_source_of_a_hostile_dag_brings_verified_blocks_and_nothing_more(name):
    dag = hostile(name)
    store = MemoryBlocks()
    with RawServer(send(head(), car_of(dag))) as server:
        said = refusal(lambda: fetch(server, store, dag.root, 100 * MIB))

    assert (said is not None) == bool(dag.walk)
    assert set(store) <= set(dag.blocks)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_hint_that_lies_is_believed_by_nobody(name, tmp_path):
    made = Builder()
    root = HARMLESS[name](made)
    [entry] = list_dir(made.blocks, root)

    export_tree(made.blocks, root, tmp_path / "out", LIMITS)

    assert (tmp_path / "out" / "a").read_bytes() == b"four"
    assert stat(made.blocks, entry.cid).size == tree_size(made.blocks, root, LIMITS).bytes == 4
    assert (tmp_path / "out" / "a").stat().st_mode & 0o7777 == 0o444


LEAF = Cid.of(RAW, b"leaf")
HEADER = encode_header([LEAF])
START = varint.encode(len(HEADER)) + HEADER


def section(cid, block):
    return varint.encode(len(cid) + len(block)) + cid + block


def oversized(prefix_of):
    block = bytes(2 * MIB + 1)
    return START + section(prefix_of(Cid.of(DAG_PB, block)), block)


def headed(roots):
    return b"".join(write_car(roots, [(LEAF, b"leaf")]))


def many(count):
    return [Cid.of(RAW, b"%d" % i) for i in range(count)]


IDENTITY = b"\x01\x55\x00\x04leaf"
#: name -> (the stream, what is said, the most bytes that may be read of it beyond one piece)
CARS = {
    "no roots": (headed([]), "names no root", 100),
    "thousands of roots": (headed(many(5000)), "the header says it has", 100),
    "a header of 2**63 bytes": (varint.encode(2**63) + bytes(9 * MIB), "the header says", 100),
    "a header that is a varint without end": (b"\xff" * MIB, "10 bytes", 100),
    "a header in a varint too long": (b"\x91\x80\x00" + bytes(100), "shortest form", 100),
    "a header of nested arrays": (b"\x64" + b"\x81" * 100, "not that of a CARv1", 200),
    "a header with an identity root": (
        b"".join([b"\x1d\xa2\x65roots\x81\xd8\x2a\x49\0", IDENTITY, b"\x67version\x01"]),
        "header",
        100,
    ),
    "a header that counts 65535 roots": (b"\x13\xa2\x65roots\x99\xff\xff\x67version\x01", "not a CID", 100),
    "an identity block": (START + section(IDENTITY, b""), "block 1: ", 200),
    "an identity block of a megabyte": (
        START + section(b"\x01\x55\x00\x80\x80\x40", bytes(MIB)),
        "block 1: ",
        MIB + 200,
    ),
    "a block of 2 MiB and a byte": (oversized(lambda cid: cid.binary), "the limit for a block", 2 * MIB + 300),
    "a block of 2 MiB and a byte by CIDv0": (oversized(lambda cid: cid.binary[2:]), "the limit for", 2 * MIB + 300),
    "a block of an exabyte": (START + varint.encode(2**60) + bytes(9 * MIB), "the limit for a block", 200),
    "a block whose length has no end": (START + b"\xff" * MIB, "10 bytes", 200),
    "a block of a codec of tomorrow": (START + section(b"\x01\x78\x12\x20" + LEAF.digest, b"leaf"), "codec", 200),
    "a block by blake2b": (START + section(b"\x01\x55\xb2\x20" + LEAF.digest, b"leaf"), "hash function", 200),
    "a block under another codec": (START + section(Cid(DAG_PB, LEAF.digest).binary, b"leaf"), "below its roots", 200),
    "a block that is another one's": (START + section(LEAF.binary, b"lead"), "do not hash", 200),
    "empty sections for ever": (START + bytes(9 * MIB), "an empty section", 200),
    "a section shorter than a CID": (START + b"\x05hello" * 1000, "block 1: ", 200),
}


@pytest.mark.parametrize("name", CARS)
def test_abuse_a_hostile_car_is_refused_by_its_fault_and_not_read_on(name, tmp_path):
    stream, words, most = CARS[name]
    store = BlockStore(tmp_path / "store")
    given = 0

    def pieces():
        nonlocal given
        for offset in range(0, len(stream), 4096):
            given = offset
            yield stream[offset : offset + 4096]

    with pytest.raises(CarError, match=words) as caught:
        CarImport(store, RootSet(store), CarLimits(100 * MIB)).run(pieces(), Kept("kept"), NOW)

    assert "\n" not in str(caught.value)
    assert given <= most + 4096
    assert not unsound(store, [LEAF, Cid(DAG_PB, LEAF.digest)])


@pytest.mark.parametrize("name", CARS)
def test_abuse_a_source_that_sends_a_hostile_car_is_left_with_nothing_stored(name):
    store = MemoryBlocks()
    with RawServer(send(head(), CARS[name][0])) as server, pytest.raises((PeerUnavailable, ContentError)) as caught:
        fetch(server, store, Cid.of(DAG_PB, b"what was asked for"), MIB)

    assert "\n" not in str(caught.value)
    assert list(store) == []


def test_abuse_many_roots_above_one_dag_cost_one_walk(tmp_path):
    made = Builder()
    bottom = made.named(*"abcdefghij")
    tops = [made.directory(Link(f"{i}", bottom, 0)) for i in range(40)]
    stream = b"".join(write_car(tops, [(cid, made.blocks.get(cid)) for cid in made.blocks]))

    class CountingStore(BlockStore):
        reads = 0

        def get(self, cid):
            CountingStore.reads += 1
            return super().get(cid)

    store = CountingStore(tmp_path / "store")
    CarImport(store, RootSet(store), CarLimits(MIB)).run([stream], Kept("kept"), NOW)

    assert CountingStore.reads <= len(made.blocks)


def test_abuse_a_dag_of_nothing_but_links_cannot_fill_the_memory():
    descent = Descent([LEAF], limit=999)
    assert list(descent) == [LEAF]

    descent.below(many(999))
    with pytest.raises(ContentTooLarge, match="blocks of a DAG"):
        descent.below(many(1000))


def test_abuse_what_is_below_two_blocks_waits_once():
    descent = Descent([LEAF])
    list(descent)

    descent.below([LEAF] * 1000)

    assert descent.stack == []
