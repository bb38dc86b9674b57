"""`insula node labels|metadata|vouch|deactivate|rotate-key ...` on a real chain, as scripts call them."""

import pytest

from bridge.cli.output import Exit
from executor.agent.config import init_node
from executor.protocol.wire import ZERO_ADDRESS, label_hash
from tests.chain_nodes import CHAIN_ID, funded
from tests.integration.conftest import OPERATOR

NOTICE = 5  # tests.chain_nodes.deploy
CURATOR = 4

pytestmark = pytest.mark.chain


@pytest.fixture(autouse=True)
def _as_it_was(chain):
    """Each test finds the registry as the first one did."""
    before = chain.snapshot()
    yield
    chain.revert(before)


def counts(chain, word, curator=ZERO_ADDRESS, node_id=1):
    return chain.registry.labels_count(node_id, curator, [label_hash(word)]) == (True,)


def pass_notice(chain):
    chain.client.ask("evm_increaseTime", NOTICE)
    chain.mine()


def test_labels_are_added_and_removed_and_a_removal_takes_effect_after_the_notice(node, chain):
    code, said = node("labels", "--add", "site=roof", "--add", "cores=4", "--remove", "tier=wasm")

    assert code == Exit.OK
    assert [(row["label"], row["declared"]) for row in said["labels"]] == [
        ("site=roof", True), ("cores=4", True), ("tier=wasm", True),
    ]  # fmt: skip
    assert (said["added"], said["removed"], len(said["transactions"])) == (["site=roof", "cores=4"], ["tier=wasm"], 2)
    assert said["effectiveAt"] == chain.client.head().timestamp + NOTICE
    assert counts(chain, "site=roof")
    assert counts(chain, "tier=wasm")

    pass_notice(chain)

    assert not counts(chain, "tier=wasm")


def test_a_removal_that_is_refused_tells_that_the_addition_stands(node, chain):
    assert node("labels", "--remove", "tier=wasm")[0] == Exit.OK

    code, said = node("labels", "--add", "site=roof", "--remove", "tier=wasm")

    assert code == Exit.NOT_SO
    assert "does not carry the label tier=wasm, or it was removed already; site=roof: added in transaction 0x" in (
        said["error"].replace("\n", "")
    )
    assert counts(chain, "site=roof")


def test_labels_of_any_node_can_be_looked_at_without_a_key(node):
    words = ("--label", "tier=wasm", "--label", "tier=gpu", "--curator", funded(CURATOR).address)

    code, said = node("labels", *words, node_id=2, who=None)

    assert code == Exit.OK
    assert [(row["declared"], row["vouched"]) for row in said["labels"]] == [(True, True), (False, False)]
    assert said["transactions"] == []


def test_the_text_says_what_happened_and_in_which_transaction(insula, chain, key_file):
    place = ("--rpc", str(chain.client.transport.endpoint_uri), "--contract", chain.deployment.bridge)

    code, out, _ = insula("node", "labels", "1", "--add", "site=roof", *place, "--key", key_file(OPERATOR))

    assert code == Exit.OK
    assert out.splitlines()[0] == "site=roof: carried"
    assert "node.toml" in out.splitlines()[1]
    assert out.splitlines()[2].startswith("transaction 0x")


