"""When a node's results become public: once their outcome stands on-chain, for a while, and never before."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from executor.agent.chainview import RpcRefused
from executor.agent.publishing import ASKED_AT_ONCE, Publisher
from executor.content.blockstore import BlockStore
from executor.content.gc import collect_garbage
from executor.content.roots import RootSet
from executor.errors import PeerRefused, PeerUnavailable
from executor.ledger import Draft, Intent, Ledger
from executor.protocol.wire import Outcome, Status
from tests.gateway_kit import directory, leaf

KEY = "0x" + "11" * 20
DAY = 86400.0
NOW = 1_800_000_000.0


class Node:
    """What of a node the publisher looks at."""

    def __init__(self, folder):
        self.folder = folder
        self.store = BlockStore(folder / "content")
        self.roots = RootSet(self.store)
        if not (folder / "ledger.db").exists():
            Ledger.create(folder / "ledger.db", KEY).close()
        self.ledger = Ledger.open(folder / "ledger.db", KEY)
        self.now = NOW
        self.asked = []
        self.settled = set()
        self.publisher = self.started()

    def started(self, roots=None, settled=None):
        self.publisher = Publisher(roots or self.roots, self.ledger, settled or self.ask, lambda: self.now, 30 * DAY)
        return self.publisher

    def ask(self, record, request_id):
        self.asked.append(request_id)
        answer = next((one for one in self.settled if isinstance(one, Exception)), None)
        if answer is not None:
            raise answer
        return request_id in self.settled

    def result(self, number, *, signed=True):
        """A released output of request `number`; its root."""
        root = directory(self.store, stdout=leaf(self.store, b"result %d" % number))
        request_hash = number.to_bytes(32, "big")
        self.roots.keep(root, f"job:0x{request_hash.hex()}", self.now + 14 * DAY)
        self.ledger.begin(
            Intent(
                execution_id=f"e{number}", request_hash=request_hash, request_id=number, lease_id="l", slot=1,
                attempt=1, started_at=self.now, changed_at=self.now,
            )
        )  # fmt: skip
        if signed:
            outcome = Outcome(status=Status.SUCCEEDED, output_cid=root.binary)
            draft = Draft(request_hash=request_hash, slot=1, outcome=outcome.encode(), receipt=b"r", relayer=KEY)
            self.ledger.sign_once(replace(draft, receipt=b"%d" % number), lambda root, size: bytes(65), self.now)
        return root

    def is_public(self, root):
        return self.roots.is_public(root, self.now)


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.ledger.close()


def test_a_result_is_private_until_its_outcome_stands_on_chain(node):
    root = node.result(1)
    assert not node.publisher.step()
    assert not node.is_public(root)

    node.settled = {1}

    assert node.publisher.step()
    assert node.is_public(root)
    assert node.is_public(leaf(node.store, b"result 1"))


def test_a_result_that_is_not_signed_is_not_even_asked_about(node):
    root = node.result(1, signed=False)
    node.settled = {1}

    assert not node.publisher.step()
    assert (node.asked, node.is_public(root)) == ([], False)


def test_the_inputs_of_a_settled_request_stay_private(node):
    node.result(1)
    private = directory(node.store, a=leaf(node.store, b"an input"))
    node.roots.keep(private, f"job:0x{1:064x}", node.now + DAY)
    node.settled = {1}

    node.publisher.step()
    node.publisher.step()

    assert not node.is_public(private)
    assert node.asked == [1]


def test_a_result_is_served_for_thirty_days_and_then_never_again(node):
    root = node.result(1)
    node.settled = {1}
    node.publisher.step()
    assert node.roots.public_until(root, node.now) == NOW + 30 * DAY

    node.now = NOW + 30 * DAY - 1
    assert node.is_public(root)
    node.now = NOW + 30 * DAY + 1
    assert not node.is_public(root)
    collect_garbage(node.store, node.roots, node.now, grace_seconds=0.0)

    assert not node.publisher.step()
    assert node.roots.live(node.now) == []
    assert node.asked == [1]


def test_a_result_that_is_kept_longer_for_delivery_is_not_published_twice(node):
    root = node.result(1)
    node.roots.keep(root, f"job:0x{1:064x}", node.now + 365 * DAY)
    node.settled = {1}
    node.publisher.step()

    node.now += 31 * DAY

    assert not node.publisher.step()
    assert not node.is_public(root)


def test_a_result_whose_blocks_are_gone_is_given_up(node):
    root = node.result(1)
    node.store.delete(leaf(node.store, b"result 1"))
    node.settled = {1}

    assert not node.publisher.step()
    assert not node.publisher.step()
    assert node.asked == [1]
    assert not node.is_public(root)


@pytest.mark.parametrize(
    "problem", [PeerUnavailable("no answer"), PeerRefused(403, "no"), RpcRefused("reverted")], ids=repr
)
def test_whom_nobody_answers_asks_again(node, problem):
    root = node.result(1)
    node.settled = {problem}
    assert not node.publisher.step()

    node.settled = {1}

    assert node.publisher.step()
    assert node.is_public(root)


def test_one_request_that_is_refused_does_not_stand_in_the_way_of_the_others(node):
    roots = {number: node.result(number) for number in (1, 2, 3)}

    def ask(record, request_id):
        if request_id == 2:
            raise RpcRefused("reverted")
        return True

    assert node.started(settled=ask).step()
    assert [node.is_public(roots[number]) for number in (1, 2, 3)] == [True, False, True]


def test_nobody_is_asked_about_the_rest_while_there_is_no_answer(node):
    for number in (1, 2, 3):
        node.result(number)
    node.settled = {PeerUnavailable("no answer")}

    node.publisher.step()

    assert len(node.asked) == 1


def test_of_many_results_some_are_asked_about_at_a_time_and_all_in_turn(node):
    for number in range(1, 41):
        node.result(number)

    for _ in range(3):
        node.publisher.step()
        assert len(node.asked) <= ASKED_AT_ONCE
        node.settled.update(node.asked)
        node.asked.clear()

    assert node.settled == set(range(1, 41))


class DiesBeforeDropping(RootSet):
    def drop(self, root, label):
        os.kill(os.getpid(), signal.SIGKILL)


def dies_before_publishing(folder):
    node = Node(folder)
    node.started(settled=lambda record, request_id: os.kill(os.getpid(), signal.SIGKILL)).step()


def dies_after_publishing(folder):
    node = Node(folder)
    node.settled = {1}
    node.started(roots=DiesBeforeDropping(node.store)).step()


@pytest.mark.parametrize("die", [dies_before_publishing, dies_after_publishing])
def test_a_kill_at_any_point_loses_nothing_and_serves_nothing_too_early_or_too_long(tmp_path, die):
    first = Node(tmp_path)
    root = first.result(1)
    first.ledger.close()
    process = multiprocessing.get_context("fork").Process(target=die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL

    node = Node(tmp_path)
    assert node.is_public(root) == (die is dies_after_publishing)
    node.now += DAY
    node.settled = {1}
    node.publisher.step()

    [kept] = node.roots.live(node.now, root)
    began = NOW if die is dies_after_publishing else NOW + DAY
    assert (kept.public, kept.expires_at) == (True, began + 30 * DAY)
    node.ledger.close()
