"""DAGs that attack whoever reads them, by name: what readers say of each, and what it may cost them."""

from dataclasses import dataclass

from executor.content import dagpb, unixfs_node
from executor.content.blocks import MemoryBlocks
from executor.content.dagpb import MAX_BLOCK_BYTES, Link, Node
from executor.content.limits import TreeLimits
from executor.content.murmur3 import murmur3_x64_64
from executor.content.protobuf import bytes_field, varint_field
from executor.content.unixfs_node import MURMUR3_X64_64, TYPE_DIRECTORY, TYPE_FILE, TYPE_SHARD, TYPE_SYMLINK, Data
from executor.content.varint import encode as varint
from executor.protocol.cid import DAG_CBOR, DAG_PB, RAW, Cid

LIMITS = TreeLimits(max_bytes=10_000_000, max_files=1000, max_depth=20)
U64 = 2**64 - 1
NAMED = bytes_field(2, b"a")
DIRECTORY = unixfs_node.encode_data(Data(TYPE_DIRECTORY))


class Counted(MemoryBlocks):
    """Blocks that count how often one is read."""

    def __init__(self, blocks=()):
        self.reads = 0
        super().__init__(blocks)

    def get(self, cid):
        self.reads += 1
        return super().get(cid)


@dataclass
class Hostile:
    """blocks: the DAG, its root last. words: what readers say of it. reads: the most blocks that a reader may look at.

    walk: what those say who follow links without asking what blocks mean, "" where they come to its end. listed:
    whether a listing without the content of files already finds out.
    """

    blocks: Counted
    root: Cid
    words: str
    reads: int
    walk: str
    listed: bool

    @property
    def pairs(self):
        return [(cid, MemoryBlocks.get(self.blocks, cid)) for cid in self.blocks]


class Builder:
    """Makes blocks, sound or not."""

    def __init__(self):
        self.blocks = Counted()

    def put(self, block, codec=DAG_PB):
        cid = Cid.of(codec, block)
        self.blocks.put_many([(cid, block)])
        return cid

    def raw(self, content=b"x"):
        return self.put(content, RAW)

    def node(self, data, *links):
        return self.put(dagpb.encode(Node(links, data)))

    def directory(self, *links):
        return self.node(DIRECTORY, *links)

    def named(self, *names):
        return self.directory(*(Link(name, self.raw(), 1) for name in names))

    def bytes_named(self, name):
        return self.linked(self.raw().binary, bytes_field(2, name))

    def linked(self, binary, more=b""):
        """A directory with one link of these very bytes."""
        return self.put(bytes_field(2, bytes_field(1, binary) + more) + bytes_field(1, DIRECTORY))

    def file(self, *children, size=None, own=None):
        sizes = tuple(of for _, of in children)
        total = sum(sizes) + len(own or b"") if size is None else size
        data = Data(TYPE_FILE, data=own, file_size=total, block_sizes=sizes)
        return self.node(unixfs_node.encode_data(data), *(Link("", cid, 0) for cid, _ in children))

    def symlink(self, target):
        return self.node(unixfs_node.encode_data(Data(TYPE_SYMLINK, data=target)))

    def shard(self, *entries, bits=None, fanout=256, function=MURMUR3_X64_64):
        width = unixfs_node.prefix_width(256)
        numbers = [int(name[:width], 16) for name, _ in entries] if bits is None else bits
        data = Data(TYPE_SHARD, data=unixfs_node.bitfield(numbers), hash_type=function, fanout=fanout)
        return self.node(unixfs_node.encode_data(data), *(Link(name, cid, 0) for name, cid in entries))


def bucket(name, level=0):
    return f"{murmur3_x64_64(name.encode()) >> (56 - 8 * level) & 0xFF:02X}"


ROWS = {}


def row(name, words, reads=2, walk="", listed=True):
    """Enter what the function builds."""

    def enter(build):
        ROWS[name] = (build, words, reads, walk, listed)
        return build

    return enter


def refused(name, words, build, **more):
    row(name, words, **more)(build)


def hostile(name):
    build, words, reads, walk, listed = ROWS[name]
    made = Builder()
    root = build(made)
    return Hostile(made.blocks, root, words, reads, walk, listed)


