"""Whether reviewers released what a bundle holds: proved from its receipt alone, and each lie is named."""

import copy
from dataclasses import replace

import pytest

from bridge.verify import check_bundle
from executor.errors import InvalidInput
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.receipt import parse_receipt
from executor.protocol.release import Changes, Held, Redacted, Subject, sign_release
from executor.protocol.releaserecord import check_release
from executor.protocol.signing import Key, Scope
from executor.protocol.wire import Outcome, Status
from tests.bundles import KEYS, attest, changed, settled

SIGNERS = [Key.from_hex(f"{number:064x}") for number in (11, 12, 13)]
MANIFEST = [{"path": "stdout", "type": "file", "size": 9, "cid": "b"}]
POLICY = {"sha256": "55" * 32, "release": "signers"}
WITHHELD = Outcome(status=Status.WITHHELD, reason=300)
TIMEOUT = Outcome(status=Status.WITHHELD, reason=302)


def recorded(vote):
    return {
        "signer": vote.signer, "approve": vote.approve, "reason": vote.reason,
        "signature": f"0x{vote.signature.hex()}",
    }  # fmt: skip


def record(request, shown, *, approvals=2, rejections=0, ruling="approved"):
    """A node's record of decisions on the outcome `shown`, as it is where nobody lies."""
    held = Held(outcome_hash=shown.hash, manifest_hash=sha256(canonical_json(MANIFEST)), salt=b"\7" * 32)
    subject = Subject(
        scope=Scope(request.chain_id, request.contract), request_hash=request.hash, node=KEYS[0].address,
        policy_hash=b"\x55" * 32, held=held.hash,
    )  # fmt: skip
    votes = [sign_release(subject, key, True, 0) for key in SIGNERS[:approvals]]
    votes += [sign_release(subject, key, False, 300) for key in SIGNERS[approvals : approvals + rejections]]
    found = {
        "mode": "signers", "signers": [key.address for key in SIGNERS], "threshold": 2, "ruling": ruling,
        "held": f"0x{held.hash.hex()}", "votes": [recorded(vote) for vote in votes],
    }  # fmt: skip
    if ruling == "approved":
        found |= {"manifestHash": f"0x{held.manifest_hash.hex()}", "salt": f"0x{held.salt.hex()}"}
    return found


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return settled(tmp_path_factory.mktemp("store"))


def checked(job, release, outcome=None, *, policy=POLICY, manifest=MANIFEST):
    request = job.bundle.request.request()
    outcome = outcome or Outcome.decode(job.bundle.outcome)
    item = attest(request, outcome, 0, [], release=release, policy=policy, manifest=manifest)
    return check_release(parse_receipt(item.receipt), item.key, request, outcome)


def honest(job, **how):
    return record(job.bundle.request.request(), Outcome.decode(job.bundle.outcome), **how)


def test_an_approved_output_is_proved_to_be(job):
    assert checked(job, honest(job)).ruling == "approved"


def test_a_manifest_that_was_cut_is_taken_at_its_hash(job):
    assert checked(job, honest(job), manifest=[*MANIFEST, {"omitted": 3}]).ruling == "approved"


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({"approvals": 0, "rejections": 2, "ruling": "rejected"}, WITHHELD),
        ({"approvals": 1, "ruling": "timeout"}, TIMEOUT),
        ({"approvals": 0, "ruling": "timeout"}, TIMEOUT),
    ],
    ids=["rejected", "too few in time", "nobody in time"],
)
def test_a_withheld_output_is_proved_to_be_without_what_it_was(job, how, outcome):
    assert checked(job, honest(job, **how), outcome, manifest=[]).ruling == how["ruling"]


def test_without_reviewers_there_is_nothing_to_check(job):
    assert checked(job, None, policy={"release": "automatic"}) is None
    assert checked(job, None, policy={}) is None
    assert checked(job, None, Outcome(status=Status.WITHHELD, reason=301)) is None  # a broken rule


def edit(change):
    def act(found):
        change(found)
        return found

    return act


