"""Secrets and private data of an operator, end to end: given to whom they are for, in memory, and not let out again."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.demo.image import build_image_archive
from bridge.demo.programs.build import WASM_TARGET, compile_c, native_target
from executor.agent.service import node_status
from executor.content.blockstore import BlockStore
from executor.content.importer import import_bytes, import_file, import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import read_file, resolve
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import RequestMessage
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import Request, Status
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.mounts import quota_mounts
from executor.sandbox.types import Probe
from executor.sandbox.wasm import WasmSandbox
from tests.agent_kit import endpoint_of, new_node, node_running
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER, order
from tests.docker_engine import docker_engine, needs_root

__all__ = ["docker_engine"]

VALUE = b"s3cr3t-Value-0123456789-abcdefghijk"
STRANGER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
SOURCE = Path(__file__).resolve().parents[1] / "sandbox" / "programs" / "secretive.c"
LIMITS = TreeLimits(10**9)
FORMS = ["plain", "reversed", "hex", "base64", "gzip", "stdout", "stderr", "name"]
TIERS = ["wasm", pytest.param("container", marks=pytest.mark.docker)]


class Chain:
    """An endpoint that knows the hashes of some requests."""

    def __init__(self):
        self.hashes = {}

    def answer(self, call):
        if call["method"] == "eth_chainId":
            return hex(CHAIN_ID)
        number = int(call["params"][0]["data"][10:], 16)
        return f"0x{self.hashes.get(number, bytes(32)).hex()}"

    def running(self):
        return endpoint_of(lambda call: json.dumps({"jsonrpc": "2.0", "id": 1, "result": self.answer(call)}).encode())


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secretive")
    compile_c(SOURCE, folder / "secretive.wasm", WASM_TARGET)
    compile_c(SOURCE, folder / "secretive", native_target())
    image = build_image_archive(folder / "secretive", folder / "secretive.tar", "secretive")
    return folder, image


@pytest.fixture
def chain():
    chain = Chain()
    with chain.running() as chain.url:
        yield chain


@pytest.fixture
def folder(tmp_path, twin, chain):
    new_node(twin, tmp_path / "node", rpc_url=chain.url)
    secret = tmp_path / "node" / "token"
    secret.write_bytes(VALUE + b"\n")
    secret.chmod(0o600)
    return tmp_path / "node"


class ProvedWasm(WasmSandbox):
    """The sandbox itself; its limits are proved in its own tests."""

    def probe(self, cancelled=None):
        return Probe("wasm", usable=True, version="", problem="")


class ProvedDocker(DockerSandbox):
    """As above."""

    def probe(self, cancelled=None):
        return Probe("container", usable=True, version="", problem="")


@contextmanager
def running(folder, *sandboxes):
    with node_running(folder, *(sandboxes or [ProvedWasm()])):
        yield


def offer(twin, chain, spec, *, requester=REQUESTER, known=True, request_id=1, **changes):
    """A lease whose request is `requester`'s; `known`: the chain says so, too."""
    placed = order(spec)
    lease = twin.offer(placed, request_id=request_id, token=request_id, **changes)
    fields = {"chain_id": CHAIN_ID, "contract": CONTRACT, "id": request_id, "deadline": lease.request.deadline}
    request = Request(requester=requester, order=placed, **fields)
    if known:
        chain.hashes[request_id] = request.hash
    changed = {"request": RequestMessage.of(request), "request_hash": request.hash}
    twin.leases[-1] = lease.model_copy(update={**changed, **changes})


def outcome(twin):
    (found,) = twin.wait_for(lambda: twin.attested or twin.returned, 60)
    assert twin.attested, found
    return found.decoded()


def returned(twin):
    (found,) = twin.wait_for(lambda: twin.attested or twin.returned, 60)
    assert twin.returned, found.decoded()
    return found.reason