# -- depth


@row("a file of 200 nested nodes of one child", "at most 32 levels", reads=40, listed=False)
def _(b):
    cid = b.raw()
    for _ in range(200):
        cid = b.file((cid, 1))
    return cid


@row("200 directories in each other", "levels of directories", reads=30)
def _(b):
    cid = b.directory()
    for _ in range(200):
        cid = b.directory(Link("d", cid, 0))
    return cid


@row("shards deeper than their hash is long", "deeper than its hash", reads=12)
def _(b):
    cid = b.shard(("00a", b.raw()))
    for _ in range(12):
        cid = b.shard(("00", cid))
    return cid


# -- width


@row("a hundred million files in nine directories", "files and directories", reads=1100)
def _(b):
    cid = b.directory()
    for _ in range(8):
        cid = b.directory(*(Link(letter, cid, 0) for letter in "abcdefghij"))
    return cid


@row("an exabyte in six blocks", "bytes of a", reads=2)
def _(b):
    cid, size = b.raw(), 1
    for _ in range(6):
        cid, size = b.file(*[(cid, size)] * 1000), size * 1000
    return cid


@row("one block a million times in one file", "far more blocks", reads=17_000, listed=False)
def _(b):
    leaf = b.raw()
    return b.file(*[(b.file(*[(leaf, 1)] * 1000), 1000)] * 1000)


@row("thousands of chunks without a byte", "chunks have no bytes", reads=2)
def _(b):
    wide = b.file(*[(b.raw(b""), 0)] * 40_000)
    return b.directory(*(Link(f"{i}", wide, 0) for i in range(900)))


@row("chunks of no bytes below chunks of no bytes", "has chunks of its own", reads=40, listed=False)
def _(b):
    cid = b.raw(b"")
    for _ in range(8):
        cid = b.file(*[(cid, 0)] * 16)
    return cid


@row("many files of many chunks of a byte", "far more blocks", reads=5000, listed=False)
def _(b):
    tiny = b.file(*[(b.raw(), 1)] * 900)
    return b.directory(*(Link(f"{i}", tiny, 0) for i in range(900)))


@row("one shard below every bucket", "where its hash does not belong", reads=12)
def _(b):
    cid = b.shard((bucket("a", 7) + "a", b.raw()))
    for _ in range(7):
        cid = b.shard(*((f"{i:02X}", cid) for i in range(256)))
    return cid


# -- cycles, which only a CID without a hash could make

IDENTITY = b"\x01\x70\x00"
NOT_ACCEPTED = "is not accepted|has 36 bytes"
for size in (4, 100_000):
    refused(
        f"a link by an identity CID of {size} bytes",
        NOT_ACCEPTED,
        lambda b, size=size: b.linked(IDENTITY + varint(size) + bytes(size)),
        walk=NOT_ACCEPTED,
    )
refused(
    "a shard that links to itself by an identity CID",
    NOT_ACCEPTED,
    lambda b: b.put(
        bytes_field(2, bytes_field(1, IDENTITY + b"\x02\x0a\x00") + bytes_field(2, b"00")) + bytes_field(1, DIRECTORY)
    ),
    walk=NOT_ACCEPTED,
)
refused("a link to a block of git", "codec 0x78", lambda b: b.linked(b"\x01\x78\x12\x20" + bytes(32)), walk="codec")
refused("a link to dag-cbor", "dag-cbor", lambda b: b.linked(b.put(b"\xa0", DAG_CBOR).binary, NAMED), walk="dag-cbor")
refused("a link by sha1", "is not accepted|has 36", lambda b: b.linked(b"\x01\x70\x11\x14" + bytes(20)), walk="CID")
refused(
    "a link by blake2b", "is not accepted", lambda b: b.linked(b"\x01\x70\xb2\x20" + bytes(32)), walk="hash function"
)
refused("a link of CID version 2", "version 2", lambda b: b.linked(b"\x02\x70\x12\x20" + bytes(32)), walk="version 2")

# -- names

