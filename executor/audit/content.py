"""The content of an output, looked through as it goes by: types, secrets, patterns, and all that is packed in it. Pure.

Memory stays constant whatever the output's size: of each level of packing the end of what was seen, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from executor.audit.archives import DECOMPRESSORS, Broken, Budget, Reader, Sink, Stream, Tar, Zip
from executor.audit.magic import HEAD_BYTES, type_of
from executor.audit.needles import SECRETS_RULE, Hit, Needles, Search, Seed
from executor.audit.outputrules import OutputRules
from executor.audit.rules import MAX_FINDINGS, Finding

MAX_LIVE: Final = 8
"""Streams that are unpacked side by side where they are looked for at any place."""
MAX_TRIES: Final = 100_000
"""Places of one output that begin like packed data; chance makes some 65 000 in a gibibyte."""
_UNREADABLE: Final = "archives.unreadable"
_HALTING: Final = "archives.max_entries"
_OPAQUE: Final = frozenset(("application/zstd", "application/x-7z-compressed"))
_EMBEDDED: Final = re.compile(rb"\x1f\x8b\x08|x[\x01\x5e\x9c\xda]|PK\x03\x04|BZh[1-9]1AY&SY|\xfd7zXZ\0")
_EDGE: Final = 9  # one byte less than the longest of these
_BY_FIRST_BYTE: Final = {
    ord("\x1f"): DECOMPRESSORS["application/gzip"],
    ord("x"): DECOMPRESSORS["application/gzip"],
    ord("B"): DECOMPRESSORS["application/x-bzip2"],
    0xFD: DECOMPRESSORS["application/x-xz"],
}
_TRIAL: Final = 256
_TAKEN_FOR_REAL: Final = 64


class ContentAudit:
    """Looks through the files of one output, one after the other. `findings`: what was found, at most MAX_FINDINGS.

    seeds: the secrets that the job was given. With any, packed data is looked for at every place, not only where a
    file begins with it, and what cannot be unpacked breaks a rule.
    """

    def __init__(self, rules: OutputRules, seeds: Sequence[Seed] = (), max_tries: int = MAX_TRIES) -> None:
        self.rules = rules
        self.max_tries = max_tries
        self.is_strict = bool(seeds) or rules.archives.unreadable == "withhold"
        self.seeks_embedded = bool(seeds)
        self.needles = Needles.of(rules, seeds)
        self.budget = Budget(rules.archives)
        self.tries = 0
        self.is_halted = False  # the archives of this file are over a limit: no more is unpacked
        self.findings: list[Finding] = []
        self.tells_secrets = False  # a name holds a secret: so does whatever quotes it
        self._path = ""

    def watch(self, path: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, each looked through before it goes on. path: for the findings."""
        self._path = path
        self.is_halted = False
        self.budget.begin()
        content = _Content(self, 0)
        head = b""
        for chunk in chunks:
            if len(head) < HEAD_BYTES:
                head = (head + chunk)[:HEAD_BYTES]
            self.budget.packed += len(chunk)
            content.feed(chunk)
            yield chunk
        content.close()
        self._check_type(type_of(head))

    def look(self, path: str, chunks: Iterable[bytes]) -> None:
        """As `watch`, of chunks that nobody else needs."""
        for _ in self.watch(path, chunks):
            pass

    def names(self, paths: Iterable[str]) -> None:
        """Names are outputs, too: they are looked through as one text."""
        self._path = "names of files"
        search = Search(self.needles)
        hits = [hit for path in paths for hit in search.feed(path.encode() + b"\n")]
        hits += search.close()
        self.tells_secrets = any(hit.rule == SECRETS_RULE for hit in hits)
        self.tell(hits)

    def tell(self, hits: Iterable[Hit], where: str = "") -> None:
        """Note what was found in what is looked at now."""
        for hit in hits:
            self.find(hit.rule, where + hit.text)

    def find(self, rule: str, text: str) -> None:
        """Note that what is looked at now breaks a rule."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(rule, f"{self._path!r:.200} {text}"))

    def _check_type(self, kind: str) -> None:
        if kind == "empty":
            return
        allowed = self.rules.allowed_types
        if allowed and not any(fnmatchcase(kind, pattern) for pattern in allowed):
            self.find("allowed_types", f"is {kind}")
        if any(fnmatchcase(kind, pattern) for pattern in self.rules.denied_types):
            self.find("denied_types", f"is {kind}")


class _Content:
    """One stream of bytes: a file, or what something in it unpacks to. depth: 0 for a file."""

    def __init__(self, audit: ContentAudit, depth: int) -> None:
        self._audit = audit
        self._depth = depth
        self._where = "in an archive: " if depth else ""
        self._search = Search(audit.needles)
        self._head: bytes | None = b""  # None once its type is known
        self._reader: Reader | None = None
        self._embedded = _Embedded(audit, depth) if audit.seeks_embedded else None

    def feed(self, chunk: bytes) -> None:
        """Some bytes. Broken, where this lies in an archive that is over a limit."""
        self._audit.tell(self._search.feed(chunk), self._where)
        if not self._audit.is_halted:
            self._guarded(chunk, is_end=False)

    def close(self) -> None:
        """There are no more."""
        self._audit.tell(self._search.close(), self._where)
        if not self._audit.is_halted:
            self._guarded(b"", is_end=True)

    def _guarded(self, chunk: bytes, *, is_end: bool) -> None:
        try:
            self._unpack(chunk, is_end=is_end)
        except Broken as exc:
            if exc.rule == _UNREADABLE:
                self._reader = None
                if self._audit.is_strict:
                    self._audit.find(exc.rule, self._where + exc.text)
                return
            if self._depth:
                raise
            self._audit.is_halted = True
            self._audit.find(exc.rule, exc.text)

    def _unpack(self, chunk: bytes, *, is_end: bool) -> None:
        if self._head is not None:
            chunk = self._head + chunk
            if len(chunk) < HEAD_BYTES and not is_end:
                self._head = chunk
                return
            self._head = None
            self._begin(type_of(chunk[:HEAD_BYTES]))
        if self._embedded is not None:
            self._embedded.feed(chunk, is_read=self._reader is not None, is_zip=isinstance(self._reader, Zip))
        if self._reader is not None:
            self._reader.feed(chunk)
            if is_end:
                self._reader.close()
        if is_end and self._embedded is not None:
            self._embedded.close()

    def _begin(self, kind: str) -> None:
        audit = self._audit
        if kind in DECOMPRESSORS:
            self._reader = Stream(DECOMPRESSORS[kind], _inside(audit, self._depth), audit.budget)
        elif kind == "application/zip":
            self._reader = Zip(lambda: _inside(audit, self._depth), audit.budget, strict=audit.is_strict)
        elif kind == "application/x-tar":
            self._reader = Tar(lambda: _inside(audit, self._depth), audit.budget)
        elif kind in _OPAQUE:
            raise Broken(_UNREADABLE, f"is {kind}, which is not looked into")


class _Embedded:
    """Looks for packed data at every place of a stream."""

    def __init__(self, audit: ContentAudit, depth: int) -> None:
        self._audit = audit
        self._depth = depth
        self._live: list[Stream] = []
        self._zip: Zip | None = None
        self._edge = b""
        self._is_start = True

    def feed(self, chunk: bytes, *, is_read: bool, is_zip: bool) -> None:
        """Some bytes. is_read: what begins at the very start is unpacked already. is_zip: so are all zip members."""
        self._live = [stream for stream in self._live if self._goes_on(stream, chunk)]
        if self._zip is not None:
            self._zip.feed(chunk)
        data = self._edge + chunk
        for found in _EMBEDDED.finditer(data):
            at = found.start()
            if found.end() <= len(self._edge) or (self._is_start and at == 0 and is_read):
                continue
            if data[at] != ord("P"):
                self._try(data, at)
            elif self._zip is None and not is_zip:
                self._zip = Zip(self._sink, self._audit.budget, strict=True)
                self._zip.feed(data[at:])
        if data:
            self._is_start = False
        self._edge = data[-_EDGE:]

    def close(self) -> None:
        """There are no more."""
        for stream in self._live:
            stream.close()
        if self._zip is not None:
            self._zip.close()

    def _try(self, data: bytes, at: int) -> None:
        self._audit.tries += 1
        if self._audit.tries > self._audit.max_tries:
            raise Broken(_HALTING, f"begins like packed data at more than {self._audit.max_tries} places")
        stream = Stream(_BY_FIRST_BYTE[data[at]], _Late(self._sink), self._audit.budget, alone=True)
        if not self._goes_on(stream, data[at : at + _TRIAL]) or not self._goes_on(stream, data[at + _TRIAL :]):
            return
        self._live.append(stream)
        if len(self._live) > MAX_LIVE:
            raise Broken(_HALTING, f"more than {MAX_LIVE} packed streams run into one another")

    def _goes_on(self, stream: Stream, chunk: bytes) -> bool:
        """Whether it is a stream still; what it unpacked to was looked at."""
        try:
            stream.feed(chunk)
        except Broken as exc:
            if exc.rule != _UNREADABLE:
                raise
            stream.close()
            return False
        if stream.is_over:
            stream.close()
        return not stream.is_over

    def _sink(self) -> Sink:
        if self._depth < self._audit.rules.archives.max_depth:
            return _Content(self._audit, self._depth + 1)
        return _TooDeep(self._audit.rules.archives.max_depth)


class _Late:
    """A sink that is made when there is something for it: most tries to unpack end before that."""

    def __init__(self, make: Callable[[], Sink]) -> None:
        self._make = make
        self._sink: Sink | None = None

    def feed(self, chunk: bytes) -> None:
        self._sink = self._sink or self._make()
        self._sink.feed(chunk)

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()


class _TooDeep:
    """Takes what would lie too deep: a few bytes may be chance, more are not."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 0

    def feed(self, chunk: bytes) -> None:
        self._seen += len(chunk)
        if self._seen > _TAKEN_FOR_REAL:
            raise _too_deep(self._most)

    def close(self) -> None:
        pass


def _inside(audit: ContentAudit, depth: int) -> _Content:
    most = audit.rules.archives.max_depth
    if depth >= most:
        raise _too_deep(most)
    return _Content(audit, depth + 1)


def _too_deep(most: int) -> Broken:
    return Broken("archives.max_depth", f"holds archives in archives, more than {most} deep")
