"""Faults of the way to an endpoint: the same answer, lost, late, cut or changed. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from bridge.devnet.chaos.dice import Dice
from bridge.devnet.chaos.settings import Settings

JSON_HEADERS = (("content-type", "application/json"),)
HTML_HEADERS = (("content-type", "text/html"),)


class Ending(Enum):
    """How an exchange ends."""

    SENT = "the answer is sent"
    CLOSE = "the connection is closed unanswered"
    RESET = "the connection is reset"
    HANG = "nothing comes, until the client gives up"
    DRIP = "the answer comes byte by byte"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. `seconds`: how long a hanging or dripping answer takes at most; `delay`: before it begins."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS
    ending: Ending = Ending.SENT
    seconds: float = 0.0
    delay: float = 0.0


def json_reply(document: Any) -> Reply:
    """A JSON answer."""
    return Reply(body=json.dumps(document, separators=(",", ":")).encode())


#: instead of asking the node
BEFORE: dict[str, Reply] = {
    "lost_requests": Reply(ending=Ending.CLOSE),
    "rate_limits": Reply(429, b"rate limit exceeded", (*HTML_HEADERS, ("retry-after", "1"))),
    "rate_limits_bare": Reply(429, b"rate limit exceeded", HTML_HEADERS),
    "server_errors": Reply(502, b"<html><h1>502 Bad Gateway</h1></html>", HTML_HEADERS),
    "resets": Reply(ending=Ending.RESET),
}
_SERVER_ERRORS = ((500, b"Internal Server Error"), (502, b"Bad Gateway"), (503, b"Busy"), (504, b"Gateway Time-out"))


def before(dice: Dice, settings: Settings, method: str) -> tuple[str, Reply] | None:
    """The fault that this exchange meets before the node is asked, if any."""
    for kind, reply in BEFORE.items():
        if dice.happens(kind, method, getattr(settings, kind)):
            if kind == "server_errors":
                nth = (method, dice.nth(kind, method))
                status, text = _SERVER_ERRORS[dice.pick(kind, nth, 0, len(_SERVER_ERRORS) - 1)]
                return kind, replace(reply, status=status, body=b"<html><h1>%d %s</h1></html>" % (status, text))
            return kind, reply
    return None


def after(dice: Dice, settings: Settings, method: str, answers: Any) -> tuple[str, Reply] | None:
    """The fault that the answers (an envelope, or a list of them) meet on their way back, if any."""
    for kind, damage in _AFTER.items():
        if dice.happens(kind, method, getattr(settings, kind)):
            return kind, damage(answers, settings)
    return None


def _each(answers: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Reply:
    return json_reply([change(answer) for answer in answers] if isinstance(answers, list) else change(answers))


def _truncated(answers: Any, _: Settings) -> Reply:
    body = json_reply(answers).body
    return Reply(body=body[: max(1, len(body) * 2 // 3)])


def _wrong_ids(answers: Any, _: Settings) -> Reply:
    return _each(answers, lambda answer: answer | {"id": 2**31 - 1})


def _mixed(answers: Any, _: Settings) -> Reply:
    error = {"code": -32603, "message": "internal error, try again"}
    return _each(answers, lambda answer: {"result": None} | answer | {"error": answer.get("error", error)})


def _dripping(answers: Any, settings: Settings) -> Reply:
    return replace(json_reply(answers), ending=Ending.DRIP, seconds=settings.hang_seconds)


_AFTER: dict[str, Callable[[Any, Settings], Reply]] = {
    "lost_responses": lambda _, __: Reply(ending=Ending.CLOSE),
    "hangs": lambda _, settings: Reply(ending=Ending.HANG, seconds=settings.hang_seconds),
    "truncated_bodies": _truncated,
    "wrong_ids": _wrong_ids,
    "mixed_errors": _mixed,
    "garbage_gzip": lambda answers, _: Reply(
        body=b"\x1f\x8b\x08" + json_reply(answers).body[:64], headers=(*JSON_HEADERS, ("content-encoding", "gzip"))
    ),
    "slow_bodies": _dripping,
}
