"""Deployments that ship beside the ABIs: read strictly, compared with a configuration."""

import json

import pytest

from bridge.chain.deployments import known_deployment
from bridge.cli.diagnosis import deployment_findings
from bridge.cli.endpoint_checks import Expected
from executor.errors import InvalidInput

BRIDGE = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"
OTHER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
GOOD = {"chainId": 314, "deployBlock": 7, "contracts": {"ComputeBridge": BRIDGE.lower(), "NodeRegistry": OTHER}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "314.json").write_text(json.dumps(GOOD))
    return tmp_path


def test_a_deployment_has_checksummed_addresses_by_name(folder):
    known = known_deployment(314, folder)
    assert (known.chain_id, known.deploy_block) == (314, 7)
    assert known.contracts == {"ComputeBridge": BRIDGE, "NodeRegistry": OTHER}


def test_of_a_chain_without_a_file_none_is_known(folder):
    assert known_deployment(1, folder) is None
    assert known_deployment(1) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("{", "is no deployment", id="no JSON"),
        pytest.param("[]", "is no deployment", id="no object"),
        pytest.param(json.dumps({**GOOD, "contracts": 5}), "is no deployment", id="contracts that are no object"),
        pytest.param(json.dumps({"chainId": 314}), "is no deployment", id="a key that is missing"),
        pytest.param(json.dumps({**GOOD, "chainId": 1}), "on chain 314", id="the file of another chain"),
        pytest.param(json.dumps({**GOOD, "deployBlock": "7"}), "on chain 314", id="a block that is no number"),
        pytest.param(json.dumps({**GOOD, "contracts": {}}), "on chain 314", id="no bridge"),
        pytest.param(json.dumps({**GOOD, "contracts": {"ComputeBridge": "0x1"}}), "is not an address", id="no address"),
    ],
)
def test_a_file_that_is_no_deployment_is_named(tmp_path, text, problem):
    (tmp_path / "314.json").write_text(text)
    with pytest.raises(InvalidInput, match=problem) as caught:
        known_deployment(314, tmp_path)
    assert "314.json" in str(caught.value)


@pytest.mark.parametrize(
    ("expected", "level"),
    [
        pytest.param(Expected(314, BRIDGE, 7), "ok", id="the known contract from its block"),
        pytest.param(Expected(314, BRIDGE.lower(), 3), "ok", id="from an earlier block"),
        pytest.param(Expected(314, BRIDGE), "ok", id="from no block"),
        pytest.param(Expected(314, BRIDGE, 8), "problem", id="from a later block"),
        pytest.param(Expected(314, OTHER, 7), "note", id="another contract"),
        pytest.param(Expected(1, BRIDGE, 7), None, id="a chain of which nothing is known"),
        pytest.param(Expected(None, BRIDGE, 7), None, id="no chain"),
        pytest.param(Expected(314, "", 7), None, id="no contract"),
    ],
)
def test_doctor_compares_a_configuration_with_the_known_deployment(folder, expected, level):
    findings = list(deployment_findings(expected, folder))
    assert [finding.level for finding in findings] == ([level] if level else [])
    assert all(finding.remedy for finding in findings if finding.level != "ok")