LABEL_MISTAKES = {
    "none named": ((), Exit.BAD_INPUT, "--add: is missing"),
    "no label": (("--add", "Site"), Exit.BAD_INPUT, "--add: 'Site' is not key=value"),
    "no label to remove": (("--remove", "=x"), Exit.BAD_INPUT, "--remove: '=x' is not key=value"),
    "both": (("--add", "a=b", "--remove", "a=b"), Exit.BAD_INPUT, "--remove: a=b is to be added too"),
    "not carried": (("--remove", "a=b"), Exit.BAD_INPUT, "--remove: node 1 does not carry a=b"),
    "carried already": (("--add", "tier=wasm"), Exit.NOT_SO, "node 1 carries the label tier=wasm already"),
    "no curator": (("--label", "a=b", "--curator", "me"), Exit.BAD_INPUT, "--curator: 'me' is not an address"),
    "too many": (
        tuple(w for n in range(64) for w in ("--add", f"n={n}")), Exit.NOT_SO, "65 labels are too many for one node"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LABEL_MISTAKES)
def test_a_mistake_with_labels_is_named(node, what):
    words, expected, text = LABEL_MISTAKES[what]

    code, said = node("labels", *words)

    assert (code, text in said["error"]) == (expected, True), said


def test_metadata_is_changed_within_its_limit(node):
    code, said = node("metadata", "on the roof")
    assert (code, said["metadata"], said["transaction"][:2]) == (Exit.OK, "on the roof", "0x")

    code, said = node("metadata", "x" * 1025)
    assert (code, "TEXT: has 1025 bytes" in said["error"]) == (Exit.BAD_INPUT, True)
    code, said = node("metadata", "\udcff")
    assert (code, "TEXT: is not UTF-8" in said["error"]) == (Exit.BAD_INPUT, True)


def test_a_node_is_deactivated_after_the_notice_and_brought_back_at_once(node, chain):
    code, said = node("deactivate")
    assert (code, said["effectiveAt"]) == (Exit.OK, chain.client.head().timestamp + NOTICE)
    assert chain.registry.node_of(1).active

    pass_notice(chain)
    assert not chain.registry.node_of(1).active
    code, said = node("deactivate")
    assert (code, "node 1 is deactivated already" in said["error"]) == (Exit.NOT_SO, True)

    assert node("reactivate")[0] == Exit.OK
    assert chain.registry.node_of(1).active
    code, said = node("reactivate")
    assert (code, "node 1 is active" in said["error"]) == (Exit.NOT_SO, True)


def test_a_curator_vouches_and_takes_his_word_back(node, chain):
    by = funded(CURATOR).address
    code, said = node("vouch", "--label", "site=roof", who=CURATOR)
    assert (code, said["curator"], said["labels"], counts(chain, "site=roof", by)) == (0, by, ["site=roof"], True)
    code, said = node("vouch", "--label", "site=roof", who=CURATOR)
    assert (code, "vouches for the label site=roof of node 1 already" in said["error"]) == (Exit.NOT_SO, True)

    code, said = node("withdraw-vouch", "--label", "site=roof", who=CURATOR)
    assert (code, counts(chain, "site=roof", by)) == (Exit.OK, False)
    code, said = node("withdraw-vouch", "--label", "site=roof", who=CURATOR)
    assert (code, "does not vouch for the label site=roof" in said["error"]) == (Exit.NOT_SO, True)


def new_folder(chain, path, **changes):
    fields = {
        "bridge_url": "http://127.0.0.1:1", "chain_id": CHAIN_ID, "bridge_contract": chain.deployment.bridge,
        "registry": chain.deployment.registry, **changes,
    }  # fmt: skip
    return init_node(path, **fields)["key"]


def test_a_key_is_rotated_and_the_old_one_counts_no_more(node, chain, tmp_path):
    old, new = chain.registry.node_of(1).key, new_folder(chain, tmp_path / "new")

    code, said = node("rotate-key", "--dir", str(tmp_path / "new"))

    assert (code, said["key"], said["previous"]) == (Exit.OK, new, old)
    assert chain.registry.active_node_of_key(new).node_id == 1
    assert chain.registry.active_node_of_key(old) is None
    code, said = node("rotate-key", "--dir", str(tmp_path / "new"))
    assert (code, "is the current key of node 1 already" in said["error"]) == (Exit.NOT_SO, True)


def test_a_key_that_another_node_had_is_refused(node, chain, tmp_path):
    new_folder(chain, tmp_path / "new")
    assert node("rotate-key", "--dir", str(tmp_path / "new"), node_id=2, who=OPERATOR + 1)[0] == Exit.OK

    code, said = node("rotate-key", "--dir", str(tmp_path / "new"))

    assert (code, "has joined node 2 before" in said["error"]) == (Exit.BAD_INPUT, True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"chain_id": 1}, "--rpc"), ({"registry": "0x" + "12" * 20}, "--contract")],
    ids=["another chain", "another registry"],
)
def test_a_folder_for_elsewhere_is_refused(node, chain, tmp_path, changes, field):
    new_folder(chain, tmp_path / "new", **changes)

    code, said = node("rotate-key", "--dir", str(tmp_path / "new"))

    assert (code, said["error"].startswith(f"{field}: ")) == (Exit.BAD_INPUT, True), said


def test_a_folder_that_is_no_nodes_is_bad_input(node, tmp_path):
    code, said = node("rotate-key", "--dir", str(tmp_path))

    assert (code, "insula node init" in said["error"]) == (Exit.BAD_INPUT, True)


def test_where_chain_and_contract_are_is_taken_from_the_folder_too(insula, chain, key_file, tmp_path):
    new_folder(chain, tmp_path / "new", rpc_url=str(chain.client.transport.endpoint_uri))

    code, _, err = insula("node", "rotate-key", "1", "--dir", str(tmp_path / "new"), "--key", key_file(OPERATOR))

    assert (code, err) == (Exit.OK, "")


OPERATORS = {
    "labels": ("--add", "a=b"),
    "metadata": ("x",),
    "deactivate": (),
    "reactivate": (),
}


@pytest.mark.parametrize("verb", OPERATORS)
def test_only_its_operator_acts_for_a_node(node, verb):
    code, said = node(verb, *OPERATORS[verb], who=1)

    assert (code, f"--key: is the key of {funded(1).address}" in said["error"]) == (Exit.BAD_INPUT, True)


@pytest.mark.parametrize("verb", [*OPERATORS, "vouch", "withdraw-vouch"])
def test_a_node_that_is_not_there_is_bad_input(node, verb):
    code, said = node(verb, *OPERATORS.get(verb, ("--label", "a=b")), node_id=99)

    assert (code, "NODE: the registry knows no node 99" in said["error"]) == (Exit.BAD_INPUT, True)


@pytest.mark.parametrize("node_id", [0, -1, "one"])
def test_what_is_no_node_id_is_bad_input(node, node_id):
    assert node("deactivate", node_id=node_id)[0] == Exit.BAD_INPUT


def test_no_endpoint_is_unreachable(insula, chain, key_file):
    place = ("--rpc", "http://127.0.0.1:1", "--contract", chain.deployment.bridge, "--key", key_file(OPERATOR))

    assert insula("node", "deactivate", "1", *place)[0] == Exit.UNREACHABLE


def test_a_key_that_has_joined_registers_no_second_node(insula, key_file, chain, tmp_path):
    new_folder(chain, tmp_path / "new")
    words = ("node", "register", "--dir", str(tmp_path / "new"), "--key", key_file(OPERATOR))
    place = ("--rpc", str(chain.client.transport.endpoint_uri))
    assert insula(*words, *place)[0] == Exit.OK
    count = chain.registry.node_count()

    code, _, err = insula(*words, *place)

    assert (code, f"has joined node {count} already; nothing was sent" in err) == (Exit.NOT_SO, True), err
    assert chain.registry.node_count() == count
