"""The log's Merkle tree against RFC 6962: its definition, and the vectors of its first implementation."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.protocol.merkle import (
    Tree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    node_hash,
    root_from_proof,
    root_of,
)

#: Inputs and roots of the test tree in certificate-transparency's own test suite (merkletree/merkle_tree_test.cc).
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
#: the same suite's paths to an entry: (index, size) -> siblings
PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
#: and its proofs that one tree is the beginning of another: (first, second) -> hashes
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): PATHS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
LEAVES = st.lists(st.binary(max_size=8).map(leaf_hash), min_size=1, max_size=40)


def defined_root(leaves):
    """MTH of RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(defined_root(leaves[:split]), defined_root(leaves[split:]))


def test_the_root_of_nothing_is_the_hash_of_nothing():
    assert root_of([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_are_those_of_the_rfcs_implementation(size):
    assert root_of([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size - 1]


@given(LEAVES)
def test_the_root_is_the_one_of_the_definition(leaves):
    assert root_of(leaves) == defined_root(leaves)


@given(LEAVES, st.data())
def test_a_proof_leads_from_its_leaf_to_the_root(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))

    proof = inclusion_proof(leaves, index)

    assert root_from_proof(leaves[index], index, len(leaves), proof) == root_of(leaves)


@given(LEAVES, st.data())
def test_a_proof_proves_no_other_leaf_and_no_other_place(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1))
    proof = inclusion_proof(leaves, index)

    assert root_from_proof(leaf_hash(b"something else"), index, len(leaves), proof) != root_of(leaves)
    if leaves[other] != leaves[index]:
        assert root_from_proof(leaves[other], index, len(leaves), proof) != root_of(leaves)


@given(LEAVES, st.data())
def test_a_proof_of_the_wrong_length_proves_nothing(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = inclusion_proof(leaves, index)

    assert root_from_proof(leaves[index], index, len(leaves), [*proof, bytes(32)]) != root_of(leaves)
    if proof:
        assert root_from_proof(leaves[index], index, len(leaves), proof[:-1]) is None


@pytest.mark.parametrize(("index", "size"), [(-1, 2), (2, 2), (0, 0), (5, 3)])
def test_an_index_outside_of_the_log_proves_nothing(index, size):
    assert root_from_proof(leaf_hash(b"a"), index, size, [bytes(32)]) is None


def test_a_leaf_can_never_be_taken_for_a_node():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")

    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize("place", PATHS)
def test_the_paths_are_those_of_the_rfcs_implementation(place):
    index, size = place
    leaves = [leaf_hash(entry) for entry in ENTRIES[:size]]

    assert [item.hex() for item in inclusion_proof(leaves, index)] == PATHS[place]


@pytest.mark.parametrize("sizes", CONSISTENCIES)
def test_the_consistency_proofs_are_those_of_the_rfcs_implementation(sizes):
    first, second = sizes
    leaves = [leaf_hash(entry) for entry in ENTRIES[:second]]
    proof = [bytes.fromhex(text) for text in CONSISTENCIES[sizes]]

    assert consistency_proof(leaves, first) == proof
    assert is_consistent(first, bytes.fromhex(ROOTS[first - 1]), second, bytes.fromhex(ROOTS[second - 1]), proof)


@given(LEAVES, st.data())
def test_a_log_is_the_beginning_of_what_it_grows_into(leaves, data):
    first = data.draw(st.integers(1, len(leaves)))

    proof = consistency_proof(leaves, first)

    assert is_consistent(first, root_of(leaves[:first]), len(leaves), root_of(leaves), proof)


@given(LEAVES, st.data())
def test_a_log_that_was_rewritten_or_cut_is_the_beginning_of_nothing(leaves, data):
    first = data.draw(st.integers(1, len(leaves)))
    at = data.draw(st.integers(0, first - 1))
    proof = consistency_proof(leaves, first)
    rewritten = [*leaves[:at], leaf_hash(b"rewritten"), *leaves[at + 1 :]]
    old, new = root_of(leaves[:first]), root_of(leaves)

    assert not is_consistent(first, old, len(leaves), root_of(rewritten), consistency_proof(rewritten, first))
    assert not is_consistent(first, root_of(rewritten[:first]), len(leaves), new, proof)
    assert not is_consistent(len(leaves) + 1, old, len(leaves), new, proof)


@given(LEAVES, st.data())
def test_a_consistency_proof_of_the_wrong_length_proves_nothing(leaves, data):
    first = data.draw(st.integers(1, len(leaves)))
    proof = consistency_proof(leaves, first)
    roots = (first, root_of(leaves[:first]), len(leaves), root_of(leaves))

    assert not is_consistent(*roots, [*proof, bytes(32)])
    assert not is_consistent(*roots, [bytes(32), *proof])
    if proof:
        assert not is_consistent(*roots, proof[:-1])
        assert not is_consistent(*roots, proof[1:])


def test_nothing_is_the_beginning_of_a_log_by_any_proof():
    assert not is_consistent(0, root_of([]), 1, leaf_hash(b"a"), [])


@given(LEAVES)
def test_a_tree_that_grows_has_the_same_roots(leaves):
    tree = Tree()
    assert tree.root() == root_of([])
    for size, leaf in enumerate(leaves, 1):
        tree.append(leaf)
        assert (tree.size, tree.root()) == (size, root_of(leaves[:size]))