for name, words in {
    "..": "not a name",
    ".": "not a name",
    "": "not a name",
    "/": "neither '/'",
    "../../outside": "neither '/'",
    "/outside": "neither '/'",
    "nul\0": "NUL",
    "x" * 256: "at most 255 bytes",
    "\u00e9" * 128: "at most 255 bytes",
}.items():
    shown = name if len(name) < 20 else f"{len(name.encode())} bytes"
    refused(f"a name {shown!r}", words, lambda b, name=name: b.named(name))
    if name:
        refused(f"a name {shown!r} in a shard", words, lambda b, name=name: b.shard((bucket(name) + name, b.raw())))
refused("a name that is not UTF-8", "not UTF-8", lambda b: b.bytes_named(b"\xff\xfe"), walk="not UTF-8")
refused("a name of half a surrogate pair", "not UTF-8", lambda b: b.bytes_named(b"\xed\xa0\x80"), walk="not UTF-8")
refused("a name twice", "occurs twice", lambda b: b.named("a", "b", "a"))

# -- shards

IN_BUCKET = bucket("a") + "a"
OTHER_BUCKET = f"{int(bucket('a'), 16) ^ 1:02X}"
refused("a bit too many", "bit field", lambda b: b.shard((IN_BUCKET, b.raw()), bits=[int(bucket("a"), 16), 300]))
refused("a bit too few", "bit field", lambda b: b.shard((IN_BUCKET, b.raw()), bits=[]))
refused("a bit beside", "bit field", lambda b: b.shard((IN_BUCKET, b.raw()), bits=[int(OTHER_BUCKET, 16)]))
for fanout in (0, 4, 100, 2048, 2**40, U64):
    refused(f"a fanout of {fanout}", "fanout", lambda b, fanout=fanout: b.shard((IN_BUCKET, b.raw()), fanout=fanout))
refused("names for another fanout", "bit field|bucket number|belong", lambda b: b.shard(("0A1x", b.raw()), fanout=16))
refused("another fanout below", "not a shard of", lambda b: b.shard(("00", b.shard(("0Aa", b.raw()), fanout=128))))
refused("the hash function sha2-256", "murmur3", lambda b: b.shard((IN_BUCKET, b.raw()), function=0x12))
refused("no hash function", "murmur3", lambda b: b.shard((IN_BUCKET, b.raw()), function=None))
refused("a prefix of one digit", "bucket number", lambda b: b.shard(("0", b.raw()), bits=[0]))
refused("a prefix of three digits", "does not belong", lambda b: b.shard((bucket("a") + "0a", b.raw())))
refused("a prefix in lower case", "bucket number", lambda b: b.shard(("0ab", b.raw())))
refused("an entry in a wrong bucket", "does not belong", lambda b: b.shard((OTHER_BUCKET + "a", b.raw())))
refused(
    "an entry in a wrong bucket below",
    "does not belong",
    lambda b: b.shard((bucket("a"), b.shard((f"{int(bucket('a', 1), 16) ^ 1:02X}a", b.raw())))),
)
refused("a bucket twice", "bit field", lambda b: b.shard((bucket("a") + "a", b.raw()), (bucket("a") + "b", b.raw())))
refused("an empty shard below", "is empty", lambda b: b.shard(("00", b.shard())))
refused("a file as a shard", "not a shard of", lambda b: b.shard(("00", b.raw())))
refused("a directory as a shard", "not a shard of", lambda b: b.shard(("00", b.directory())))

# -- sizes that lie

LEAF = lambda b: (b.raw(b"four"), 4)  # noqa: E731


def sized(b, *sizes, file_size):
    """A file of one chunk of 4 bytes with these chunk sizes."""
    message = varint_field(1, 2) + varint_field(3, file_size) + b"".join(varint_field(4, size) for size in sizes)
    return b.node(message, Link("", b.raw(b"four"), 4))


