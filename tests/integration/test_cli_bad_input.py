"""The command line says what is wrong, with a stable exit code and never a traceback."""

import json

import pytest

from bridge.cli.output import Exit

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens there
ADDRESS = "0x" + "11" * 20


@pytest.fixture
def spec(tmp_path):
    """Writes a spec file."""

    def write(data):
        path = tmp_path / "spec.json"
        path.write_bytes(data)
        return str(path)

    return write


CID = b"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
GOOD = b'{"version":"insula/v1","engine":{"type":"wasm","module":"%s"}}' % CID
BAD_SPECS = {
    "not UTF-8": (b"\xff\xfe", "SPEC_NOT_UTF8"),
    "not JSON": (b"{", "SPEC_NOT_JSON"),
    "a list": (b"[]", "SPEC_NOT_JSON"),
    "an unknown key": (GOOD[:-1] + b',"networks":{}}', "SPEC_UNKNOWN_FIELD"),
    "a network by name": (GOOD[:-1] + b',"network":"host"}', "SPEC_INVALID_FIELD"),
    "a duplicate key": (GOOD[:-1] + b',"version":"insula/v1"}', "SPEC_DUPLICATE_KEY"),
    "no engine": (b'{"version":"insula/v1"}', "SPEC_MISSING_FIELD"),
    "an old CID": (GOOD.replace(CID, b"Qm"), "BAD_CID"),
    "an unknown engine": (GOOD.replace(b'"wasm"', b'"vm"'), "UNKNOWN_ENGINE"),
    "absurd limits": (GOOD[:-1] + b',"limits":{"memoryBytes":9e99}}', "SPEC_INVALID_FIELD"),
    "limits out of range": (GOOD[:-1] + b',"limits":{"pids":999999}}', "LIMIT_OUT_OF_RANGE"),
    "nested too deep": (b"[" * 10_000, "SPEC_TOO_LARGE"),
    "another version": (GOOD.replace(b"insula/v1", b"insula/v9"), "SPEC_INVALID_FIELD"),
}


@pytest.mark.parametrize("what", BAD_SPECS)
def test_a_bad_spec_is_named_by_its_reason(insula, spec, what):
    data, reason = BAD_SPECS[what]

    code, out, _ = insula("spec", "validate", spec(data), "--json")

    assert (code, json.loads(out)["reason"]) == (Exit.NOT_SO, reason)


def test_a_good_spec_is_valid(insula, spec):
    assert insula("spec", "validate", spec(GOOD))[0] == Exit.OK


V1BETA = (
    b"""{"Engine": "Wasm", "Publisher": "Estuary", "Wasm": {"EnvironmentVariables": {"my_name": "\xc3\xa9"},
    "EntryModule": {"StorageSource": "IPFS", "CID": "%s"}}}"""
    % CID
)


def test_a_spec_of_lilypad_v0_is_valid_in_its_dialect_only(insula, spec):
    assert insula("spec", "validate", spec(V1BETA))[0] == Exit.NOT_SO
    code, out, _ = insula("spec", "validate", spec(V1BETA), "--dialect", "v1beta", "--json")

    assert code == Exit.OK
    assert json.loads(out)["changes"] == [{"field": "Publisher", "text": "the bridge keeps the output"}]


def test_a_spec_of_lilypad_v0_is_converted_into_one_that_is_valid(insula, spec):
    code, out, err = insula("spec", "convert", spec(V1BETA))

    assert code == Exit.OK
    assert "Publisher: the bridge keeps the output" in err
    assert insula("spec", "validate", spec(out.encode()))[0] == Exit.OK
    as_json = json.loads(insula("spec", "convert", spec(V1BETA), "--json")[1])
    assert json.loads(as_json["spec"]) == json.loads(out)
    assert json.loads(out)["engine"]["env"] == {"my_name": "\u00e9"}


