"""Where the process dies: at the begin of a transaction of the loops, at its commit (nothing is kept), and after it."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import bridge
from tests.simulation.faults import Aim, Killed, Plan

ELSEWHERE = "dispatcher"  # that of tests/simulation/world.py
MOMENTS = ("begin", "commit", "after")
LOOPS = ("listener", "relayer", "posting", "sender")  # the modules of bridge that open the loops' transactions
#: what few runs come to: place -> the seed of one that does
RARE = {
    "listener._catch_up": 2,
    "relayer._do": 57,
    "relayer._revive": 27,
    "sender._fill": 39,
    "sender.raised": 1,
}
_FOLDER = Path(bridge.__file__).parent
_MODULES = {str(_FOLDER / f"{name}.py"): name for name in LOOPS}
_CHANCES = {"begin": "killed at a begin", "commit": "killed at a commit", "after": "killed after a commit"}


@cache
def places() -> tuple[str, ...]:
    """`module.function` of each transaction that the loops write in, as the source has them now."""
    found = []
    for module in LOOPS:
        tree = ast.parse((_FOLDER / f"{module}.py").read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and any(map(_is_transaction, ast.walk(function))):
                found += [f"{module}.{function.name}"]
    return tuple(found)


def _is_transaction(node: ast.AST) -> bool:
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
    return any(isinstance(call, ast.Call) and ast.unparse(call.func) == "transaction" for call in calls)


def _place() -> str:
    """Who opened the transaction that now begins or ends."""
    frame = sys._getframe(2)
    while frame is not None:
        module = _MODULES.get(frame.f_code.co_filename)
        if module is not None:
            return f"{module}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ELSEWHERE


class Kills:
    """Kills by the plan's chances, and where it aims, be it after the faults have stopped.

    `at` counts them by (place, moment).
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._visits: Counter[str] = Counter()  # of the places that are aimed at, at that moment
        self._is_over = False  # the last commit was the last act
        self.at: Counter[tuple[str, str]] = Counter()

    def begin(self, *, reads: bool) -> None:
        """A transaction begins. Killed where it is time."""
        self.check()
        if not reads:
            self._meet("begin")
        elif self._plan.now("killed at a read"):
            raise Killed

    def commit(self, *, reads: bool) -> None:
        """A transaction is about to commit. Killed: it does not."""
        if reads:
            return
        self._meet("commit")
        self._is_over = self._falls("after", _place())

    def check(self) -> None:
        """Killed if the last commit was the last act. Asked before whatever is seen from outside, or writes again."""
        if self._is_over:
            self._is_over = False
            raise Killed

    def reborn(self) -> None:
        """A new process."""
        self._is_over = False

    def _meet(self, moment: str) -> None:
        place = _place()
        if self._falls(moment, place):
            raise Killed

    def _falls(self, moment: str, place: str) -> bool:
        by_chance = self._plan.now(_CHANCES[moment])
        if not (by_chance or self._is_aimed(moment, place)):
            return False
        self.at[place, moment] += 1
        return True

    def _is_aimed(self, moment: str, place: str) -> bool:
        aim = self._plan.aim
        if aim is None or place not in aim.places or moment != aim.moment:
            return False
        self._visits[place] += 1
        if self._visits[place] != aim.visit:
            return False
        self._plan.note("killed where aimed")
        return True


def aim_of(plan: Plan) -> Aim | None:
    """Where a run aims: nowhere, at some place, or at every place that few runs come to."""
    random = plan.random
    visit, moment, place = random.choice((1, 1, 1, 2, 3)), random.choice(MOMENTS), random.choice(places())
    return random.choice((None, Aim((place,), moment, visit), Aim(tuple(RARE), moment), Aim(tuple(RARE), moment)))
