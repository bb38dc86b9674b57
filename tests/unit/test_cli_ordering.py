"""The options that make an order of a spec."""

import json

import pytest

from bridge.cli.ordering import Wish
from bridge.cli.spec_verbs import DialectName
from executor.errors import InvalidInput
from executor.protocol.wire import Dialect

MODULE = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
WASM = {"Engine": "wasm", "Wasm": {"EntryModule": {"StorageSource": "ipfs", "CID": MODULE}}}
SPECS = {
    DialectName.INSULA_V1: (
        Dialect.INSULA_V1, json.dumps({"version": "insula/v1", "engine": {"type": "wasm", "module": MODULE}}),
    ),
    DialectName.V1BETA: (Dialect.BACALHAU_V1BETA, json.dumps(WASM)),
    DialectName.BACALHAU_1X: (
        Dialect.BACALHAU_1X,
        ("Tasks: [{Engine: {Type: wasm, Params: {EntryModule: a}}, InputSources: [{Alias: a, Target: /a, "
        f"Source: {{Type: ipfs, Params: {{CID: {MODULE}}}}}}}]}}]"),
    ),
    DialectName.LILYPAD: (Dialect.LILYPAD_MODULE, json.dumps({"job": WASM})),
}  # fmt: skip


def wish(file, dialect):
    return Wish(
        file=file, dialect=dialect, result="cid", ttl=60, nodes=1, quorum=1, curator="", trust_own_labels=True,
        labels=[], token="", unit_price=0, fail_price=0, delivery_fee=0,
    )  # fmt: skip


@pytest.mark.parametrize("dialect", DialectName)
def test_a_spec_is_ordered_in_the_format_that_it_is_in(tmp_path, dialect):
    number, text = SPECS[dialect]
    (tmp_path / "spec").write_text(text)

    order = wish(tmp_path / "spec", dialect).order()

    assert (order.dialect, order.spec) == (number, text.encode())


def test_a_spec_of_another_format_is_not_ordered_and_the_option_is_named(tmp_path):
    (tmp_path / "spec").write_text(SPECS[DialectName.BACALHAU_1X][1])

    with pytest.raises(InvalidInput, match="SPEC_NOT_JSON, read as insula/v1"):
        wish(tmp_path / "spec", DialectName.INSULA_V1).order()
