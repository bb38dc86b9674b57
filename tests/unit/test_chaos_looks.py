"""How blocks, logs and receipts look from outside."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.devnet.chaos.epochs import EpochMap
from bridge.devnet.chaos.looks import EMPTY_TRANSACTIONS, FULL_BLOOM, ZERO_HASH, Look, masked

hashes = st.binary(min_size=32, max_size=32).map(lambda data: "0x" + data.hex())
seeds = st.integers(0, 2**64)
H1, H2 = "0x" + "11" * 32, "0x" + "22" * 32
EPOCHS = EpochMap(0, also=(3,))  # block 3 is in epoch 4
LOOK = Look(7, EPOCHS, tipsets=True)


@given(seeds, hashes, st.integers(0, 3))
def test_a_mask_taken_twice_is_none(seed, block_hash, branch):
    assert masked(seed, masked(seed, block_hash, branch), branch) == block_hash


@given(seeds, st.lists(hashes, min_size=2, max_size=2, unique=True), st.integers(0, 3))
def test_different_hashes_stay_different(seed, pair, branch):
    assert len({masked(seed, block_hash, branch) for block_hash in pair}) == 2


@given(seeds, hashes)
def test_branches_differ_and_so_do_seeds(seed, block_hash):
    assert len({block_hash, masked(seed, block_hash), masked(seed, block_hash, 1), masked(seed + 1, block_hash)}) == 4


def test_what_is_no_hash_stays_as_it_is():
    assert masked(1, "0x12") == "0x12"
    assert masked(1, "zz" * 33) == "zz" * 33


def block(**fields):
    return {
        "number": "0x3",
        "hash": H1,
        "parentHash": H2,
        "miner": "0x12",
        "logsBloom": "0x0",
        "transactions": [],
    } | fields


def test_a_tipset_has_epoch_masked_hashes_and_empty_fields():
    shown = LOOK.outward(block())

    assert (shown["number"], shown["hash"], shown["parentHash"]) == ("0x4", masked(7, H1), masked(7, H2))
    assert (shown["difficulty"], shown["stateRoot"]) == ("0x0", ZERO_HASH)
    assert int(shown["miner"], 16) == 0
    assert shown["transactionsRoot"] == EMPTY_TRANSACTIONS
    assert LOOK.outward(block(transactions=[H1]))["transactionsRoot"] == ZERO_HASH
    assert int(shown["gasLimit"], 16) % 10**10 == 0


def test_a_block_that_is_still_pending_has_no_hash():
    assert LOOK.outward(block(hash=None))["hash"] is None


def test_without_the_look_of_tipsets_only_numbers_change():
    plain = Look(7, EPOCHS)

    assert plain.outward(block()) == block(number="0x4")
    assert plain.candidates(H1) == [H1]
    assert plain.outward({"cumulativeGasUsed": "0x9", "blockNumber": "0x3"})["cumulativeGasUsed"] == "0x9"


def test_the_bloom_is_full_where_the_dialect_says_so():
    assert Look(7, EPOCHS, tipsets=True, bloom_is_full=True).outward(block())["logsBloom"] == FULL_BLOOM
    assert LOOK.outward(block())["logsBloom"] == "0x0"


def test_logs_and_receipts_are_placed_wherever_they_are():
    log = {"blockNumber": "0x3", "blockHash": H1, "data": H2}
    receipt = {"blockNumber": "0x3", "blockHash": H1, "cumulativeGasUsed": "0x99", "logs": [log], "logsBloom": "0x0"}

    shown = LOOK.outward([receipt])[0]

    assert (shown["blockNumber"], shown["blockHash"]) == ("0x4", masked(7, H1))
    assert shown["logs"] == [{"blockNumber": "0x4", "blockHash": masked(7, H1), "data": H2}]
    assert shown["cumulativeGasUsed"] == "0x0"
    assert LOOK.outward({"blockNumber": None, "blockHash": None}) == {"blockNumber": None, "blockHash": None}
    assert LOOK.outward({"blockNumber": "0x3", "blockHash": None})["blockNumber"] == "0x4"
    assert LOOK.outward({"oldestBlock": "0x3"}) == {"oldestBlock": "0x4"}


def test_a_forked_node_shows_other_hashes_above_the_fork_and_the_same_ones_below():
    forked = Look(7, EPOCHS, tipsets=True, fork=2)

    shown = forked.outward(block())
    assert (shown["hash"], shown["parentHash"]) == (masked(7, H1, 1), masked(7, H2))
    assert forked.hash_of(H1, 2) == LOOK.hash_of(H1, 2)
    assert set(forked.candidates(masked(7, H1, 1))) > {H1}
    assert Look(7, EPOCHS, fork=2).hash_of(H1, 3) == masked(7, H1, 1)
    assert Look(7, EPOCHS, fork=2).hash_of(H1, 2) == H1
