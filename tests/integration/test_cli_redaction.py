"""`insula release redact`, in the node's folder and over its review API; what that takes of strangers and liars."""

import base64
import json

import pytest

from bridge.cli.output import Exit
from executor.agent.reviewclient import open_remote
from executor.errors import PeerError
from executor.protocol.reasons import Reason
from executor.protocol.release import Changes, Held, Redacted, Subject, release_digest
from executor.protocol.signing import Scope
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER
from tests.integration.test_agent_redaction import STDOUT, WritesMore, came_out, everything_sent, holding
from tests.integration.test_agent_release import KEYS, attested, folder, held, key_file, policy, running, shown
from tests.integration.test_agent_reviewclient import HELD, REVIEWER, server
from tests.integration.test_agent_reviewclient import shown as answer
from tests.review_kit import ANNE, BEN, house

__all__ = ["folder"]


@pytest.fixture
def own(tmp_path):
    with house(tmp_path / "node", WritesMore()) as made:
        yield made


def test_the_command_line_proposes_shows_and_approves(twin, folder, tmp_path, insula):
    place = ("--dir", str(folder))
    (tmp_path / "less.csv").write_bytes(b"***,3\n")
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    with running(folder, WritesMore()):
        holding(folder, twin)
        hold = held(twin, folder)
        wish = ("--without", "outputs/private", "--replace", f"outputs/report.csv={tmp_path / 'less.csv'}")
        code, out, err = insula("release", "redact", hold, *place, *wish, "--json")
        assert code == Exit.OK, err
        made = json.loads(out)
        code, out, _ = insula("release", "redact", hold, *place, *wish)
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert "removed outputs/private/a.txt" in lines
        assert "replaced outputs/report.csv: 18 bytes by 6 of text" in lines
        assert "kept stdout" in lines
        assert f"next approve it: insula release approve {hold} --redaction {made['id']}" in lines
        saved = tmp_path / "saved"
        words = ("--file", "outputs/report.csv", "--save", str(saved), "--redaction", made["id"])
        assert insula("release", "show", hold, *place, *words)[0] == Exit.OK
        assert saved.read_bytes() == b"***,3\n"
        document = json.loads(
            insula("release", "show", hold, *place, "--to-sign", "approve", "--redaction", made["id"])[1]
        )
        assert (document["primaryType"], set(document["message"])) == (
            "Redaction", {"requestHash", "node", "policyHash", "held", "redacted", "changesHash"},
        )  # fmt: skip
        approve = ("approve", hold, *place, "--redaction", made["id"], "--key")
        code, out, _ = insula("release", *approve, key_file(tmp_path, 11))
        assert (code, f"{hold} in its redaction {made['id']} by" in out, "1 approvals, 2 needed" in out) == (
            0,
            True,
            True,
        )
        assert "0 of 2 approvals, 0 rejections, 1 redactions;" in insula("release", "list", *place)[1]
        code, out, _ = insula("release", "show", hold, *place)
        assert "1 of 2 approvals, 0 rejections" in out
        assert insula("release", *approve, key_file(tmp_path, 12))[0] == Exit.OK
        assert attested(twin).reason == Reason.RELEASED_IN_PART

    assert came_out(twin) == {"outputs/report.csv": b"***,3\n", "stdout": STDOUT, "stderr": b"a warning"}


BAD_CALLS = {
    "no wish": (("redact", "ID"), "say what to take out"),
    "a request, not an output": (("redact", "1", "--without", "stdout"), "give its own id"),
    "no file for it": (("redact", "ID", "--replace", "stdout"), "is not PATH=FILE"),
    "no path": (("redact", "ID", "--replace", "=FILE"), "is not PATH=FILE"),
    "a file that is not there": (("redact", "ID", "--replace", "stdout=/no/such"), "cannot be read"),
    "a path twice": (("redact", "ID", "--replace", "stdout=FILE", "--replace", "stdout=FILE"), "given twice"),
    "a way up": (("redact", "ID", "--without", "outputs/../../../node.key"), "no file or folder of this output"),
    "a new file": (("redact", "ID", "--replace", "outputs/new=FILE"), "no file or folder of this output"),
    "an unknown redaction": (("approve", "ID", "--redaction", "x", "--key", "KEY"), "is no redaction of it"),
    "an unknown redaction to look at": (("show", "ID", "--redaction", "x", "--save", "y"), "is no redaction of it"),
    "a redaction to reject": (("show", "ID", "--redaction", "x", "--to-sign", "reject"), "approved or left alone"),
}  # fmt: skip