LIES = {
    "no record": (lambda found: None, None, "names none"),
    "no record of a rejection": (lambda found: None, WITHHELD, "names none"),
    "no record of a time that passed": (lambda found: None, TIMEOUT, "names none"),
    "another mode than the policy's": (edit(lambda r: r.update(mode="person")), None, "of the mode person"),
    "more signers than can be": (edit(lambda r: r.update(threshold=4)), None, "make it rejected"),
    "approved, and called a timeout": (edit(lambda r: r.update(ruling="timeout")), TIMEOUT, "make it approved"),
    "too few": (edit(lambda r: r["votes"].pop()), None, "1 approvals, where 2"),
    "one twice": (edit(lambda r: r["votes"].__setitem__(1, r["votes"][0])), None, "named twice"),
    "a stranger": (edit(lambda r: r["signers"].pop(0)), None, "no signer"),
    "another's signature": (
        edit(lambda r: r["votes"][0].update(signature=r["votes"][1]["signature"])), None, "signature is not",
    ),
    "another hold": (edit(lambda r: r.update(held="0x" + "11" * 32)), None, "signature is not"),
    "another salt": (edit(lambda r: r.update(salt="0x" + "11" * 32)), None, "another outcome"),
    "another manifest": (edit(lambda r: r.update(manifestHash="0x" + "11" * 32)), None, "another manifest"),
    "no salt": (edit(lambda r: r.pop("salt")), None, "does not say what"),
    "no manifest": (edit(lambda r: r.pop("manifestHash")), None, "does not say what"),
    "approved, and withheld": (lambda found: found, WITHHELD, "no output"),
    "rejected, and released": (edit(lambda r: r.update(ruling="rejected")), None, "make it approved"),
    "an unknown ruling": (edit(lambda r: r.update(ruling="maybe")), None, "ruling"),
    "an unknown field": (edit(lambda r: r.update(more=1)), None, "more"),
    "no object": (lambda found: {"votes": 3}, None, "mode"),
}  # fmt: skip


@pytest.mark.parametrize(("lie", "outcome", "problem"), LIES.values(), ids=LIES)
def test_a_record_that_is_not_so_is_named(job, lie, outcome, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        checked(job, lie(copy.deepcopy(honest(job))), outcome)

    assert caught.value.field == "release"


@pytest.mark.parametrize(
    ("how", "changes", "outcome"),
    [
        ({"approvals": 0, "rejections": 1, "ruling": "rejected"}, {}, WITHHELD),
        ({"approvals": 0, "rejections": 2, "ruling": "timeout"}, {}, TIMEOUT),
        ({"approvals": 1, "rejections": 1}, {"mode": "person", "threshold": 1}, None),
        ({"approvals": 2}, {"mode": "person", "threshold": 2}, None),
    ],
    ids=["one rejection of three", "a rejection as a timeout", "a second decision of a person", "two persons"],
)
def test_a_ruling_that_does_not_follow_from_the_votes_is_named(job, how, changes, outcome):
    policy = {**POLICY, "release": changes.get("mode", "signers")}

    with pytest.raises(InvalidInput, match=r"make it|one person decides"):
        checked(job, {**honest(job, **how), **changes}, outcome, policy=policy, manifest=[] if outcome else MANIFEST)


def test_the_approval_of_another_outcome_proves_nothing(job):
    other = record(job.bundle.request.request(), Outcome(status=Status.SUCCEEDED, output_cid=b"other"))

    with pytest.raises(InvalidInput, match="another outcome"):
        checked(job, other)


def test_a_receipt_of_another_form_is_named(job):
    request = job.bundle.request.request()
    with pytest.raises(InvalidInput, match="another form"):
        check_release({}, KEYS[0].address, request, WITHHELD)


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({"approvals": 0, "rejections": 2, "ruling": "rejected"}, TIMEOUT),
        ({"approvals": 0, "rejections": 2, "ruling": "rejected"}, Outcome(status=Status.WITHHELD, reason=301)),
        ({"approvals": 1, "ruling": "timeout"}, WITHHELD),
        ({"approvals": 1, "ruling": "timeout"}, None),
    ],
    ids=["another reason", "a reason that nobody gave", "a rejection instead", "and released"],
)
def test_an_outcome_that_is_not_what_was_ruled_is_named(job, how, outcome):
    with pytest.raises(InvalidInput, match="something else"):
        checked(job, honest(job, **how), outcome, manifest=[])