def policy(folder, **sections):
    lines = []
    for name, keys in sections.items():
        lines += [f"[{name.replace('__', '.')}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    (folder / "policy.toml").write_text("\n".join(lines))


def opened(folder, **changes):
    """A policy that opens the secret `api` to the requester's secretive program."""
    policy(folder, secrets__api={"file": "token", "requesters": [REQUESTER], **changes})


def wasm_spec(twin, programs, *args, **changes):
    module = import_file(twin.blocks, programs[0] / "secretive.wasm", 10**7)
    secrets = [{"name": "api", "path": "/secrets/token"}]
    return {
        "version": "insula/v1",
        "engine": {"type": "wasm", "module": str(module), "args": [*args, "/secrets/token"]},
        "secrets": secrets,
        **changes,
    }


def spec_of(tier, twin, programs, *args):
    spec = wasm_spec(twin, programs, *args)
    if tier == "container":
        archive = import_file(twin.blocks, programs[0] / "secretive.tar", 10**8)
        engine = {"type": "docker", "image": programs[1], "archive": str(archive), "args": spec["engine"]["args"]}
        spec["engine"] = engine
    return spec


def program_of(spec):
    engine = spec["engine"]
    return {"programs": [engine["module"]]} if engine["type"] == "wasm" else {"images": [engine["image"]]}


@pytest.fixture
def sandbox(tier, request):
    needs_root()
    if tier == "wasm":
        return ProvedWasm()
    return ProvedDocker("secrets", base_url=request.getfixturevalue("docker_engine"), accept_escapes=names())


@pytest.mark.parametrize("tier", TIERS)
def test_a_job_reads_its_secret_and_its_output_leaves_without_it(tier, twin, chain, folder, programs, sandbox):
    spec = spec_of(tier, twin, programs, "length")
    opened(folder, **program_of(spec))
    with running(folder, sandbox), capture_logs() as logs:
        offer(twin, chain, spec)
        found = outcome(twin)

    assert found.status == Status.SUCCEEDED
    stdout = resolve(twin.received, Cid.from_binary(found.output_cid), "stdout")
    assert b"".join(read_file(twin.received, stdout, 100)) == b"%d bytes\n" % (len(VALUE) + 1)
    internal = parse_receipt(twin.attested[0].receipt)["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["policy"]["secrets"] == ["api"]
    everything = twin.attested[0].receipt + repr(logs).encode() + (folder / "ledger.db").read_bytes()
    assert VALUE not in everything
    assert [mount for mount in quota_mounts(node_status(folder)["key"]) if mount.path.name == "secrets"] == []


@pytest.mark.parametrize("tier", TIERS)
def test_abuse_a_job_cannot_change_what_it_was_given(tier, twin, chain, folder, programs, sandbox):
    spec = spec_of(tier, twin, programs, "pry")
    opened(folder, **program_of(spec))
    with running(folder, sandbox):
        offer(twin, chain, spec)
        found = outcome(twin)

    stdout = resolve(twin.received, Cid.from_binary(found.output_cid), "stdout")
    assert b"".join(read_file(twin.received, stdout, 100)) == b"refused\n"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tier", TIERS)
def test_abuse_a_secret_hidden_in_an_output_is_withheld(tier, form, twin, chain, folder, programs, sandbox):
    spec = spec_of(tier, twin, programs, form)
    opened(folder, **program_of(spec))
    with running(folder, sandbox), capture_logs() as logs:
        offer(twin, chain, spec)
        found = outcome(twin)

    assert (found.status, found.reason) == (Status.WITHHELD, Reason.AUDIT_RULE)
    assert (found.output_cid, found.payload, found.exit_code) == (b"", b"", 0)
    assert len(twin.received) == 0
    broken = [line for line in logs if line["event"] == "audit rule broken"]
    assert {line["rule"] for line in broken} == {"secrets"}
    assert "secrets" not in json.dumps(parse_receipt(twin.attested[0].receipt)["predicate"]["runDetails"])
    for shown in (VALUE, VALUE[::-1], VALUE.hex().encode()):
        assert shown not in twin.attested[0].receipt + repr(broken).encode()


def test_abuse_a_secret_in_a_files_name_is_not_quoted_in_the_log(twin, chain, folder, programs):
    needs_root()
    spec = wasm_spec(twin, programs, "name")
    policy(
        folder,
        outputs={"denied_names": ["*"]},
        secrets__api={"file": "token", "requesters": [REQUESTER]} | program_of(spec),
    )
    with running(folder, ProvedWasm()), capture_logs() as logs:
        offer(twin, chain, spec)
        found = outcome(twin)

    broken = [line for line in logs if line["event"] == "audit rule broken"]
    assert found.status == Status.WITHHELD
    assert {line["rule"] for line in broken} == {"secrets", "denied_names"}
    assert VALUE.hex() not in repr(logs)


DENIED = {
    "abuse: nobody is named": lambda spec: {"requesters": [], **program_of(spec)},
    "abuse: no program is named": lambda spec: {},
    "abuse: another requester": lambda spec: {"requesters": [STRANGER], **program_of(spec)},
    "abuse: another module": lambda spec: {"programs": [str(Cid.of(RAW, b"another"))]},
    "abuse: another callback": lambda spec: {"contracts": [STRANGER], **program_of(spec)},
}


@pytest.mark.parametrize("row", DENIED)
def test_a_secret_that_does_not_open_to_a_job_ends_it_before_it_runs(row, twin, chain, folder, programs):
    spec = wasm_spec(twin, programs, "length")
    opened(folder, **DENIED[row](spec))
    with running(folder):
        offer(twin, chain, spec)
        assert returned(twin) == Reason.POLICY

    assert list((folder / "executions").iterdir()) == []


def test_abuse_a_secret_that_nobody_has_is_refused_in_the_same_words(twin, chain, folder, programs):
    spec = wasm_spec(twin, programs, "length")
    policy(folder, data__none={"cids": [str(Cid.of(RAW, b"x"))]})
    with running(folder):
        offer(twin, chain, spec)
        assert returned(twin) == Reason.POLICY

    assert twin.returned[0].detail == "the secret api does not open to this job"


#: a policy that lets in the requester alone, by what it does so
NAMED = {
    "requesters": lambda folder, spec, root: (folder / "policy.toml").write_text(f'requesters_allow = ["{REQUESTER}"]'),
    "a class of data": lambda folder, spec, root: policy(
        folder, data__medical={"cids": [root], "requesters": [REQUESTER], **program_of(spec)}
    ),
    "a secret": lambda folder, spec, root: opened(folder, **program_of(spec)),
}


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("recomputed", [True, False], ids=["hash recomputed", "hash of the true request"])
def test_abuse_a_bridge_that_forges_the_requester_gets_nothing(named, recomputed, twin, chain, folder, programs):
    root = import_bytes(BlockStore(folder / "content"), b"private")
    import_bytes(twin.blocks, b"private")
    spec = wasm_spec(twin, programs, "length", inputs=[{"cid": str(root), "path": "/inputs/x"}])
    NAMED[named](folder, spec, str(root))
    offer(twin, chain, spec, requester=STRANGER)  # who really asks
    true = twin.leases.pop()
    offer(twin, chain, spec, known=False)  # who the bridge says does
    if not recomputed:
        twin.leases[-1] = twin.leases[-1].model_copy(update={"request_hash": true.request_hash})
    with running(folder):
        assert returned(twin) == Reason.REQUEST_NOT_ON_CHAIN

    assert node_status(folder)["signed"] == 0
    assert list((folder / "executions").iterdir()) == []


def private(folder, **changes):
    """Private data in the node's store, and a class that opens it; the root, and the CID of one file in it."""
    store = BlockStore(folder / "content")
    root = import_listing(store, {"scans/one": b"scan one", "scans/two": b"scan two"}, LIMITS)
    policy(folder, data__medical={"cids": [str(root)], **changes})
    return root, resolve(store, root, "scans/one")


def input_spec(twin, programs, cid):
    spec = wasm_spec(twin, programs, inputs=[{"cid": str(cid), "path": "/inputs/x"}])
    del spec["secrets"]
    spec["engine"]["args"] = ["length", "/inputs/x"]
    return spec


def test_private_data_opens_to_the_job_that_is_named_without_asking_the_bridge(twin, chain, folder, programs):
    spec = input_spec(twin, programs, Cid.of(RAW, b"scan one"))
    private(folder, requesters=[REQUESTER], **program_of(spec))
    with running(folder):
        offer(twin, chain, spec)
        found = outcome(twin)

    assert found.status == Status.SUCCEEDED
    internal = parse_receipt(twin.attested[0].receipt)["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["policy"]["privateData"] == ["medical"]


WAYS = {
    "abuse: the root": lambda twin, root, file: root,
    "abuse: a file in it": lambda twin, root, file: file,
    "abuse: a folder built around it": lambda twin, root, file: import_listing(
        twin.blocks, {"mine": b"mine", "theirs": b"scan one"}, LIMITS
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_private_data_opens_to_nobody_else(way, twin, chain, folder, programs):
    root, file = private(folder, requesters=[STRANGER], programs=[str(Cid.of(RAW, b"other"))])
    spec = input_spec(twin, programs, WAYS[way](twin, root, file))
    with running(folder):
        offer(twin, chain, spec)
        assert returned(twin) == Reason.POLICY

    assert "medical" not in twin.returned[0].detail


def test_abuse_private_data_as_a_spec_is_not_quoted(twin, chain, folder, programs):
    _, file = private(folder, requesters=[REQUESTER])
    placed = order(file.binary, spec_is_cid=True)
    lease = twin.offer(placed)
    chain.hashes[1] = lease.request_hash
    with running(folder):
        assert returned(twin) == Reason.POLICY


def test_abuse_what_was_cached_for_another_job_is_read_only_if_the_bridge_opens_it(twin, chain, folder, programs):
    cid = import_bytes(BlockStore(folder / "content"), b"somebody's private upload")
    spec = input_spec(twin, programs, cid)
    with running(folder):
        offer(twin, chain, spec)
        assert returned(twin) == Reason.INPUT_NOT_FOUND


def test_a_class_may_ask_for_people(twin, chain, folder, programs, insula):
    spec = input_spec(twin, programs, Cid.of(RAW, b"scan one"))
    private(folder, requesters=[REQUESTER], **program_of(spec))
    text = (folder / "policy.toml").read_text()
    release = f'[data.medical.release]\nmode = "person"\nsigners = ["{STRANGER}"]\nwait_seconds = 2\n'
    (folder / "policy.toml").write_text(f"{text}\n{release}")
    with running(folder):
        offer(twin, chain, spec)
        found = outcome(twin)

    assert (found.status, found.reason) == (Status.WITHHELD, Reason.RELEASE_TIMEOUT)
    internal = parse_receipt(twin.attested[0].receipt)["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["policy"]["release"] == "person"
