"""The window over random trees of blocks with null rounds, and what it decides in each named case."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.cursor import (
    CATCH_UP_SLACK,
    Advance,
    CatchUp,
    DeepReorg,
    Fetch,
    Stay,
    advanced,
    final_block,
    is_linked,
    plan,
)
from bridge.chain.shapes import Block
from bridge.errors import RpcUnavailable

DEPTH = 10


def child(parent, gap=1, salt=0):
    """A block on another one, `gap` epochs later."""
    digest = hashlib.sha256(parent.hash + bytes([gap]) + salt.to_bytes(4, "big")).digest()
    return Block(parent.number + gap, digest, parent.hash, parent.timestamp + 30 * gap)


GENESIS = Block(100, b"\x01" * 32, b"\x00" * 32, 0)


def chain(length, *, start=GENESIS, salt=0, gap=1):
    """`length` blocks after `start`, oldest first."""
    blocks = [start]
    for _ in range(length):
        blocks.append(child(blocks[-1], gap, salt))
    return tuple(blocks[1:])


def settle(window, head, known, depth=DEPTH, **options):
    """Follow the decisions to their end; what was fetched on the way."""
    fetched, asked = {}, []
    while isinstance(decision := plan(window, head, fetched, depth, **options), Fetch):
        asked.append(known[decision.block_hash])
        fetched[decision.block_hash] = known[decision.block_hash]
    return decision, asked


@st.composite
def trees(draw):
    """A tree of blocks by hash, grown from one root with random gaps."""
    blocks = [GENESIS]
    for salt in range(draw(st.integers(1, 25))):
        parent = draw(st.sampled_from(blocks[-6:]))
        blocks.append(child(parent, draw(st.integers(1, 3)), salt))
    return blocks


def branch_of(block, known):
    """The chain from the root to a block."""
    branch = [block]
    while branch[0].hash != GENESIS.hash:
        branch.insert(0, known[branch[0].parent_hash])
    return tuple(branch)


@given(trees(), st.data())
def test_whatever_heads_come_the_window_is_the_linked_branch_of_one_of_them(tree, data):
    known = {block.hash: block for block in tree}
    window, best = (GENESIS,), GENESIS
    for _ in range(data.draw(st.integers(1, 12))):
        head = data.draw(st.sampled_from(tree))
        decision, asked = settle(window, head, known, 10_000, lower_is_real=True)
        assert all(block.number < head.number for block in asked)
        if isinstance(decision, Advance):
            assert all(block in window for block in decision.orphaned)
            assert not set(decision.new) & set(window)
            window, best = advanced(window, decision), head
        else:
            assert decision in (Stay.SAME, Stay.BEHIND)
            assert head in window
        assert is_linked(window)
        assert window == branch_of(best, known)


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 40))
def test_the_final_block_is_the_newest_one_that_is_deep_enough(length, gap, depth):
    window = (GENESIS, *chain(length, gap=gap))
    final = final_block(window, depth)
    later = [block for block in window if block.number > final.number]

    assert final in window
    assert all(window[-1].number - block.number < depth for block in later)
    assert final is window[0] or window[-1].number - final.number >= depth


@given(st.integers(1, 30), st.integers(0, 40), st.integers(0, 200))
def test_a_tag_makes_blocks_final_earlier_and_never_takes_one_back(length, depth, tagged):
    window = (GENESIS, *chain(length))
    final = final_block(window, depth, tagged)

    assert final.number >= final_block(window, depth).number
    assert final.number <= max(tagged, final_block(window, depth).number)
    assert final == max((b for b in window if b.number <= tagged), default=GENESIS, key=lambda b: b.number) or (
        final == final_block(window, depth)
    )


def test_a_known_head_changes_nothing():
    window = (GENESIS, *chain(3))
    assert plan(window, window[-1], {}, DEPTH) is Stay.SAME


def test_a_head_that_is_an_older_block_of_ours_is_a_node_that_is_behind():
    window = (GENESIS, *chain(3))
    assert plan(window, window[1], {}, DEPTH) is Stay.BEHIND


def test_a_head_below_the_final_block_is_a_node_that_is_behind_not_a_reorg():
    old = Block(50, b"\x09" * 32, b"\x08" * 32, 0)
    assert plan((GENESIS,), old, {}, DEPTH, lower_is_real=True) is Stay.BEHIND


def test_a_lower_head_on_another_branch_waits_until_it_is_believed():
    window = (GENESIS, *chain(4))
    other = chain(2, salt=7)
    known = {block.hash: block for block in other}

    assert plan(window, other[-1], known, DEPTH) is Stay.LOWER
    decision = plan(window, other[-1], known, DEPTH, lower_is_real=True)
    assert decision == Advance(orphaned=window[1:], new=other)


def test_the_next_block_is_added():
    window = (GENESIS, *chain(2))
    new = child(window[-1], gap=4)
    decision = plan(window, new, {}, DEPTH)

    assert decision == Advance(orphaned=(), new=(new,))
    assert advanced(window, decision) == (*window, new)


def test_missing_parents_are_asked_for_by_hash_one_by_one():
    new = chain(3)
    assert plan((GENESIS,), new[2], {}, DEPTH) == Fetch(new[1].hash)
    assert plan((GENESIS,), new[2], {new[1].hash: new[1]}, DEPTH) == Fetch(new[0].hash)


def test_far_behind_the_final_height_is_caught_up_with():
    head = Block(GENESIS.number + DEPTH + CATCH_UP_SLACK + 1, b"\x05" * 32, b"\x04" * 32, 0)
    assert plan((GENESIS,), head, {}, DEPTH) == CatchUp(head.number - DEPTH)


def test_a_chain_that_passes_by_the_final_block_is_a_deep_reorg():
    before = Block(90, b"\x02" * 32, b"\x03" * 32, 0)
    window = (GENESIS, *chain(2))
    foreign = chain(14, start=before, salt=3)
    with pytest.raises(DeepReorg, match="block 100"):
        settle(window, foreign[-1], {block.hash: block for block in (before, *foreign)})


def test_a_sibling_of_the_final_block_is_a_deep_reorg():
    sibling = Block(100, b"\x06" * 32, b"\x03" * 32, 0)
    head = child(child(sibling))
    known = {sibling.hash: sibling, head.parent_hash: child(sibling)}
    with pytest.raises(DeepReorg):
        settle((GENESIS,), head, known)


@pytest.mark.parametrize("number", [101, 102, 500])
def test_a_parent_that_is_not_below_its_child_is_the_endpoints_fault(number):
    parent = Block(number, b"\x07" * 32, GENESIS.hash, 0)
    head = Block(101, b"\x08" * 32, parent.hash, 0)
    with pytest.raises(RpcUnavailable, match="parent"):
        plan((GENESIS,), head, {parent.hash: parent}, DEPTH)


def test_a_child_of_a_block_of_ours_that_is_not_above_it_is_the_endpoints_fault():
    window = (GENESIS, *chain(3))
    head = Block(window[-1].number, b"\x08" * 32, window[-1].hash, 0)
    with pytest.raises(RpcUnavailable, match="parent"):
        plan(window, head, {}, DEPTH)


def test_the_error_says_what_to_do():
    assert "insula bridge rebuild" in str(DeepReorg(GENESIS))


def test_an_empty_window_is_not_linked():
    assert not is_linked(())
    assert not is_linked((GENESIS, Block(101, b"\x02" * 32, b"\x09" * 32, 0)))
