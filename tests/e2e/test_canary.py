"""The canary on a whole devnet: content and jobs, one that nobody takes, one that a node lies about."""

import json
import os
import subprocess
import sys

import pytest

from bridge.devnet import net as devnet_net
from bridge.devnet.processes import ProcessGroup
from executor.agent.config import init_node
from tests.chain_nodes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(240)]

PLANS = (
    devnet_net.NodePlan("ap", ("site=ap",)),
    devnet_net.NodePlan("rogue", ("site=attic",), module="bridge.demo.rogue"),
)
PRICES = ("--unit-price", "1000", "--fail-price", "100", "--delivery-fee", "10")
PATIENT = ("--max-first", "60", "--max-stall", "60", "--min-rate", "1")  # the machine may be busy
SMALL = ("--sizes", "1KiB,1MiB")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net") / "net"
    folder.mkdir()
    with ProcessGroup(folder) as group:
        yield devnet_net.start(group, init_node, print, plans=PLANS)


@pytest.fixture
def start(net, tmp_path):
    """Start `insula canary run` with more options; it dies with the test."""
    env = {
        **os.environ, "INSULA_HOME": str(tmp_path / "home"), "INSULA_BRIDGE": net.bridge_url, "INSULA_RPC": net.rpc_url,
        "INSULA_CONTRACT": net.contract, "INSULA_KEY": net.keys["requester"], "INSULA_CURATOR": net.curator,
    }  # fmt: skip
    processes = []

    def begin(*options):
        command = [sys.executable, "-m", "bridge.cli", "canary", "run", *PATIENT, *options]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate(timeout=20)


def ended(process, seconds=120):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def left(tmp_path):
    return [path for path in (tmp_path / "home" / "canary").iterdir() if path.is_dir()]


def test_content_and_a_job_come_back_as_they_must_and_nothing_is_left(start, tmp_path):
    code, out, err = ended(start(*SMALL, *PRICES, "--label", "site=ap", "--rounds", "2", "--every", "0", "--json"))

    rounds = [json.loads(line) for line in out.splitlines()]
    assert (code, len(rounds)) == (0, 2), (out, err)
    for each in rounds:
        assert [fetch["size"] for fetch in each["fetches"]] == [1024, 2**20]
        assert [job["price"] for job in each["jobs"]] == [1010]
        assert each["line"].startswith("canary: all well: 1 KiB, 1 MiB by 1 way")
    assert left(tmp_path) == []


def test_two_canaries_of_one_account_order_side_by_side(start, tmp_path):
    options = ("--no-content", *PRICES, "--label", "site=ap")

    for code, out, err in map(ended, [start(*options), start(*options)]):
        assert (code, err) == (0, ""), out
        assert out.startswith("canary: all well: job ")
    assert left(tmp_path) == []


def test_60_mib_come_back_from_the_bridge(start):
    code, out, err = ended(start("--sizes", "60MiB", "--no-jobs", "--json"))

    found = json.loads(out)
    assert (code, found["fetches"][0]["size"]) == (0, 60 * 2**20), (found, err)
    assert found["fetches"][0]["bytes"] > 60 * 2**20


def test_a_job_that_no_node_matches_is_told_with_the_reason(start, tmp_path):
    code, _, err = ended(start(*SMALL, *PRICES, "--label", "site=moon", "--job-seconds", "10"))

    assert code == 1
    assert " is not settled after 10 s: ready: " in err or " ended as EXPIRED: " in err, err
    assert err.endswith("; content fine\n")
    assert err.count("\n") == 1
    assert left(tmp_path) == []


def test_after_kill_9_in_the_middle_of_a_job_the_next_one_takes_back_what_was_left(start, tmp_path):
    killed = start("--no-content", *PRICES, "--label", "site=moon")
    wait_for(lambda: list(tmp_path.glob("home/canary/order-*.lock")), 60, "an order")
    killed.kill()
    killed.wait(20)
    [folder] = left(tmp_path)
    assert len(json.loads((folder / "left.json").read_text())) == 2

    assert ended(start("--no-jobs", "--sizes", "1KiB"))[0] == 0

    assert left(tmp_path) == []


def test_a_node_that_makes_its_answer_up_is_found_out(start):
    code, _, err = ended(start("--no-content", *PRICES, "--label", "site=attic", "--job-seconds", "30"))

    assert code == 1
    assert err.startswith("canary: job ")
    assert " gave another output than its input must give: None, not bafy" in err


def test_an_account_that_cannot_pay_accuses_nobody(start):
    wish = 10**30
    code, _, err = ended(start("--no-content", "--unit-price", str(wish), "--max-spend", str(2 * wish)))

    assert code == 10
    assert err.startswith("canary: no job was ordered: account 0x")
    assert f"it needs {wish} wei and what the gas costs: send it funds first" in err


def test_a_chain_that_does_not_answer_is_told_and_content_is_looked_at(start):
    code, _, err = ended(start("--sizes", "1KiB", *PRICES, "--rpc", "http://127.0.0.1:9"))

    assert code == 1
    assert err.startswith("canary: no job was ordered: the chain's endpoint does not answer: ")
    assert err.endswith("; content fine\n")