SAID = {
    "approved against one": (
        {"approvals": 2, "rejections": 1},
        None,
        "approved by {0}, {1}; {n}; {2} decided otherwise",
    ),
    "rejected": ({"approvals": 0, "rejections": 2, "ruling": "rejected"}, WITHHELD, "rejected by {0}, {1}; {n}"),
    "nobody": ({"approvals": 0, "ruling": "timeout"}, TIMEOUT, "too few decided in time; {n}"),
    "too few": ({"approvals": 1, "ruling": "timeout"}, TIMEOUT, "too few decided in time; {n}, {0} did"),
}


@pytest.mark.parametrize(("how", "outcome", "said"), SAID.values(), ids=SAID)
def test_the_verification_says_who_decided_how(job, how, outcome, said):
    request = job.bundle.request.request()
    given = {} if outcome is None else {"outcome": outcome.encode()}
    outcome = outcome or Outcome.decode(job.bundle.outcome)
    manifest = [] if given else MANIFEST
    item = attest(request, outcome, 0, [], release=honest(job, **how), policy=POLICY, manifest=manifest)

    checks = {one.name: one for one in check_bundle(changed(job.bundle, attestations=(item,), **given))}

    needed = "2 of 3 had to approve"
    assert checks["release of node 1"].detail == said.format(*(key.address for key in SIGNERS), n=needed)


def test_the_verification_of_a_bundle_tells_of_the_release(job):
    request, outcome = job.bundle.request.request(), Outcome.decode(job.bundle.outcome)
    inputs = [("module", job.module), ("log", job.data)]

    def check(release):
        item = attest(request, outcome, 0, inputs, release=release, policy=POLICY, manifest=MANIFEST)
        checks = check_bundle(changed(job.bundle, attestations=(item,)))
        return {one.name: one for one in checks}

    good = check(honest(job))
    assert all(one.ok for one in good.values())
    assert SIGNERS[0].address in good["release of node 1"].detail
    assert check(None)["release of node 1"].failed
    assert not any("release" in one.name for one in check_bundle(job.bundle))


ROWS = [
    {"path": "outputs", "type": "directory", "size": 0, "cid": "a"},
    {"path": "outputs/b", "type": "file", "size": 4, "cid": "b"},
    {"path": "stderr", "type": "file", "size": 0, "cid": "c"},
    {"path": "stdout", "type": "file", "size": 9, "cid": "d"},
]
ORIGINAL = Held(outcome_hash=b"\1" * 32, manifest_hash=b"\2" * 32, salt=b"\3" * 32)


def part_of(job):
    """The outcome of the job where its output was released in part."""
    return replace(Outcome.decode(job.bundle.outcome), reason=1)


def redacted(job, *, outcome=None, removed=True, replaced=("outputs/b",), approvals=2, rejections=0):
    """A node's record of a partial release, as it is where nobody lies."""
    request, outcome = job.bundle.request.request(), outcome or part_of(job)
    form = Held(outcome_hash=outcome.hash, manifest_hash=sha256(canonical_json(ROWS)), salt=b"\7" * 32)
    whole = Subject(
        scope=Scope(request.chain_id, request.contract), request_hash=request.hash, node=KEYS[0].address,
        policy_hash=b"\x55" * 32, held=ORIGINAL.hash,
    )  # fmt: skip
    changes = Changes(removed=removed, replaced=tuple(replaced))
    part = replace(whole, redacted=Redacted(held=form.hash, changes=changes.hash))
    votes = [sign_release(part, key, True, 0) for key in SIGNERS[:approvals]]
    votes += [sign_release(whole, key, False, 300) for key in SIGNERS[approvals : approvals + rejections]]
    return {
        "mode": "signers", "signers": [key.address for key in SIGNERS], "threshold": 2, "ruling": "redacted",
        "held": f"0x{ORIGINAL.hash.hex()}", "votes": [recorded(vote) for vote in votes],
        "redacted": {
            "held": f"0x{form.hash.hex()}", "manifestHash": f"0x{form.manifest_hash.hex()}",
            "salt": f"0x{form.salt.hex()}", **changes.plain,
        },
    }  # fmt: skip


