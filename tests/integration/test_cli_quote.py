"""`insula job quote`, `job submit --token` and `job withdraw --token` on a real chain."""

import json

import pytest

from bridge.chain.contracts import register_calldata
from bridge.chain.erc20 import allowance
from bridge.chain.operate import let_take, send_and_wait
from bridge.cli.output import Exit
from bridge.cli.quote_verb import NODES_A_CALL
from executor.protocol.wire import OnChainState, Order, Outcome, Status
from tests.bridge_kit import spec_bytes
from tests.chain_nodes import FUNDED_SECRETS, add_node, funded
from tests.token_kit import Token

pytestmark = pytest.mark.chain

CURATOR = 4  # the account that vouches for the nodes of tests.chain_nodes
REQUESTER = 1


class Desk:
    """The command line beside a chain with two nodes of two operators, which carry tier=wasm."""

    def __init__(self, chain, insula, tmp_path):
        self.chain, self._insula, self._tmp = chain, insula, tmp_path
        chain.automine()
        self.spec = tmp_path / "spec.json"
        self.spec.write_bytes(spec_bytes())
        self.curator = ("--curator", funded(CURATOR).address)

    def job(self, verb, *words, lens=True):
        place = ["--rpc", str(self.chain.client.transport.endpoint_uri), "--contract", self.chain.deployment.bridge]
        if verb == "quote" and lens:
            place += ["--lens", self.chain.deployment.lens]
        return self._insula("job", verb, *words, *place)

    def quote(self, *words, **options):
        return self.job("quote", str(self.spec), *words, **options)

    def key(self, who):
        secret = self._tmp / f"key{who}"
        secret.write_text(FUNDED_SECRETS[who])
        secret.chmod(0o600)
        return ("--key", f"file:{secret}")


@pytest.fixture
def desk(anvil_chain, insula, tmp_path):
    yield Desk(anvil_chain, insula, tmp_path)
    anvil_chain.manual()


#: what is ordered -> (options, operators that could sign, whether they are enough)
ORDERS = {
    "what the curator admitted": ([], 2, True),
    "two of two": (["--nodes", "2"], 2, True),
    "a quorum beyond the operators": (["--nodes", "3", "--quorum", "3"], 2, False),
    "a label that both carry": (["--label", "tier=wasm"], 2, True),
    "a label that none carries": (["--label", "site=moon"], 0, False),
}


@pytest.mark.parametrize("what", ORDERS)
def test_a_quote_says_the_price_and_who_carries_the_labels(desk, what):
    options, operators, enough = ORDERS[what]
    if "--label" in options:
        desk.spec.write_bytes(spec_bytes(selector=options[1]))

    code, out, _ = desk.quote(*options, *desk.curator, "--unit-price", "100", "--delivery-fee", "7", "--json")

    found = json.loads(out)
    nodes = int(options[1]) if "--nodes" in options else 1
    assert (found["price"], found["operators"], found["enough"]) == (str(nodes * 100 + 7), operators, enough)
    assert [carrier["nodeId"] for carrier in found["carriers"]] == [node.node_id for node in desk.chain.nodes][
        :operators
    ]
    assert code == (Exit.OK if enough else Exit.NOT_SO)


def test_a_quote_is_told_in_words(desk):
    code, out, _ = desk.quote(*desk.curator, "--unit-price", "100")

    node = desk.chain.nodes[0]
    assert code == Exit.OK
    assert "price        100 wei" in out
    assert f"node {node.node_id}, operator {node.operator.address}" in out
    assert "1 must agree, each of another operator; 2 could" in out


def test_a_quote_says_that_nobody_looked_at_the_selector_beyond_the_labels(desk):
    desk.spec.write_bytes(spec_bytes(selector="site=moon"))

    code, out, _ = desk.quote(*desk.curator)

    assert (code, "selector     site=moon: bridge and nodes look at it; here, only at what --label names" in out) == (
        0,
        1,
    )


def test_a_label_that_is_given_twice_counts_once(desk):
    desk.spec.write_bytes(spec_bytes(selector="tier=wasm"))

    assert desk.quote("--label", "tier=wasm", "--label", "tier=wasm", *desk.curator)[0] == Exit.OK


def test_another_contract_than_a_lens_refuses_no_order(desk):
    code, _, err = desk.quote(*desk.curator, "--lens", desk.chain.deployment.bridge, lens=False)

    assert (code, "--lens: the contract at" in err) == (Exit.BAD_INPUT, True), err


def test_a_contract_that_is_no_token_is_named(desk):
    prices = ("--token", desk.chain.deployment.registry, "--unit-price", "600")

    code, _, err = desk.job("submit", str(desk.spec), *desk.curator, *prices, *desk.key(REQUESTER))

    assert (code, "--token" in err, "does not answer as an ERC-20" in err) == (Exit.BAD_INPUT, True, True), err


def test_a_quote_without_a_lens_says_the_price_and_that_nobody_looked_for_nodes(desk):
    code, out, _ = desk.quote(*desk.curator, "--unit-price", "100", lens=False)

    assert (code, "price        100 wei" in out, "no ComputeLens is known" in out) == (Exit.OK, True, True)


