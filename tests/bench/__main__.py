"""`./dev bench [NAME]`: each line is ours against a named baseline, medians of interleaved runs in this very process.

Only the ratio means anything: the two sides take turns, so that a machine that slows down slows both.
docs/benchmarks.md says what each line is about.
"""

import logging
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

import structlog

from bridge.service import collect_seldom
from tests.bench import (
    audits,
    backfill,
    batches,
    content,
    decoding,
    fetching,
    histories,
    importing,
    latency,
    memory,
    rest,
    retrieval,
    sandboxes,
)
from tests.bench.runs import Benchmark, Unavailable, seconds_of

BENCHMARKS = {
    "cid": Benchmark(f"CID of {importing.LARGE}", "SHA-256, as many threads", importing.against_hashlib, 1.25),
    "cid-kubo": Benchmark(f"CID of {importing.LARGE}", "ipfs add --only-hash", importing.name_large, 1 / 1.5),
    "cid-small": Benchmark(f"CID of {importing.SMALL}", "ipfs add --only-hash", importing.name_small, 1.0),
    "store": Benchmark("64 MiB into the block store, durable", "copy with one fsync", content.store_a_file),
    "import": Benchmark(f"{importing.LARGE} imported, durable", "ipfs add", importing.store_large, None, 3),
    "import-small": Benchmark(f"{importing.SMALL} imported, durable", "ipfs add", importing.store_small, None, 3),
    "import-synced": Benchmark(
        f"{importing.LARGE} imported, durable", "ipfs add, blocks synced", importing.store_large_synced, None, 3
    ),
    "import-small-synced": Benchmark(
        f"{importing.SMALL} imported, durable", "ipfs add, blocks synced", importing.store_small_synced, None, 3
    ),
    "fetch": Benchmark(
        "60 MB from a peer, verified, durable", "plain HTTP, one fsync", fetching.against_plain_http, 1 / 0.6
    ),
    "fetch-kubo": Benchmark("60 MB from a peer, verified, durable", "from Kubo to Kubo", fetching.against_kubo),
    "decode": Benchmark("2 000 JobRequested logs decoded", "web3's process_log", decoding.decode_logs),
    "wasm": Benchmark("a WASM job in its sandbox", "an empty Python process", content.run_a_wasm_job),
    "audit": Benchmark("audit of an output of 1 GiB", "SHA-256 of the same file", audits.one_large_file, 2.0, 3),
    "audit-small": Benchmark(
        f"audit of {audits.FILES} small files", f"{audits.PARTS} times a {audits.PARTS}th", audits.many_small_files, 1.5
    ),
    "wasm-work": Benchmark("10 ms of work by a WASM job", "bare wasmtime", sandboxes.run_a_module, 1.5, 15),
    "container": Benchmark("a hardened container job", "the docker SDK", sandboxes.run_a_container, 1.15, 15),
    "backfill": Benchmark(
        f"{backfill.LOGS} logs of {backfill.BLOCKS} blocks stored", "download, orjson", backfill.backfill, 2.0, 3
    ),
    "history": Benchmark(
        f"a new job after {histories.LONG} others", f"after {histories.SHORT}", histories.one_more_job, 1.2
    ),
    "start": Benchmark(f"start after {histories.LONG} jobs", f"after {histories.SHORT}", histories.start, 1.2),
    "batch": Benchmark(f"{batches.RESULTS} results, {batches.BATCH} at a time", "one by one", batches.relay, 0.1, 3),
    "latency": Benchmark("request mined to result mined", "poll every 50 ms, send", latency.there_and_back, 3.0),
    "retrieval": Benchmark("60 MB, 1 good source of 51, known", "that one alone", retrieval.among_bad_ones, 3.0),
    "search": Benchmark("60 MB, 1 good of 51, unknown", "it alone", retrieval.among_unknown_bad_ones, 3.0, 1),
    "rest": Benchmark("HTTP requests per poll at rest", "one request", rest.polls, 3.0, 1),
}

GAS = Path(__file__).resolve().parents[2] / "contracts" / "GAS.md"


def gas_tables() -> str:
    """The contracts' gas beside that of other systems; hardhat/test/Gas.test.ts holds the file to the contracts."""
    lines = GAS.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line or line.startswith("|")).strip()


TABLES = {"memory": memory.table, "gas": gas_tables}


def line_of(benchmark: Benchmark) -> str:
    with ExitStack() as stack:
        ours, baseline = benchmark.set_up(stack)
        if benchmark.rounds > 1:  # warm-up
            seconds_of(ours), seconds_of(baseline)
        pairs = [(seconds_of(ours), seconds_of(baseline)) for _ in range(benchmark.rounds)]
    ratios = [mine / theirs for mine, theirs in pairs]
    middle = statistics.median(ratios)
    target = "" if benchmark.at_most is None else f"at most {benchmark.at_most:.3g}x: "
    holds = "" if benchmark.at_most is None else "holds" if middle <= benchmark.at_most else "DOES NOT HOLD"
    seconds = statistics.median(mine for mine, _ in pairs)
    return (
        f"{benchmark.name:<42} {benchmark.baseline:<26} {middle:>7.3f}x ({min(ratios):.3f} to {max(ratios):.3f})"
        f" {seconds:>9.3f}  {target}{holds}"
    )


def main(names: list[str]) -> int:
    known = [*BENCHMARKS, *TABLES]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    collect_seldom()  # as the bridge's process does
    timed = [name for name in names or known if name in BENCHMARKS]
    if timed:
        print(f"{'ours':<42} {'baseline':<26} {'ours / baseline, min to max':<27} {'ours, s':>9}  target")
    for name in timed:
        try:
            print(line_of(BENCHMARKS[name]), flush=True)
        except Unavailable as exc:
            print(f"{BENCHMARKS[name].name:<42} left out: {exc}", flush=True)
    for name, table in TABLES.items():
        if name in (names or known):
            print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
