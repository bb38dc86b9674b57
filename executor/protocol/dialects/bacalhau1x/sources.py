"""Input sources of Bacalhau 1.x as content with a CID. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from executor.protocol.dialects.content import Stored, content, gateway_cid
from executor.protocol.dialects.fields import Fields
from executor.protocol.reasons import Reason
from executor.protocol.specparts import refuse


@dataclass
class Source:
    """One input source. target: its path in the job, without a slash at the end; target_field: where that stands."""

    content: Stored
    alias: str
    target: str
    target_field: str
    is_module: bool = False


def sources(task: Fields, name: str) -> list[Source]:
    """The input sources of a list. InvalidSpec for content that has no CID."""
    return [source_of(item, needs_target=True) for item in task.objects(name)]


def source_of(item: Fields, *, needs_target: bool) -> Source:
    """One input source. InvalidSpec."""
    target = item.given_text("Target") if needs_target else item.text("Target")
    stored = _content(item.object("Source"))
    source = Source(stored, item.text("Alias"), target.rstrip("/"), item.at("Target"))
    item.close()
    return source


def _content(source: Fields) -> Stored:
    kind = source.word("Type")
    params = source.object("Params")
    if kind == "ipfs":
        text, field, name = params.given_text("CID"), params.at("CID"), ""
    elif kind == "urldownload":
        field = params.at("URL")
        text = name = gateway_cid(params.given_text("URL"), field)
    elif not kind:
        refuse(Reason.SPEC_MISSING_FIELD, source.at("Type"), "is missing")
    else:
        problem = f"is {kind!r:.40}; content is read by CID only: add it, and name it with the type ipfs"
        refuse(Reason.SPEC_UNSUPPORTED, source.at("Type"), problem)
    params.close()
    source.close()
    return content(text, name, field)