refused("a file size that is too small", "the file size says 3", lambda b: b.file(LEAF(b), size=3))
refused("a file size that is too large", "the file size says", lambda b: b.file(LEAF(b), size=2**40))
refused("a file size of 2**64 - 1", "the file size says", lambda b: b.file(LEAF(b), size=U64))
refused("a chunk size too many", "1 chunks, but 2", lambda b: sized(b, 4, 4, file_size=8))
refused("a chunk size too few", "1 chunks, but 0", lambda b: sized(b, file_size=4))
refused("a chunk that is said to be larger", "a chunk of 4 bytes", lambda b: sized(b, 5, file_size=5), listed=False)
refused("a chunk that is said to be smaller", "a chunk of 4 bytes", lambda b: sized(b, 3, file_size=3), listed=False)
refused("a chunk that is said to be empty", "a chunk of 4 bytes", lambda b: sized(b, 0, file_size=0), listed=False)
refused("a chunk of 2**64 - 1 bytes", "bytes of a", lambda b: sized(b, U64, file_size=U64))
refused(
    "a chunk size of -1",
    "the file size says 4",
    lambda b: b.node(varint_field(1, 2) + varint_field(3, 4) + b"\x20" + b"\xff" * 9 + b"\x01", Link("", b.raw(), 4)),
)
refused(
    "a chunk size of more than 64 bits",
    "64 bits",
    lambda b: b.node(varint_field(1, 2) + b"\x20" + b"\xff" * 9 + b"\x7f", Link("", b.raw(), 4)),
)

# -- blocks that are no dag-pb or no UnixFS

SOUND_LINK = bytes_field(2, bytes_field(1, Cid.of(RAW, b"x").binary) + NAMED + varint_field(3, 1))
DATA = bytes_field(1, DIRECTORY)
for name, (block, words) in {
    "an unknown field": (SOUND_LINK + DATA + bytes_field(3, b"x"), "unexpected field 3|after all links"),
    "data before the links": (DATA + SOUND_LINK, "after all links"),
    "data twice": (DATA + DATA, "after all links"),
    "bytes behind the node": (SOUND_LINK + DATA + b"\0\0\0", "not dag-pb"),
    "a cut node": ((SOUND_LINK + DATA)[:-1], "longer than its message"),
    "a length in too many bytes": (b"\x0a\x82\x80\x00\x08\x01", "shortest form"),
    "a length without end": (b"\x0a" + b"\xff" * 100_000, "10 bytes"),
    "a length of 2**63": (b"\x0a" + varint(2**63) + b"x", "longer than its message"),
    "a link with two hashes": (bytes_field(2, bytes_field(1, b"x") * 2), "CID|repeated"),
    "a link out of order": (
        bytes_field(2, NAMED + bytes_field(1, Cid.of(RAW, b"x").binary)) + DATA,
        "repeated or out of order",
    ),
}.items():
    refused(name, words, lambda b, block=block: b.put(block), walk="not dag-pb")
refused("no UnixFS", "the data is missing", lambda b: b.node(None))
refused("garbage for UnixFS", "not UnixFS", lambda b: b.node(b"\xff" * 50))
refused(
    "a symbolic link", "symbolic links", lambda b: b.node(unixfs_node.encode_data(Data(TYPE_SYMLINK, data=b"/etc")))
)
refused(
    "a symbolic link out of a directory, and a file through it",
    "symbolic links",
    lambda b: b.directory(Link("a", b.symlink(b"../.."), 0), Link("b", b.named("c"), 0)),
)
refused("metadata", "type 3", lambda b: b.node(unixfs_node.encode_data(Data(3))))
refused(
    "a block of 2 MiB and one byte", "at most|bytes of a block", lambda b: b.node(bytes(MAX_BLOCK_BYTES + 1)), walk=" "
)

#: what looks like an attack and is none: a hint that lies, and nobody trusts
HARMLESS = {
    "a link size of 2**64 - 1": lambda b: b.directory(Link("a", b.raw(b"four"), U64)),
    "no link size": lambda b: b.directory(Link("a", b.raw(b"four"), 0)),
    "an empty chunk at the end": lambda b: b.directory(Link("a", b.file(LEAF(b), (b.raw(b""), 0)), 0)),
    "mode and time": lambda b: b.directory(
        Link(
            "a", b.node(varint_field(1, 2) + bytes_field(2, b"four") + varint_field(3, 4) + varint_field(7, 0o7777)), 4
        )
    ),
}
