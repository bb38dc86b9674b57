"""What a test wants to happen, call by call; and what did happen. Pure.

script = Script()
script.on("eth_getLogs", Error(-32005, "block range exceeds maximum of 2880 (got 5000)"), nth=2)
script.on("eth_sendRawTransaction", DropAfter(), where=lambda params: len(params[0]) > 1000)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.devnet.chaos.faults import Ending, Reply

Params = list[Any]
Envelope = dict[str, Any]
Forward = Callable[[Envelope], Envelope]


@dataclass(frozen=True)
class Delay:
    """Answer later."""

    seconds: float


@dataclass(frozen=True)
class DropBefore:
    """Close the connection; the call did nothing."""


@dataclass(frozen=True)
class DropAfter:
    """Close the connection; the call was carried out."""


@dataclass(frozen=True)
class Hang:
    """Carry it out and say nothing until the client gives up, `seconds` at most."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Replace:
    """This result, without asking the node."""

    result: Any


@dataclass(frozen=True)
class Error:
    """This error, without asking the node."""

    code: int
    message: str
    data: Any = None


@dataclass(frozen=True)
class Rewrite:
    """The answer (its whole envelope) changed by a function."""

    change: Callable[[Envelope], Envelope]


@dataclass(frozen=True)
class Answer:
    """What a function (request, forward) -> envelope says; `forward` asks the personality as if there were no rule."""

    function: Callable[[Envelope, Forward], Envelope]


@dataclass(frozen=True)
class Status:
    """This HTTP answer, without asking the node."""

    status: int
    body: bytes = b"<html>nothing here</html>"
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/html"),)


@dataclass(frozen=True)
class Raw:
    """Carry it out and answer with these bytes."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


Action = Delay | DropBefore | DropAfter | Hang | Replace | Error | Rewrite | Answer | Status | Raw
#: these concern the whole HTTP exchange, of a batch too
TRANSPORT_ACTIONS = (DropBefore, DropAfter, Hang, Status, Raw)


@dataclass
class Rule:
    """`nth`: the first matching call that it concerns, from 1; `times`: how many from then on, None for all."""

    method: str  # or "*"
    action: Action
    nth: int = 1
    times: int | None = None
    where: Callable[[Params], bool] | None = None
    seen: int = 0

    def matches(self, method: str, params: Params) -> bool:
        """Whether this call is one of its own. Counts."""
        if self.method not in ("*", method) or (self.where is not None and not self.where(params)):
            return False
        self.seen += 1
        return self.nth <= self.seen and (self.times is None or self.seen < self.nth + self.times)


@dataclass(frozen=True)
class Exchange:
    """One HTTP exchange: the calls in it and what was answered."""

    calls: tuple[Envelope, ...]
    is_batch: bool
    reply: Reply


@dataclass
class Script:
    """Rules in order, the first that matches counts; and a record of every exchange."""

    rules: list[Rule] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def on(
        self,
        method: str,
        action: Action,
        *,
        nth: int = 1,
        times: int | None = None,
        where: Callable[[Params], bool] | None = None,
    ) -> Rule:
        """Add a rule in front of the others."""
        rule = Rule(method, action, nth, times, where)
        self.rules.insert(0, rule)
        return rule

    def clear(self) -> None:
        """No more rules."""
        self.rules.clear()

    def action_for(self, method: str, params: Params) -> Action | None:
        """What is to be done with a call."""
        return next((rule.action for rule in self.rules if rule.matches(method, params)), None)

    def calls(self, method: str | None = None) -> list[Envelope]:
        """Every call so far, those of batches one by one; those of one method."""
        found = [call for exchange in self.exchanges for call in exchange.calls]
        return [call for call in found if method in (None, call.get("method"))]

    def methods(self) -> list[str]:
        """The methods that were called, in order."""
        return [str(call.get("method")) for call in self.calls()]


def reply_for(action: DropBefore | DropAfter | Hang | Status | Raw) -> Reply:
    """The HTTP side of a transport action."""
    if isinstance(action, Status):
        return Reply(action.status, action.body, action.headers)
    if isinstance(action, Raw):
        return Reply(200, action.body, action.headers)
    if isinstance(action, Hang):
        return Reply(ending=Ending.HANG, seconds=action.seconds)
    return Reply(ending=Ending.CLOSE)
