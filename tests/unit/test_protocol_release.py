"""What a reviewer signs: the same bytes as any wallet's EIP-712, bound to every field, open only where it may be."""

import dataclasses

import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.protocol.reasons import Reason
from executor.protocol.release import (
    Changes,
    Held,
    Redacted,
    Subject,
    is_signed,
    redaction_document,
    release_digest,
    release_document,
    sign_release,
    signed_release,
)
from executor.protocol.signing import Key, Scope, digest

KEY = Key.from_hex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
HELD = Held(outcome_hash=b"\x11" * 32, manifest_hash=b"\x22" * 32, salt=b"\x33" * 32)
SUBJECT = Subject(
    scope=Scope(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    request_hash=b"\x44" * 32,
    node="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    policy_hash=b"\x55" * 32,
    held=HELD.hash,
)
WORD = st.binary(min_size=32, max_size=32)
ADDRESS = st.sampled_from([SUBJECT.node, SUBJECT.scope.contract, KEY.address])

#: (approve, reason) -> the digest
VECTORS = {
    (True, 0): "2d270c35cfd770a855d5e19583a103412cba797df42f8de1094e0b59946c5cea",
    (False, 300): "1d46f91bb3f15ce359da55e2bca56e24c66e7cd2183c5cf9ca12625d26721968",
}


@pytest.mark.parametrize(("decision", "expected"), VECTORS.items(), ids=["approve", "reject"])
def test_the_digest_of_a_vector(decision, expected):
    assert release_digest(SUBJECT, *decision).hex() == expected


def test_the_hash_of_what_is_held_is_a_vector():
    assert HELD.hash.hex() == "e91d942c4bf944c43b8a0b9a77b2f4df7a8212e0e35b9962415aec1c17b3b057"


@given(
    words=st.tuples(WORD, WORD, WORD, WORD, WORD),
    chain_id=st.integers(1, 2**63 - 1),
    contract=ADDRESS,
    node=ADDRESS,
    approve=st.booleans(),
)
def test_the_digest_is_that_of_a_wallet(words, chain_id, contract, node, approve):
    held = Held(outcome_hash=words[0], manifest_hash=words[1], salt=words[2])
    subject = Subject(
        scope=Scope(chain_id, contract), request_hash=words[3], node=node, policy_hash=words[4], held=held.hash
    )
    reason = 0 if approve else 301

    wallet = encode_typed_data(full_message=dict(release_document(subject, held, approve, reason)))

    assert digest(wallet) == release_digest(subject, approve, reason)


@pytest.mark.parametrize("field", ["outcome_hash", "manifest_hash", "salt"])
def test_each_part_of_what_is_held_is_in_its_hash(field):
    assert dataclasses.replace(HELD, **{field: bytes(32)}).hash != HELD.hash


def test_a_signature_made_elsewhere_is_as_good():
    made = sign_release(SUBJECT, KEY, False, 300)

    assert signed_release(SUBJECT, False, 300, made.signature) == made
    assert is_signed(SUBJECT, made)


@pytest.mark.parametrize(
    ("approve", "reason", "problem"),
    [(True, 300, "must be 0"), (False, 0, "no reason of a rejection"), (False, int(Reason.RELEASE_TIMEOUT), "300")],
    ids=["approved for a reason", "rejected for none", "rejected for the time"],
)
def test_a_decision_with_the_wrong_reason_is_never_signed(approve, reason, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        sign_release(SUBJECT, KEY, approve, reason)

    assert caught.value.field == "reason"


CHANGES = Changes(removed=True, replaced=("outputs/a", "stdout"))
LESS = Held(outcome_hash=b"\x66" * 32, manifest_hash=b"\x77" * 32, salt=b"\x88" * 32)
OF_A_PART = dataclasses.replace(SUBJECT, redacted=Redacted(held=LESS.hash, changes=CHANGES.hash))


def test_the_digest_of_a_redaction_is_a_vector():
    assert CHANGES.hash.hex() == "10a659f81bd861232b60685c64b80889e371b29bd2ff677df49e528901b5a996"
    assert (
        release_digest(OF_A_PART, True, 0).hex() == "d2bc5ec761ec48c1b0a82820669c0e81e73dab58801c285569fe0ee9d803400d"
    )


@given(
    words=st.tuples(*[WORD] * 8),
    chain_id=st.integers(1, 2**63 - 1),
    node=ADDRESS,
    removed=st.booleans(),
    replaced=st.lists(st.text(), max_size=4),
)
def test_the_digest_of_a_redaction_is_that_of_a_wallet(words, chain_id, node, removed, replaced):
    held = Held(outcome_hash=words[0], manifest_hash=words[1], salt=words[2])
    less = Held(outcome_hash=words[5], manifest_hash=words[6], salt=words[7])
    changes = Changes(removed=removed, replaced=tuple(replaced))
    subject = Subject(
        scope=Scope(chain_id, SUBJECT.scope.contract), request_hash=words[3], node=node, policy_hash=words[4],
        held=held.hash, redacted=Redacted(held=less.hash, changes=changes.hash),
    )  # fmt: skip

    wallet = encode_typed_data(full_message=dict(redaction_document(subject, held, less, changes)))

    assert digest(wallet) == release_digest(subject, True, 0)


@pytest.mark.parametrize("field", ["request_hash", "policy_hash", "held"])
def test_an_approval_of_a_redaction_is_for_that_alone(field):
    vote = sign_release(OF_A_PART, KEY, True, 0)

    assert (is_signed(OF_A_PART, vote), vote.redaction) == (True, OF_A_PART.redacted.id)
    assert not is_signed(SUBJECT, vote)
    assert not is_signed(OF_A_PART, sign_release(SUBJECT, KEY, True, 0))
    assert not is_signed(dataclasses.replace(OF_A_PART, **{field: bytes(32)}), vote)
    for other in (Redacted(held=bytes(32), changes=CHANGES.hash), Redacted(held=LESS.hash, changes=bytes(32))):
        assert not is_signed(dataclasses.replace(OF_A_PART, redacted=other), vote)


@pytest.mark.parametrize(
    "changed", [Changes(removed=False, replaced=CHANGES.replaced), Changes(removed=True, replaced=())]
)
def test_what_is_told_of_a_redaction_is_in_what_is_signed(changed):
    assert changed.hash != CHANGES.hash


def test_a_redaction_is_never_rejected():
    with pytest.raises(InvalidInput, match="approved or left alone") as caught:
        sign_release(OF_A_PART, KEY, False, 300)

    assert caught.value.field == "redaction"
