"""Whole jobs: ordered on the chain, run on fresh input by a fresh program, brought back and compared."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from bridge.canary.contents import Account, upload_trouble
from bridge.canary.expected import fresh_module, output_of, spec_of
from bridge.canary.records import Blame, Job, Trouble
from bridge.canary.traces import Traces, held
from bridge.chain.client import ChainClient
from bridge.chain.operate import OutOfFunds
from bridge.demo.data import make_access_log
from bridge.errors import BridgeError, RpcUnavailable
from bridge.verify import check_bundle
from bridge.verify_chain import check_chain
from bridge.verify_check import Basis
from executor.content import unixfs
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.patience import Patience
from executor.content.transfer import fetch_dag, upload_dag
from executor.content.transport import until
from executor.content.web import Http, gateway_peer, upload_peer
from executor.errors import ContentError, InvalidInput, PeerError, PeerRefused, PeerUnavailable
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle
from executor.protocol.cid import Cid
from executor.protocol.wire import OnChainState, Order, Outcome, ResultKind

INPUT_BYTES: Final = 64 * 2**10
UPLOAD_SECONDS: Final = 60.0
ORDER_LOCK_SECONDS: Final = 240.0
POLL_SECONDS: Final = 0.5
_SHOWN: Final = 300
_LIMITS: Final = unixfs.TreeLimits(max_bytes=2**22, max_files=16)
_SETTLED: Final = ("posted", "final", "expired", "cancelled")

Place = Callable[[Order], dict[str, Any]]
"""Orders a job; its "requestId" and "requestHash" once it stands on the chain. BridgeError."""


class _Wrong(Exception):
    """A job went wrong; the trouble says how."""

    def __init__(self, text: str, blame: Blame = Blame.NETWORK) -> None:
        super().__init__(text)
        self.trouble = Trouble("job", text, blame)


@dataclass
class JobProbe:
    """`run` does one job. order: its terms; spec and kind are the probe's own. ttl bounds everything. selector: repeats
    its labels.

    locks: a folder; canaries that share it never order at the same time from one account, which would take one nonce
    twice. max_spend: of all jobs together, in wei. say_why: a job's explanation in a line.
    """

    order: Order
    selector: str
    contract: str
    client: ChainClient
    place: Place
    say_why: Callable[[dict[str, Any]], str]
    traces: Traces
    locks: Path
    max_spend: int
    fresh: Callable[[int], bytes]
    clock: Callable[[], float] = time.time
    timer: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = time.sleep
    spent: int = 0
    jobs: list[Job] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def run(self, http: Http, account: Account) -> None:
        """Order a job and see it through. `http` signs uploads. What is left is in the traces."""
        folder = self.traces.work("job")
        try:
            self.jobs.append(self._run(http, account, folder))
        except _Wrong as exc:
            self.troubles.append(exc.trouble)
        except (OSError, ContentError) as exc:
            self.troubles.append(Trouble("disk", f"this canary's own store fails: {exc}", Blame.OWN))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, http: Http, account: Account, folder: Path) -> Job:
        price = self.order.price
        if self.spent + price > self.max_spend:
            raise _Wrong(f"no job was ordered: --max-spend is {self.max_spend}, {self.spent} of it is spent", Blame.OWN)
        log = folder / "access.log"
        make_access_log(log, INPUT_BYTES, self.fresh(16).hex())
        store = BlockStore(folder / "made")
        program = (resources.files("bridge.demo") / "programs" / "logstat.wasm").read_bytes()
        module = unixfs.import_bytes(store, fresh_module(program, self.fresh(32)))
        data = unixfs.import_file(store, log, 2 * INPUT_BYTES)
        expected = output_of(log.read_bytes())
        for root, path in ((module, "its program"), (data, "its input")):
            self._upload(http, account, store, root, path)
        started = self.timer()
        wall = max(1, min(60, self.order.ttl // 4))
        spec = spec_of(module, data, self.selector, wall)
        order = replace(self.order, spec=spec, result_kind=int(ResultKind.STDOUT))
        placed = self._order(order, account, price)
        end = started + self.order.ttl
        name = f"job {placed['requestId']}"
        self._settled(http, str(placed["requestHash"]), name, end)
        outcome = self._verified(http, str(placed["requestHash"]), name, end)
        self._compare(http, name, outcome, expected, folder, end)
        return Job(int(placed["requestId"]), self.timer() - started, price)

    def _upload(self, http: Http, account: Account, store: BlockStore, root: Cid, what: str) -> None:
        entry = account.upload(root)
        self.traces.note(entry)
        patience = Patience(self.clock() + UPLOAD_SECONDS, self.clock, self.pause)
        try:
            with until(UPLOAD_SECONDS):
                upload_dag(upload_peer(http, public=False), store, root, patience=patience)
        except PeerError as exc:
            if isinstance(exc, PeerRefused) and exc.name == "may-not-upload":
                self.traces.forget(entry)  # nothing came there
            found = upload_trouble(exc, account, sum(store.stat(cid).size for cid in unixfs.walk(store, root)))
            raise _Wrong(f"no job was ordered, {what} cannot be brought: {found.text}", found.blame) from exc

    def _order(self, order: Order, account: Account, price: int) -> dict[str, Any]:
        try:
            with held(self.locks / f"order-{account.address}.lock", ORDER_LOCK_SECONDS, self.pause):
                self.spent += price
                return self.place(order)
        except OutOfFunds as exc:
            self.spent -= price
            raise _Wrong(f"no job was ordered: {exc}", Blame.OWN) from exc
        except InvalidInput as exc:
            raise _Wrong(f"no job was ordered: {exc}", Blame.OWN) from exc
        except RpcUnavailable as exc:
            raise _Wrong(f"no job was ordered: the chain's endpoint does not answer: {exc}") from exc
        except BridgeError as exc:
            raise _Wrong(f"no job was ordered: {exc}") from exc

    def _settled(self, http: Http, ref: str, name: str, end: float) -> None:
        """Wait until the job is settled as FULFILLED."""
        found: dict[str, Any] = {}
        while found.get("state") not in _SETTLED:
            if self.timer() > end:
                raise _Wrong(f"{name} is not settled after {self.order.ttl} s: {self._why(http, ref)}")
            self.pause(POLL_SECONDS)
            found = _asked(http, f"/v1/jobs/{ref}") or found
        state = found.get("chain_state")
        if state != OnChainState.FULFILLED.name:
            raise _Wrong(f"{name} ended as {state!s:.40}: {self._why(http, ref)}")

    def _why(self, http: Http, ref: str) -> str:
        found = _asked(http, f"/v1/jobs/{ref}/explain")
        try:
            return self.say_why(found)[:_SHOWN] if found else "the bridge has not seen it, or does not answer"
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError):  # whatever it may say
            return "the bridge's explanation is not understood"

    def _verified(self, http: Http, ref: str, name: str, end: float) -> Outcome:
        """The outcome, with every signature checked, as it stands on the chain. Endpoints may show it late."""
        wrong = "the bridge shows no record of it"
        while self.timer() <= end:
            bundle = _bundle(http, ref)
            if bundle is not None:
                checks = [*check_bundle(bundle), *check_chain(bundle, self.client, self.contract)]
                bad = next((check for check in checks if not check.ok), None)
                if bad is None:
                    return Outcome.decode(bundle.outcome)
                wrong = f"{bad.name}: {bad.detail}"
                if bad.failed and bad.basis is Basis.OFFLINE:
                    break
            self.pause(POLL_SECONDS)
        raise _Wrong(f"{name} is settled, but its record does not hold: {wrong}")

    def _compare(
        self, http: Http, name: str, outcome: Outcome, expected: Mapping[str, bytes], folder: Path, end: float
    ) -> None:
        """Fetch the output back by the CID that stands on the chain, and compare it file by file."""
        must = unixfs.import_listing(MemoryBlocks(), dict(expected), _LIMITS)
        root = Cid.from_binary(outcome.output_cid) if outcome.output_cid else None
        if root != must:
            raise _Wrong(f"{name} gave another output than its input must give: {root}, not {must}")
        if outcome.payload != expected["stdout"]:
            raise _Wrong(f"{name} gave the right output, and something else on the chain: {outcome.payload!r:.80}")
        store = BlockStore(folder / "output")
        try:
            patience = Patience(self.clock() + max(1.0, end - self.timer()), self.clock, self.pause)
            fetch_dag(gateway_peer(http), store, root, max_bytes=_LIMITS.max_bytes, patience=patience)
        except PeerError as exc:
            raise _Wrong(f"the output of {name} cannot be fetched: {exc}") from exc
        for path, content in expected.items():
            came = b"".join(unixfs.read_file(store, unixfs.resolve(store, root, path), _LIMITS.max_bytes))
            if hashlib.sha256(came).digest() != hashlib.sha256(content).digest():
                raise _Wrong(f"the output of {name} differs at {path}")


def _asked(http: Http, path: str) -> dict[str, Any]:
    """A JSON object of the bridge's; empty where it does not answer, or does not know."""
    try:
        found = json.loads(http.call("GET", path).body)
    except (PeerUnavailable, PeerRefused, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _bundle(http: Http, ref: str) -> Bundle | None:
    try:
        body = http.call("GET", f"/v1/jobs/{ref}/bundle", max_bytes=MAX_BUNDLE_BYTES).body
        return Bundle.model_validate_json(body)
    except (PeerUnavailable, PeerRefused, ValidationError):
        return None
