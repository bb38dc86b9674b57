"""Blocks of UnixFS made by hand, for DAGs that no importer of ours would write."""

from executor.content import dagpb, unixfs_node
from executor.content.dagpb import Link, Node
from executor.content.unixfs_node import TYPE_DIRECTORY, TYPE_FILE, Data
from executor.protocol.cid import DAG_PB, RAW, Cid


def put(store, node):
    block = dagpb.encode(node)
    cid = Cid.of(DAG_PB, block)
    store.put_many([(cid, block)])
    return cid


def directory(store, *links):
    return put(store, Node(links, unixfs_node.encode_data(Data(TYPE_DIRECTORY))))


def file(store, children, size=None):
    """children: (CID, bytes of content) each. size: what the file says of itself, else the sum of theirs."""
    sizes = tuple(of for _, of in children)
    data = Data(TYPE_FILE, file_size=sum(sizes) if size is None else size, block_sizes=sizes)
    return put(store, Node(tuple(Link("", cid, 0) for cid, _ in children), unixfs_node.encode_data(data)))


def raw(store, content):
    cid = Cid.of(RAW, content)
    store.put_many([(cid, content)])
    return cid
