"""The main job, as anyone would run it: `insula demo --json --keep`, then other commands on what it leaves running."""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bridge.cli.demo_text import narrate
from bridge.devnet.processes import recorded
from executor.protocol.cid import Cid

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.docker, pytest.mark.timeout(240)]

INSULA = [sys.executable, "-m", "bridge.cli"]


def insula(*words, env=None, seconds=200):
    """Run the program; its exit status and its JSON."""
    done = subprocess.run(
        [*INSULA, *words, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory, docker_engine):
    """A demo that was left running."""
    folder = tmp_path_factory.mktemp("demo") / "a net"
    status, result, said = insula("demo", "--keep", "--dir", str(folder), env={"DOCKER_HOST": docker_engine})
    try:
        assert (status, result.get("problems"), result.get("error")) == (0, [], None), said
        assert result["containers"], (folder / "logs" / "node-gpu.log").read_text()
        yield result | {"said": said}
    finally:
        insula("devnet", "stop", "--dir", str(folder))
        assert recorded(folder) == []


@pytest.fixture
def env(demo, tmp_path):
    """What `. FOLDER/env` sets, and a block store of the test's own."""
    lines = (Path(demo["devnet"]["folder"]) / "env").read_text().splitlines()
    return dict(shlex.split(line)[1].split("=", 1) for line in lines if "$PATH" not in line) | {
        "INSULA_HOME": str(tmp_path / "home")
    }


def job(demo, key):
    return next(item for item in demo["jobs"] if item["key"] == key)


def test_every_step_holds(demo):
    assert demo["ok"]
    assert [item["key"] for item in demo["jobs"]] == ["a", "b", "c", "d", "e", "f", "g", "h"]


def shape(line):
    """A line without what differs from run to run: hashes, CIDs, node ids, times."""
    for pattern, word in SHAPES:
        line = re.sub(pattern, word, line)
    return line.rstrip()


SHAPES = (
    (r"0x[0-9a-fA-F]{40,64}", "HASH"),
    (r"\bbaf[a-z2-7]{50,60}", "CID"),
    (r"\bnode \d+", "node N"),
    (r"request( +)\d+", r"request\1N"),
    (r"\d+\.\d+ s", "SECONDS"),
    (r"^\[ +SECONDS\]", "[SECONDS]"),
)


def test_the_readme_shows_what_the_demo_prints(demo):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    shown = readme.split("set-up aside in about a minute", 1)[1].split("```")[1].strip().splitlines()
    printed = iter(shape(line) for line in [*demo["said"].splitlines(), *narrate(demo).splitlines()])

    missing = [line for line in shown if line != "..." and shape(line) not in printed]

    assert missing == []


@pytest.mark.parametrize(
    ("key", "state", "name", "labels"),
    [
        ("a", "FULFILLED", "ap", ["pool=logs", "site=ap"]),
        ("b", "FULFILLED", "gpu", ["gpu=true", "zone=lab"]),
        ("c", "FAILED", "camera", ["pool=logs", "site=camera"]),
        ("f", "FULFILLED", "rogue", ["pool=logs", "site=attic"]),
        ("g", "FULFILLED", "vault", ["site=vault"]),
        ("h", "WITHHELD", "vault", ["site=vault"]),
    ],
)
def test_each_job_runs_on_the_node_with_its_labels(demo, key, state, name, labels):
    found = job(demo, key)

    assert found["state"] == state
    assert [(node["name"], node["labels"]) for node in found["nodes"]] == [(name, labels)]
    assert found["verified"]
    assert found["storedByDapp"]


def test_the_failing_job_pays_its_fail_price_and_refunds_the_rest(demo):
    found = job(demo, "c")

    assert found["outcome"]["exitCode"] == 3
    assert found["paymentsInWei"] == {
        "operator of node camera": str(4 * 10**14),
        "requester (the dApp contract)": str(6 * 10**14),
        "relayer": str(10**14),
    }


def test_the_job_that_no_node_matches_is_explained_node_by_node_and_refunded(demo):
    found = job(demo, "d")

    assert found["state"] == "EXPIRED"
    assert sorted(node["nodeId"] for node in found["explanation"]["nodes"]) == [1, 2, 3, 4, 5]
    assert all("site" in node["text"] for node in found["explanation"]["nodes"])
    assert found["paymentsInWei"] == {"requester (the dApp contract)": str(11 * 10**14)}


def test_each_wasm_job_is_proved_or_disproved_from_its_exported_file_alone(demo):
    verdicts = {item["key"]: item["replay"]["verdict"] for item in demo["jobs"] if "replay" in item}

    assert verdicts == {
        "a": "reproduced", "c": "reproduced", "e": "reproduced", "f": "differs", "g": "reproduced", "h": "withheld",
    }  # fmt: skip


@pytest.mark.parametrize(("key", "said"), [("g", "approved by"), ("h", "rejected by")])
def test_the_reviewers_word_is_proved_offline(demo, tmp_path, key, said):
    path = job(demo, key)["replay"]["bundle"]
    (node,) = job(demo, key)["nodes"]
    anchors = ("--contract", demo["devnet"]["computeBridge"], "--node-key", node["key"])

    status, found, _ = insula("job", "verify", "--bundle", path, *anchors, env={"INSULA_HOME": str(tmp_path)})

    assert (status, found["offline"], found["chain"]) == (5, "holds", "unasked")
    assert [said in one["detail"] for one in found["checks"] if one["name"].startswith("release")] == [True]


def test_a_job_is_replayed_and_exported_by_its_id(demo, env, tmp_path):
    request = str(job(demo, "c")["requestId"])

    status, found, _ = insula("job", "replay", request, env=env)
    exported, files, _ = insula("job", "export", request, "--ro-crate", str(tmp_path / "crate"), env=env)

    assert (status, found["verdict"]) == (0, "reproduced")
    assert (exported, files["ok"]) == (0, True)
    assert (tmp_path / "crate" / "output" / "stdout").is_file()


def node_of(demo, name):
    return next(node for node in demo["devnet"]["nodes"] if node["name"] == name)


def test_a_lying_node_of_a_quorum_is_outvoted_and_unpaid(demo):
    found, rogue = job(demo, "e"), node_of(demo, "rogue")

    assert found["state"] == "FULFILLED"
    assert sorted(node["name"] for node in found["nodes"]) == ["ap", "camera"]
    assert found["outcome"]["payload"] == job(demo, "a")["outcome"]["payload"] != ""
    (outvoted,) = found["outvoted"]
    assert (outvoted["nodeId"], outvoted["status"], outvoted["paidInWei"]) == (rogue["nodeId"], "SUCCEEDED", "0")
    assert outvoted["outcomeHash"] != outvoted["agreedOutcomeHash"]
    assert found["paymentsInWei"] == {
        "operator of node ap": str(10**15),
        "operator of node camera": str(10**15),
        "requester (the dApp contract)": str(10**15),
        "relayer": str(10**14),
    }


def test_explain_names_the_lying_node_with_what_it_said(demo, env):
    found, rogue = job(demo, "e"), node_of(demo, "rogue")

    explained = insula("job", "explain", str(found["requestId"]), env=env)[1]
    (outvoted,) = explained["ended"]["outvoted"]
    assert (outvoted["nodeId"], outvoted["operator"], outvoted["mayBePaid"]) == (
        rogue["nodeId"], rogue["operator"], False,
    )  # fmt: skip
    assert outvoted["outcomeHash"] == found["outvoted"][0]["outcomeHash"]
    words = [*INSULA, "job", "explain", str(found["requestId"])]
    told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    line = next(line for line in told.stdout.splitlines() if "OUTVOTED" in line)
    assert line.split()[:2] == ["node", str(rogue["nodeId"])]
    assert line.endswith("for that it was not paid")
    assert outvoted["outcomeHash"] in line


def test_a_node_that_signs_two_outcomes_loses_its_stake_by_a_strangers_proof(demo):
    slashed, rogue = job(demo, "f")["slashed"], node_of(demo, "rogue")

    assert (slashed["nodeId"], slashed["key"]) == (rogue["nodeId"], rogue["key"])
    assert (slashed["stakeBeforeInWei"], slashed["stakeAfterInWei"]) == (str(10**18), "0")
    assert (slashed["rewardInWei"], slashed["burnedInWei"]) == (str(10**17), str(9 * 10**17))
    assert len(set(slashed["outcomeHashes"])) == 2
    assert slashed["prover"] not in {demo["devnet"]["curator"], *(node["operator"] for node in demo["devnet"]["nodes"])}


def test_its_contradiction_is_told_by_explain_an_alarm_and_the_evidence(demo, env, tmp_path):
    found, rogue = job(demo, "f"), node_of(demo, "rogue")

    ended = insula("job", "explain", str(found["requestId"]), env=env)[1]["ended"]
    assert ended["contradicted"] == [rogue["nodeId"]]
    alarms = insula("bridge", "alarms", env=env)[1]["alarms"]
    assert "node_contradiction" in [alarm["alarm"] for alarm in alarms]
    words = ("node", "evidence", str(rogue["nodeId"]), "--save", str(tmp_path / "proof.json"))
    status, evidence, _ = insula(*words, env=env)
    assert (status, evidence["evidence"][0]["requestHash"]) == (0, found["requestHash"])


def test_the_stranger_draws_his_tenth_and_the_proof_is_used_up(demo, env, tmp_path):
    stranger = env | {"INSULA_KEY": f"file:{demo['devnet']['folder']}/keys/stranger"}
    rogue = node_of(demo, "rogue")
    insula("node", "evidence", str(rogue["nodeId"]), "--save", str(tmp_path / "proof.json"), env=env)

    status, again, _ = insula("node", "slash", "--proof", str(tmp_path / "proof.json"), env=stranger)
    assert (status, "was proven before" in again["error"]) == (1, True)
    status, drawn, _ = insula("node", "withdraw-reward", env=stranger)
    assert (status, drawn["drawn"]) == (0, str(10**17))


def test_a_held_output_leaves_by_a_signature_and_a_rejected_one_never(demo, env, tmp_path):
    released, rejected = job(demo, "g"), job(demo, "h")

    assert [released["review"]["decision"], rejected["review"]["decision"]] == ["approve", "reject"]
    assert (rejected["outcome"]["reason"], rejected["outputCid"]) == (300, None)
    assert rejected["paymentsInWei"] == {"requester (the dApp contract)": str(10**15), "relayer": str(10**14)}
    vault = node_of(demo, "vault")
    assert insula("release", "list", "--dir", vault["folder"], env=env)[1]["held"] == []
    for found, word in ((released, "approved"), (rejected, "rejected")):
        bundle = str(tmp_path / f"{word}.json")
        assert insula("job", "verify", str(found["requestId"]), "--save", bundle, env=env)[0] == 0
        result = insula("job", "verify", str(found["requestId"]), "--bundle", bundle)[1]
        (check,) = [one for one in result["checks"] if one["name"].startswith("release of node")]
        assert (check["ok"], check["detail"].startswith(f"{word} by {found['review']['signer']}")) == (True, True)


@pytest.mark.parametrize("key", ["a", "b", "c", "e", "g"])
def test_the_output_is_fetched_by_its_cid(demo, env, tmp_path, key):
    target = tmp_path / "output"

    status, _, _ = insula("content", "get", job(demo, key)["outputCid"], "-o", str(target), env=env)

    assert status == 0
    assert {entry.name for entry in target.iterdir()} == {"outputs", "stdout", "stderr"}


def test_the_payload_on_chain_is_the_stdout_of_the_output(demo, env):
    found = job(demo, "a")

    status, logs, _ = insula("job", "logs", str(found["requestId"]), env=env)

    assert status == 0
    assert logs["text"] == found["outcome"]["payload"] != ""


def test_verify_holds_with_the_chain_and_says_so_when_it_was_not_asked(demo, env):
    request = str(job(demo, "a")["requestId"])

    assert insula("job", "verify", request, env=env)[0] == 0
    assert insula("job", "verify", request, env=env | {"INSULA_RPC": ""})[0] == 5


def test_verify_against_another_contract_says_just_that(demo, env):
    request = str(job(demo, "a")["requestId"])

    status, result, _ = insula("job", "verify", request, "--contract", demo["devnet"]["nodeRegistry"], env=env)

    assert status == 1
    assert failed_checks(result) == ["contract", "chain and contract"]


def test_status_list_explain_and_doctor_answer(demo, env):
    request = str(job(demo, "d")["requestId"])

    assert insula("job", "status", request, env=env)[1]["job"]["chainState"] == "EXPIRED"
    assert len(insula("job", "list", env=env)[1]["jobs"]) == 8
    assert insula("job", "explain", request, env=env)[0] == 0
    assert insula("bridge", "status", env=env)[1]["ok"]
    problems = [one for one in insula("doctor", env=env)[1]["findings"] if one["level"] == "problem"]
    assert [(one["name"], one["detail"]) for one in problems] == [("alarms", "node_contradiction")]
    for node in demo["devnet"]["nodes"]:
        if node["name"] == "rogue":
            continue  # it has no program of ours
        assert insula("node", "status", "--dir", node["folder"], env=env)[1]["bridge"]["seen"]


def flip_file(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def flip_column(demo, column, request_hash):
    with closing(sqlite3.connect(Path(demo["devnet"]["folder"]) / "bridge" / "bridge.db", timeout=30)) as db:
        where = (bytes.fromhex(request_hash[2:]),)
        (before,) = db.execute(f"SELECT {column} FROM slots WHERE request_hash = ?", where).fetchone()
        after = bytearray(before)
        after[len(after) // 2] ^= 1
        db.execute(f"UPDATE slots SET {column} = ? WHERE request_hash = ?", (bytes(after), *where))
        db.commit()
    return before


def restore_column(demo, column, request_hash, value):
    with closing(sqlite3.connect(Path(demo["devnet"]["folder"]) / "bridge" / "bridge.db", timeout=30)) as db:
        where = bytes.fromhex(request_hash[2:])
        db.execute(f"UPDATE slots SET {column} = ? WHERE request_hash = ?", (value, where))
        db.commit()


def failed_checks(result):
    return [check["name"] for check in result["checks"] if not check["ok"]]


@pytest.mark.parametrize("column", ["receipt", "signature"])
def test_a_flipped_byte_of_a_stored_receipt_or_signature_is_named(demo, env, column):
    found = job(demo, "c")
    before = flip_column(demo, column, found["requestHash"])
    try:
        status, result, _ = insula("job", "verify", str(found["requestId"]), env=env)
    finally:
        restore_column(demo, column, found["requestHash"], before)

    assert status == 1
    assert any(name.startswith("signature of node") for name in failed_checks(result))


@pytest.mark.parametrize("part", ["input", "output"])
def test_a_flipped_byte_of_the_bridges_content_is_not_handed_out_and_the_check_is_left_open(demo, env, part):
    found = job(demo, "b")
    cid = found["inputs"][-1] if part == "input" else found["outputCid"]
    blocks = Path(demo["devnet"]["folder"]) / "bridge" / "content" / "blocks"
    path = next(blocks.rglob(str(Cid.parse(cid))))
    before = path.read_bytes()
    flip_file(path)
    try:
        status, result, _ = insula("job", "verify", str(found["requestId"]), env=env)
    finally:
        path.write_bytes(before)

    assert status == 6
    (left_open,) = [check for check in result["checks"] if not check["ok"]]
    assert (left_open["name"], left_open["verdict"]) == ("output" if part == "output" else f"input {cid}", "unchecked")
    assert cid in left_open["detail"]


def test_a_flipped_byte_of_the_verifiers_own_copy_is_fetched_anew(demo, env, tmp_path):
    found = job(demo, "a")
    insula("content", "get", found["outputCid"], "-o", str(tmp_path / "output"), env=env)
    blocks = Path(env["INSULA_HOME"]) / "content" / "blocks"
    flip_file(next(blocks.rglob(found["outputCid"])))

    assert insula("job", "verify", str(found["requestId"]), env=env)[0] == 0


def test_ctrl_c_stops_every_process_that_the_demo_started(tmp_path):
    folder = tmp_path / "net"
    demo = subprocess.Popen(
        [*INSULA, "demo", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with demo:
        for line in demo.stdout:
            if "starting the bridge" in line:
                break
        started = recorded(folder)
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()

        assert started
        assert demo.wait(30) == 130, rest
        assert recorded(folder) == []
        assert not [row for row in started if Path(f"/proc/{row['pid']}").exists()]
