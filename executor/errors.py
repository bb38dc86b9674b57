"""The errors that Insula's own code raises. Library errors are translated where they appear: `raise X(...) from exc`.

    InsulaError
    ├── InvalidInput(field, problem)        something that a person or a peer handed in is wrong; never worth a retry
    ├── PeerError                           another program on the network did not do what we asked
    │   ├── PeerUnavailable(problem)        no answer in time, or "try again later"; the same call may work later
    │   └── PeerRefused(status, problem)    it understood and said no; the same call will fail again
    └── ContentError                        content by hash could not be read, written or walked
        ├── BlockMissing(cid)               not here (or not public: the two look the same on purpose)
        ├── BlockMismatch(cid, where)       bytes that do not hash to their CID; the source is bad, never retry it
        ├── MalformedBlock(cid, problem)    right hash, but not valid dag-pb or UnixFS; can never be read
        ├── ContentTooLarge(what, limit)    a limit on bytes, entries or depth was passed
        ├── UnsafeName(name, problem)       a name or a kind of file that we never write, nor read from a job's folder
        ├── PathNotFound(root, path)        a directory has no entry of that name
        ├── SourceChanged(path)             a file changed while it was being imported
        ├── CarError(problem)               not a well-formed CARv1 stream, or cut
        └── DiskFull                        no space left for the block store

The docstring of a class is its message where none is given. Every error can be pickled (jobs run in child processes).
"""

from __future__ import annotations

from typing import Protocol


class ContentId(Protocol):
    """A `Cid`, by its shape: the module of that class raises `InvalidInput`, so this one cannot import it."""

    @property
    def codec(self) -> int:
        """The multicodec of the block."""

    @property
    def digest(self) -> bytes:
        """The sha2-256 of the block, 32 bytes."""


class InsulaError(Exception):
    """Insula could not do this."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]


class InvalidInput(InsulaError):
    """An input is not valid.

    field: the path of the field as its author wrote it ("inputs[0].cid"); problem: what is wrong and what to do.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class PeerError(InsulaError):
    """Another program on the network did not do what we asked."""


class PeerUnavailable(PeerError):
    """The peer did not answer in time, or said "later". The message says who and why.

    retry_after: seconds for which it asked to be left alone; 0 where it named none.
    """

    def __init__(self, problem: str = "", retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class PeerRefused(PeerError):
    """The peer said no. `status` is the HTTP status, `problem` its own words (untrusted, cut).

    name: which problem, where the peer is a bridge and says so: "stale-lease" of `urn:insula:problem:stale-lease`.
    """

    def __init__(self, status: int, problem: str, name: str = "") -> None:
        super().__init__(status, problem, name)
        self.status = status
        self.problem = problem
        self.name = name

    def __str__(self) -> str:
        return f"{self.problem} (HTTP status {self.status})"


class ContentError(InsulaError):
    """Content could not be read or written."""


class BlockMissing(ContentError):
    """A block is not in this store."""

    def __init__(self, cid: ContentId) -> None:
        super().__init__(cid)
        self.cid = cid

    def __str__(self) -> str:
        return f"block {self.cid} is not here"


class BlockMismatch(ContentError):
    """Bytes do not hash to the CID they were given for."""

    def __init__(self, cid: ContentId, where: str) -> None:
        super().__init__(cid, where)
        self.cid = cid
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: the bytes do not hash to {self.cid}"


class MalformedBlock(ContentError):
    """A block has the right hash but is not what its codec says."""

    def __init__(self, cid: ContentId | None, problem: str) -> None:
        super().__init__(cid, problem)
        self.cid = cid
        self.problem = problem

    def __str__(self) -> str:
        return f"block {self.cid}: {self.problem}" if self.cid else self.problem


class ContentTooLarge(ContentError):
    """Content is over a limit: `what` names it ("bytes", "files", "depth"), `limit` is its value."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(what, limit)
        self.what = what
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.what}: more than the limit of {self.limit}"


class UnsafeName(ContentError):
    """A name, or the kind of file behind it, is refused. `name` is shown escaped: it may hold any bytes."""

    def __init__(self, name: str | bytes, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name!r}: {self.problem}"


class PathNotFound(ContentError):
    """A directory has no entry of that name."""

    def __init__(self, root: ContentId, path: str) -> None:
        super().__init__(root, path)
        self.root = root
        self.path = path

    def __str__(self) -> str:
        return f"{self.root} has no entry {self.path!r}"


class SourceChanged(ContentError):
    """A file changed while it was being imported."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path!r}: changed while it was being imported"


class CarError(ContentError):
    """A CAR stream is not well formed, or was cut."""


class DiskFull(ContentError):
    """No space left for the block store."""