#: what is wrong -> (options, exit code, what is said)
REFUSED = {
    "a ttl beyond the contract's": (["--ttl", "86401"], Exit.NOT_SO, "the order's ttl is not valid"),
    "a failPrice above the unitPrice": (["--fail-price", "1"], Exit.NOT_SO, "the order's failPrice is not valid"),
    "a token that is no contract": (["--token", "0x" + 40 * "1"], Exit.NOT_SO, "the order's token is not valid"),
    "a lens that is none": (["--lens", "0x" + 40 * "1"], Exit.BAD_INPUT, "another contract"),
    "a lens that is no address": (["--lens", "0x12"], Exit.BAD_INPUT, "--lens"),
    "a label that the spec does not repeat": (["--label", "site=moon"], Exit.BAD_INPUT, "the order's label site=moon"),
    "a result kind that is none": (["--result", "pdf"], Exit.BAD_INPUT, "--result"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_order_that_would_be_refused_is_refused_by_the_quote(desk, what):
    options, expected, said = REFUSED[what]

    code, _, err = desk.quote(*desk.curator, *options, lens="--lens" not in options)

    assert (code, said in err) == (expected, True), err


def test_nodes_are_looked_at_page_by_page(desk):
    client, registry = desk.chain.client, desk.chain.deployment.registry
    before = desk.chain.registry.node_count()
    for _ in range(NODES_A_CALL):
        desk.chain.send(funded(3), registry, register_calldata([]))
    late = add_node(client, desk.chain.deployment, 2, ())

    code, out, _ = desk.quote("--nodes", "3", "--quorum", "3", *desk.curator, "--json")

    found = json.loads(out)
    assert (code, found["operators"], found["more"]) == (Exit.OK, 3, False)
    assert late.node_id == before + NODES_A_CALL + 1
    assert found["carriers"][-1] == {"nodeId": late.node_id, "operator": late.operator.address}


def test_a_lens_that_never_comes_to_an_end_is_not_believed(desk):
    # Whatever it is asked: price 0, nobody, and the next page begins with node 1.
    runtime = bytes.fromhex("606060205260016040526080" + "6000f3")
    creation = bytes.fromhex("600f600c600039600f6000f3") + runtime
    lens = send_and_wait(desk.chain.client, funded(0), None, creation).contract_address

    code, _, err = desk.quote("--lens", lens, *desk.curator, lens=False)

    assert (code, "goes back to node 1" in err) == (Exit.BAD_INPUT, True), err


def test_an_order_is_paid_in_a_token_and_what_was_earned_is_drawn_in_it(desk):
    chain, requester = desk.chain, funded(REQUESTER)
    token = Token(chain.client, funded(0))
    token.mint(requester.address, 1000)
    prices = ("--token", token.address, "--unit-price", "600", "--delivery-fee", "5")

    code, out, _ = desk.job("submit", str(desk.spec), *desk.curator, *prices, *desk.key(REQUESTER), "--json")

    placed = json.loads(out)
    assert (code, placed["price"], placed["token"], token.balance_of(requester.address)) == (
        0,
        "605",
        token.address,
        395,
    )
    order = Order(
        spec=spec_bytes(), ttl=3600, curator=desk.curator[1], token=token.address, unit_price=600, delivery_fee=5
    )
    request = chain.request_of(placed["requestId"], order)
    outcome = Outcome(status=int(Status.SUCCEEDED), output_cid=b"\x01" * 36)
    chain.mined(chain.send(funded(2), chain.deployment.bridge, chain.fulfil_data(request, outcome)))
    operator = 5  # of the first node
    assert chain.bridge.result_of(request.id).state is OnChainState.FULFILLED
    code, out, _ = desk.job("withdraw", *desk.key(operator))
    assert (code, "nothing" in out) == (Exit.NOT_SO, False)
    code, out, _ = desk.job("withdraw", "--token", token.address, *desk.key(operator))
    assert (code, f"600 of {token.address}" in out) == (Exit.OK, True)
    assert token.balance_of(funded(operator).address) == 600


def test_an_order_in_a_token_that_its_account_does_not_hold_is_not_sent(desk):
    token = Token(desk.chain.client, funded(0))
    prices = ("--token", token.address, "--unit-price", "600")

    code, _, err = desk.job("submit", str(desk.spec), *desk.curator, *prices, *desk.key(REQUESTER))

    assert (code, f"holds 0 of the token {token.address}; the price is 600" in err) == (Exit.NOT_SO, True), err
    assert desk.chain.bridge.request_count() == 0


#: what was allowed before -> what is allowed for a price of 600
ALLOWANCES = {"nothing": (0, 600), "too little": (599, 600), "enough": (700, 700)}


@pytest.mark.parametrize("before", ALLOWANCES)
def test_no_more_than_the_price_is_allowed_to_be_taken(desk, before):
    allowed, expected = ALLOWANCES[before]
    client, owner = desk.chain.client, funded(REQUESTER)
    token = Token(client, funded(0))
    token.mint(owner.address, 1000)
    spender = desk.chain.deployment.bridge
    if allowed:
        let_take(client, owner, spender, token.address, allowed)

    let_take(client, owner, spender, token.address, 600)

    assert allowance(client, token.address, owner.address, spender) == expected
