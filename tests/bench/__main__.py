"""`./dev bench [NAME]`: each line is ours against a named baseline, medians of interleaved runs in this very process.

Only the ratio means anything: the two sides take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5

Action = Callable[[], object]


@dataclass(frozen=True)
class Benchmark:
    """Two ways to do the same thing. `set_up` gives (ours, baseline)."""

    name: str
    baseline: str
    set_up: Callable[[ExitStack], tuple[Action, Action]]


def cid_of_a_file(stack):
    """UnixFS CID of 64 MiB against SHA-256 of the same bytes: what the tree costs on top of the hash."""
    from executor.content import unixfs

    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
    path.write_bytes(os.urandom(64 * 2**20))
    limits = unixfs.TreeLimits(max_bytes=2**30)

    def ours():
        return unixfs.only_hash(unixfs.tree_blocks(path.parent, limits))

    def sha256():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    return ours, sha256


def store_a_file(stack):
    """64 MiB into the block store, durable, against a plain copy with one fsync."""
    from executor.content import unixfs
    from executor.content.blockstore import BlockStore

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "data").write_bytes(os.urandom(64 * 2**20))
    count = iter(range(10**6))

    def ours():
        return unixfs.import_file(BlockStore(folder / f"store{next(count)}"), folder / "data", 2**30)

    def copy():
        with (folder / "data").open("rb") as source, (folder / f"copy{next(count)}").open("wb") as target:
            while piece := source.read(2**20):
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())

    return ours, copy


def decode_logs(stack):
    """2 000 JobRequested logs decoded by us against web3's contract events."""
    import json
    from importlib import resources

    from eth_abi import abi
    from eth_utils.crypto import keccak
    from hexbytes import HexBytes
    from web3 import Web3

    from bridge.chain.client import Log
    from bridge.chain.contracts import compute_bridge
    from bridge.chain.events import decode_log
    from executor.protocol.wire import ORDER_TYPE, Order, request_hash

    contract, requester = "0x" + "11" * 20, "0x" + "22" * 20
    order = Order(spec=b'{"version":"insula/v1"}' * 10, ttl=600)
    logs = []
    for n in range(1, 2001):
        topics = (
            compute_bridge().event_topic("JobRequested"),
            n.to_bytes(32, "big"),
            request_hash(314, contract, n, requester, order),
            bytes(12) + bytes.fromhex(requester[2:]),
        )
        data = abi.encode(["uint64", ORDER_TYPE], [1_800_000_000, order.as_tuple()])
        logs.append(Log(contract, topics, data, n, keccak(text=f"b{n}"), keccak(text=f"t{n}")))
    exported = json.loads(resources.files("bridge.chain").joinpath("abi", "ComputeBridge.json").read_text())
    event = Web3().eth.contract(address=Web3.to_checksum_address(contract), abi=exported["abi"]).events.JobRequested()
    raw = [
        {
            "address": Web3.to_checksum_address(contract), "topics": [HexBytes(t) for t in log.topics],
            "data": HexBytes(log.data), "blockNumber": log.block_number, "blockHash": HexBytes(log.block_hash),
            "transactionHash": HexBytes(log.tx_hash), "transactionIndex": 0, "logIndex": 0, "removed": False,
        }
        for log in logs
    ]  # fmt: skip
    return lambda: [decode_log(log, 314) for log in logs], lambda: [event.process_log(log) for log in raw]


def run_a_wasm_job(stack):
    """A sandboxed WASM job, child process and all, against an empty Python process."""
    from importlib import resources

    from executor.sandbox.types import Execution, Limits, WasmProgram
    from executor.sandbox.wasm import WasmSandbox

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    module = folder / "exit3.wasm"
    module.write_bytes((resources.files("bridge.demo") / "programs" / "exit3.wasm").read_bytes())
    limits = Limits(
        wall_seconds=20, cpu_millis=1000, memory_bytes=2**26, disk_bytes=2**20, output_files=8, log_bytes=4096, pids=1
    )
    count = iter(range(10**6))

    def ours():
        n = next(count)
        outputs, scratch = folder / f"out{n}", folder / f"scratch{n}"
        outputs.mkdir()
        scratch.mkdir()
        sandbox = WasmSandbox()
        execution = Execution(f"bench-{n}", {}, WasmProgram(module), (), outputs, scratch, limits)
        try:
            assert sandbox.run(execution, lambda: None).exit_code == 3
        finally:
            sandbox.release(execution)

    return ours, lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)


BENCHMARKS = {
    "cid": Benchmark("UnixFS CID of 64 MiB", "SHA-256 of the same file", cid_of_a_file),
    "store": Benchmark("64 MiB into the block store, durable", "copy with one fsync", store_a_file),
    "decode": Benchmark("2 000 JobRequested logs decoded", "web3's process_log", decode_logs),
    "wasm": Benchmark("a WASM job in its sandbox", "an empty Python process", run_a_wasm_job),
}


def seconds_of(action: Action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    print(f"{'what':<40} {'baseline':<28} {'ratio':>7}   (min to max of {ROUNDS} pairs; below 1: faster)")
    for name in names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        with ExitStack() as stack:
            ours, baseline = benchmark.set_up(stack)
            ours(), baseline()  # warm-up
            ratios = [seconds_of(ours) / seconds_of(baseline) for _ in range(ROUNDS)]
        middle = statistics.median(ratios)
        print(
            f"{benchmark.name:<40} {benchmark.baseline:<28} {middle:>6.2f}x   ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
