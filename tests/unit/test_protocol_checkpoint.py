"""A node's checkpoint as a signed note, and whether a log only grew."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.verify_log import check_log
from executor.errors import InvalidInput
from executor.protocol.checkpoint import Checkpoint, LogFile, Since
from executor.protocol.merkle import consistency_proof, leaf_hash, root_of
from tests.bundles import KEYS, settled, with_attestation

KEY = KEYS[0]
LEAVES = [leaf_hash(b"entry %d" % n) for n in range(9)]
HERE = Checkpoint(KEY.address, 9, root_of(LEAVES))


def log_file(leaves=LEAVES, since=(), key=KEY):
    now = Checkpoint(key.address, len(leaves), root_of(leaves))
    proofs = tuple(Since(size=n, root=root_of(leaves[:n]), proof=tuple(consistency_proof(leaves, n))) for n in since)
    return LogFile(checkpoint=now.note(key), since=proofs)


def test_a_note_has_the_three_lines_of_a_checkpoint_and_a_signature_line():
    text, _, signatures = HERE.note(KEY).partition("\n\n")

    assert text.split("\n") == [f"insula/{KEY.address}", "9", base64.b64encode(root_of(LEAVES)).decode()]
    dash, name, line = signatures.removesuffix("\n").split(" ")
    assert (dash, name, len(base64.b64decode(line))) == ("\u2014", f"insula/{KEY.address}", 4 + 65)


def test_the_key_id_is_the_recommended_hash_with_a_type_of_its_own():
    line = base64.b64decode(HERE.note(KEY).split(" ")[-1])
    named = f"insula/{KEY.address}\n".encode() + b"\xffinsula-secp256k1-sha256" + bytes.fromhex(KEY.address[2:])

    assert line[:4] == hashlib.sha256(named).digest()[:4]


def test_a_note_is_read_back():
    assert Checkpoint.of_note(HERE.note(KEY)) == HERE


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_other_byte_makes_it_no_checkpoint(data):
    note = HERE.note(KEY).encode()
    at = data.draw(st.integers(0, len(note) - 1))
    edited = note[:at] + data.draw(st.sampled_from([b"", b"0", b"A", b"\n"])) + note[at + 1 :]
    if edited == note:
        return

    with pytest.raises(InvalidInput):
        Checkpoint.of_note(edited.decode("utf-8", "replace"))


def test_a_checkpoint_that_another_key_signed_is_none():
    with pytest.raises(InvalidInput, match="is not signed by"):
        Checkpoint.of_note(HERE.note(KEYS[1]))


OTHER = Checkpoint(KEYS[1].address, 9, root_of(LEAVES))
FORMS = {
    "two keys": HERE.note(KEY).replace(f"\u2014 insula/{KEY.address}", f"\u2014 insula/{KEYS[1].address}"),
    "an address without its checksum": HERE.note(KEY).replace(KEY.address, KEY.address.lower()),
    "another key's id": HERE.text + "\n" + OTHER.note(KEY).split("\n\n")[1].replace(KEYS[1].address, KEY.address),
}


@pytest.mark.parametrize("what", FORMS)
def test_a_note_in_another_form_is_none(what):
    with pytest.raises(InvalidInput, match="one form"):
        Checkpoint.of_note(FORMS[what])


def rewritten(at):
    return [*LEAVES[:at], leaf_hash(b"rewritten"), *LEAVES[at + 1 :]]


#: the log file now, what was seen before (size, root) -> what is said
HISTORY = {
    "it grew": (log_file(since=[5]), 5, LEAVES, ""),
    "it is the same": (log_file(), 9, LEAVES, ""),
    "its end was cut off": (log_file(LEAVES[:7]), 9, LEAVES, "had 9 entries and has 7 now"),
    "its last entry was rewritten": (log_file(rewritten(8)), 9, LEAVES, "two different roots at 9 entries"),
    "its beginning was rewritten": (log_file([*rewritten(2), LEAVES[0]], since=[5]), 5, LEAVES, "does not begin with"),
    "nothing is proved": (log_file(since=[4]), 5, LEAVES, None),
}


@pytest.mark.parametrize("what", HISTORY)
def test_a_log_that_did_more_than_grow_is_told(what):
    file, size, leaves, said = HISTORY[what]

    found = file.grew_from(size, root_of(leaves[:size]))

    assert found is None if said is None else found.startswith(said) or (said and said in found)
    assert (found == "") is (said == "")


BROKEN = {
    "no JSON": (b"{", "FILE"),
    "a key twice": (b'{"checkpoint":"a","checkpoint":"b"}', "FILE"),
    "too deep": (b"[" * 9 + b"]" * 9, "FILE"),
    "another field": (b'{"checkpoint":"a","more":1}', "FILE: more"),
    "an array": (b"[]", "FILE"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_log_file_that_is_none_names_the_field(what):
    raw, field = BROKEN[what]

    with pytest.raises(InvalidInput) as caught:
        LogFile.parse(raw, "FILE")

    assert caught.value.field == field


def verdicts(checks):
    return [(c.name, "ok" if c.ok else "FAIL" if c.checked else "open") for c in checks]


def test_bundles_and_older_checkpoints_are_each_compared(tmp_path):
    """The bundle of the kit anchors a log of five entries; this one has other entries, so it was rewritten."""
    bundle = settled(tmp_path).bundle
    checks = [*check_log(log_file(since=[3, 5]), KEY.address, [bundle], [log_file(LEAVES[:3]), log_file([])])]

    assert verdicts(checks) == [
        ("checkpoint", "ok"), ("node key", "ok"), ("request 3", "FAIL"), ("older checkpoint", "ok"),
        ("older checkpoint", "ok"),
    ]  # fmt: skip


def test_what_is_of_another_key_or_not_proved_is_told_apart(tmp_path):
    bundle = settled(tmp_path).bundle
    stranger = LogFile(checkpoint="no note")

    assert verdicts(check_log(log_file(key=KEYS[1]), "", [bundle], [log_file(), stranger])) == [
        ("checkpoint", "ok"), ("request 3", "open"), ("older checkpoint", "FAIL"), ("older checkpoint", "FAIL"),
    ]  # fmt: skip
    assert verdicts(check_log(log_file(), KEYS[1].address, [bundle], [])) == [
        ("checkpoint", "ok"), ("node key", "FAIL"), ("request 3", "open"),
    ]  # fmt: skip
    assert verdicts(check_log(stranger, "", [bundle], [])) == [("checkpoint", "FAIL")]


def test_a_root_that_the_node_did_not_sign_says_nothing_of_its_log(tmp_path):
    forged = with_attestation(settled(tmp_path).bundle, log_root=bytes(32))

    checks = [*check_log(log_file(since=[5]), KEY.address, [forged], [])]

    assert verdicts(checks)[2:] == [("request 3", "open")]
    assert "signature of node 1 is not" in checks[-1].detail
