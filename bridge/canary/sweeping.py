"""Takes back what canaries left, uploads at the bridge and pins of Kubos: their own, and those of dead ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.canary.records import Blame, Trouble
from bridge.canary.traces import Left, Traces
from bridge.chain.signer import TxSigner
from executor.content.kubo import Kubo
from executor.content.web import Http, Signer, withdraw_upload
from executor.content.weburl import shown
from executor.errors import InvalidInput, PeerRefused, PeerUnavailable
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Scope

SUBJECT: Final = "cleaning up"


@dataclass(frozen=True)
class Sweeper:
    """For one account at one bridge, and some Kubos: what others left elsewhere is theirs to take back.

    bridge: its URL without a slash at the end; kubos: as `rpc_address` gives them.
    """

    bridge: str
    account: TxSigner
    kubos: Sequence[str]

    def sweep(self, traces: Traces) -> Iterator[Trouble]:
        """Take back what is written down; what cannot be taken back stays written down, for the next time.

        Trouble only where it is refused: whoever does not answer now is asked again after the next round, or by the
        next canary, and is told of by what is looked at there.
        """
        silent: set[str] = set()
        try:
            entries = [entry for entry in traces.left() if self._is_ours(entry)]
        except InvalidInput as exc:
            yield Trouble(SUBJECT, str(exc))
            return
        for entry in entries:
            if entry.where in silent:
                continue
            try:
                self._take_back(entry)
            except PeerUnavailable:
                silent.add(entry.where)
            except PeerRefused as exc:
                blame = Blame.OWN if exc.name == "may-not-upload" else Blame.NETWORK
                yield Trouble(SUBJECT, f"{entry.root} cannot be taken back from {shown(entry.where)}: {exc}", blame)
            else:
                traces.forget(entry)

    def _is_ours(self, entry: Left) -> bool:
        if entry.kind == "kubo":
            return entry.where in self.kubos
        return (entry.where, entry.account) == (self.bridge, self.account.address)

    def _take_back(self, entry: Left) -> None:
        if entry.kind == "kubo":
            with Kubo(entry.where) as daemon:
                daemon.unpin(entry.cid)
            return
        audience = Audience(Scope(entry.chain_id, entry.contract), entry.where)
        with Http(entry.where, Signer(self.account, audience)) as http:
            withdraw_upload(http, entry.cid)
