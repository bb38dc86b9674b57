"""Filling in a module's template: `{{ .NAME }}` becomes a JSON string, and nothing else is done. Pure.

Go's templates are programs. Conditions, functions, pipes and variables are refused with what they say; what is filled
in is escaped and never read as a template itself, so a value cannot leave the string that it is put into.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from executor.protocol.reasons import Reason
from executor.protocol.specparts import MAX_SPEC_BYTES_BY_CID, refuse

_MARK = re.compile(r'\{\{|\\.|"', re.DOTALL)
_FIELD = re.compile(r"[ \t\r\n]*\.([A-Za-z_][A-Za-z0-9_]{0,63})[ \t\r\n]*")


def filled(text: str, inputs: Mapping[str, str]) -> str:
    """The text with every input in its places: between quotes without quotes of its own, elsewhere with them.

    InvalidSpec for an action that is no input's name, an input that is missing, and one that is not asked for.
    """
    parts: list[str] = []
    used: set[str] = set()
    at = size = 0
    in_string = False
    for mark in _MARK.finditer(text):  # a name holds no mark, so none is met inside an action
        if mark.group() == '"':
            in_string = not in_string
        elif mark.group() == "{{":
            name, end = _input_at(text, mark.end())
            if name not in inputs:
                refuse(Reason.SPEC_MISSING_FIELD, f"inputs.{name}", "is missing; the module asks for it")
            used.add(name)
            quoted = json.dumps(inputs[name])
            parts += [text[at : mark.start()], quoted[1:-1] if in_string else quoted]
            size += len(parts[-1])
            at = end
            if size > MAX_SPEC_BYTES_BY_CID:
                problem = f"is larger than {MAX_SPEC_BYTES_BY_CID} bytes once it is filled in"
                refuse(Reason.SPEC_TOO_LARGE, "module", problem)
    for name in inputs:
        if name not in used:
            refuse(Reason.SPEC_UNKNOWN_FIELD, f"inputs.{name:.80}", "is not asked for by the module")
    return "".join([*parts, text[at:]])


def _input_at(text: str, start: int) -> tuple[str, int]:
    """The name in an action whose inside begins at `start`, and where the action ends."""
    end = text.find("}}", start)
    if end < 0:
        refuse(Reason.SPEC_INVALID_FIELD, "module", "has a {{ without its }}")
    match = _FIELD.fullmatch(text, start, end)
    if match is None:
        inside = text[start:end].strip()
        problem = f"has the action {inside!r:.60}; only {{{{ .NAME }}}} is filled in, so write the rest out"
        refuse(Reason.SPEC_UNSUPPORTED, "module", problem)
    return match.group(1), end + 2
