"""Who brought which blocks, and the nonces of signed calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from bridge.store.engine import transaction
from bridge.store.schema import api_nonces, held_blocks, uploads
from executor.protocol.cid import DAG_PB, Cid

#: What a block costs beside its bytes: its file and its rows.
BLOCK_OVERHEAD_BYTES = 1024
_ROWS = 500  # per statement: SQLite's number of variables is limited


def slot_owner(request_hash: bytes, key: str) -> str:
    """The name under which a node's output for a request is kept; it outlives the lease, so that uploads resume."""
    return f"slot:{request_hash.hex()}:{key}"


def account_owner(account: str, root: Cid) -> str:
    """The name under which an account's upload of one root is kept."""
    return f"account:{account}:{root}"


def uploader_of(owner: str) -> str:
    """The node's key, or the account, in the name of an owner."""
    return next((part for part in owner.split(":") if part.startswith("0x")), owner)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A root that an account uploads. requester: whose jobs may read it while it is private."""

    account: str
    root: bytes
    public: bool
    requester: str
    complete: bool


def use_nonce(engine: Engine, key: str, nonce: bytes, now: float) -> bool:
    """Store a nonce; False if this key has used it before. A transaction of its own: it counts whatever follows."""
    try:
        with transaction(engine) as connection:
            connection.execute(insert(api_nonces).values(key=key, nonce=nonce, seen_at=now))
    except IntegrityError:
        return False
    return True


def forget_nonces(connection: Connection, before: float) -> None:
    """Drop nonces stored before this time: their calls' own time is refused by now."""
    connection.execute(delete(api_nonces).where(api_nonces.c.seen_at < before))


def held_cids(connection: Connection, owner: str) -> set[Cid]:
    """The blocks that this owner brought."""
    query = select(held_blocks.c.cid).where(held_blocks.c.owner == owner)
    return {Cid.from_binary(binary) for binary in connection.scalars(query)}


def held_among(connection: Connection, owner: str, cids: Sequence[Cid]) -> set[Cid]:
    """Those of some blocks that this owner brought."""
    binaries = [cid.binary for cid in cids]
    found: set[Cid] = set()
    for at in range(0, len(binaries), _ROWS):
        query = select(held_blocks.c.cid).where(
            held_blocks.c.owner == owner, held_blocks.c.cid.in_(binaries[at : at + _ROWS])
        )
        found.update(map(Cid.from_binary, connection.scalars(query)))
    return found


def holds_any(connection: Connection, owner: str) -> bool:
    """Whether this owner brought any block."""
    return connection.scalar(select(held_blocks.c.cid).where(held_blocks.c.owner == owner).limit(1)) is not None


def held_count(connection: Connection, owner: str) -> int:
    """How many blocks this owner brought."""
    query = select(func.count()).select_from(held_blocks).where(held_blocks.c.owner == owner)
    return int(connection.execute(query).scalar_one())


def held_bytes(connection: Connection, owner: str) -> int:
    """What this owner's blocks cost, each with its overhead."""
    query = select(func.coalesce(func.sum(held_blocks.c.size + BLOCK_OVERHEAD_BYTES), 0))
    return int(connection.execute(query.where(held_blocks.c.owner == owner)).scalar_one())


def walk_bytes(connection: Connection, owner: str) -> int:
    """What it costs to walk through this owner's blocks: the bytes of those that have links, and each its overhead."""
    is_linking = func.substr(held_blocks.c.cid, 2, 1) == bytes([DAG_PB])  # behind the version of the CID
    query = select(func.coalesce(func.sum(case((is_linking, held_blocks.c.size), else_=0) + BLOCK_OVERHEAD_BYTES), 0))
    return int(connection.execute(query.where(held_blocks.c.owner == owner)).scalar_one())


def account_bytes(connection: Connection, account: str) -> int:
    """What all uploads of an account cost."""
    roots = connection.scalars(select(uploads.c.root).where(uploads.c.account == account)).all()
    owners = [account_owner(account, Cid.from_binary(root)) for root in roots]
    query = select(func.coalesce(func.sum(held_blocks.c.size + BLOCK_OVERHEAD_BYTES), 0))
    chunks = (owners[at : at + _ROWS] for at in range(0, len(owners), _ROWS))
    return sum(int(connection.execute(query.where(held_blocks.c.owner.in_(chunk))).scalar_one()) for chunk in chunks)


def hold_blocks(connection: Connection, owner: str, blocks: Iterable[tuple[Cid, int]]) -> None:
    """Remember that an owner brought these blocks, each with its size."""
    sizes = dict(blocks)
    known = held_among(connection, owner, list(sizes))
    rows = [{"owner": owner, "cid": cid.binary, "size": size} for cid, size in sizes.items() if cid not in known]
    if rows:
        connection.execute(insert(held_blocks), rows)


def release_blocks(connection: Connection, owner: str) -> None:
    """Forget who brought these blocks; what is to stay is kept as a root."""
    connection.execute(delete(held_blocks).where(held_blocks.c.owner == owner))


def forget_block(connection: Connection, cid: Cid) -> None:
    """A block turned out to be damaged: nobody has brought it."""
    connection.execute(delete(held_blocks).where(held_blocks.c.cid == cid.binary))


def begin_account_upload(connection: Connection, upload: Upload, now: float) -> None:
    """Remember an upload that is new before its first block is stored, so that what is stored ends with it."""
    where = (uploads.c.account == upload.account, uploads.c.root == upload.root)
    if connection.scalar(select(uploads.c.account).where(*where)) is None:
        note_account_upload(connection, upload, 0, now)


def note_account_upload(connection: Connection, upload: Upload, stored_bytes: int, now: float) -> None:
    """Remember how far an account's upload is."""
    values = {
        "stored_bytes": stored_bytes,
        "public": upload.public,
        "requester": upload.requester,
        "complete": upload.complete,
        "changed_at": now,
    }
    where = (uploads.c.account == upload.account, uploads.c.root == upload.root)
    if connection.execute(update(uploads).where(*where).values(**values)).rowcount == 0:
        connection.execute(insert(uploads).values(account=upload.account, root=upload.root, **values))


def drop_account_upload(connection: Connection, account: str, root: Cid) -> int:
    """Forget an account's upload of one root; what it had cost."""
    owner = account_owner(account, root)
    freed = held_bytes(connection, owner)
    release_blocks(connection, owner)
    connection.execute(delete(uploads).where(uploads.c.account == account, uploads.c.root == root.binary))
    return freed


def is_meant_for(connection: Connection, root: Cid, requester: str) -> bool:
    """Whether somebody brought this very root, and every block below it, for the jobs of `requester`.

    An upload that is not complete opens nothing: naming a root is not having it.
    """
    return brought_for(connection, root, requester) is not None


def brought_for(connection: Connection, root: Cid, requester: str) -> str | None:
    """The owner of a complete upload that is for the jobs of `requester`."""
    where = (uploads.c.root == root.binary, uploads.c.requester == requester, uploads.c.complete)
    account = connection.scalar(select(uploads.c.account).where(*where).order_by(uploads.c.account).limit(1))
    return account_owner(account, root) if account is not None else None


def drop_old_uploads(connection: Connection, before: float) -> int:
    """Forget uploads that last changed before this time, so that they no longer count; how many."""
    rows = connection.execute(select(uploads.c.account, uploads.c.root).where(uploads.c.changed_at < before)).all()
    for account, root in rows:
        drop_account_upload(connection, account, Cid.from_binary(root))
    return len(rows)
