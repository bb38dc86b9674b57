"""Results that wait for copies, where a daemon lies or the bridge is killed."""

import json
import multiprocessing
import os
import signal

import pytest
from sqlalchemy import func, select

from bridge.compose import enqueue_fulfil
from bridge.jobs import JobState
from bridge.settlement import PAGE
from bridge.store.engine import reading
from bridge.store.mirror import mirrored
from bridge.store.schema import outbox
from executor.content.car import export_car, write_car
from executor.content.kubo import Kubo
from executor.content.walk import walk
from executor.errors import PeerUnavailable
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.wire import Outcome, Status
from tests.bridge_kit import order_of, success
from tests.raw_server import RawServer, head, silent
from tests.replica_kit import HANDED_OVER, WAITING, Places, first, places

__all__ = ["first", "places"]


# -- daemons that lie -------------------------------------------------------------------------------------------------


class Liar(RawServer):
    """A daemon that says what it should, but for one thing."""

    def __init__(self, lie, blocks, root):
        super().__init__(self._script)
        self.lie, self.root = lie, str(root)
        self.car = b"".join(export_car(blocks, root))
        leaf = [cid for cid in walk(blocks, root) if cid.codec == RAW][-1]
        self.cut = b"".join(write_car([root], [(cid, blocks.get(cid)) for cid in walk(blocks, root) if cid != leaf]))

    def _script(self, connection, stopping):
        call = self.calls[-1].split("?")[0].rsplit("/api/v0", 1)[1]
        if self.lie == "falls silent" and call == "/dag/export":
            silent(connection, stopping)
        elif call == "/dag/export":
            self._export(connection)
        else:
            connection.sendall(head() + json.dumps(self._row(call)).encode() + b"\n")

    def _row(self, call):
        other = str(Cid.of(RAW, b"other"))
        problem = "no space" if self.lie == "does not pin" else ""
        return {
            "/id": {"ID": "" if self.lie == "has no name" else "12D3liar", "Addresses": []},
            "/version": {"Version": "0.43.0"},
            "/dag/import": {
                "Root": {"Cid": {"/": other if self.lie == "names another root" else self.root}, "PinErrorMsg": problem}
            },
            "/pin/ls": {"Keys": {} if self.lie == "keeps no pin" else {self.root: {"Type": "recursive"}}},
        }[call]

    def _export(self, connection):
        if self.lie == "keeps no block":
            message = json.dumps({"Message": "block was not found locally (offline)", "Code": 0, "Type": "error"})
            connection.sendall(head("500 Internal Server Error", Content_Type="application/json") + message.encode())
        elif self.lie == "gives back other bytes":
            connection.sendall(head() + self.car[:-1] + bytes([self.car[-1] ^ 1]))
        elif self.lie == "gives back a part":
            connection.sendall(head() + self.cut)
        elif self.lie == "gives back a stream that is cut":
            connection.sendall(head() + self.car[:-5])
        else:
            connection.sendall(head() + self.car)


#: what it does -> what the job says of it
LIES = {
    "has no name": "does not say which peer it is",
    "names another root": "took another root",
    "does not pin": "does not pin",
    "keeps no pin": "does not keep it",
    "keeps no block": "not found locally",
    "gives back other bytes": "hash",
    "gives back a part": "does not come back",
    "gives back a stream that is cut": "stopped answering over",
    "falls silent": "stopped answering over",
}


def lied_to(places, lie):
    """A job that waits for a copy at a daemon that lies, after a look at that."""
    two = places(2)
    job, root = two.answered()
    with Liar(lie, two.bridge.store, root) as server, Kubo(server.url, silence_seconds=0.5) as client:
        try:
            two.copy(two.mirror(client, "kubo 1"))
        except PeerUnavailable:
            two.settle()
        assert server.url not in two.bridge.job(job.request_hash).detail
    return two, job


@pytest.mark.parametrize("lie", LIES)
def test_a_daemon_that_lies_is_no_place_and_the_job_says_why(places, lie):
    two, job = lied_to(places, lie)

    assert two.of(job) == WAITING
    assert LIES[lie] in two.bridge.job(job.request_hash).detail
    assert two.bridge.outbox.deliveries == []


def test_a_daemon_that_does_not_lie_is_a_place(places):
    two, job = lied_to(places, "nothing")

    assert two.of(job) == HANDED_OVER


def test_a_result_that_one_daemon_refuses_keeps_no_other_result_waiting(places, first):
    two = places(2)
    one, refused = two.answered()
    other, _ = two.answered()

    class Choosy:
        def __getattr__(self, name):
            return getattr(first, name)

        def publish(self, store, root):
            if root == refused:
                raise PeerUnavailable("stalls at this one")
            first.publish(store, root)

    mirror = two.mirror(Choosy())
    with pytest.raises(PeerUnavailable):
        two.copy(mirror)
    two.copy(mirror)

    assert (two.of(one), two.of(other)) == (WAITING, HANDED_OVER)


def test_results_that_wait_hide_no_result_that_need_not_however_many_they_are(places):
    two = places(2)
    known = {"reason": Reason.COPIES_MISSING.value, "detail": "its output is at 1 of 2 places"}
    for number in range(PAGE):
        output = success(Cid.of(RAW, b"%d" % number))
        two.bridge.request(order_of(), state=JobState.STORED, outcome=output.encode(), **known)
    refused = Outcome(status=Status.REFUSED, reason=Reason.SPEC_NOT_JSON)
    job = two.bridge.request(order_of(), state=JobState.STORED, outcome=refused.encode())

    for _ in range(3):
        two.bridge.dispatcher.step()

    assert two.of(job) == HANDED_OVER
    assert len(two.bridge.outbox.deliveries) == 1


# -- kill -9 ----------------------------------------------------------------------------------------------------------


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def bridge_that_dies(folder, api, place):
    """A process that works on what waits in a folder and is killed at a place."""
    with Kubo(api) as client:
        two = Places(folder, 2)

        class Killed:
            def __getattr__(self, name):
                if place == f"before {name}":
                    die()
                return getattr(client, name)

            def publish(self, store, root):
                if place == "before publish":
                    die()
                client.publish(store, root)
                if place == "after publish":
                    die()

        def enqueue(connection, job, outcome, attestations, now):
            enqueue_fulfil(connection, job, outcome, attestations, now)
            if place == "while handing over":
                die()

        two.bridge.dispatcher = two.dispatcher(enqueue)
        mirror = two.mirror(Killed())
        while mirror.step():
            pass
        if place == "after the copy was noted":
            die()
        two.settle()
        die()


@pytest.mark.parametrize(
    "place",
    [
        "before is_pinned", "before publish", "after publish", "before get_car", "after the copy was noted",
        "while handing over", "after handing over",
    ],
)  # fmt: skip
def test_kill_9_between_copy_and_outbox_has_no_second_effect(places, first, kubo, tmp_path, place):
    two = places(2)
    job, root = two.answered()

    process = multiprocessing.get_context("spawn").Process(target=bridge_that_dies, args=(tmp_path, kubo.api, place))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    two.bridge.dispatcher = two.dispatcher(enqueue_fulfil)
    two.copy(two.mirror(first))

    assert two.of(job) == HANDED_OVER
    assert first.is_pinned(root)
    with reading(two.bridge.engine) as connection:
        assert connection.execute(select(func.count()).select_from(outbox)).scalar_one() == 1
        assert [(one.root, one.ours, one.done) for one in mirrored(connection, first.peer_id())] == [(root, True, True)]
