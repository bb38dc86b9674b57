"""The main job with an operator's Kubo beside the embedded store."""

import json
import os
import subprocess
import sys

import pytest

from bridge.demo.mirrored import take_back
from bridge.store.engine import open_engine, transaction
from bridge.store.migrations import migrate
from bridge.store.mirror import Mirrored, keep_mirrored
from executor.content.blocks import MemoryBlocks
from executor.content.importer import import_bytes
from executor.content.kubo import Kubo

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(300)]


def pins(daemon):
    rows = daemon._rows("/pin/ls", options={"type": "recursive"})
    return {cid for row in rows for cid in row.get("Keys") or {}}


def demo(folder, ipfs):
    command = [sys.executable, "-m", "bridge.cli", "demo", "--json", "--dir", str(folder), "--ipfs", ipfs]
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}  # containers are the other demo's
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280, env=env)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_the_demo_runs_unchanged_and_every_released_output_is_kept_by_kubo_comes_back_and_goes(kubo, tmp_path):
    with Kubo(kubo.api) as daemon:
        before = pins(daemon)
    status, result, said = demo(tmp_path / "net", kubo.api)

    assert status == 0, said
    assert result["problems"] == []
    released = {job["key"]: job["outputCid"] for job in result["jobs"] if job.get("outputCid")}
    assert {"a", "e", "g"} <= set(released)
    assert "h" not in released
    looked_at = [job["kubo"] for job in result["jobs"] if job.get("outputCid")]
    assert all(kept["kept"] and kept["blocks"] > 0 for kept in looked_at)
    with Kubo(kubo.api) as daemon:
        assert pins(daemon) == before
    assert "Kubo was told to keep" in said


def test_what_a_demo_gave_is_unpinned_and_what_was_there_before_is_not(kubo, tmp_path):
    blocks = MemoryBlocks()
    given, had, stranger = (import_bytes(blocks, os.urandom(100)) for _ in range(3))
    with Kubo(kubo.api) as daemon:
        for root in (given, had, stranger):
            daemon.publish(blocks, root)
        database = tmp_path / "bridge.db"
        engine = open_engine(f"sqlite:///{database}")
        migrate(engine)
        with transaction(engine) as connection:
            for root, ours in ((given, True), (had, False)):
                keep_mirrored(connection, daemon.peer_id(), Mirrored(root, ours=ours, done=True))

        assert take_back(database, kubo.api) == [given]

        assert [daemon.is_pinned(root) for root in (given, had, stranger)] == [False, True, True]
        assert take_back(database, kubo.api) == []


@pytest.mark.parametrize("what", ["nothing", "an empty file"])
def test_a_demo_that_ended_before_its_bridge_began_gave_nothing(kubo, tmp_path, what):
    if what == "an empty file":
        (tmp_path / "bridge.db").touch()

    assert take_back(tmp_path / "bridge.db", kubo.api) == []


@pytest.mark.parametrize(
    ("ipfs", "words"),
    [("http://127.0.0.1:1", "ipfs daemon"), ("nowhere", "http://127.0.0.1:5001"), ("https://h:5001", "RPC API")],
)
def test_a_kubo_that_is_not_there_is_named_before_anything_starts(tmp_path, ipfs, words):
    status, result, said = demo(tmp_path / "net", ipfs)

    assert status != 0
    assert words in json.dumps(result) + said
    assert "Traceback" not in said
