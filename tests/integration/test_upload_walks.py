"""What a bridge looks at while content arrives: each block once as it comes, once at the end."""

import threading

import pytest

from bridge.api.problems import problem_of
from bridge.errors import AskedTooOften
from bridge.outputs import Holdings
from bridge.store.content import BLOCK_OVERHEAD_BYTES, account_owner, forget_block, release_blocks
from bridge.store.engine import transaction
from bridge.walks import Budget, Walks
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.errors import ContentTooLarge, MalformedBlock
from executor.protocol.cid import DAG_PB, RAW, Cid
from tests.bridge_kit import CURATOR, REQUESTER, Bridge
from tests.gateway_kit import directory, leaf, put_block

LENGTH = 12
GIB = 2**30
MINUTE = 60


class WatchedStore(BlockStore):
    """Counts the blocks that are read. While `go` is not set, whoever reads one waits; `broken` cannot be read."""

    def __init__(self, root):
        super().__init__(root)
        self.reads = 0
        self.broken = None
        self.go, self.waiting = threading.Event(), threading.Event()
        self.go.set()

    def get(self, cid):
        self.reads += 1
        self.waiting.set()
        assert self.go.wait(30)
        if cid == self.broken:
            raise OSError("the disk does not answer")
        return super().get(cid)


class Uploader:
    """An account that uploads one DAG, and what it costs."""

    def __init__(self, bridge, root, blocks, walks=None):
        self.now = 0.0
        self.store = WatchedStore(bridge.store.root)
        self.held_for_a_minute = sum(len(block) + BLOCK_OVERHEAD_BYTES for _, block in blocks)
        budget = Budget(lambda: self.now, burst=1, per_second=-(-self.held_for_a_minute // MINUTE))
        self.holdings = Holdings(bridge.engine, self.store, walks, budget)
        self.engine, self.root, self.blocks = bridge.engine, root, blocks
        self.owner = account_owner(CURATOR, root)

    def bring(self, *blocks):
        allowance = self.holdings.account_allowance(CURATOR, self.root, GIB)
        self.holdings.take(allowance, blocks)
        return self.holdings.missing(self.owner, self.root, who=CURATOR, brought=allowance)

    def ask(self, *, verify=False):
        return self.holdings.missing(self.owner, self.root, who=CURATOR, verify=verify)

    def reads(self, act):
        """How many blocks are read meanwhile."""
        before = self.store.reads
        act()
        return self.store.reads - before


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path)
    yield bridge
    bridge.close()


def chain():
    """Directories in each other: the root, and all blocks from the root down."""
    blocks = MemoryBlocks()
    root = leaf(blocks, b"end")
    for _ in range(LENGTH):
        root = directory(blocks, a=root)
    return root, [(cid, blocks.get(cid)) for cid in reversed(list(blocks))]


@pytest.fixture
def uploader(bridge):
    return Uploader(bridge, *chain())


def test_a_dag_that_comes_block_by_block_is_read_once_as_it_comes_and_once_when_it_is_whole(uploader):
    for block, after in zip(uploader.blocks, uploader.blocks[1:], strict=False):
        assert uploader.bring(block) == [after[0]]
    assert uploader.store.reads == LENGTH

    assert uploader.bring(uploader.blocks[-1]) == []

    assert uploader.store.reads == 2 * LENGTH


def test_a_dag_that_comes_from_its_end_on_is_read_when_its_root_comes(uploader):
    for block in reversed(uploader.blocks[1:]):
        assert uploader.bring(block) == [uploader.root]
    assert uploader.store.reads == 0

    assert uploader.bring(uploader.blocks[0]) == []
    assert uploader.store.reads <= 2 * LENGTH


def test_asking_again_and_bringing_nothing_reads_nothing(uploader):
    uploader.bring(*uploader.blocks[:-1])
    last = [uploader.blocks[-1][0]]

    def again():
        assert uploader.ask() == last
        assert uploader.bring() == last
        assert uploader.bring(uploader.blocks[3]) == last

    assert uploader.reads(again) == 0


def test_who_has_all_of_it_verified_again_and_again_is_told_what_is_known(uploader):
    uploader.bring(*uploader.blocks[:-1])
    last = [uploader.blocks[-1][0]]
    assert uploader.reads(lambda: uploader.ask(verify=True)) == LENGTH

    assert uploader.reads(lambda: [uploader.ask(verify=True) for _ in range(5)]) == 0
    assert uploader.ask(verify=True) == last

    uploader.now += MINUTE
    assert uploader.reads(lambda: uploader.ask(verify=True)) == LENGTH


def test_a_whole_dag_is_not_read_for_everyone_who_asks(uploader):
    uploader.bring(*uploader.blocks)
    assert uploader.reads(uploader.ask) == LENGTH

    assert uploader.reads(lambda: [(uploader.ask(), uploader.bring()) for _ in range(5)]) == 0
    assert uploader.ask() == uploader.bring() == []


def test_what_was_withdrawn_is_not_taken_for_whole(uploader):
    uploader.bring(*uploader.blocks)
    uploader.ask()
    with transaction(uploader.engine) as connection:
        release_blocks(connection, uploader.owner)

    assert uploader.ask() == [uploader.root]


def test_a_block_that_was_lost_on_the_way_is_missed_at_the_end(uploader):
    uploader.bring(*uploader.blocks[:-1])
    lost = uploader.blocks[5]
    uploader.store.delete(lost[0])
    with transaction(uploader.engine) as connection:
        forget_block(connection, lost[0])

    assert uploader.bring(uploader.blocks[-1]) == [lost[0]]
    assert uploader.bring(lost) == []


def test_a_walk_that_is_not_remembered_counts_against_who_asks_and_nobody_else(bridge):
    uploader = Uploader(bridge, *chain(), walks=Walks(most_cids=0))
    uploader.bring(*uploader.blocks[:-1])  # what comes with a call is paid for by coming
    assert uploader.reads(uploader.ask) == LENGTH

    with pytest.raises(AskedTooOften) as caught:
        uploader.ask()
    assert uploader.holdings.missing("another", uploader.root, who=REQUESTER) == [uploader.root]
    assert (
        uploader.reads(lambda: uploader.holdings.missing(uploader.owner, uploader.root)) == LENGTH
    )  # the bridge's own

    uploader.now += caught.value.seconds
    assert uploader.ask() == [uploader.blocks[-1][0]]


def test_files_count_little_where_only_links_are_looked_at(bridge):
    blocks = MemoryBlocks()
    root = directory(blocks, a=leaf(blocks, bytes(2**20)), b=Cid.of(RAW, b"missing"))
    uploader = Uploader(bridge, root, [(cid, blocks.get(cid)) for cid in blocks], walks=Walks(most_cids=0))
    uploader.bring(*uploader.blocks)

    for _ in range(5):
        uploader.now += 1
        assert len(uploader.ask()) == 1


def test_what_can_never_be_a_directory_is_refused_again_without_a_look(bridge):
    broken = b"\xff no dag-pb"
    blocks = MemoryBlocks()
    root = directory(blocks, a=put_block(blocks, broken))
    uploader = Uploader(bridge, root, [(cid, blocks.get(cid)) for cid in blocks])

    def refused():
        with pytest.raises(MalformedBlock):
            uploader.bring()

    with pytest.raises(MalformedBlock):
        uploader.bring(*uploader.blocks)
    assert uploader.reads(lambda: [refused() for _ in range(5)]) == 0


def test_who_asks_while_it_is_looked_at_is_told_to_come_later_and_takes_no_thread(uploader):
    uploader.bring()
    uploader.store.waiting.clear()
    uploader.store.go.clear()
    bringing = threading.Thread(target=uploader.bring, args=uploader.blocks)
    bringing.start()
    try:
        assert uploader.store.waiting.wait(10)
        with pytest.raises(AskedTooOften):
            uploader.ask()
    finally:
        uploader.store.go.set()
        bringing.join(20)
    assert uploader.ask() == []


def test_a_walk_that_a_failing_disk_cut_is_begun_anew(uploader):
    uploader.bring(uploader.blocks[0])
    uploader.store.broken = uploader.blocks[5][0]
    with pytest.raises(OSError, match="does not answer"):
        uploader.bring(*uploader.blocks[1:])
    uploader.store.broken = None

    assert uploader.bring() == []


def remembered(walks, owner, root):
    with walks.of(owner, root) as walk:
        return walk.frontier is not None


def bring_part(holdings, owner, name):
    """Something of a DAG of which not all is here: its root."""
    blocks = MemoryBlocks()
    root = directory(blocks, a=leaf(blocks, name))
    holdings.take(holdings.allowance(owner, GIB), [(root, blocks.get(root))])
    assert len(holdings.missing(owner, root)) == 1
    return root


def test_walks_that_were_not_used_for_long_are_forgotten_first(bridge):
    walks = Walks(most_walks=2)
    holdings = Holdings(bridge.engine, bridge.store, walks)
    roots = [bring_part(holdings, "a", name) for name in (b"1", b"2", b"3")]

    assert [remembered(walks, "a", root) for root in reversed(roots)] == [True, True, False]


@pytest.mark.parametrize("most", [{"most_cids": 8}, {"most_walks": 4}], ids=["of their CIDs", "of them"])
def test_an_uploader_of_many_things_makes_us_forget_his_own_walks_only(bridge, most):
    walks = Walks(**most)
    holdings = Holdings(bridge.engine, bridge.store, walks)
    others = bring_part(holdings, f"slot:00:{CURATOR}", b"another's")
    for number in range(20):
        bring_part(holdings, account_owner(REQUESTER, Cid.of(DAG_PB, b"%d" % number)), b"%d" % number)

    assert remembered(walks, f"slot:00:{CURATOR}", others)


def test_asking_for_what_one_has_nothing_of_is_not_remembered(bridge):
    walks = Walks(most_walks=1)
    holdings = Holdings(bridge.engine, bridge.store, walks)
    root = bring_part(holdings, "a", b"mine")
    for number in range(3):
        nothing = Cid.of(DAG_PB, b"%d" % number)
        assert holdings.missing("a-", nothing, who="a-") == [nothing]

    assert remembered(walks, "a", root)


def test_who_brought_more_than_the_dag_is_not_told_that_it_is_whole_when_a_block_is_lost(uploader):
    unneeded = Cid.of(RAW, b"unneeded"), b"unneeded"
    uploader.bring(*uploader.blocks, unneeded)
    uploader.ask()
    with transaction(uploader.engine) as connection:
        forget_block(connection, uploader.blocks[3][0])

    with pytest.raises(AskedTooOften) as caught:
        uploader.ask()
    uploader.now += caught.value.seconds
    assert uploader.ask() == [uploader.blocks[3][0]]


def test_what_is_below_a_root_is_looked_up_once_and_against_who_asks(uploader):
    uploader.bring(*uploader.blocks)
    below = [cid for cid, _ in uploader.blocks]

    def ask():
        assert all(uploader.holdings.is_below(uploader.owner, uploader.root, cid, who="node") for cid in below)
        assert not uploader.holdings.is_below(uploader.owner, uploader.root, Cid.of(RAW, b"other"), who="node")

    assert uploader.reads(ask) == LENGTH
    assert uploader.reads(ask) == 0


def test_who_has_looked_up_what_is_not_all_here_is_told_to_come_later(uploader):
    uploader.bring(*uploader.blocks[:-1])
    last = uploader.blocks[-1][0]

    def ask():
        return uploader.holdings.is_below(uploader.owner, uploader.root, last, who="node")

    assert ask()
    with pytest.raises(AskedTooOften):
        while True:
            ask()


def test_a_debt_is_paid_off_by_time_alone():
    now = [0.0]
    budget = Budget(lambda: now[0], burst=100, per_second=10)

    assert budget.take("a", 500) == 0.0  # more than the burst, and nothing was owed
    assert budget.take("a", 1) == 40.0
    assert budget.take("a", 0) == 0.0
    assert budget.take("b", 1) == 0.0
    now[0] = 40.0
    assert budget.take("a", 50) == 0.0
    assert budget.take("a", 50) == 5.0


def test_who_owes_is_told_how_long_before_it_is_counted():
    now = [0.0]
    budget = Budget(lambda: now[0], burst=100, per_second=10)

    assert budget.wait("a") == 0.0
    budget.take("a", 500)
    assert budget.wait("a") == 40.0
    assert budget.wait("b") == 0.0


def test_who_asks_too_often_is_told_when_to_come_again():
    problem = problem_of(AskedTooOften(3.2))

    assert (problem.status, problem.name, problem.headers["Retry-After"]) == (429, "too-often", "4")


def test_a_block_counts_once_in_a_call_and_never_again(uploader):
    allowance = uploader.holdings.allowance("me", len(uploader.blocks[0][1]) + BLOCK_OVERHEAD_BYTES)
    for _ in range(2):
        uploader.holdings.take(allowance, [uploader.blocks[0], uploader.blocks[0]])
    with pytest.raises(ContentTooLarge):
        uploader.holdings.take(allowance, [uploader.blocks[1]])
