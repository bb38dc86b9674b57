"""A devnet whose chain misbehaves on purpose: jobs end all the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.demo.content import prepare
from bridge.devnet import net as devnet_net
from executor.content.web import Http
from tests.chain_nodes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(240)]

INSULA = [sys.executable, "-m", "bridge.cli"]
CHAOS = [
    *("--chaos", "7", "--null-rounds", "0.05", "--reorg", "0.15", "--reorg-depth", "2"),
    *("--drop-logs", "0.2", "--late-receipts", "0.5"),
]


def insula(*args, env, seconds=120):
    command = [*INSULA, *args, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture
def devnet(tmp_path):
    """A devnet process with --chaos, and what it says."""
    folder, out = tmp_path / "net", tmp_path / "out"
    with out.open("wb") as sink:
        process = subprocess.Popen(
            [*INSULA, "devnet", "--dir", str(folder), *CHAOS],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    with process:
        try:
            wait_for(lambda: "running; Ctrl-C" in out.read_text() or process.poll() is not None, 90, "the devnet")
            yield process, folder, out
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def environment(net):
    return os.environ | {
        "INSULA_BRIDGE": net.bridge_url,
        "INSULA_RPC": net.rpc_url,
        "INSULA_CONTRACT": net.contract,
        "INSULA_KEY": net.keys["requester"],
        "INSULA_CURATOR": net.curator,
    }


def test_a_job_on_a_chain_with_reorgs_null_rounds_lost_logs_and_late_receipts_ends_final(devnet, tmp_path):
    process, folder, out = devnet
    net = devnet_net.load(folder)
    prepared = prepare(net, tmp_path, with_image=False, clock=time.time())
    spec = tmp_path / "spec.json"
    engine = {"type": "wasm", "module": str(prepared.logstat), "args": ["/inputs/access.log"]}
    inputs = [{"cid": str(prepared.log), "path": "/inputs/access.log"}]
    spec.write_text(json.dumps({"version": "insula/v1", "engine": engine, "inputs": inputs}))
    env = environment(net)

    status, placed, said = insula("job", "submit", str(spec), "--wait", "--unit-price", "1000", env=env)
    assert status == 0, (placed, said)

    with Http(net.bridge_url) as http:
        path = f"/v1/jobs/{placed['requestHash']}"
        wait_for(lambda: json.loads(http.call("GET", path).body)["state"] == "final", 60, "the job to be final")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    summary = out.read_text().partition("chaos with seed 7, in all:")[2]
    assert "reorg" in summary
    assert Path(folder / "logs" / "chaos.log").read_text().count("\n") >= 3