def test_the_command_line_says_what_is_wrong(twin, folder, tmp_path, insula):
    (tmp_path / "file").write_bytes(b"x")
    words = {"FILE": str(tmp_path / "file"), "KEY": key_file(tmp_path, 11)}
    with running(folder, WritesMore()):
        holding(folder, twin)
        words["ID"] = shown(folder)["id"]
        for what, (given, problem) in BAD_CALLS.items():
            call = [words.get(word, word.replace("=FILE", f"={words['FILE']}")) for word in given]
            code, out, err = insula("release", *call, "--dir", str(folder))
            assert (code, problem in err) == (Exit.BAD_INPUT, True), (what, out, err)
        assert shown(folder)["redactions"] == []


def test_the_command_line_redacts_over_the_api(own, tmp_path, insula):
    place = ("--node", own.url, "--node-key", own.address, "--key", key_file(tmp_path, 11))
    (tmp_path / "file").write_bytes(b"somebody has 3\n")
    words = ("--without", "outputs/private", "--replace", f"stdout={tmp_path / 'file'}")
    code, out, err = insula("release", "redact", own.plain, *place, *words, "--json")
    assert code == Exit.OK, err
    made = json.loads(out)
    assert (made["proposedBy"], made["changes"]) == (ANNE.address, {"removed": True, "replaced": ["stdout"]})
    saved = tmp_path / "saved"
    words = ("--redaction", made["id"], "--file", "stdout", "--save", str(saved))
    assert insula("release", "show", own.plain, *place, *words)[0] == Exit.OK
    assert saved.read_bytes() == b"somebody has 3\n"
    documents = [
        json.loads(insula("release", "show", own.plain, *where, "--to-sign", "approve", "--redaction", made["id"])[1])
        for where in (place, ("--dir", str(own.folder)))
    ]
    assert documents[0] == documents[1]
    assert documents[0] == json.loads(own.get(ANNE, f"/v1/holds/{own.plain}")[2])["toSign"]["redactions"][made["id"]]

    code, out, err = insula("release", "approve", own.plain, *place, "--redaction", made["id"], "--json")

    assert (code, json.loads(out)["redaction"]) == (Exit.OK, made["id"]), err
    assert attested(own.twin).reason == Reason.RELEASED_IN_PART
    assert STDOUT not in everything_sent(own.twin)


def test_abuse_of_redactions_over_the_api_gets_nothing(own):
    path = f"/v1/holds/{own.plain}/redactions"
    good = json.dumps({"without": ["outputs/private"]}).encode()
    calls = {
        "another class's reviewer": (BEN, path, good, 404),
        "a stranger": (KEYS[2], path, good, 403),
        "another's output": (ANNE, f"/v1/holds/{own.scan}/redactions", good, 404),
        "no JSON": (ANNE, path, b"{", 422),
        "an unknown field": (ANNE, path, b'{"add": {}}', 422),
        "no text": (ANNE, path, b'{"without": [1]}', 422),
        "no base64": (ANNE, path, b'{"replace": {"stdout": "?"}}', 422),
        "nothing": (ANNE, path, b"{}", 422),
        "a way up": (ANNE, path, b'{"without": ["../../ledger.db"]}', 422),
        "a new file": (ANNE, path, b'{"replace": {"outputs/new": "eA=="}}', 422),
        "too large": (ANNE, path, b'{"without": ["%s"]}' % (b"x" * 2**22), 413),
    }
    for what, (key, where, body, expected) in calls.items():
        assert own.call(key, "POST", where, body)[0] == expected, what
    large = json.dumps({"replace": {"stdout": base64.b64encode(bytes(2**21)).decode()}}).encode()
    assert own.call(ANNE, "POST", path, large)[0] == 200
    status, _, body = own.call(ANNE, "POST", path, good)
    assert (status, json.loads(body)["new"]) == (200, True)
    form = json.loads(body)["id"]
    assert own.get(BEN, f"/v1/holds/{own.plain}/file?path=stdout&redaction={form}")[0] == 404
    assert own.get(ANNE, f"/v1/holds/{own.plain}/file?path=outputs/private/a.txt&redaction={form}")[0] == 422
    assert own.get(ANNE, f"/v1/holds/{own.plain}/file?path=stdout&redaction=../x")[0] == 422
    assert own.votes() == []


