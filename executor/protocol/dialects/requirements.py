"""Bacalhau's requirements on nodes as a selector; V1beta calls them NodeSelectors, 1.x Constraints. Pure."""

from __future__ import annotations

from executor.protocol.dialects.conversion import Draft
from executor.protocol.dialects.fields import Fields
from executor.protocol.labels import LABEL_KEY, LABEL_VALUE
from executor.protocol.reasons import Reason
from executor.protocol.specparts import refuse

_SELECTORS = {
    "=": "{key}={value}",
    "==": "{key}={value}",
    "!=": "{key}!={value}",
    "in": "{key} in ({values})",
    "notin": "{key} notin ({values})",
    "exists": "{key}",
    "!": "!{key}",
    "gt": "{key}>{value}",
    "lt": "{key}<{value}",
}


def selector(section: Fields, name: str, draft: Draft) -> str:
    """The requirements of a list as one selector, "" for none: all of them have to hold. InvalidSpec."""
    draft.origins["selector"] = section.at(name)
    return ",".join(map(_requirement, section.objects(name)))


def _requirement(item: Fields) -> str:
    key, operator, values = item.given_text("Key"), item.word("Operator"), item.texts("Values")
    item.close()
    if not LABEL_KEY.fullmatch(key):
        refuse(Reason.SPEC_INVALID_FIELD, item.at("Key"), f"is {key!r:.80}; a key is [a-z0-9][a-z0-9._/-]{{0,62}}")
    form = _SELECTORS.get(operator)
    if form is None:
        refuse(Reason.SPEC_INVALID_FIELD, item.at("Operator"), f"is {operator!r:.40}, not {', '.join(_SELECTORS)}")
    least = 1 if "value" in form else 0
    most = len(values) if "values" in form else least
    if not all(map(LABEL_VALUE.fullmatch, values)) or not least <= len(values) <= most:
        refuse(Reason.SPEC_INVALID_FIELD, item.at("Values"), f"do not fit the operator {operator}")
    return form.format(key=key, value=values[0] if values else "", values=",".join(values))