def test_a_partial_release_is_proved_against_both_hashes_without_what_the_original_was(job):
    found = checked(job, redacted(job, rejections=1), part_of(job), manifest=ROWS)

    assert (found.ruling, found.held, found.redacted.removed) == ("redacted", ORIGINAL.hash, True)


def test_of_a_failed_job_the_outcome_has_the_job_s_own_reason(job):
    failed = Outcome(
        status=Status.FAILED, reason=200, exit_code=3, output_cid=Outcome.decode(job.bundle.outcome).output_cid
    )

    assert checked(job, redacted(job, outcome=failed), failed, manifest=ROWS).ruling == "redacted"


def test_a_manifest_of_a_part_that_was_cut_is_taken_at_its_hash(job):
    assert checked(job, redacted(job), part_of(job), manifest=[ROWS[0], {"omitted": 3}]).ruling == "redacted"


def form(**changes):
    return edit(lambda r: r["redacted"].update(changes))


PART_LIES = {
    "no redaction": (edit(lambda r: r.pop("redacted")), None, "does not go with what it says of a redaction"),
    "called a whole": (edit(lambda r: r.update(ruling="approved")), None, "does not go with what it says"),
    "called rejected": (edit(lambda r: r.update(ruling="rejected")), None, "does not go with what it says"),
    "another original": (edit(lambda r: r.update(held="0x" + "11" * 32)), None, "signature is not"),
    "another form": (form(held="0x" + "11" * 32), None, "signature is not"),
    "nothing removed": (form(removed=False), None, "signature is not"),
    "nothing replaced": (form(replaced=[]), None, "signature is not"),
    "another file replaced": (form(replaced=["stdout"]), None, "signature is not"),
    "another salt": (form(salt="0x" + "11" * 32), None, "another outcome"),
    "another manifest": (form(manifestHash="0x" + "11" * 32), None, "another manifest"),
    "no salt": (edit(lambda r: r["redacted"].pop("salt")), None, "salt"),
    "an unknown field": (form(more=1), None, "more"),
    "removed is no boolean": (form(removed="true"), None, "removed"),
    "too many replaced": (form(replaced=["x"] * 65), None, "replaced"),
    "too few": (edit(lambda r: r["votes"].pop()), None, "1 approvals, where 2"),
    "one twice": (edit(lambda r: r["votes"].__setitem__(1, r["votes"][0])), None, "named twice"),
    "a stranger": (edit(lambda r: r["signers"].pop(0)), None, "no signer"),
    "and withheld": (lambda r: r, WITHHELD, "no output"),
    "and released as a whole": (lambda r: r, Status.SUCCEEDED, "says that the output was released as a whole"),
    "the outcome of a part, and no record": (lambda r: None, None, "the receipt names none"),
}  # fmt: skip


@pytest.mark.parametrize("lie", PART_LIES)
def test_a_record_of_a_partial_release_that_is_not_so_is_named(job, lie):
    change, outcome, problem = PART_LIES[lie]
    if outcome is Status.SUCCEEDED:
        outcome = Outcome.decode(job.bundle.outcome)

    with pytest.raises(InvalidInput, match=problem) as caught:
        checked(job, change(redacted(job)), outcome or part_of(job), manifest=ROWS)

    assert caught.value.field == "release"


