"""`insula canary run` as people and timers call it: exit codes, signals, kill -9, metrics."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from bridge.canary.export import METRICS
from bridge.cli.output import Exit
from tests.bridge_kit import CONTRACT
from tests.canary_kit import key_file, serving
from tests.chain_nodes import free_port, wait_for
from tests.raw_server import RawServer, silent

PATIENT = ("--max-first", "60", "--max-stall", "60", "--min-rate", "1")  # the machine may be busy
CURATOR = "0x" + "11" * 20


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path / "bridge") as served:
        yield served


@pytest.fixture
def words(served, tmp_path):
    """The options of a canary that looks at small content alone."""
    return [
        "canary",
        "run",
        "--bridge",
        served.url,
        "--key",
        key_file(tmp_path),
        "--sizes",
        "1KiB",
        "--no-jobs",
        *PATIENT,
    ]


def test_a_round_that_is_well_is_a_line_and_exit_code_0(insula, words):
    code, out, err = insula(*words)

    assert (code, err) == (Exit.OK, "")
    assert re.fullmatch(r"canary: all well: 1 KiB by 1 way, .*\n", out)


def test_with_json_each_round_is_a_line(insula, words):
    code, out, _ = insula(*words, "--rounds", "2", "--every", "0", "--json")

    rounds = [json.loads(line) for line in out.splitlines()]
    assert (code, [each["number"] for each in rounds]) == (Exit.OK, [1, 2])
    assert {each["health"] for each in rounds} == {"well"}
    [fetch] = rounds[0]["fetches"]
    assert (fetch["size"], fetch["attempts"], fetch["fault"]) == (1024, 1, "")
    assert rounds[0]["quantiles"][0]["seconds"] == fetch["seconds"]


def test_what_is_wrong_is_a_line_on_standard_error_and_exit_code_1(insula, words):
    with RawServer(silent) as bad:
        code, out, err = insula(*words, "--gateway", bad.url, "--fetch-seconds", "4")

    assert (code, out) == (Exit.NOT_SO, "")
    assert re.fullmatch(
        rf"canary: 1 KiB from gateway {bad.url} failed after 0 B: not whole in \d s; other sources fine\n", err
    )


def test_the_exit_codes_tell_what_kind_of_trouble_it_is(insula, words, tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"
    at = words.index("--bridge") + 1

    assert insula(*words[:at], nobody, *words[at + 1 :])[0] == Exit.UNREACHABLE
    assert insula(*words, "--key", key_file(tmp_path, "stranger"))[0] == Exit.CANARY_BLIND
    assert insula(*words, "--gateway", nobody, "--fetch-seconds", "4")[0] == Exit.NOT_SO


def test_jobs_at_another_contract_than_the_bridges_are_not_paid_for(insula, words, tmp_path):
    other = "0x" + "22" * 20
    jobs = [word for word in words if word != "--no-jobs"]
    code, _, err = insula(
        *jobs, "--rpc", "http://127.0.0.1:9", "--contract", other, "--curator", CURATOR, "--no-content"
    )

    assert code == Exit.CANARY_BLIND
    assert err == (f"canary: no job was ordered: the bridge follows contract {CONTRACT}, --contract is {other}\n")


#: name -> (options beside a valid call, what is said)
BAD = {
    "seconds that are no number": (["--max-stall", "nan"], "--max-stall"),
    "seconds that never end": (["--every", "inf"], "--every"),
    "no size": (["--sizes", ""], "--sizes"),
    "a size in words": (["--sizes", "large"], "--sizes"),
    "too large": (["--sizes", "2GiB"], "--sizes"),
    "too many sizes": (["--sizes", ",".join(map(str, range(1, 11)))], "--sizes"),
    "nothing to look at": (["--no-content"], "--no-jobs"),
    "a kubo that is none": (["--kubo", "nowhere"], "RPC API"),
    "a file that cannot be written": (["--metrics", "/nowhere/canary.prom"], "--metrics"),
    "a key that is not there": (["--key", "file:/nowhere"], "/nowhere cannot be read"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_call_that_is_wrong_is_told_before_anything_is_done(insula, served, words, what):
    options, said = BAD[what]

    code, _, err = insula(*words, *options)

    assert (code, said in err) == (Exit.BAD_INPUT, True), err
    assert served.account_bytes() == 0


def test_jobs_need_a_curator_and_a_budget(insula, words):
    jobs = [word for word in words if word != "--no-jobs"]
    place = ("--rpc", "http://127.0.0.1:9", "--contract", CONTRACT)

    assert "--curator" in insula(*jobs, *place)[2]
    code, _, err = insula(*jobs, *place, "--curator", CURATOR, "--unit-price", "11", "--max-spend", "10")
    assert (code, err) == (Exit.BAD_INPUT, "error: --max-spend: is 10; one job costs 11 wei\n")


def test_an_upload_is_withdrawn_by_its_account(insula, words, served, tmp_path):
    (tmp_path / "input").write_bytes(b"x" * 5000)
    place = ("--bridge", served.url, "--key", words[words.index("--key") + 1])
    cid = insula("content", "add", str(tmp_path / "input"), "--public", *place)[1].strip()
    assert served.account_bytes() == 6024

    code, out, _ = insula("content", "withdraw", cid, *place, "--json")
    again = insula("content", "withdraw", cid, *place)

    assert (code, json.loads(out)) == (Exit.OK, {"ok": True, "cid": cid, "freedBytes": 6024})
    assert again[:2] == (Exit.OK, "nothing of it was uploaded by this account\n")
    assert (served.account_bytes(), served.roots()) == (0, [])


# --- metrics


def samples(text):
    found = re.finditer(r"^(insula_canary_\w+(?:{.*})?) (\S+)$", text, re.MULTILINE)
    return {match[1]: float(match[2]) for match in found}


def test_metrics_are_written_to_a_file_as_a_whole(insula, words, served, tmp_path):
    path = tmp_path / "canary.prom"

    assert insula(*words, "--metrics", str(path))[0] == Exit.OK

    found = samples(path.read_text())
    assert (found["insula_canary_up"], found["insula_canary_burn"], found["insula_canary_findings"]) == (1, 0, 0)
    labels = f'size="1024",source="bridge {served.url}"'
    assert found[f"insula_canary_fetch_ok{{{labels}}}"] == 1
    assert 0 < found[f"insula_canary_first_block_seconds{{{labels}}}"] < 5
    assert found['insula_canary_process{figure="fds",process="this canary"}'] > 3
    assert found[f'insula_canary_process{{figure="fds",process="the bridge {served.url}"}}'] > 3
    assert [each.name for each in tmp_path.glob("canary.prom*")] == ["canary.prom"]


def test_metrics_say_what_is_wrong(insula, words, tmp_path):
    path = tmp_path / "canary.prom"
    with RawServer(silent) as bad:
        insula(*words, "--gateway", bad.url, "--fetch-seconds", "4", "--metrics", str(path))

    found = samples(path.read_text())
    assert (found["insula_canary_up"], found['insula_canary_health{health="wrong"}']) == (0, 1)
    assert found[f'insula_canary_fetch_ok{{size="1024",source="gateway {bad.url}"}}'] == 0


# --- as a process


@contextmanager
def running(words, tmp_path, *options):
    command = [sys.executable, "-m", "bridge.cli", *words, *options]
    env = {**os.environ, "INSULA_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def traces(tmp_path):
    folder = tmp_path / "home" / "canary"
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def test_after_kill_9_the_next_run_takes_back_what_was_left(insula, words, served, tmp_path):
    with RawServer(silent) as bad, running(words, tmp_path, "--gateway", bad.url) as process:
        wait_for(lambda: bad.calls, 30, "a fetch from the silent gateway")
        assert served.account_bytes() > 0
        process.kill()
        process.wait(20)
    assert served.account_bytes() > 0
    [left] = traces(tmp_path)
    assert (tmp_path / "home" / "canary" / left / "work").is_dir()

    assert insula(*words)[0] == Exit.OK

    assert (served.account_bytes(), served.roots(), traces(tmp_path)) == (0, [], [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, Exit.OK), (signal.SIGINT, Exit.STOPPED)])
def test_a_signal_in_the_middle_of_a_fetch_ends_it_at_once_and_cleanly(words, served, tmp_path, number, code):
    with RawServer(silent) as bad, running(words, tmp_path, "--gateway", bad.url, "--rounds", "0") as process:
        wait_for(lambda: bad.calls, 30, "a fetch from the silent gateway")
        process.send_signal(number)
        out, err = process.communicate(timeout=15)

    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert (served.account_bytes(), traces(tmp_path)) == (0, [])


def test_a_signal_between_two_rounds_ends_it_and_metrics_were_served(words, served, tmp_path):
    port = free_port()
    with running(words, tmp_path, "--rounds", "0", "--every", "3600", "--listen", str(port)) as process:
        assert process.stdout.readline().startswith("canary: all well")
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=15)

    assert samples(text)["insula_canary_up"] == 1
    assert {line.split()[2].removeprefix("insula_canary_") for line in text.splitlines() if "# TYPE" in line} == set(
        METRICS
    )
    assert (process.returncode, err) == (0, "canary: stopped after 1 rounds\n")
    assert traces(tmp_path) == []


def test_two_at_once_from_one_home_do_not_take_back_each_others(words, served, tmp_path):
    options = ("--sizes", "1KiB,1MiB", "--rounds", "3", "--every", "0")
    with running(words, tmp_path, *options) as one, running(words, tmp_path, *options) as other:
        for process in (one, other):
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out.count("all well")) == (0, 3), err

    assert (served.account_bytes(), traces(tmp_path)) == (0, [])


def test_a_port_that_is_taken_is_told(insula, words):
    with RawServer(silent) as taken:
        code, _, err = insula(*words, "--listen", taken.url.rpartition(":")[2])

    assert (code, "--listen: port" in err) == (Exit.BAD_INPUT, True)
