"""The main job with an operator's Kubo beside the embedded store."""

import json
import os
import subprocess
import sys

import pytest

from executor.content.kubo import Kubo
from executor.protocol.cid import Cid

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(300)]


def demo(folder, ipfs):
    command = [sys.executable, "-m", "bridge.cli", "demo", "--json", "--dir", str(folder), "--ipfs", ipfs]
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}  # containers are the other demo's
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280, env=env)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_the_demo_runs_unchanged_and_every_released_output_is_kept_by_kubo_and_comes_back(kubo, tmp_path):
    status, result, said = demo(tmp_path / "net", kubo.api)

    assert status == 0, said
    assert result["problems"] == []
    released = {job["key"]: job["outputCid"] for job in result["jobs"] if job.get("outputCid")}
    assert {"a", "e", "g"} <= set(released)
    assert "h" not in released
    with Kubo(kubo.api) as daemon:
        assert all(daemon.is_pinned(Cid.parse(cid)) for cid in released.values())
    assert all(job["kubo"]["blocks"] > 0 for job in result["jobs"] if job.get("outputCid"))


@pytest.mark.parametrize(
    ("ipfs", "words"),
    [("http://127.0.0.1:1", "ipfs daemon"), ("nowhere", "http://127.0.0.1:5001"), ("https://h:5001", "RPC API")],
)
def test_a_kubo_that_is_not_there_is_named_before_anything_starts(tmp_path, ipfs, words):
    status, result, said = demo(tmp_path / "net", ipfs)

    assert status != 0
    assert words in json.dumps(result) + said
    assert "Traceback" not in said
