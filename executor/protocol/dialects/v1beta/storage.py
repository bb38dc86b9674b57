"""A StorageSpec of V1beta as content with a CID. Pure."""

from __future__ import annotations

from executor.protocol.dialects.content import Stored, content, gateway_cid
from executor.protocol.dialects.fields import Fields
from executor.protocol.reasons import Reason
from executor.protocol.specparts import refuse


def stored(item: Fields) -> Stored:
    """The content that a storage spec names, its `Path` left to the caller. InvalidSpec."""
    source = item.word("StorageSource")
    if source == "ipfs":
        text, field, name = item.given_text("CID"), item.at("CID"), ""
        item.must_be_empty("URL", "has no meaning beside a CID", Reason.SPEC_INVALID_FIELD)
    elif source == "urldownload":
        field = item.at("URL")
        text = name = gateway_cid(item.given_text("URL"), field)
        item.must_be_empty("CID", "has no meaning beside a URL", Reason.SPEC_INVALID_FIELD)
    elif not source:
        refuse(Reason.SPEC_MISSING_FIELD, item.at("StorageSource"), "is missing")
    else:
        refuse(
            Reason.SPEC_UNSUPPORTED,
            item.at("StorageSource"),
            f"is {source!r:.40}; content is read by CID only: add it, and name it with StorageSource IPFS",
        )
    for other in ("Repo", "S3", "SourcePath", "ReadWrite"):
        item.must_be_empty(other, "is not supported; content is read by CID only, and read-only")
    for words in ("Name", "Metadata"):
        item.take(words)
    return content(text, name, field)