def redaction(**changes):
    """A redaction as a node shows it, where it does not lie."""
    form = Held(outcome_hash=b"\6" * 32, manifest_hash=b"\7" * 32, salt=b"\x08" * 32)
    told = Changes(removed=True, replaced=("stdout",))
    subject = Subject(
        scope=Scope(CHAIN_ID, CONTRACT), request_hash=b"\x44" * 32, policy_hash=b"\5" * 32, node=REQUESTER,
        held=HELD.hash, redacted=Redacted(held=form.hash, changes=told.hash),
    )  # fmt: skip
    return {
        "id": form.hash.hex()[:16], "outputCid": "b", "outcomeHash": f"0x{'06' * 32}",
        "manifestHash": f"0x{'07' * 32}", "salt": f"0x{'08' * 32}", "held": f"0x{form.hash.hex()}",
        "changes": told.plain, "changesHash": f"0x{told.hash.hex()}", "totalBytes": 1, "removed": ["outputs/a"],
        "replaced": [{"path": "stdout", "kind": "file", "size": 1, "type": "text", "before": 2}], "kept": [],
        "findings": [], "proposedBy": "", "proposedAt": 1.0, "votes": [],
        "approveDigest": f"0x{release_digest(subject, True, 0).hex()}", **changes,
    }  # fmt: skip


LYING = {
    "another form than is to be signed": {"outcomeHash": f"0x{'66' * 32}"},
    "other changes than are to be signed": {"changes": {"removed": False, "replaced": ["stdout"]}},
    "a replaced file that it does not list": {"replaced": []},
    "removed files that it does not list": {"removed": []},
    "no changes": {"changes": None},
    "no id": {"id": "../x"},
}


@pytest.mark.parametrize("lie", LYING)
def test_abuse_a_lying_node_gets_no_signature_over_a_redaction(lie):
    row = redaction(**LYING[lie])
    with server(**{"a.1": answer(redactions=[row])}) as (url, posted), open_remote(url, REVIEWER) as remote:
        with pytest.raises(PeerError):
            remote.decide(remote.find_shown("a.1"), True, 0, REVIEWER, row["id"])

        assert posted == []


def test_what_a_node_shows_of_a_redaction_and_is_so_is_signed():
    row = redaction()
    with server(**{"a.1": answer(redactions=[row])}) as (url, posted), open_remote(url, REVIEWER) as remote:
        with pytest.raises(PeerError):  # it does not answer to what was posted
            remote.decide(remote.find_shown("a.1"), True, 0, REVIEWER, row["id"])

        assert json.loads(posted[0])["redaction"] == row["id"]


def test_a_node_that_shows_a_redaction_of_another_output_is_not_believed():
    made = {**redaction(), "execution": "b.1", "new": True}
    with server(redactions=made) as (url, posted), open_remote(url, REVIEWER) as remote:
        with pytest.raises(PeerError, match="of another output"):
            remote.redact(remote.find_shown("a.1"), ["outputs/a"], {"stdout": b"x"})

        assert json.loads(posted[0]) == {
            "without": ["outputs/a"],
            "replace": {"stdout": base64.b64encode(b"x").decode()},
        }
