"""The canary itself: round after round, each looked at whatever went wrong in it, each cleaned up."""

from __future__ import annotations

import gc
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bridge.canary.contents import Account, ContentProbe
from bridge.canary.jobs import JobProbe
from bridge.canary.judgement import Health, History, Limits, Verdict, judge, worst
from bridge.canary.leaks import Leak, Series, figures_in
from bridge.canary.records import Blame, Figures, Round, Trouble
from bridge.canary.sweeping import SUBJECT, Sweeper
from bridge.canary.traces import LOCK_SECONDS, Traces
from executor.content.web import Http, Signer
from executor.content.weburl import shown
from executor.errors import InvalidInput, PeerError
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Scope
from executor.protocol.wire import checksum_address

MAX_METRICS_BYTES: Final = 4 * 2**20
MAX_LEFT: Final = 200
"""Things that were left and could not be taken back, before the canary leaves no more."""
_PROCESS: Final = Path("/proc/self")
_CHAIN_IDS: Final = 2**63


class Stopped(BaseException):  # not of the errors that a probe reports
    """The canary was told to stop."""


class Stop:
    """`now` is for a signal: it ends the looking at once, and never the cleaning up."""

    def __init__(self) -> None:
        self.asked = False
        self._looking = False

    def now(self) -> None:
        """Stop. In the main thread, as signals come."""
        first, self.asked = not self.asked, True
        if first and self._looking:  # a second signal does not disturb how the first one ends it
            raise Stopped

    @contextmanager
    def may_end(self) -> Iterator[None]:
        """What is inside may be ended anywhere, by Stopped."""
        self._looking = True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._looking = False


@dataclass
class Canary:
    """`step` does one round; `round` and `verdict` are the newest. home: the folder of all canaries' traces.

    bridge: its URL without a slash at the end. content, job: None where that is not to be looked at. lock_seconds: how
    long another canary may hold the lock of `home` before this one goes on without a look at what dead ones left.
    """

    bridge: str
    sweeper: Sweeper
    home: Path
    traces: Traces
    sizes: tuple[int, ...]
    content: ContentProbe | None
    job: JobProbe | None
    limits: Limits = field(default_factory=Limits)
    stop: Stop = field(default_factory=Stop)
    rounds: int = 1
    clock: Callable[[], float] = time.time
    lock_seconds: float = LOCK_SECONDS
    round: Round = field(default_factory=lambda: Round(0, 0.0))
    verdict: Verdict | None = None
    history: History = field(default_factory=History)
    worst: Health = Health.WELL
    leaks: tuple[Leak, ...] = ()
    _series: dict[str, Series] = field(default_factory=dict)

    def step(self) -> bool:
        """One round, and what is to be said of it; whether there are more to come. Stopped."""
        found = Round(self.round.number + 1, self.clock())
        troubles: list[Trouble] = []
        try:
            with self.stop.may_end():
                troubles += self._look()
        finally:
            if not any(trouble.blame is Blame.UNREACHABLE for trouble in troubles):
                troubles += self.sweeper.sweep(self.traces)
            self.traces.sweep()
        self.round = self._gathered(replace(found, troubles=tuple(troubles), figures=self._figures()))
        self.leaks = tuple(self._leaks())
        self.verdict = judge(self.round, self.history, self.limits, self.leaks)
        self.history = self.history.add(self.round, self.verdict.health)
        self.worst = worst((self.worst, self.verdict.health))
        return self.rounds == 0 or self.round.number < self.rounds

    def _bury(self) -> list[Trouble]:
        """Take back what dead canaries left, before their uploads are in the way; what cannot be stays for later."""
        with ExitStack() as stack:
            try:
                found = Traces.of_the_dead(self.home, self.lock_seconds)
            except InvalidInput as exc:
                return [Trouble(SUBJECT, f"what dead canaries left was not looked at: {exc}", Blame.OWN)]
            for dead in found:
                stack.callback(dead.close)
            for dead in found:
                deque(self.sweeper.sweep(dead), maxlen=0)
        return []

    def _look(self) -> list[Trouble]:
        try:
            account = self._account()
        except (PeerError, InvalidInput) as exc:
            return [
                Trouble("bridge", f"the bridge {shown(self.bridge)} does not answer as one: {exc}", Blame.UNREACHABLE)
            ]
        troubles = self._bury()
        if (count := len(self.traces.left())) > MAX_LEFT:
            what = f"{count} things of earlier rounds cannot be taken back yet"
            text = f"nothing new is left at {shown(self.bridge)}: {what}"
            return [*troubles, Trouble(SUBJECT, text, Blame.OWN)]
        audience = Audience(Scope(account.chain_id, account.contract), self.bridge)
        with Http(self.bridge, Signer(self.sweeper.account, audience)) as http:
            if self.content is not None:
                for size in self.sizes:
                    self.content.run(http, account, size)
            if self.job is not None:
                self._order(self.job, http, account)
        return troubles

    def _order(self, probe: JobProbe, http: Http, account: Account) -> None:
        if probe.contract == account.contract:
            probe.run(http, account)
            return
        text = f"no job was ordered: the bridge follows contract {account.contract}, --contract is {probe.contract}"
        probe.troubles.append(Trouble("job", text, Blame.OWN))

    def _account(self) -> Account:
        """For which chain and contract the bridge is. PeerError, InvalidInput."""
        with Http(self.bridge) as http:
            body = http.call("GET", "/v1/status").body
        try:
            status: dict[str, Any] = json.loads(body)
            chain_id, contract = status["chainId"], status["contract"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise InvalidInput("/v1/status", "is not a bridge's") from exc
        if not isinstance(chain_id, int) or not 0 < chain_id < _CHAIN_IDS:
            raise InvalidInput("/v1/status", "is not a bridge's: chainId is no chain's")
        return Account(self.bridge, chain_id, checksum_address(contract, "contract"), self.sweeper.account.address)

    def _gathered(self, found: Round) -> Round:
        """With what the probes noted, which they forget."""
        probes = [probe for probe in (self.content, self.job) if probe is not None]
        troubles = [trouble for probe in probes for trouble in probe.troubles]
        if self.content is not None:
            found = replace(found, uploads=tuple(self.content.uploads), fetches=tuple(self.content.fetches))
            self.content.uploads.clear()
            self.content.fetches.clear()
        if self.job is not None:
            found = replace(found, jobs=tuple(self.job.jobs))
            self.job.jobs.clear()
        for probe in probes:
            probe.troubles.clear()
        return replace(found, troubles=(*troubles, *found.troubles))

    def _figures(self) -> tuple[tuple[str, Figures], ...]:
        gc.collect()  # what nobody can reach is no leak
        return (("this canary", own_figures()), (f"the bridge {shown(self.bridge)}", self._of_the_bridge()))

    def _of_the_bridge(self) -> Figures:
        try:
            with Http(self.bridge) as http:
                body = http.call("GET", "/metrics", max_bytes=MAX_METRICS_BYTES).body
        except PeerError:
            return Figures()
        return figures_in(body.decode("ascii", "replace"))

    def _leaks(self) -> Iterator[Leak]:
        for process, figures in self.round.figures:
            series = self._series[process] = self._series.get(process, Series()).add(figures)
            yield from series.leaks(process)


def own_figures() -> Figures:
    """What this process holds, by Linux' /proc; nothing elsewhere."""
    try:
        fds = sum(1 for _ in (_PROCESS / "fd").iterdir())
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return Figures()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    return Figures(fds, int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024)
