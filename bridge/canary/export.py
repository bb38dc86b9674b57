"""What the canary found, for Prometheus: a text file for node_exporter, or a port on loopback. docs/operations.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.canary.judgement import Health
from bridge.canary.leaks import ALLOWED
from bridge.canary.records import Fault, Fetch
from bridge.canary.rounds import Canary
from executor.errors import InvalidInput

HOST: Final = "127.0.0.1"
_BY_FETCH: Final = ("source", "size")
#: name -> (labels, meaning)
METRICS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "up": ((), "1: the last round was well; 0: it was not, or there was none"),
    "health": (("health",), "1 for what is to be said of the last round: wrong, unreachable, blind or well"),
    "rounds": ((), "Rounds since the process began"),
    "round_at_seconds": ((), "When the last round began, in seconds since 1970"),
    "burn": ((), "How fast the last 20 rounds use up the budget of 5 in 100 wrong ones; 1 is just allowed"),
    "findings": ((), "Things that were wrong in the last round"),
    "upload_seconds": (("size",), "Upload of fresh content to the bridge"),
    "fetch_ok": (_BY_FETCH, "1: all of it came, as it was uploaded"),
    "first_block_seconds": (_BY_FETCH, "Until the first verified block"),
    "verified_seconds": (_BY_FETCH, "Until all was verified and compared"),
    "stall_seconds": (_BY_FETCH, "The longest time without a verified block after the first one"),
    "attempts": (_BY_FETCH, "Times that a source was asked"),
    "verified_p95_seconds": (_BY_FETCH, "95 of 100 fetches of the last 20 rounds were verified within this"),
    "first_block_p95_seconds": (_BY_FETCH, "95 of 100 fetches of the last 20 rounds had their first block within this"),
    "bytes": (("fetch", "size", "source"), "Verified bytes by the source that brought them"),
    "job_ok": ((), "1: the last round's job gave what it must"),
    "job_seconds": ((), "From the order of a job to its compared output"),
    "spent_wei": ((), "What the jobs of this process were ordered for"),
    "process": (("process", "figure"), "What the canary, and the bridge, hold: fds, threads, rss_bytes"),
    "leak": (("process", "figure"), "1: it grew by more than it may"),
}


class Board(Collector):
    """Shows the newest round of a canary."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary

    def collect(self) -> Iterator[Metric]:
        """Every metric of the table, with the values that there are."""
        families = {
            name: GaugeMetricFamily(f"insula_canary_{name}", text, labels=labels)
            for name, (labels, text) in METRICS.items()
        }
        for name, labels, value in self._samples():
            families[name].add_metric(labels, value)
        yield from families.values()

    def _samples(self) -> Iterator[tuple[str, Sequence[str], float]]:
        canary, verdict = self._canary, self._canary.verdict
        yield "up", (), float(verdict is not None and verdict.health is Health.WELL)
        yield "rounds", (), canary.round.number
        if verdict is None:
            return
        for health in Health:
            yield "health", (health.value,), float(verdict.health is health)
        yield "round_at_seconds", (), canary.round.at
        yield "burn", (), verdict.burn
        yield "findings", (), len(verdict.findings)
        for upload in canary.round.uploads:
            yield "upload_seconds", (str(upload.size),), upload.seconds
        for fetch in canary.round.fetches:
            yield from _of_fetch(fetch)
        for quantile in verdict.quantiles:
            labels = (quantile.source, str(quantile.size))
            if quantile.seconds is not None:
                yield "verified_p95_seconds", labels, quantile.seconds
            if quantile.first_seconds is not None:
                yield "first_block_p95_seconds", labels, quantile.first_seconds
        yield from self._of_jobs()
        yield from self._of_processes()

    def _of_jobs(self) -> Iterator[tuple[str, Sequence[str], float]]:
        if self._canary.job is None:
            return
        jobs = self._canary.round.jobs
        yield "job_ok", (), float(bool(jobs))
        yield "spent_wei", (), self._canary.job.spent
        for job in jobs:
            yield "job_seconds", (), job.seconds

    def _of_processes(self) -> Iterator[tuple[str, Sequence[str], float]]:
        leaks = {(leak.process, leak.figure) for leak in self._canary.leaks}
        for process, figures in self._canary.round.figures:
            for figure in ALLOWED:
                value = getattr(figures, figure)
                if value is not None:
                    yield "process", (process, figure), value
                    yield "leak", (process, figure), float((process, figure) in leaks)


def _of_fetch(fetch: Fetch) -> Iterator[tuple[str, Sequence[str], float]]:
    labels = (fetch.source, str(fetch.size))
    yield "fetch_ok", labels, float(fetch.fault is Fault.NONE)
    if fetch.first_seconds is not None:
        yield "first_block_seconds", labels, fetch.first_seconds
    if fetch.fault is Fault.NONE:
        yield "verified_seconds", labels, fetch.seconds
    yield "stall_seconds", labels, fetch.stall_seconds
    yield "attempts", labels, fetch.attempts
    for source, size in fetch.shares:
        yield "bytes", (fetch.source, str(fetch.size), source), size


@contextmanager
def served(canary: Canary, port: int | None) -> Iterator[CollectorRegistry]:
    """A registry with the canary's board, on a port of the loopback while inside, if one is given. InvalidInput."""
    registry = CollectorRegistry()
    registry.register(Board(canary))
    if port is None:
        yield registry
        return
    try:
        server, thread = start_http_server(port, addr=HOST, registry=registry)
    except OSError as exc:
        raise InvalidInput("--listen", f"port {port} of {HOST} cannot be had ({exc.strerror})") from exc
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def write_file(path: Path, registry: CollectorRegistry) -> None:
    """Replace a text file as a whole: whoever reads it never sees half. InvalidInput where it cannot be written."""
    try:
        write_to_textfile(str(path), registry)
    except OSError as exc:
        raise InvalidInput("--metrics", f"{path} cannot be written ({exc.strerror})") from exc
