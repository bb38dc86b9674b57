"""From decisions to a ruling: who counts, when it is over, and that nothing but enough good signatures releases."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.audit.policy import ReleaseRules
from executor.audit.release import counted, rule, was_approved_in_part
from executor.protocol.reasons import Reason
from executor.protocol.release import Held, Redacted, Subject, Vote, sign_release
from executor.protocol.signing import Key, Scope

KEYS = [Key.from_hex(f"{number:064x}") for number in (1, 2, 3)]
STRANGER = Key.from_hex(f"{9:064x}")
ADDRESSES = tuple(key.address for key in KEYS)
HELD = Held(outcome_hash=b"\1" * 32, manifest_hash=b"\2" * 32, salt=b"\3" * 32)
SUBJECT = Subject(
    scope=Scope(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    request_hash=b"\4" * 32,
    node=STRANGER.address,
    policy_hash=b"\5" * 32,
    held=HELD.hash,
)
PERSON = ReleaseRules(mode="person", signers=ADDRESSES)
TWO_OF_THREE = ReleaseRules(mode="signers", signers=ADDRESSES, threshold=2)


def yes(number):
    return sign_release(SUBJECT, KEYS[number], True, 0)


def no(number, reason=Reason.RELEASE_REJECTED):
    return sign_release(SUBJECT, KEYS[number], False, int(reason))


def other(**changes):
    return dataclasses.replace(SUBJECT, **changes)


FORGED = {
    "a stranger": sign_release(SUBJECT, STRANGER, True, 0),
    "a stranger in a signer's name": dataclasses.replace(sign_release(SUBJECT, STRANGER, True, 0), signer=ADDRESSES[0]),
    "other bytes": sign_release(other(held=b"\6" * 32), KEYS[0], True, 0),
    "another request": sign_release(other(request_hash=b"\6" * 32), KEYS[0], True, 0),
    "another policy": sign_release(other(policy_hash=b"\6" * 32), KEYS[0], True, 0),
    "another node": sign_release(other(node=ADDRESSES[1]), KEYS[0], True, 0),
    "another chain": sign_release(other(scope=Scope(1, SUBJECT.scope.contract)), KEYS[0], True, 0),
    "another contract": sign_release(other(scope=Scope(31337, ADDRESSES[0])), KEYS[0], True, 0),
    "a rejection turned round": dataclasses.replace(no(0), approve=True, reason=0),
    "another reason": dataclasses.replace(no(0), reason=int(Reason.AUDIT_RULE)),
    "an approval with a reason": dataclasses.replace(yes(0), reason=300),
    "a rejection without a reason": dataclasses.replace(no(0), reason=0),
    "no signature": dataclasses.replace(yes(0), signature=b""),
    "a cut signature": dataclasses.replace(yes(0), signature=yes(0).signature[:-1]),
}


@pytest.mark.parametrize("vote", FORGED.values(), ids=FORGED)
def test_a_decision_that_is_not_truly_signed_by_a_signer_does_not_count(vote):
    assert counted(PERSON, SUBJECT, [vote]) == ()
    assert rule(PERSON, SUBJECT, [vote], is_over=False) is None
    assert rule(PERSON, SUBJECT, [vote], is_over=True).reason is Reason.RELEASE_TIMEOUT


CASES = {
    "person: nobody yet": (PERSON, [], False, None),
    "person: nobody in time": (PERSON, [], True, "timeout"),
    "person: approved": (PERSON, [yes(1)], False, "approved"),
    "person: approved in time, read late": (PERSON, [yes(1)], True, "approved"),
    "person: rejected": (PERSON, [no(1)], False, "rejected"),
    "person: the first decision stands": (PERSON, [no(1), yes(0)], False, "rejected"),
    "person: a forged decision before it": (PERSON, [FORGED["other bytes"], yes(1)], False, "approved"),
    "2 of 3: one is too few": (TWO_OF_THREE, [yes(0)], False, None),
    "2 of 3: one is too few in the end": (TWO_OF_THREE, [yes(0)], True, "timeout"),
    "2 of 3: one signer twice is one": (TWO_OF_THREE, [yes(0), yes(0)], False, None),
    "2 of 3: one signer twice is one in the end": (TWO_OF_THREE, [yes(0), yes(0)], True, "timeout"),
    "2 of 3: two": (TWO_OF_THREE, [yes(0), yes(2)], False, "approved"),
    "2 of 3: two, one against": (TWO_OF_THREE, [no(1), yes(0), yes(2)], False, "approved"),
    "2 of 3: one against still waits": (TWO_OF_THREE, [no(1)], False, None),
    "2 of 3: two against": (TWO_OF_THREE, [no(1), yes(0), no(2)], False, "rejected"),
    "2 of 3: a signer who changes his mind": (TWO_OF_THREE, [no(1), yes(1), yes(0)], False, None),
    "2 of 3: two, one forged": (TWO_OF_THREE, [yes(0), FORGED["a stranger"]], False, None),
}


@pytest.mark.parametrize(("rules", "votes", "is_over", "word"), CASES.values(), ids=CASES)
def test_the_ruling(rules, votes, is_over, word):
    ruling = rule(rules, SUBJECT, votes, is_over=is_over)

    assert (ruling and ruling.word) == word
    assert (ruling is not None and ruling.released) == (word == "approved")


def test_a_rejection_carries_the_first_one_s_reason():
    assert rule(PERSON, SUBJECT, [no(0, Reason.AUDIT_RULE)], is_over=False).reason is Reason.AUDIT_RULE


VOTES = [*(yes(n) for n in range(3)), *(no(n) for n in range(3)), *FORGED.values()]


@given(
    votes=st.lists(st.sampled_from(VOTES), max_size=12),
    signers=st.sets(st.sampled_from(ADDRESSES), min_size=1),
    threshold=st.integers(1, 3),
    is_over=st.booleans(),
)
def test_nothing_is_released_without_the_approvals_of_enough_distinct_signers(votes, signers, threshold, is_over):
    rules = ReleaseRules(mode="signers", signers=tuple(sorted(signers)), threshold=min(threshold, len(signers)))

    ruling = rule(rules, SUBJECT, votes, is_over=is_over)

    truly = {ADDRESSES[n] for n in range(3) if yes(n) in votes and ADDRESSES[n] in signers}
    if ruling is not None and ruling.released:
        assert len(truly) >= rules.threshold
        assert len({vote.signer for vote in ruling.votes}) == len(ruling.votes)
    if ruling is None:
        assert not is_over
    if ruling is not None and not ruling.released:
        assert 300 <= ruling.reason < 400


@given(votes=st.lists(st.sampled_from(VOTES), max_size=8), more=st.lists(st.sampled_from(VOTES), max_size=4))
def test_a_ruling_is_not_changed_by_what_comes_after_it(votes, more):
    before = rule(TWO_OF_THREE, SUBJECT, votes, is_over=False)
    after = rule(TWO_OF_THREE, SUBJECT, [*votes, *more], is_over=False)

    assert before is None or after.word == before.word


def test_a_vote_is_plain_data():
    assert Vote(**dataclasses.asdict(yes(0))) == yes(0)


FORMS = {
    one.id: one
    for one in (Redacted(held=b"\x0a" * 32, changes=b"\x0b" * 32), Redacted(held=b"\x0c" * 32, changes=b"\x0b" * 32))
}
A, B = FORMS


def part(number, form):
    return sign_release(other(redacted=FORMS[form]), KEYS[number], True, 0)


PARTS = {
    "person: a redaction": (PERSON, [part(1, A)], "redacted", A),
    "person: a redaction, and then the whole": (PERSON, [part(1, A), yes(0)], "redacted", A),
    "person: the whole, and then a redaction": (PERSON, [yes(0), part(1, A)], "approved", ""),
    "person: rejected, and then a redaction": (PERSON, [no(0), part(1, A)], "rejected", ""),
    "person: a redaction that nobody made": (PERSON, [dataclasses.replace(part(1, A), redaction="c" * 16)], None, ""),
    "2 of 3: the whole and a redaction": (TWO_OF_THREE, [yes(0), part(1, A)], None, ""),
    "2 of 3: two redactions": (TWO_OF_THREE, [part(0, A), part(1, B)], None, ""),
    "2 of 3: one signer for all": (TWO_OF_THREE, [yes(0), part(0, A), part(0, B), part(0, A)], None, ""),
    "2 of 3: one redaction": (TWO_OF_THREE, [part(0, B), part(0, A), part(1, A)], "redacted", A),
    "2 of 3: the first that has two": (TWO_OF_THREE, [part(0, A), part(0, B), part(1, B), part(1, A)], "redacted", B),
    "2 of 3: the whole has two first": (TWO_OF_THREE, [part(0, A), yes(0), yes(1), part(1, A)], "approved", ""),
    "2 of 3: a redaction, one against": (TWO_OF_THREE, [no(2), part(0, A), part(1, A)], "redacted", A),
    "2 of 3: two against": (TWO_OF_THREE, [no(2), part(0, A), no(1)], "rejected", ""),
    "2 of 3: against, and then for a part": (TWO_OF_THREE, [no(0), part(0, A), part(1, A)], None, ""),
    "2 of 3: for a part, and then against": (TWO_OF_THREE, [part(0, A), no(0), no(1)], None, ""),
    "2 of 3: a part in the whole's name": (
        TWO_OF_THREE, [dataclasses.replace(part(0, A), redaction=""), yes(1)], None, "",
    ),
    "2 of 3: the whole in a part's name": (
        TWO_OF_THREE, [dataclasses.replace(yes(0), redaction=A), part(1, A)], None, "",
    ),
    "2 of 3: one part in another's name": (
        TWO_OF_THREE, [dataclasses.replace(part(0, B), redaction=A), part(1, A)], None, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rules", "votes", "word", "form"), PARTS.values(), ids=PARTS)
def test_the_ruling_where_there_are_redactions(rules, votes, word, form):
    ruling = rule(rules, SUBJECT, votes, is_over=False, redactions=FORMS)

    assert (ruling and ruling.word, ruling.redaction if ruling else "") == (word, form)


GONE = {
    "person: a redaction": (PERSON, [part(1, A)], True),
    "person: the whole": (PERSON, [yes(0), part(1, A)], False),
    "2 of 3: one of two": (TWO_OF_THREE, [yes(2), part(0, A), part(1, B)], False),
    "2 of 3: both": (TWO_OF_THREE, [part(0, B), part(0, A), part(1, A)], True),
    "2 of 3: a stranger": (TWO_OF_THREE, [part(0, A), dataclasses.replace(part(1, A), signer=STRANGER.address)], False),
}


@pytest.mark.parametrize(("rules", "votes", "is_so"), GONE.values(), ids=GONE)
def test_whether_a_part_of_what_is_gone_was_approved(rules, votes, is_so):
    assert was_approved_in_part(rules, votes) is is_so


def test_a_ruling_on_a_redaction_rests_on_its_votes_and_on_rejections():
    votes = [part(0, B), no(2), yes(0), part(0, A), part(1, A)]

    assert rule(TWO_OF_THREE, SUBJECT, votes, is_over=False, redactions=FORMS).votes == (votes[1], *votes[3:])


MANY = [*VOTES, *(part(n, form) for n in range(3) for form in FORMS), dataclasses.replace(part(0, B), redaction=A)]


@given(votes=st.lists(st.sampled_from(MANY), max_size=14), is_over=st.booleans())
def test_no_form_is_released_without_enough_approvals_of_that_form(votes, is_over):
    ruling = rule(TWO_OF_THREE, SUBJECT, votes, is_over=is_over, redactions=FORMS)

    if ruling is not None and ruling.released:
        due = [part(n, ruling.redaction) if ruling.redaction else yes(n) for n in range(3)]
        assert sum(one in votes for one in due) >= 2


@given(votes=st.lists(st.sampled_from(MANY), max_size=10), more=st.lists(st.sampled_from(MANY), max_size=5))
def test_what_comes_after_a_ruling_changes_nothing_of_it_where_there_are_redactions(votes, more):
    before = rule(TWO_OF_THREE, SUBJECT, votes, is_over=False, redactions=FORMS)
    after = rule(TWO_OF_THREE, SUBJECT, [*votes, *more], is_over=False, redactions=FORMS)

    assert before is None or (after.word, after.redaction) == (before.word, before.redaction)
