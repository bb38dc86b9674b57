"""`python -m bridge.demo.rogue FOLDER`: a node that lies, for the demo. Its program is its own: it runs no job at all.

It speaks the node API like any other node, with a registered key, and answers each lease at once with what it makes up:

- asked for standard output, it signs a made-up one: with a quorum of honest nodes it is outvoted and not paid;
- asked for an exit code, it signs "it ended with 0", and then "it ended with 3" for the same request. No honest node
  can be brought to that: its ledger signs once. Whoever has both signatures can have its stake slashed.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from executor.content.web import Http, Signer
from executor.errors import PeerError, PeerRefused
from executor.protocol.leases import Advert, Attested, Capacity, Lease
from executor.protocol.merkle import leaf_hash
from executor.protocol.nodeauth import Audience
from executor.protocol.reasons import Reason
from executor.protocol.receipt import Dependency, Run, receipt_bytes, receipt_hash
from executor.protocol.signing import Key, Scope, attestation_message
from executor.protocol.spec import job_of
from executor.protocol.wire import Order, Outcome, Request, ResultKind, Status

WAIT_SECONDS = 2.0  # how long the bridge may hold a request for work
PAUSE_SECONDS = 0.05  # after one that was not answered: where it comes late, the honest nodes have agreed without it
ROOM = Capacity(slots=4, cpu_millis=4000, memory_bytes=2**31, disk_bytes=2**32)


def made_up(order: Order) -> tuple[Outcome, ...]:
    """What it signs for an order, one after the other."""
    if order.result_kind == ResultKind.EXIT_CODE:
        failed = Outcome(status=Status.FAILED, reason=Reason.EXIT_NON_ZERO, exit_code=3, payload=b"3")
        return Outcome(status=Status.SUCCEEDED, payload=b"0"), failed
    return (Outcome(status=Status.SUCCEEDED, payload=b"0 lines, 0 words, 0 stations, 0 errors\n"),)


class Rogue:
    """See the module. say: what it does, a line each; clock: seconds since 1970."""

    def __init__(
        self,
        http: Http,
        scope: Scope,
        key: Key,
        labels: tuple[str, ...],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._scope = scope
        self._key = key
        self._advert = Advert(labels=labels, tiers=("wasm",), free=ROOM, total=ROOM, wait_seconds=WAIT_SECONDS)
        self._say = say
        self._clock = clock
        self._trouble = ""  # what the last answer lacked

    def step(self) -> bool:
        """Take one lease if there is one, and lie; whether the bridge answered."""
        try:
            reply = self._http.call("POST", "/v1/leases", self._advert.model_dump_json().encode())
            if reply.status != 204:
                self._answer(Lease.model_validate_json(reply.body))
        except PeerError as exc:
            if str(exc) != self._trouble:
                self._say(f"no answer: {exc}")
            self._trouble = str(exc)
            return False
        self._trouble = ""
        return True

    def _answer(self, lease: Lease) -> None:
        request = lease.request.request()
        for outcome in made_up(request.order):
            body = self._attested(lease, request, outcome).model_dump_json().encode()
            self._say(f"request {request.id}: signed outcome 0x{outcome.hash.hex()} without running anything")
            try:
                self._http.call("POST", f"/v1/leases/{lease.lease_id}/attestation", body)
            except PeerRefused as exc:
                self._say(f"request {request.id}: the bridge refuses it, and has the signature now: {exc}")

    def _attested(self, lease: Lease, request: Request, outcome: Outcome) -> Attested:
        receipt = self._receipt(lease, request, outcome)
        # Its log begins anew with every receipt: nothing that it signed before is in it.
        log_root = leaf_hash(receipt_hash(receipt))
        fields: dict[str, Any] = {"log_root": log_root, "log_size": 1, "relayer": lease.relayer}
        message = attestation_message(
            self._scope,
            request_hash=request.hash,
            outcome_hash=outcome.hash,
            receipt_hash=receipt_hash(receipt),
            **fields,
        )
        signature = self._key.sign(message)
        fields |= {"signature": signature, "log_proof": ()}
        return Attested(token=lease.token, outcome=outcome.encode(), receipt=receipt, **fields)

    def _receipt(self, lease: Lease, request: Request, outcome: Outcome) -> bytes:
        """It lies here too: it says that it had the inputs."""
        spec, now = request.order.spec, self._clock()
        cids = job_of(request.order, spec).content
        run = Run(
            key=self._key.address,
            slot=lease.slot,
            attempt=lease.attempt,
            started_at=now,
            finished_at=now,
            dependencies=[Dependency(name=str(cid), cid=cid, size=0, blocks=0, source="bridge") for cid in cids],
            runtime={},
            policy={},
            manifest=(),
            detail="",
        )
        return receipt_bytes(request, spec, outcome, run)


def _log(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    """Lie until told to stop (SIGTERM, Ctrl-C)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    config = tomllib.loads((folder / "node.toml").read_text())
    key = Key.load(f"file:{folder / 'key'}")
    scope = Scope(config["chain_id"], config["bridge_contract"])
    with Http(config["bridge_url"], Signer(key, Audience(scope, config["bridge_url"]))) as http:
        rogue = Rogue(http, scope, key, tuple(config["labels"]), _log)
        while not stop.is_set():
            if not rogue.step():
                stop.wait(PAUSE_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
