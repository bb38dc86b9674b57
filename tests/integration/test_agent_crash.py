"""A node that is killed with kill -9: nothing is left over, nothing is signed twice."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import wasmtime

from executor.agent.service import node_status
from executor.content.importer import import_bytes
from executor.ledger import Ledger
from executor.protocol.wire import Status
from tests.agent_kit import killed_at_the_end, new_node
from tests.agent_twin import Fault, order

ROOT = Path(__file__).resolve().parents[2]
QUICK = '(module (memory (export "memory") 1) (func (export "_start")))'
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'

#: the node as a process; its sandbox's limits are proved in the sandbox's own tests
PROCESS = """
import sys, threading
from pathlib import Path
from executor.agent.service import run_node
from executor.sandbox.types import Probe
from executor.sandbox.wasm import WasmSandbox

class ProvedWasm(WasmSandbox):
    def probe(self, cancelled=None):
        return Probe("wasm", usable=True, version="", problem="")

run_node(Path(sys.argv[1]), threading.Event(), [ProvedWasm()])
"""


@pytest.fixture
def folder(tmp_path, twin):
    new_node(twin, tmp_path / "node", tiers=("wasm",))
    return tmp_path / "node"


@contextmanager
def node_process(folder):
    """A node in a process of its own, killed at the end."""
    with killed_at_the_end(PROCESS, folder) as child:
        yield child
        assert child.poll() is None, "the node ended by itself"


def job(twin, text):
    cid = import_bytes(twin.blocks, bytes(wasmtime.wat2wasm(text)))
    return order({"version": "insula/v1", "engine": {"type": "wasm", "module": str(cid)}})


def test_after_a_kill_9_nothing_is_left_over_and_the_node_works_again(twin, folder):
    with node_process(folder):
        twin.offer(job(twin, LOOP), token=1)
        twin.wait_for(lambda: twin.heartbeats)
        twin.wait_for(lambda: list((folder / "executions").iterdir()))
    assert not node_status(folder)["is_running"]

    with node_process(folder):
        twin.offer(job(twin, QUICK), token=2, request_id=2)
        (attested,) = twin.wait_for(lambda: twin.attested)

        assert attested.decoded().status == Status.SUCCEEDED
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        assert sorted(row["state"] for row in node_status(folder)["last"]) == ["attested", "crashed"]


def test_what_was_signed_before_a_kill_9_is_handed_in_unchanged_after_it(twin, folder):
    work = job(twin, QUICK)
    lease = twin.offer(work, token=1)
    twin.faults["/missing"] = Fault(status=503, times=10**6)  # signed, but the upload does not get through
    with node_process(folder):
        twin.wait_for(lambda: node_status(folder)["signed"] == 1)
    ledger = Ledger.open(folder / "ledger.db", node_status(folder)["key"])
    record = ledger.signed(lease.request_hash)
    ledger.close()
    twin.faults.clear()

    with node_process(folder):
        twin.offer(work, token=2, attempt=2)
        (attested,) = twin.wait_for(lambda: twin.attested)

    assert (attested.outcome, attested.receipt) == (record.outcome, record.receipt)
    assert (attested.signature, attested.log_root, attested.log_size) == (record.signature, record.log_root, 2)
    assert (attested.dsse_signature, attested.log_proof) == (record.dsse_signature, record.log_proof)
    assert node_status(folder)["signed"] == 1


def test_a_second_process_on_the_folder_ends_and_the_first_goes_on(twin, folder):
    with node_process(folder):
        twin.wait_for(lambda: twin.adverts)
        second = subprocess.run(
            [sys.executable, "-c", PROCESS, str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert "another node process" in second.stderr
        seen = len(twin.adverts)
        twin.wait_for(lambda: len(twin.adverts) > seen)
