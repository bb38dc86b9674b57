"""What a scanner says of an output. It has read hostile bytes: whatever is not exactly an answer is none. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from executor.audit.rules import MAX_FINDINGS, Finding
from executor.protocol.canonical import DepthError, strict_json

ANSWER_FILE: Final = "verdict.json"
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_TEXT_CHARS: Final = 500
_RULE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class BadAnswer(Exception):
    """It is no answer. The message says why, in words of this node's."""


def findings_of(data: bytes, paths: Collection[str], scanner: str) -> tuple[Finding, ...]:
    """The findings of an answer, none where its verdict is clean. BadAnswer.

    paths: of the output's files and directories; the empty one is the output as a whole. scanner: its name, for the
    findings' rule.
    """
    try:
        answer = strict_json(data.decode(), max_depth=4)
    except (ValueError, DepthError) as exc:
        raise BadAnswer("its answer is no JSON") from exc
    if not isinstance(answer, dict) or not {"verdict"} <= answer.keys() <= {"verdict", "findings"}:
        raise BadAnswer("its answer has other fields than verdict and findings")
    items = answer.get("findings", [])
    if not isinstance(items, list) or len(items) > MAX_FINDINGS:
        raise BadAnswer(f"its findings are no list of at most {MAX_FINDINGS}")
    findings = tuple(_finding(item, paths, scanner) for item in items)
    if (answer["verdict"], bool(findings)) not in (("clean", False), ("finding", True)):
        raise BadAnswer("its verdict is neither clean, without findings, nor finding, with some")
    return findings


def _finding(item: Any, paths: Collection[str], scanner: str) -> Finding:
    if not isinstance(item, dict) or item.keys() != {"path", "rule", "text"}:
        raise BadAnswer("a finding is not path, rule and text")
    path, rule, text = item["path"], item["rule"], item["text"]
    if not (isinstance(path, str) and isinstance(rule, str) and isinstance(text, str)):
        raise BadAnswer("a finding's fields are not all text")
    if path and path not in paths:
        raise BadAnswer("a finding is about a path that the output does not have")
    if not _RULE.fullmatch(rule) or len(text) > MAX_TEXT_CHARS:
        raise BadAnswer("a finding's rule is no word, or its text is too long")
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in f"{path}: {text}")
    return Finding(f"scanner {scanner}, {rule}", shown)
