"""The rules that an output must pass before it may leave the node. Pure: manifest in, verdict out.

A job that breaks its own limits has failed, which everybody may know; an output that breaks an operator's rule is
withheld, and neither its CID nor its sizes leave the node: findings are for the operator's own log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from executor.audit.outputrules import OutputRules
from executor.content.reader import Manifest, ManifestEntry

MAX_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule. rule: its name in the policy; text: what exactly."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit found; nothing found: the output may be released automatically."""

    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether no rule is broken."""
        return not self.findings

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the broken rules, each once, sorted."""
        return tuple(sorted({finding.rule for finding in self.findings}))


def audit(manifest: Manifest, rules: OutputRules, content: Sequence[Finding] = ()) -> Verdict:
    """Judge a whole output (outputs/, stdout, stderr). At most MAX_FINDINGS findings are told apart.

    content: what was found in the files themselves (`executor.audit.content`).
    """
    entries = manifest.entries
    findings = [*content, *_totals(entries, manifest.total_bytes, rules)]
    for entry in entries:
        findings += _entry(entry, rules)
        if len(findings) >= MAX_FINDINGS:
            break
    return Verdict(tuple(findings[:MAX_FINDINGS]))


def _totals(entries: Sequence[ManifestEntry], total: int, rules: OutputRules) -> list[Finding]:
    found = []
    if total > rules.max_bytes:
        found.append(Finding("max_bytes", f"{total} bytes; at most {rules.max_bytes} may leave"))
    if len(entries) > rules.max_files:
        found.append(Finding("max_files", f"{len(entries)} files and directories; at most {rules.max_files} may leave"))
    if not rules.allow_empty and total == 0:
        found.append(Finding("allow_empty", "the output is empty"))
    return found


def _entry(entry: ManifestEntry, rules: OutputRules) -> list[Finding]:
    found = []
    parts = entry.path.split("/")
    if len(parts) > rules.max_depth:
        found.append(Finding("max_depth", f"{entry.path!r:.200} is {len(parts)} levels deep"))
    if len(entry.path.encode()) > rules.max_path_bytes:
        found.append(Finding("max_path_bytes", f"{entry.path!r:.200} is longer than {rules.max_path_bytes} bytes"))
    for pattern in rules.denied_names:
        if any(fnmatchcase(part.lower(), pattern.lower()) for part in parts):
            found.append(Finding("denied_names", f"{entry.path!r:.200} matches {pattern!r}"))
            break
    return found
