"""`insula node stake|unstake|withdraw` on a real chain, as scripts call them: JSON and exit codes."""

import pytest

from bridge.chain.deploy import PROOF_SECONDS
from bridge.chain.views import RegistryViews
from bridge.cli.output import Exit
from tests.chain_nodes import funded

OPERATOR = 5  # of node 1: tests.chain_nodes.add_node
UNBONDING = 86_400 + PROOF_SECONDS

pytestmark = pytest.mark.chain


def pass_time(chain, seconds):
    chain.client.ask("evm_increaseTime", seconds)
    chain.mine()


def test_stake_is_added_unbonds_and_is_withdrawn_when_it_is_released(node, chain):
    code, said = node("stake", "1000")
    assert (code, said["bonded"], said["unbonding"], said["releasedAt"]) == (Exit.OK, "1000", "0", 0)

    code, said = node("unstake", "400")
    assert (code, said["bonded"], said["unbonding"]) == (Exit.OK, "600", "400")

    code, said = node("withdraw")
    assert (code, "too early" in said["error"]) == (Exit.NOT_SO, True)

    pass_time(chain, UNBONDING)
    receiver = "0x00000000000000000000000000000000000000aB"
    code, said = node("withdraw", "--to", receiver)
    assert (code, said["drawn"], said["bonded"], said["unbonding"]) == (Exit.OK, "400", "600", "0")
    assert chain.client.balance(receiver) == 400
    registry = RegistryViews(chain.client, chain.deployment.registry)
    assert registry.stake_of(1).bonded == 600


def test_nothing_that_unbonds_is_nothing_to_withdraw(node):
    code, said = node("withdraw", node_id=2, who=OPERATOR + 1)

    assert code == Exit.NOT_SO
    assert "insula node unstake 2" in said["error"]


def test_more_than_is_at_stake_cannot_unbond(node):
    code, said = node("unstake", "1", node_id=2, who=OPERATOR + 1)

    assert (code, "more than the 0 wei" in said["error"]) == (Exit.BAD_INPUT, True)


@pytest.mark.parametrize("words", [("stake", "5"), ("unstake", "5"), ("withdraw",)], ids=lambda words: words[0])
def test_only_its_operator_acts_for_a_node(node, words):
    code, said = node(*words, who=1)

    assert (code, funded(1).address in said["error"]) == (Exit.BAD_INPUT, True)


def test_a_node_that_is_not_there_is_bad_input(node):
    code, said = node("stake", "5", node_id=99)

    assert (code, "no node 99" in said["error"]) == (Exit.BAD_INPUT, True)
