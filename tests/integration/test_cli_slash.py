"""`insula node evidence|slash|withdraw-reward`: from a bridge that was told two outcomes to a stake that is gone."""

import json

import pytest

from bridge.chain.contracts import compute_bridge
from bridge.chain.operate import send_and_wait
from bridge.cli.output import Exit
from bridge.errors import StaleTransition
from executor.protocol.evidence import Evidence, SignedOutcome
from executor.protocol.signing import Scope, attestation_message
from executor.protocol.wire import ZERO_ADDRESS, Outcome, Status
from tests.bridge_kit import attested, order_of, success
from tests.chain_nodes import CHAIN_ID, deploy, funded
from tests.integration.test_cli_registry import new_folder

STRANGER = 3
STAKE = 10**18
REQUEST = b"\x07" * 32
LIE = Outcome(status=Status.SUCCEEDED, payload=b"a lie")

pytestmark = pytest.mark.chain


@pytest.fixture(autouse=True)
def _as_it_was(chain):
    """Each test finds the registry as the first one did."""
    before = chain.snapshot()
    yield
    chain.revert(before)


def signed(chain, key, outcome, request=REQUEST, contract=None):
    fields = {
        "outcome_hash": outcome.hash, "receipt_hash": b"\x01" * 32, "log_root": b"\x02" * 32, "log_size": 1,
        "relayer": ZERO_ADDRESS,
    }  # fmt: skip
    scope = Scope(CHAIN_ID, contract or chain.deployment.bridge)
    return SignedOutcome(**fields, signature=key.sign(attestation_message(scope, request_hash=request, **fields)))


def evidence(chain, contract=None, **changes):
    """What proves that node 1 signed two outcomes of REQUEST."""
    key = chain.nodes[0].key
    fields = {
        "chain_id": CHAIN_ID,
        "contract": contract or chain.deployment.bridge,
        "request_hash": REQUEST,
        "key": key.address,
        "first": signed(chain, key, Outcome(status=Status.SUCCEEDED), contract=contract),
        "second": signed(chain, key, LIE, contract=contract),
    }
    return Evidence(**{**fields, **changes})


@pytest.fixture
def slash(node, tmp_path):
    """Calls `insula node slash` with this proof, as a stranger."""

    def call(proof, who=STRANGER):
        path = tmp_path / "proof.json"
        path.write_text(proof if isinstance(proof, str) else proof.model_dump_json())
        return node("slash", "--proof", str(path), node_id=None, who=who)

    return call