@pytest.mark.parametrize("lie", PART_LIES)
def test_the_verification_names_a_record_of_a_partial_release_that_is_not_so_though_the_node_signs_it(job, lie):
    change, outcome, problem = PART_LIES[lie]
    outcome = Outcome.decode(job.bundle.outcome) if outcome is Status.SUCCEEDED else outcome or part_of(job)
    inputs = [("module", job.module), ("log", job.data)]
    release = change(redacted(job))
    item = attest(job.bundle.request.request(), outcome, 0, inputs, release=release, policy=POLICY, manifest=ROWS)

    checks = check_bundle(changed(job.bundle, attestations=(item,), outcome=outcome.encode()))

    (wrong,) = [one for one in checks if one.failed and one.name != "outcome"]
    assert (wrong.name, problem in wrong.detail) == ("release of node 1", True)


#: what reviewers signed, and yet cannot be so
SIGNED_LIES = {
    "nothing was changed": ({"removed": False, "replaced": ()}, "nothing was removed or replaced"),
    "out of order": ({"replaced": ("stdout", "outputs/b")}, "out of order"),
    "twice": ({"replaced": ("stdout", "stdout")}, "names replaced files twice"),
    "a file that is not there": ({"replaced": ("outputs/c",)}, "is no file of the output"),
    "a folder": ({"replaced": ("outputs",)}, "is no file of the output"),
}


@pytest.mark.parametrize("lie", SIGNED_LIES)
def test_what_was_signed_of_a_partial_release_and_is_not_so_is_named(job, lie):
    how, problem = SIGNED_LIES[lie]

    with pytest.raises(InvalidInput, match=problem):
        checked(job, redacted(job, **how), part_of(job), manifest=ROWS)


def test_votes_for_the_whole_prove_no_part_and_votes_for_a_part_no_whole(job):
    whole = honest(job)
    with pytest.raises(InvalidInput, match="signature is not"):
        checked(job, {**redacted(job), "votes": whole["votes"]}, part_of(job), manifest=ROWS)
    with pytest.raises(InvalidInput, match="signature is not"):
        checked(job, {**whole, "votes": redacted(job)["votes"]})


def test_the_redacted_form_may_not_be_the_original_itself(job):
    lie = redacted(job)
    request = job.bundle.request.request()
    held = bytes.fromhex(lie["redacted"]["held"][2:])
    subject = Subject(
        scope=Scope(request.chain_id, request.contract), request_hash=request.hash, node=KEYS[0].address,
        policy_hash=b"\x55" * 32, held=held,
        redacted=Redacted(held=held, changes=Changes(removed=True, replaced=("outputs/b",)).hash),
    )  # fmt: skip
    votes = [recorded(sign_release(subject, key, True, 0)) for key in SIGNERS[:2]]

    with pytest.raises(InvalidInput, match="the original itself"):
        checked(job, {**lie, "held": lie["redacted"]["held"], "votes": votes}, part_of(job), manifest=ROWS)


def test_a_release_of_the_whole_whose_outcome_says_part_is_named(job):
    outcome = part_of(job)

    with pytest.raises(InvalidInput, match="says that the output was released in part"):
        checked(job, record(job.bundle.request.request(), outcome), outcome)


PART_SAID = {
    "removed": ({"replaced": ()}, "something removed"),
    "replaced": ({"removed": False}, "replaced: outputs/b"),
    "both": ({"replaced": ("outputs/b", "stdout")}, "something removed; replaced: outputs/b, stdout"),
}


@pytest.mark.parametrize("how", PART_SAID)
def test_the_verification_says_that_an_output_was_released_in_part(job, how):
    changes, said = PART_SAID[how]
    request, outcome = job.bundle.request.request(), part_of(job)
    item = attest(request, outcome, 0, [], release=redacted(job, rejections=1, **changes), policy=POLICY, manifest=ROWS)

    checks = {
        one.name: one for one in check_bundle(changed(job.bundle, attestations=(item,), outcome=outcome.encode()))
    }

    by = ", ".join(key.address for key in SIGNERS[:2])
    assert checks["release of node 1"].detail == (
        f"released in part ({said}), approved by {by}; 2 of 3 had to approve; {SIGNERS[2].address} decided otherwise"
    )
    assert checks["outcome"].detail == "SUCCEEDED, reason 1"
