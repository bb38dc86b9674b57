"""`insula content stat --kubo`: how many peers an operator's Kubo finds, and what it says where it cannot look."""

import json

import pytest

from bridge.cli.output import Exit
from executor.content.kubo import Kubo
from executor.protocol.cid import RAW, Cid
from tests.kubo_daemon import program, start
from tests.raw_server import RawServer, head, send

ABSENT = Cid.of(RAW, b"not here")


@pytest.fixture
def routed():
    """What answers as a Kubo that finds three providers of anything."""
    rows = [{"Type": 4, "Responses": [{"ID": f"12D3 {number}"}]} for number in range(3)]
    answers = {"/id": [{"ID": "12D3"}], "/version": [{"Version": "0.43.0"}], "/routing/findprovs": rows}

    def script(connection, stopping):
        call = server.calls[-1].split("?")[0].removeprefix("/api/v0")
        said = "".join(json.dumps(row) + "\n" for row in answers.get(call, [{"Value": "auto"}]))
        send(head(), said.encode())(connection, stopping)

    with RawServer(script) as server:
        yield server


def test_stat_counts_the_providers_that_a_kubo_finds(insula, answer, added, routed):
    code, found = answer("stat", f"{added}/a.txt", "--kubo", routed.url)

    assert (code, found["complete"]) == (Exit.OK, True)
    assert found["providers"] == {"found": 3, "most": 20, "cut": False, "problem": None}
    assert f"arg={added}" in routed.calls[-1]
    assert "network  3 providers found" in insula("content", "stat", str(added), "--kubo", routed.url)[1]
    assert "providers" not in answer("stat", added)[1]


def test_stat_counts_them_for_what_is_not_here_too(insula, answer, routed):
    code, found = answer("stat", ABSENT, "--kubo", routed.url)

    assert (code, found["complete"], found["providers"]["found"]) == (Exit.NOT_SO, False, 3)
    assert "is not here" in found["error"]
    assert insula("content", "stat", str(ABSENT), "--kubo", routed.url)[1].endswith("network  3 providers found\n")


def test_an_offline_kubo_is_told_to_be_offline(answer, added, tmp_path):
    repo = tmp_path / "offline"
    daemon = start(program(), repo, "unixfs-v1-2025", "--offline")
    try:
        with Kubo(daemon.api):
            code, found = answer("stat", added, "--kubo", daemon.api)
    finally:
        daemon.stop()

    assert code == Exit.OK
    assert found["providers"]["found"] is None
    assert found["providers"]["problem"].endswith("asks nobody: it is offline")


def test_a_kubo_without_routing_says_so(answer, added, kubo):
    code, found = answer("stat", added, "--kubo", kubo.api)

    assert (code, found["providers"]["found"]) == (Exit.OK, None)
    assert found["providers"]["problem"].endswith("its Routing.Type is none")


#: what is named -> exit code
BAD = {"http://127.0.0.1:1": Exit.UNREACHABLE, "nowhere": Exit.BAD_INPUT}


@pytest.mark.parametrize("address", BAD)
def test_a_kubo_that_is_none_is_told(answer, added, address):
    assert answer("stat", added, "--kubo", address)[0] == BAD[address]
