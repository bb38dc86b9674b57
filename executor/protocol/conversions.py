"""What a receipt says of how its spec was converted, and whether that is so. Pure.

The receipt holds a summary; its `reportSha256` is the hash of the whole report (`executor.protocol.dialects.report`),
which anybody can make from the spec. Receipts from before reports have no `format`: their summary is checked as it was.
"""

from __future__ import annotations

from typing import Any

from executor.protocol.dialects import report as reports
from executor.protocol.dialects.conversion import Conversion
from executor.protocol.spec import InvalidSpec, converted_document, document_of, is_converted
from executor.protocol.wire import Dialect, Order

_ANOTHER = "tells of another conversion of the spec than its dialect has"
_SINCE_REPORTS = ("format", "reportSha256")


def report(data: bytes, quorum: int, dialect: Dialect) -> dict[str, Any]:
    """The report of the conversion of a spec's bytes, or of the refusal to convert them."""
    return _reported(data, quorum, dialect)[0]


def conversion_report(order: Order, spec: bytes) -> dict[str, Any] | None:
    """What a receipt says of how the order's spec was read; None where nothing was converted.

    spec: its bytes; those of its CID where it was refused before they were read.
    """
    is_unread = order.spec_is_cid and spec == order.spec
    if order.version != 1 or is_unread or not is_converted(order.dialect):
        return None
    whole, conversion = _reported(spec, order.quorum, Dialect(order.dialect))
    summary = {"format": reports.FORMAT, "dialect": order.dialect, "reportSha256": reports.report_hash(whole).hex()}
    if conversion is None:
        return {**summary, "reason": whole["reason"]}
    changes = [{"field": change.field, "text": change.text} for change in conversion.changes]
    return {**summary, "specSha256": whole["specSha256"], "changes": changes}


def conversion_problem(order: Order, spec: bytes, said: Any) -> str:
    """What is wrong with `said`, a receipt's word for the conversion of the order's spec; "" where it is right."""
    due = conversion_report(order, spec)
    if said == due:
        return ""
    if not isinstance(due, dict):
        return "tells of a conversion, and the order's spec is not converted"
    if not isinstance(said, dict) or "format" not in said:
        before = {name: value for name, value in due.items() if name not in _SINCE_REPORTS}
        return "" if said == (None if "reason" in due else before) else _ANOTHER
    if said["format"] != reports.FORMAT:
        return f"tells of the conversion in the format {said['format']!r:.60}; this program reads {reports.FORMAT}"
    wrong = next(name for name in [*due, *said] if said.get(name) != due.get(name))
    return f"{_ANOTHER}: conversion.{wrong:.40} is {said.get(wrong)!r:.80}; from the spec it is {due.get(wrong)!r:.80}"


def _reported(data: bytes, quorum: int, dialect: Dialect) -> tuple[dict[str, Any], Conversion | None]:
    document = None
    try:
        document = document_of(data, dialect)
        conversion = converted_document(document, quorum, dialect)[1]
    except InvalidSpec as exc:
        return reports.refusal(dialect, quorum, data, document, exc), None
    return reports.report(conversion, data), conversion
