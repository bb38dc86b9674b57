"""`insula policy check`: a policy looked at before a node runs by it."""

import json

import pytest

from bridge.cli.output import Exit
from executor.agent.config import init_node
from executor.content.blockstore import BlockStore
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import resolve
from executor.protocol.cid import RAW, Cid
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER

STRANGER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
MODULE = str(Cid.of(RAW, b"module"))


@pytest.fixture
def spec(tmp_path):
    def write(**changes):
        path = tmp_path / "job.json"
        path.write_text(json.dumps({"version": "insula/v1", "engine": {"type": "wasm", "module": MODULE}, **changes}))
        return str(path)

    return write


@pytest.fixture
def policy(tmp_path):
    def write(text):
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def node(tmp_path):
    def make(**fields):
        config = {"bridge_url": "http://127.0.0.1:1", "chain_id": CHAIN_ID, "bridge_contract": CONTRACT}
        init_node(tmp_path / "node", **config, registry=CONTRACT, **fields)
        return tmp_path / "node"

    return make


def secret(*lines):
    return "\n".join(
        ["[secrets.api]", 'file = "token"', f'requesters = ["{REQUESTER}"]', f'programs = ["{MODULE}"]', *lines]
    )


def test_the_default_policy_is_told_in_words(insula):
    code, out, _ = insula("policy", "check")

    assert (code, "requesters   any" in out, "hash" in out) == (Exit.OK, True, True)


def test_a_policy_is_told_with_its_hash_as_it_stands_in_receipts(insula, policy):
    path = policy('requesters_deny = ["0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"]')

    code, out, _ = insula("policy", "check", path, "--json")

    found = json.loads(out)
    assert code == Exit.OK
    assert found["policy"]["requestersDeny"] == ["0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"]
    assert len(found["hash"]) == 66


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("requester_allow = []", "policy.toml.requester_allow"),
        ("= 1", "is not TOML"),
        ('[data.x]\ncids = ["Qm"]', "policy.toml.data.x.cids.0"),
        ('[outputs]\ndenied_patterns = ["a*"]', "has no meaning here"),
    ],
    ids=["key", "syntax", "CID", "pattern"],
)
def test_what_is_wrong_with_a_policy_is_named(insula, policy, text, words):
    code, _, err = insula("policy", "check", policy(text))

    assert (code, words in err) == (Exit.BAD_INPUT, True), err


def test_a_job_that_would_run_is_told_so(insula, policy, spec):
    job = spec(secrets=[{"name": "api", "path": "/secrets/x"}])

    code, out, _ = insula("policy", "check", policy(secret()), "--job", job, "--requester", REQUESTER)
    assert (code, "would run" in out) == (Exit.OK, True)

    code, out, _ = insula("policy", "check", policy(secret()), "--job", job)
    assert (code, "give --requester" in out) == (Exit.OK, True)

    code, out, _ = insula("policy", "check", "--job", spec())
    assert (code, "who asks is not considered" in out) == (Exit.OK, True)


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("[limits]\nwall_seconds = 5", {}, "wall_seconds is 60; this operator allows 5"),
        (f'requesters_allow = ["{STRANGER}"]', {}, "is not among those allowed"),
        (secret(f'contracts = ["{STRANGER}"]'), {"secrets": [{"name": "api", "path": "/secrets/x"}]}, "does not open"),
        (f'[data.x]\ncids = ["{MODULE}"]', {}, "is private and does not open"),
        (f'curators_allow = ["{STRANGER}"]', {}, "curator"),
        ('labels_require = ["site=ap"]', {}, "does not carry the label site=ap"),
    ],
    ids=["limit", "requester", "secret", "private program", "curator", "label"],
)
def test_why_a_job_would_not_run_is_told(insula, policy, spec, text, changes, words):
    code, out, _ = insula("policy", "check", policy(text), "--job", spec(**changes), "--requester", REQUESTER)

    assert (code, words in out) == (Exit.NOT_SO, True), out


def test_an_order_is_taken_with_what_the_policy_asks_for(insula, policy, spec):
    text = f'labels_require = ["site=ap"]\ncurators_allow = ["{STRANGER}"]\ncontracts_allow = ["{STRANGER}"]'
    who = ("--requester", REQUESTER, "--curator", STRANGER, "--callback", STRANGER)

    code, out, _ = insula("policy", "check", policy(text), "--job", spec(selector="site=ap"), *who)

    assert (code, "would run" in out) == (Exit.OK, True)


def test_a_spec_that_nobody_runs_is_refused_with_its_field(insula, spec):
    code, out, _ = insula("policy", "check", "--job", spec(engine={"type": "docker", "image": "debian:12"}))

    assert (code, "engine.image" in out) == (Exit.NOT_SO, True)


def test_a_nodes_policy_is_checked_with_its_secrets_and_its_data(insula, node, spec):
    folder = node(rpc_url="http://127.0.0.1:1")
    root = import_listing(BlockStore(folder / "content"), {"a": b"aa", "b": b"bb"}, TreeLimits(100))
    part = resolve(BlockStore(folder / "content"), root, "a")
    text = f'{secret()}\n[data.x]\ncids = ["{root}"]\n'
    (folder / "policy.toml").write_text(text)

    code, _, err = insula("policy", "check", "--dir", str(folder))
    assert (code, "secrets.api.file" in err) == (Exit.BAD_INPUT, True)

    (folder / "token").write_bytes(b"x" * 20)
    (folder / "token").chmod(0o600)
    job = spec(inputs=[{"cid": str(part), "path": "/inputs/a"}])
    code, out, _ = insula("policy", "check", "--dir", str(folder), "--job", job, "--requester", REQUESTER, "--json")
    assert (code, json.loads(out)["privateData"]) == (Exit.NOT_SO, ["x"])

    other = folder / "other.toml"
    other.write_text("")
    assert insula("policy", "check", str(other), "--dir", str(folder))[0] == Exit.OK


def test_a_scanner_whose_module_is_not_there_is_named(insula, node):
    folder = node()
    (folder / "policy.toml").write_text(f'[[scanners]]\nname = "k"\nmodule = "k.wasm"\nsha256 = "{"0" * 64}"')

    code, _, err = insula("policy", "check", "--dir", str(folder))

    assert (code, "scanners, k" in err, "k.wasm is not there" in err) == (Exit.BAD_INPUT, True, True)


def test_a_node_that_cannot_ask_the_chain_may_not_have_such_a_policy(insula, node):
    folder = node()
    (folder / "policy.toml").write_text(secret())

    code, _, err = insula("policy", "check", "--dir", str(folder))

    assert (code, "set rpc_url" in err) == (Exit.BAD_INPUT, True)
