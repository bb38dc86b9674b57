"""`insula release ... --node`: what a reviewer does over the review API of a node."""

import json

import pytest

from bridge.cli.output import Exit
from executor.agent.review import open_review
from executor.protocol.release import sign_release
from executor.protocol.wire import Status
from tests.agent_twin import REQUESTER
from tests.integration.test_agent_release import SECRET, attested, key_file
from tests.review_kit import BEN, house


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For calls that change nothing."""
    with house(tmp_path_factory.mktemp("shared") / "node") as made:
        yield made


@pytest.fixture
def own(tmp_path):
    with house(tmp_path / "node") as made:
        yield made


def test_the_command_line_reviews_over_the_api(own, tmp_path, insula):
    place = ("--node", own.url, "--node-key", own.address, "--key", key_file(tmp_path, 11))
    code, out, _ = insula("release", "list", *place, "--json")
    (row,) = json.loads(out)["held"]
    assert (code, row["id"], row["votes"]) == (Exit.OK, own.plain, [])
    code, out, _ = insula("release", "show", "1", *place)
    assert (code, "text                         outputs/answer.txt" in out, "\x1b" in out) == (Exit.OK, True, False)
    saved = tmp_path / "saved"
    words = ("show", "1", *place, "--file", "outputs/answer.txt", "--save", str(saved))
    assert insula("release", *words)[0] == Exit.OK
    assert (saved.read_bytes(), saved.stat().st_mode & 0o777) == (SECRET, 0o600)
    document = json.loads(insula("release", "show", "1", *place, "--to-sign", "approve")[1])
    with open_review(own.folder) as review:
        assert document == json.loads(json.dumps(review.document(review.find("1"), True, 0)))

    code, out, _ = insula("release", "approve", row["id"], *place, "--json")

    assert (code, json.loads(out)["approvals"]) == (Exit.OK, 1)
    assert attested(own.twin).status == Status.SUCCEEDED


def test_the_command_line_brings_a_signature_made_elsewhere(own, tmp_path, insula):
    place = ("--node", own.url, "--key", key_file(tmp_path, 12))
    vote = sign_release(own.subject(own.scan), BEN, False, 300)

    code, out, err = insula("release", "reject", "2", *place, "--signature", f"0x{vote.signature.hex()}")

    assert (code, "1 rejections, 1 needed" in out) == (Exit.OK, True), err
    assert attested(own.twin).status == Status.WITHHELD


BAD_CALLS = {
    "an unknown id": (("show", "9"), "11", Exit.BAD_INPUT, "nothing of '9' waits"),
    "another class's id": (("show", "2"), "11", Exit.BAD_INPUT, "nothing of '2' waits"),
    "a stranger's key": (("list",), "99", Exit.NOT_SO, "is no reviewer of this node"),
    "an approval of a request": (("approve", "1"), "11", Exit.BAD_INPUT, "give its own id"),
    "all of it": (("show", "1", "--save", "all"), "11", Exit.BAD_INPUT, "needed with --node"),
    "no such file": (("show", "1", "--file", "../key", "--save", "x"), "11", Exit.BAD_INPUT, "is no one file"),
    "an unknown reason": (("reject", "1", "--reason", "302"), "11", Exit.BAD_INPUT, "302 is no reason"),
    "another node": (("list", "--node-key", REQUESTER), "11", Exit.BAD_INPUT, "--node-key"),
    "a signature of nobody": (
        ("reject", "1", "--signature", "0x" + "11" * 64 + "1b"),
        "11",
        Exit.BAD_INPUT,
        "recovers to no key",
    ),
}


def test_the_command_line_says_what_is_wrong_with_a_call_over_the_api(shared, tmp_path, insula):
    for what, (words, key, expected, problem) in BAD_CALLS.items():
        code, out, err = insula("release", *words, "--node", shared.url, "--key", key_file(tmp_path, int(key)))
        assert (code, problem in err) == (expected, True), (what, out, err)
    assert shared.votes() == []


PLACES = {
    "neither": ((), "--dir"),
    "both": (("--dir", "node", "--node", "http://127.0.0.1:1", "--key", "env:X"), "--dir"),
    "no URL": (("--node", "127.0.0.1:7", "--key", "KEY"), "is no URL"),
    "a network in the clear": (("--node", "http://node.example:7", "--key", "KEY"), "ssh tunnel"),
    "no key": (("--node", "http://127.0.0.1:1"), "--key"),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_held_outputs_are_is_said_once_and_safely(tmp_path, insula, place):
    words, problem = PLACES[place]
    given = [key_file(tmp_path, 11) if word == "KEY" else word for word in words]

    code, _, err = insula("release", "list", *given)

    assert (code, problem in err) == (Exit.BAD_INPUT, True)
