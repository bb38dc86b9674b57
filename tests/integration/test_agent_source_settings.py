"""Which sources of inputs a node.toml may name, and what `insula doctor` says of them."""

import pytest

from bridge.cli.source_checks import check_sources
from executor.agent.config import NodeConfig, init_node, read_toml, to_toml
from executor.errors import InvalidInput
from tests.agent_twin import CHAIN_ID, CONTRACT
from tests.api_kit import serving
from tests.bridge_kit import Bridge
from tests.raw_server import RawServer, flood, head, send

BAD = {
    "no scheme": "gateway.example",
    "another scheme": "ftp://gateway.example",
    "no host": "https://",
    "a user": "https://me:secret@gateway.example",
    "a query": "https://gateway.example/?token=secret",
    "a fragment": "https://gateway.example/#x",
    "a template": "https://gateway.example/{cid}",
    "a space": "https://gateway.example/a b",
    "a port that is none": "https://gateway.example:0",
    "a bracket that does not close": "https://[::1",
}


@pytest.mark.parametrize("row", BAD)
def test_a_gateway_that_is_no_address_is_refused_and_not_shown(row):
    fields = {"bridge_url": "http://b.test", "chain_id": 1, "bridge_contract": CONTRACT, "registry": CONTRACT}
    with pytest.raises(InvalidInput, match="gateways") as caught:
        NodeConfig.parse({**fields, "gateways": ["https://fine.example", BAD[row]]}, "node.toml")

    assert "entry 2" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_gateway_named_twice_and_a_kubo_that_is_none_are_refused_and_good_ones_are_kept(tmp_path):
    fields = {"bridge_url": "http://b.test", "chain_id": 1, "bridge_contract": CONTRACT, "registry": CONTRACT}
    with pytest.raises(InvalidInput, match="twice"):
        NodeConfig.parse({**fields, "gateways": ["https://a.example", "https://a.example/"]}, "node")
    with pytest.raises(InvalidInput, match="kubo"):
        NodeConfig.parse({**fields, "kubo": "127.0.0.1"}, "node")

    config = NodeConfig.parse({**fields, "gateways": ["https://a.example/"], "kubo": "http://127.0.0.1:5001/"}, "node")
    (tmp_path / "node.toml").write_text(to_toml(config))
    again = NodeConfig.parse(read_toml(tmp_path / "node.toml"), "node")
    assert (again.gateways, again.kubo) == (("https://a.example",), "http://127.0.0.1:5001")


# -- the doctor -------------------------------------------------------------------------------------------------------


def looked(folder, **fields):
    init_node(
        folder, bridge_url="http://127.0.0.1:1", chain_id=CHAIN_ID, bridge_contract=CONTRACT, registry=CONTRACT,
        **fields,
    )  # fmt: skip
    return {finding.name.split(" http")[0]: finding for finding in check_sources(folder)}


def test_the_doctor_looks_at_a_nodes_gateways_and_its_kubo(tmp_path, kubo):
    (tmp_path / "bridge").mkdir()
    bridge = Bridge(tmp_path / "bridge")
    with serving(bridge) as api:
        found = looked(tmp_path / "node", gateways=[api.base], kubo=kubo.api)
    bridge.close()

    assert {name: finding.level for name, finding in found.items()} == {"inputs": "note", "gateway": "ok", "kubo": "ok"}


#: what is listed as a gateway -> words of what the doctor says
NO_GATEWAYS = {
    "a web site": (lambda: RawServer(send(head(), b"<html>")), "not as a trustless gateway"),
    "a site that has not got it": (lambda: RawServer(send(head("404 Not Found"))), "404"),
    "an answer without end": (lambda: RawServer(flood(head(), b"x" * 65536)), "more than 4096 bytes"),
}


@pytest.mark.parametrize("row", NO_GATEWAYS)
def test_the_doctor_names_what_is_no_gateway(tmp_path, row):
    server, words = NO_GATEWAYS[row]
    with server() as running:
        found = looked(tmp_path / "node", gateways=[running.url])["gateway"]

    assert found.level == "problem"
    assert words in found.detail
    assert found.remedy


def test_the_doctor_says_that_inputs_come_from_the_bridge_alone_and_names_a_kubo_that_is_away(tmp_path):
    assert looked(tmp_path / "one")["inputs"].level == "ok"
    away = looked(tmp_path / "two", kubo="http://127.0.0.1:1")["kubo"]
    assert (away.level, "kubo in node.toml" in away.remedy) == ("problem", True)
