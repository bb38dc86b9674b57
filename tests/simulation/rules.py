"""What a run holds the bridge to. Each rule is shown to bite by a deliberate fault (tests/simulation/mutants.py)."""

from __future__ import annotations

from enum import Enum


class Rule(Enum):
    """What must hold (fevm.md 3.3, I1-I8)."""

    RUNS_ON = "no loop halts"
    STORED_FIRST = "what is sent was stored before"
    DEPTH = "a result is sent for a request that was seen deep enough"
    AT_REST = "once the faults have stopped, every request ends and its job is final"
    MIRRORED = "a job says what the chain says of its request"
    RESULT = "a request holds the result that was decided for it"
    OUTCOME = "a job keeps the outcome that the chain holds"
    PLACE = "a job stands, and ended, in canonical blocks"
    ORPHANED = "a job whose request is on no chain is orphaned"
    ONE_END = "a request ends once"
    FEES = "each delivery fee is earned once"
    PAID_ONCE = "no delivery is paid for twice"
    EVENTS = "the stored events are those of the chain"
    WINDOW = "the window is linked and ends at the head"
    NONCES = "no nonce carries two calls"
    REBUILT = "a database that was rebuilt from the chain says the same"
    REBUILT_QUIET = "a database that is being rebuilt sends nothing"


class Violation(Exception):
    """A rule was broken."""

    def __init__(self, rule: Rule, detail: str) -> None:
        super().__init__(f"{rule.value}: {detail}")
        self.rule = rule