def test_a_spec_of_lilypad_v0_that_nodes_refuse_is_named_by_its_reason(insula, spec):
    bad = spec(V1BETA.replace(b'"Publisher"', b'"Verifier": "Deterministic", "Deal": {"Confidence": 2}, "Publisher"'))

    for verb in (["convert"], ["validate", "--dialect", "v1beta"]):
        code, out, _ = insula("spec", *verb, bad, "--json")
        assert (code, json.loads(out)["reason"]) == (Exit.NOT_SO, "SPEC_UNSUPPORTED")
        assert insula("spec", *verb, bad, "--quorum", "2")[0] == Exit.OK


def test_a_spec_in_our_own_format_is_not_converted(insula, spec):
    code, _, err = insula("spec", "convert", spec(GOOD), "--dialect", "insula/v1")

    assert (code, "nothing to convert" in err) == (Exit.BAD_INPUT, True)


JOB_FILE = (
    b"Tasks: [{Engine: {Type: wasm, Params: {EntryModule: {Source: {Type: ipfs, Params: {CID: %s}}}}},\n"
    b"  Publisher: {Type: local}}]\n"
) % CID
LILYPAD_MODULE = b'{"module": {"machine": {"cpu": 1}, "job": {"Spec": %s}}}' % V1BETA
#: name of the dialect -> (a spec, a field that the conversion changes)
DIALECTS = {
    "v1beta": (V1BETA, "Publisher"),
    "bacalhau-1.x": (JOB_FILE, "Tasks[0].Publisher.Type"),
    "lilypad": (LILYPAD_MODULE, "module.machine.cpu"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_spec_of_another_system_is_valid_and_converted_in_its_dialect(insula, spec, dialect):
    data, changed = DIALECTS[dialect]

    code, out, _ = insula("spec", "validate", spec(data), "--dialect", dialect, "--json")
    assert (code, changed in [change["field"] for change in json.loads(out)["changes"]]) == (Exit.OK, True)
    code, out, err = insula("spec", "convert", spec(data), "--dialect", dialect)
    assert (code, f"{changed}: " in err) == (Exit.OK, True)
    assert insula("spec", "validate", spec(out.encode()))[0] == Exit.OK


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_report_of_a_conversion_goes_to_a_file_or_to_standard_output(insula, spec, tmp_path, dialect):
    data, changed = DIALECTS[dialect]
    file = tmp_path / "report"

    code, out, _ = insula("spec", "convert", spec(data), "--dialect", dialect, "--report", str(file))
    assert (code, json.loads(out)["version"]) == (Exit.OK, "insula/v1")
    code, out, err = insula("spec", "convert", spec(data), "--dialect", dialect, "--report", "-")

    assert (code, out, err) == (Exit.OK, file.read_text(), "")
    assert changed in [row["path"] for row in json.loads(out)["fields"]]


def test_a_refusal_has_a_report_too(insula, spec, tmp_path):
    bad = spec(V1BETA.replace(b'"Publisher"', b'"Timeout": -1, "Publisher"'))

    code, out, err = insula("spec", "convert", bad, "--report", "-")
    assert (code, json.loads(out)["reason"]) == (Exit.NOT_SO, "LIMIT_OUT_OF_RANGE")
    assert "LIMIT_OUT_OF_RANGE Timeout: must be" in err
    code, told, _ = insula("spec", "convert", bad, "--report", str(tmp_path / "report"), "--json")
    assert (code, json.loads(told)["field"]) == (Exit.NOT_SO, "Timeout")
    assert (tmp_path / "report").read_text() == out


def test_a_report_that_cannot_be_written_is_bad_input(insula, spec, tmp_path):
    code, _, err = insula("spec", "convert", spec(V1BETA), "--report", str(tmp_path / "no" / "folder"))

    assert (code, "--report" in err) == (Exit.BAD_INPUT, True)


def test_a_spec_that_is_too_large_for_an_order_is_bad_input(insula, spec):
    code, _, err = insula("spec", "validate", spec(b" " * 20_000))

    assert code == Exit.BAD_INPUT
    assert "16384" in err


BAD_CALLS = {
    "no bridge": (["job", "status", "1"], Exit.BAD_INPUT, "INSULA_BRIDGE"),
    "a bridge where nobody is": (["job", "status", "1", "--bridge", NOBODY], Exit.UNREACHABLE, NOBODY),
    "a bridge that is no URL": (["job", "status", "1", "--bridge", "file:///etc"], Exit.BAD_INPUT, "file:///etc"),
    "a bridge of no host": (["job", "status", "1", "--bridge", "http://xn--a"], Exit.UNREACHABLE, "http://xn--a"),
    "an ID that is none": (["job", "status", "../etc", "--bridge", NOBODY], Exit.BAD_INPUT, "request hash"),
    "a CID that is none": (["content", "get", "Qm", "-o", "x", "--bridge", NOBODY], Exit.BAD_INPUT, "base32"),
    "a file that is not there": (["content", "add", "/nowhere"], Exit.BAD_INPUT, "no file or directory"),
    "a key itself": (
        ["node", "vouch", "1", "--label", "a=b", "--rpc", NOBODY, "--contract", ADDRESS, "--key", "0x" + "46" * 32],
        Exit.BAD_INPUT,
        "never the key itself",
    ),
    "a key that is not set": (
        ["node", "vouch", "1", "--label", "a=b", "--rpc", NOBODY, "--contract", ADDRESS, "--key", "env:NO_SUCH_KEY"],
        Exit.BAD_INPUT,
        "NO_SUCH_KEY",
    ),
    "a folder without a node": (["node", "run", "--dir", "/nowhere"], Exit.BAD_INPUT, "insula node init"),
    "a configuration that is not there": (["bridge", "run", "--config", "/nowhere"], Exit.BAD_INPUT, "/nowhere"),
    "no curator": (["job", "submit", "/nowhere"], Exit.BAD_INPUT, "--trust-own-labels"),
    "a quorum beyond the nodes": (
        ["job", "quote", "/nowhere", "--trust-own-labels", "--quorum", "2"],
        Exit.BAD_INPUT,
        "--quorum: is 2; of 1 nodes",
    ),
    "half of the nodes": (
        ["job", "quote", "/nowhere", "--trust-own-labels", "--nodes", "4", "--quorum", "2"],
        Exit.BAD_INPUT,
        "--quorum",
    ),
    "a label that is none": (
        ["job", "quote", "/nowhere", "--trust-own-labels", "--label", "x"],
        Exit.BAD_INPUT,
        "--label: 'x' is not",
    ),
    "a price that no order holds": (
        ["job", "quote", "/nowhere", "--trust-own-labels", "--unit-price", str(2**128)],
        Exit.BAD_INPUT,
        "--unit-price",
    ),
    "a node that no registry holds": (["node", "evidence", str(2**48), "--bridge", NOBODY], Exit.BAD_INPUT, "NODE"),
    "a request that is none": (
        ["node", "evidence", "1", "--request", "0x12", "--bridge", NOBODY],
        Exit.BAD_INPUT,
        "--request: '0x12' is not",
    ),
    "a bundle that is not there": (
        ["job", "verify", "--bundle", "/nowhere", "--bridge", NOBODY],
        Exit.BAD_INPUT,
        "/nowhere",
    ),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_a_bad_call_says_what_to_do(insula, what):
    words, expected, said = BAD_CALLS[what]

    code, out, err = insula(*words)

    assert code == expected
    assert said in err + out


NO_BRIDGES = {
    "an empty object": b"{}",
    "another service": b'{"state": 5, "jobs": 5, "outcome": 7}',
    "a list of nothing": b'{"jobs": [{}], "state": "final", "chain_state": "FULFILLED"}',
    "a time that no date tells": b'{"state": "held", "detail": "", "awaiting": "", "refundable_at": "soon"}',
}


@pytest.mark.parametrize("what", NO_BRIDGES)
@pytest.mark.parametrize("verb", ["status", "explain", "wait", "list"])
def test_what_is_no_bridge_is_named(insula, liar, verb, what):
    base, answers = liar
    answers.append(NO_BRIDGES[what])
    words = ["job", verb, *(["1"] if verb != "list" else []), *(["--timeout", "0"] if verb == "wait" else [])]

    code, _, err = insula(*words, "--bridge", base)

    not_seen = verb == "wait" and what == "an empty object"  # as a bridge that has not seen the request
    assert (code, not_seen or "bridge: its answer is not understood" in err) == (
        Exit.TIMEOUT if not_seen else Exit.BAD_INPUT, True
    ), err  # fmt: skip


@pytest.mark.parametrize("chain_id", [b"", b', "chainId": -1', b', "chainId": 1e80', b', "chainId": "one"'])
def test_nothing_is_signed_for_a_bridge_of_no_chain(insula, liar, tmp_path, monkeypatch, chain_id):
    base, answers = liar
    answers.append(b'{"contract": "%s"%s}' % (ADDRESS.encode(), chain_id))
    monkeypatch.setenv("INSULA_HOME", str(tmp_path))
    monkeypatch.setenv("MINE", "46" * 32)

    code, _, err = insula("content", "add", __file__, "--to", base, "--key", "env:MINE")

    assert (code, "bridge: its answer is not understood" in err) == (Exit.BAD_INPUT, True), err


USAGE = {
    "an argument too few": (["node", "stake", "1", "--json"], "WEI"),
    "an amount that is none": (["node", "stake", "1", "1e18", "--json"], "WEI"),
    "an option that is none": (["node", "evidence", "1", "--jsn", "--json"], "--jsn"),
}


@pytest.mark.parametrize("what", USAGE)
def test_a_call_that_does_not_parse_answers_with_json_where_it_asked_for_it(insula, what):
    words, said = USAGE[what]

    code, out, err = insula(*words)

    assert (code, json.loads(out)["exit"], said in err) == (Exit.BAD_INPUT, 2, True)
    assert "--help" in json.loads(out)["error"]


def test_a_secret_is_never_repeated(insula):
    secret = "0x" + "46" * 32
    _, out, err = insula(
        "node", "vouch", "1", "--label", "a=b", "--rpc", NOBODY, "--contract", ADDRESS, "--key", secret
    )

    assert "4646" not in out + err


CONFIG = """
data_dir = "{folder}"
public_url = "http://127.0.0.1:1"
listen_port = 0

[relayer]
key = "file:{folder}/key"

[chain]
rpc_urls = ["{rpc}"]
chain_id = {chain_id}
bridge_contract = "{contract}"
deploy_block = 0
confirmation_depth = 1
posting_depth = 1
finality_depth = 3
"""


@pytest.fixture
def config(tmp_path):
    """Writes a bridge's configuration, with a key; `change` edits the text."""
    key = tmp_path / "key"
    key.write_text("0x" + "46" * 32)
    key.chmod(0o600)

    def write(change=("", ""), **fields):
        fields = {"folder": tmp_path, "rpc": NOBODY, "chain_id": 1, "contract": ADDRESS} | fields
        path = tmp_path / "bridge.toml"
        path.write_text(CONFIG.format(**fields).replace(*change))
        return str(path)

    return write


BAD_CONFIGS = {
    "an unknown key": (("listen_port", "surprise"), "surprise"),
    "a missing key": (("chain_id = 1\n", ""), "chain.chain_id"),
    "a URL with a slash": (("127.0.0.1:1", "127.0.0.1:1/"), "public_url"),
    "not TOML": (("listen_port = 0", "= ="), "not TOML"),
    "depths upside down": (("confirmation_depth = 1", "confirmation_depth = 9"), "confirmation_depth"),
    "no endpoint": ((f'["{NOBODY}"]', "[]"), "chain.rpc_urls"),
    "an endpoint that is none": (('["http:', '["ws:'), "entry 1 must be http"),
    "an endpoint with a bad port": ((f'["{NOBODY}"', '["http://127.0.0.1:x"'), "entry 1 must be http"),
    "an endpoint twice": ((f'["{NOBODY}"', f'["{NOBODY}", "{NOBODY}"'), "named twice"),
    "a tag that is none": (("[chain]", '[chain]\nfinality_tag = "latest"'), "chain.finality_tag"),
    "optimism that waits": (
        ("[chain]", '[chain]\noptimistic = true\nconfirmation_tag = "safe"'),
        "exclude each other",
    ),
    "an address that is none": ((ADDRESS, "0x12"), "bridge_contract"),
    "a deadline without end": (("[chain]", "[chain]\nrpc_timeout_seconds = inf"), "chain.rpc_timeout_seconds"),
    "a deadline beyond every clock": (("[chain]", "[chain]\nrpc_timeout_seconds = 1e300"), "chain.rpc_timeout_seconds"),
    "polls that never come": (("[chain]", "[chain]\npoll_seconds = inf"), "chain.poll_seconds"),
    "a chain id beyond what is stored": (("chain_id = 1\n", f"chain_id = {2**63}\n"), "chain.chain_id"),
    "a depth beyond what is stored": (("finality_depth = ", f"finality_depth = {2**63}"), "chain.finality_depth"),
    "a folder of nobody": (('data_dir = "', 'data_dir = "~no-such-user'), "data_dir"),
    "a folder that is no name": (('data_dir = "', 'data_dir = "/a\\u0000'), "data_dir"),
    "a database that is none": (("listen_port", 'database_url = "nonsense"\nlisten_port'), "database_url"),
    "a database whose driver is not here": (
        ("listen_port", 'database_url = "mysql://u:p@h/x"\nlisten_port'),
        "database_url",
    ),
    "a key of nobody": (('key = "file:', 'key = "file:~no-such-user'), "no user of this name"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_bad_configuration_names_its_key(insula, config, what):
    change, named = BAD_CONFIGS[what]

    code, _, err = insula("bridge", "run", "--config", config(change))

    assert code == Exit.BAD_INPUT
    assert named in err


def test_a_bridge_without_its_chain_says_so(insula, config):
    code, _, err = insula("bridge", "run", "--config", config())

    assert code == Exit.UNREACHABLE
    assert "does not answer" in err


@pytest.mark.chain
def test_a_bridge_for_another_chain_does_not_start(insula, config, devnet):
    path = config(rpc=rpc_of(devnet), chain_id=314, contract=devnet.deployment.bridge)

    code, _, err = insula("bridge", "run", "--config", path)

    assert code == Exit.NOT_SO
    assert "not on chain 314" in err


#: name -> (the address in a configuration, what the message says of it)
CONTRACTS = {
    "nothing": (lambda devnet: ADDRESS, "there is no contract at"),
    "another contract": (lambda devnet: devnet.deployment.registry, "is no ComputeBridge"),
}


@pytest.mark.chain
@pytest.mark.parametrize("what", CONTRACTS)
def test_a_bridge_for_another_contract_does_not_start_and_names_the_key(insula, config, devnet, what):
    address, said = CONTRACTS[what]

    code, _, err = insula(
        "bridge", "run", "--config", config(rpc=rpc_of(devnet), chain_id=31415926, contract=address(devnet))
    )

    err = " ".join(err.split())
    assert code == Exit.BAD_INPUT
    assert "chain.bridge_contract: " in err
    assert said in err
    assert "chain.rpc_url" in err


def rpc_of(chain):
    return str(chain.client.transport.endpoint_uri)