def test_a_stranger_takes_a_stake_with_a_proof_and_draws_a_tenth(node, slash, chain):
    node("stake", str(STAKE))
    node("unstake", str(STAKE // 4))

    code, said = slash(evidence(chain))

    assert code == Exit.OK
    assert (said["nodeId"], said["slashed"], said["reward"], said["burned"]) == (
        1, str(STAKE), str(STAKE // 10), str(STAKE - STAKE // 10),
    )  # fmt: skip
    assert (said["prover"], said["transaction"][:2]) == (funded(STRANGER).address, "0x")
    stake = chain.registry.stake_of(1)
    assert (stake.bonded, stake.unbonding) == (0, 0)

    receiver = "0x00000000000000000000000000000000000000aB"
    before = chain.client.balance(receiver)
    code, said = node("withdraw-reward", "--to", receiver, node_id=None, who=STRANGER)
    assert (code, said["drawn"], chain.client.balance(receiver) - before) == (Exit.OK, str(STAKE // 10), STAKE // 10)
    code, said = node("withdraw-reward", node_id=None, who=STRANGER)
    assert (code, "has no reward to draw" in said["error"]) == (Exit.NOT_SO, True)


def test_the_text_says_who_got_what(chain, node, insula, key_file, tmp_path):
    node("stake", str(STAKE))
    (tmp_path / "proof.json").write_text(evidence(chain).model_dump_json())
    place = ("--rpc", str(chain.client.transport.endpoint_uri), "--contract", chain.deployment.bridge)

    _, out, _ = insula("node", "slash", "--proof", str(tmp_path / "proof.json"), *place, "--key", key_file(STRANGER))

    lines = out.splitlines()
    assert lines[0].startswith(f"node 1 has lost its stake of {STAKE} wei (1 FIL)")
    assert lines[1].startswith(f"{STAKE // 10} wei (0.1 FIL) for {funded(STRANGER).address}")
    assert lines[2] == f"{STAKE - STAKE // 10} wei (0.9 FIL) burned"
    assert lines[3].startswith("transaction 0x")


def test_a_proof_works_once(node, slash, chain):
    node("stake", str(STAKE))
    assert slash(evidence(chain))[0] == Exit.OK
    code, said = node("stake", str(STAKE))
    assert (code, "give the node another one first: insula node rotate-key" in said["error"]) == (Exit.NOT_SO, True)

    code, said = slash(evidence(chain))

    assert (code, "was proven before" in said["error"]) == (Exit.NOT_SO, True)


def test_a_proof_of_a_rotated_key_is_good(node, slash, chain, tmp_path):
    node("stake", str(STAKE))
    new_folder(chain, tmp_path / "new")
    assert node("rotate-key", "--dir", str(tmp_path / "new"))[0] == Exit.OK

    assert slash(evidence(chain))[0] == Exit.OK


def test_another_bridge_of_the_same_registry_is_no_hiding_place(node, slash, chain):
    node("stake", str(STAKE))
    constructor = compute_bridge().creation(chain.deployment.registry, 1, 86_400, 5, funded(0).address)
    second = send_and_wait(chain.client, funded(0), None, constructor).contract_address

    assert slash(evidence(chain, contract=second))[0] == Exit.OK


def test_a_bridge_of_another_registry_is_named(slash, chain):
    other = deploy(chain.client)

    code, said = slash(evidence(chain, contract=other.bridge))

    assert (code, "--proof: contract" in said["error"]) == (Exit.BAD_INPUT, True)


def test_what_is_no_bridge_at_all_is_named(node, slash, insula, key_file, chain, tmp_path):
    """The registry answers, but not as a ComputeBridge; an account without code says nothing."""
    for address in (chain.deployment.registry, funded(7).address):
        place = ("--rpc", str(chain.client.transport.endpoint_uri), "--contract", address)
        code, out, _ = insula("node", "stake", "1", "5", *place, "--key", key_file(5), "--json")
        assert (code, json.loads(out)["error"]) == (
            Exit.BAD_INPUT, f"--contract: {address} does not answer as a ComputeBridge"
        )  # fmt: skip

        code, said = slash(evidence(chain, contract=address))
        assert (code, f"--proof: contract: {address} does not" in said["error"]) == (Exit.BAD_INPUT, True)


NO_PROOF = {
    "no JSON": (lambda e, chain: "{", Exit.BAD_INPUT, "--proof: Invalid JSON"),
    "a bundle": (lambda e, chain: '{"format": "insula-bundle/1"}', Exit.BAD_INPUT, "--proof: format"),
    "a field too few": (
        lambda e, chain: e.model_dump_json(exclude={"first": {"signature"}}), Exit.BAD_INPUT, "--proof: first.signature"
    ),
    "the same outcome": (
        lambda e, chain: e.model_copy(update={"second": e.first}), Exit.BAD_INPUT, "--proof: second.outcome_hash"
    ),
    "two keys": (
        lambda e, chain: e.model_copy(update={"second": signed(chain, chain.nodes[1].key, LIE)}),
        Exit.BAD_INPUT,
        "--proof: second.signature",
    ),
    "another chain": (
        lambda e, chain: e.model_copy(update={"chain_id": 1}), Exit.BAD_INPUT, "--proof: first.signature"
    ),
    "nothing at stake": (lambda e, chain: e, Exit.NOT_SO, "node 1 has nothing at stake; the proof stays good"),
    "a key of no node": (
        lambda e, chain: evidence(
            chain,
            key=funded(6).address,
            first=signed(chain, funded(6), Outcome(status=Status.SUCCEEDED)),
            second=signed(chain, funded(6), LIE),
        ),
        Exit.BAD_INPUT,
        "--proof: key",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_PROOF)
def test_what_proves_nothing_says_why(slash, chain, what):
    make, expected, text = NO_PROOF[what]
    nonce = chain.client.nonce(funded(STRANGER).address)

    code, said = slash(make(evidence(chain), chain))

    assert (code, text in said["error"]) == (expected, True), said
    assert chain.client.nonce(funded(STRANGER).address) == nonce


def test_a_file_that_is_not_there_is_named(node):
    code, said = node("slash", "--proof", "/nowhere/proof.json", node_id=None, who=STRANGER)

    assert (code, "--proof: /nowhere/proof.json cannot be read" in said["error"]) == (Exit.BAD_INPUT, True)


# -- what a bridge holds ---------------------------------------------------------------------------------------------


def contradict(bridge, node):
    """A node answers a request twice, differently; then the request is over."""
    job = bridge.request(order_of())
    lease = bridge.lease(node)
    bridge.answer(node, lease, attested(node.key, lease, success(bridge.bring(node, lease, b"result"))))
    with pytest.raises(StaleTransition):
        bridge.answer(node, lease, attested(node.key, lease, LIE))
    return job


def test_evidence_is_shown_and_saved_as_slash_takes_it(insula, api, bridge, tmp_path):
    job = contradict(bridge, bridge.node("a"))
    code, out, _ = insula("node", "evidence", "1", "--bridge", api.base, "--json")
    assert (code, json.loads(out)["held"]) == (Exit.NOT_SO, 1)
    bridge.set_job(job.request_hash, state="final")

    code, out, _ = insula("node", "evidence", "1", "--bridge", api.base, "--save", str(tmp_path / "proof.json"))

    assert code == Exit.OK
    assert f"request 0x{job.request_hash.hex()}" in out
    assert f"insula node slash --proof {tmp_path}/proof.json" in out
    saved = Evidence.read((tmp_path / "proof.json").read_bytes(), "file")
    assert (saved.request_hash, saved.second.outcome_hash) == (job.request_hash, LIE.hash)


def test_of_several_proofs_one_is_named(insula, api, bridge, tmp_path):
    node = bridge.node("a")
    first, second = contradict(bridge, node), contradict(bridge, node)
    for job in (first, second):
        bridge.set_job(job.request_hash, state="final")
    words = ("node", "evidence", "1", "--bridge", api.base, "--save", str(tmp_path / "proof.json"))

    code, _, err = insula(*words)
    assert (code, "--request: is needed: there are 2 proofs" in err) == (Exit.BAD_INPUT, True)
    assert insula(*words, "--request", f"0x{first.request_hash.hex()}")[0] == Exit.OK
    assert Evidence.read((tmp_path / "proof.json").read_bytes(), "file").request_hash == first.request_hash


LIES = {
    "no object": b"[]",
    "nothing of ours": b"{}",
    "a time that is none": b'{"found": [{"found_at": NaN, "evidence": {}}], "held": 0}',
    "a time without end": b'{"found": [{"found_at": 1e999, "evidence": {}}], "held": 0}',
    "an absurd number of proofs": b'{"found": [], "held": {"a": 1}}',
    "lists in lists": b'{"found": ' + b"[" * 9_000 + b"]" * 9_000 + b', "held": 0}',
    "half a letter": b'{"found": [{"found_at": 1.0, "evidence": "\\ud800"}], "held": 0}',
    "no evidence": b'{"found": [{"found_at": 1.0, "evidence": null}], "held": 0}',
}


@pytest.mark.parametrize("what", LIES)
def test_a_bridge_that_lies_is_named(insula, liar, what):
    base, answers = liar
    answers.append(LIES[what])

    code, out, _ = insula("node", "evidence", "1", "--bridge", base, "--json")

    assert (code, json.loads(out)["error"].startswith("bridge: ")) == (Exit.BAD_INPUT, True)


def test_a_forged_proof_of_a_bridge_accuses_nobody(insula, liar, chain):
    base, answers = liar
    forged = evidence(chain, key=funded(6).address).model_dump(mode="json")
    answers.append(json.dumps({"found": [{"found_at": 1.0, "evidence": forged}], "held": 0}).encode())

    code, out, err = insula("node", "evidence", "1", "--bridge", base)

    assert (code, out, "bridge: evidence: first.signature" in err) == (Exit.BAD_INPUT, "", True)


def test_nothing_against_a_node_is_said_and_saved_nowhere(insula, api, tmp_path):
    code, out, _ = insula("node", "evidence", "1", "--bridge", api.base, "--save", str(tmp_path / "proof.json"))

    assert (code, out.strip()) == (Exit.NOT_SO, "no proof against node 1")
    assert not (tmp_path / "proof.json").exists()
