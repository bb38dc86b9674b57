"""Verification finds each thing that is not as it was signed, and names it."""

import pytest

from bridge.errors import RpcRefused
from bridge.verify import Layered, check_anchors, check_bundle, check_content
from bridge.verify_chain import check_chain
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.errors import BlockMismatch, BlockMissing, CarError, ContentTooLarge, PeerRefused, PeerUnavailable
from executor.protocol.canonical import canonical_json
from executor.protocol.cid import RAW, Cid
from executor.protocol.conversions import report
from executor.protocol.dialects.report import report_hash
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import Dialect, Outcome, ResultKind, Status
from tests.bundles import CONTRACT, changed, settled, with_attestation, with_order


def flip(data, at=-1):
    """The bytes with one bit of one byte changed."""
    damaged = bytearray(data)
    damaged[at] ^= 1
    return bytes(damaged)


def failures(checks):
    return [check.name for check in checks if check.failed]


def rehashed(bundle):
    """With the request hash that goes with the order."""
    return changed(bundle, request_hash=bundle.request.request().hash)


def said_otherwise(change):
    """The bundle with its first receipt changed as JSON."""

    def tamper(bundle):
        receipt = parse_receipt(bundle.attestations[0].receipt)
        change(receipt)
        return with_attestation(bundle, receipt=canonical_json(receipt))

    return tamper


def definition(receipt):
    return receipt["predicate"]["buildDefinition"]


def said_of_the_outcome(receipt):
    return receipt["predicate"]["runDetails"]["byproducts"][0]["annotations"]


@pytest.fixture
def job(tmp_path):
    return settled(tmp_path / "store")


def open_checks(checks):
    return [check.name for check in checks if not check.checked]


def nowhere(cid, store):
    """A gateway that does not have it, or does not show it."""
    raise PeerRefused(404, "not here")


def content_failures(job, tmp_path):
    return failures(check_content(job.bundle, job.fetch, BlockStore(tmp_path / "fetched")))


def test_an_untouched_request_passes_every_check(job, tmp_path):
    assert failures(check_bundle(job.bundle)) == []
    assert content_failures(job, tmp_path) == []


def test_a_request_in_the_dialect_of_lilypad_v0_passes_every_check(tmp_path):
    job = settled(tmp_path / "store", dialect=Dialect.BACALHAU_V1BETA)

    assert failures(check_bundle(job.bundle)) == []
    assert content_failures(job, tmp_path) == []


def test_a_receipt_that_tells_of_another_conversion_is_named(tmp_path):
    bundle = settled(tmp_path, dialect=Dialect.BACALHAU_V1BETA).bundle
    receipt = parse_receipt(bundle.attestations[0].receipt)
    conversion = receipt["predicate"]["buildDefinition"]["internalParameters"]["conversion"]
    due = conversion["reportSha256"]
    conversion["reportSha256"] = "00" * 32

    found = check_bundle(with_attestation(bundle, receipt=canonical_json(receipt)))

    (told,) = [check.detail for check in found if check.name == "receipt of node 1"]
    assert told == (
        "tells of another conversion of the spec than its dialect has: "
        f"conversion.reportSha256 is '{'00' * 32}'; from the spec it is '{due}'"
    )


def test_a_verdict_tells_the_hash_of_the_conversions_report(tmp_path):
    bundle = settled(tmp_path, dialect=Dialect.BACALHAU_V1BETA).bundle
    due = report_hash(report(bundle.spec, 1, Dialect.BACALHAU_V1BETA)).hex()

    (found,) = [check for check in check_bundle(bundle) if check.name == "receipt of node 1"]

    assert found.ok
    assert found.detail.endswith(f"; conversion report {due}")


def test_a_receipt_from_before_reports_is_right_as_it_is(tmp_path):
    bundle = settled(tmp_path, dialect=Dialect.BACALHAU_V1BETA).bundle
    receipt = parse_receipt(bundle.attestations[0].receipt)
    conversion = receipt["predicate"]["buildDefinition"]["internalParameters"]["conversion"]
    del conversion["format"], conversion["reportSha256"]

    found = check_bundle(with_attestation(bundle, receipt=canonical_json(receipt)))

    assert [(check.ok, check.detail) for check in found if check.name == "receipt of node 1"] == [
        (True, "names the request, the outcome and 2 inputs")
    ]


def test_a_record_from_before_envelopes_and_proofs_leaves_its_place_in_the_log_open(job):
    checks = check_bundle(with_attestation(job.bundle, dsse_signature=None, log_proof=None))

    assert (failures(checks), open_checks(checks)) == ([], ["log of node 1"])


NO_QUORUM = {
    "one node's word twice, as if of another operator": (
        3,
        lambda b: changed(
            b,
            attestations=(
                b.attestations[0],
                b.attestations[0].model_copy(update={"operator": "0x" + "77" * 20, "node_id": 2}),
            ),
        ),
        "a key is there twice",
    ),
    "two words for one slot": (
        3,
        lambda b: with_attestation(b, slot=2),
        "a slot is there twice",
    ),
    "a slot that the order does not have": (1, lambda b: with_attestation(b, slot=2), "the order has no slot 2"),
    "an order that asks for nobody's word": (
        1,
        lambda b: changed(rehashed(with_order(b, quorum=0)), attestations=()),
        "no contract takes an order of 0 of 1 nodes",
    ),
    "an order that a minority decides": (
        3,
        lambda b: rehashed(with_order(b, quorum=1)),
        "no contract takes an order of 1 of 3 nodes",
    ),
    "an order that asks for more than it has": (
        1,
        lambda b: rehashed(with_order(b, quorum=2)),
        "no contract takes an order of 2 of 1 nodes",
    ),
}


@pytest.mark.parametrize("how", NO_QUORUM)
def test_what_is_no_quorum_does_not_pass_for_one(tmp_path, how):
    nodes, tamper, why = NO_QUORUM[how]

    (found,) = [c for c in check_bundle(tamper(settled(tmp_path, nodes=nodes).bundle)) if c.name == "quorum"]

    assert (found.failed, why in found.detail) == (True, True)


SAID_OTHERWISE = {
    "subject": lambda receipt: receipt["subject"][0]["digest"].update(sha256="00" * 32),
    "subject, left out": lambda receipt: receipt.pop("subject"),
    "predicateType": lambda receipt: receipt.update(predicateType="https://example.org/vsa"),
    "buildType": lambda receipt: definition(receipt).update(buildType="urn:other"),
    "externalParameters": lambda receipt: definition(receipt)["externalParameters"].update(specSha256="00" * 32),
    "byproducts.outcome": lambda receipt: said_of_the_outcome(receipt).update(exitCode=3),
}


@pytest.mark.parametrize("what", SAID_OTHERWISE)
def test_a_receipt_that_says_another_thing_than_the_request_and_outcome_it_names_is_found(job, what):
    checks = check_bundle(said_otherwise(SAID_OTHERWISE[what])(job.bundle))

    (found,) = [check for check in checks if check.name == "receipt of node 1"]
    assert found.failed
    assert what.partition(",")[0] in found.detail or "has another form" in found.detail


def test_three_nodes_that_agree_pass(tmp_path):
    assert failures(check_bundle(settled(tmp_path, nodes=3).bundle)) == []


TAMPERED = {
    "a byte of the request hash": (lambda b: changed(b, request_hash=flip(b.request_hash)), {"request hash"}),
    "a byte of the receipt": (
        lambda b: with_attestation(b, receipt=flip(b.attestations[0].receipt)),
        {"signature of node 1", "envelope of node 1", "log of node 1", "receipt of node 1"},
    ),
    "a time in the receipt": (
        lambda b: with_attestation(b, receipt=b.attestations[0].receipt.replace(b"2023-11-14", b"2023-11-15")),
        {"signature of node 1", "envelope of node 1", "log of node 1"},
    ),
    "the envelope's signature": (
        lambda b: with_attestation(b, dsse_signature=flip(b.attestations[0].dsse_signature, 0)),
        {"envelope of node 1"},
    ),
    "the form of the envelope's signature": (
        lambda b: with_attestation(b, dsse_signature=b.attestations[0].dsse_signature[:64] + b"\x1d"),
        {"envelope of node 1"},
    ),
    "a hash of the log's proof": (
        lambda b: with_attestation(b, log_proof=(flip(b.attestations[0].log_proof[0]),)),
        {"log of node 1"},
    ),
    "the log's proof, cut": (lambda b: with_attestation(b, log_proof=()), {"log of node 1"}),
    "the signature's r": (
        lambda b: with_attestation(b, signature=flip(b.attestations[0].signature, 0)),
        {"signature of node 1"},
    ),
    "the signature's v": (
        lambda b: with_attestation(b, signature=b.attestations[0].signature[:64] + b"\x1d"),
        {"signature of node 1"},
    ),
    "the log root": (
        lambda b: with_attestation(b, log_root=flip(b.attestations[0].log_root)),
        {"signature of node 1", "log of node 1"},
    ),
    "the log size": (lambda b: with_attestation(b, log_size=6), {"signature of node 1", "log of node 1"}),
    "the relayer": (
        lambda b: with_attestation(b, relayer="0x" + "99" * 20),
        {"signature of node 1"},
    ),
    "the key": (
        lambda b: with_attestation(b, key="0x" + "99" * 20),
        {"signature of node 1", "envelope of node 1", "receipt of node 1"},
    ),
    "no attestation at all": (lambda b: changed(b, attestations=()), {"quorum"}),
    "one operator twice": (
        lambda b: changed(b, attestations=b.attestations * 2),
        {"quorum"},
    ),
    "the slot": (lambda b: with_attestation(b, slot=2), {"quorum", "receipt of node 1"}),
    "another spec": (lambda b: changed(b, spec=b.spec + b" "), {"spec", "receipt of node 1"}),
    "an order with another price": (
        lambda b: with_order(b, unit_price=1),
        {"request hash", "signature of node 1", "receipt of node 1"},
    ),
    "an exit code": (
        lambda b: changed(b, outcome=Outcome(status=Status.FAILED, exit_code=3).encode()),
        {"outcome", "signature of node 1", "receipt of node 1"},
    ),
    "a refusal of a valid spec": (
        lambda b: changed(b, outcome=Outcome(status=Status.REFUSED, reason=101).encode()),
        {"spec", "signature of node 1", "receipt of node 1"},
    ),
    "an outcome that does not decode": (lambda b: changed(b, outcome=b"\xff" * 40), {"bundle"}),
}


@pytest.mark.parametrize("change", TAMPERED)
def test_what_was_tampered_with_is_named(job, change):
    tamper, expected = TAMPERED[change]

    assert set(failures(check_bundle(tamper(job.bundle)))) == expected


@pytest.mark.parametrize("part", ["module", "data", "output"])
def test_a_flipped_byte_of_stored_content_is_found_and_named(job, tmp_path, part):
    cid = getattr(job, part)
    path = next((job.store.root / "blocks").rglob(str(cid)))
    path.chmod(0o600)
    path.write_bytes(flip(path.read_bytes()))

    checks = [c for c in check_content(job.bundle, job.fetch, BlockStore(tmp_path / "fetched")) if not c.ok]

    assert [check.name for check in checks] == ["output" if part == "output" else f"input {cid}"]
    assert str(cid) in checks[0].detail


def test_a_missing_block_deep_in_an_input_is_named(job, tmp_path):
    leaf = next(
        cid for cid in job.store if cid.codec == Cid.parse(str(job.module)).codec and job.store.stat(cid).size == 2**20
    )
    job.store.delete(leaf)

    checks = [c for c in check_content(job.bundle, job.fetch, BlockStore(tmp_path / "fetched")) if not c.ok]

    assert str(leaf) in checks[0].detail


NOT_TO_BE_HAD = {
    "a gateway that does not show it": PeerRefused(404, "not here"),
    "a gateway that is silent": PeerUnavailable("no answer"),
    "more than the verifier takes": ContentTooLarge("bytes", 1),
}


@pytest.mark.parametrize("why", NOT_TO_BE_HAD)
def test_content_that_cannot_be_had_is_left_open_and_accuses_nobody(job, tmp_path, why):
    def fetch(cid, store):
        raise NOT_TO_BE_HAD[why]

    checks = [*check_content(job.bundle, fetch, BlockStore(tmp_path / "fetched"))]

    assert failures(checks) == []
    assert open_checks(checks) == [f"input {job.module}", f"input {job.data}", "output"]
    assert str(NOT_TO_BE_HAD[why]) in checks[0].detail


def test_a_gateway_that_sends_other_bytes_is_a_failure(job, tmp_path):
    def fetch(cid, store):
        raise CarError(f"block {cid} does not hash to its CID")

    assert len(failures(check_content(job.bundle, fetch, BlockStore(tmp_path / "fetched")))) == 3


def test_what_the_verifier_has_himself_needs_no_gateway(job, tmp_path):
    blocks = Layered([BlockStore(tmp_path / "none", create=False), job.store], BlockStore(tmp_path / "scratch"))

    assert [c for c in check_content(job.bundle, nowhere, blocks) if not c.ok] == []
    assert list(blocks._scratch) == []
    assert not (tmp_path / "none").exists()


def test_a_damaged_block_of_the_verifiers_own_is_fetched_anew(job, tmp_path):
    good = settled(tmp_path / "good")
    damage(job.store, job.data)
    blocks = Layered([job.store], BlockStore(tmp_path / "scratch"))

    assert [c for c in check_content(job.bundle, good.fetch, blocks) if not c.ok] == []


def test_a_damaged_block_that_nobody_replaces_is_a_failure(job, tmp_path):
    damage(job.store, job.data)
    blocks = Layered([job.store], BlockStore(tmp_path / "scratch"))

    assert failures(check_content(job.bundle, nowhere, blocks)) == [f"input {job.data}"]


def test_layers_are_read_in_order_and_only_the_last_is_written():
    first, last = MemoryBlocks(), MemoryBlocks()
    blocks = Layered([first], last)
    cid, data = Cid.of(RAW, b"x"), b"x"
    with pytest.raises(BlockMissing):
        blocks.get(cid)

    assert blocks.put_many([(cid, data)]) == 1
    assert (blocks.get(cid), blocks.has(cid), first.has(cid)) == (data, True, False)
    with pytest.raises(BlockMismatch):
        blocks.put_many([(cid, b"y")])


def damage(store, cid):
    path = next((store.root / "blocks").rglob(str(cid)))
    path.chmod(0o600)
    path.write_bytes(flip(path.read_bytes()))


def test_a_payload_that_is_not_the_outputs_stdout_is_found(job, tmp_path):
    outcome = Outcome.decode(job.bundle.outcome)
    lie = Outcome(status=outcome.status, output_cid=outcome.output_cid, payload=b"43 lines\n")
    job.bundle = changed(job.bundle, outcome=lie.encode())

    assert content_failures(job, tmp_path) == ["payload"]


def manifest_said(receipt):
    return receipt["predicate"]["runDetails"]["byproducts"][1]["annotations"]


MANIFESTS = {
    "another size": lambda said: said["entries"][1].update(size=1),
    "a file less": lambda said: said["entries"].pop(),
    "a file more": lambda said: said["entries"].append({"path": "z", "type": "file", "size": 1, "cid": "x"}),
    "none at all": lambda said: said.pop("entries"),
    "one of words": lambda said: said.update(entries=["x"]),
    "files left out that there are not": lambda said: said["entries"].append({"omitted": 1}),
    "a number of files left out that is not so": lambda said: said.update(entries=[said["entries"][0], {"omitted": 1}]),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_receipt_that_lists_other_files_than_the_outputs_is_found(job, tmp_path, what):
    job.bundle = said_otherwise(lambda receipt: MANIFESTS[what](manifest_said(receipt)))(job.bundle)

    assert content_failures(job, tmp_path) == ["manifest of node 1"]


def test_a_receipt_may_leave_out_the_last_rows_of_a_manifest(job, tmp_path):
    def cut(receipt):
        said = manifest_said(receipt)
        said["entries"] = [*said["entries"][:1], {"omitted": len(said["entries"]) - 1}]

    job.bundle = said_otherwise(cut)(job.bundle)

    assert content_failures(job, tmp_path) == []


def test_an_exit_code_payload_is_its_decimal_digits(tmp_path):
    job = settled(tmp_path / "store", result_kind=ResultKind.EXIT_CODE)
    outcome = Outcome.decode(job.bundle.outcome)
    job.bundle = changed(
        job.bundle, outcome=Outcome(status=1, exit_code=0, output_cid=outcome.output_cid, payload=b"0").encode()
    )

    assert content_failures(job, tmp_path) == []


ANCHORS = {
    "its id": ({"asked": "3"}, []),
    "its hash": ({"asked": "HASH"}, []),
    "another id": ({"asked": "4"}, ["asked for"]),
    "another hash": ({"asked": "0x" + "00" * 32}, ["asked for"]),
    "its contract": ({"contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3"}, []),
    "another contract": ({"contract": "0x" + "11" * 20}, ["contract"]),
    "its chain": ({"chain_id": 31415926}, []),
    "another chain": ({"chain_id": 314}, ["chain"]),
    "chain 0": ({"chain_id": 0}, ["chain"]),
    "another key": ({"keys": ["0x" + "11" * 20]}, ["node keys"]),
    "nothing": ({}, []),
}


@pytest.mark.parametrize("what", ANCHORS)
def test_a_bundle_has_to_be_the_one_that_was_asked_for(job, what):
    named, expected = ANCHORS[what]
    anchors = {"asked": "", "contract": "", "keys": [], "chain_id": None} | named
    if anchors["asked"] == "HASH":
        anchors["asked"] = f"0x{job.bundle.request_hash.hex()}"

    assert failures(check_anchors(job.bundle, **anchors)) == expected


def test_a_receipt_of_another_shape_is_a_failed_check_and_no_crash(job):
    for text in (b"[]", b"{}", b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"buildDefinition":"x"}}'):
        assert "receipt of node 1" in failures(check_bundle(with_attestation(job.bundle, receipt=text)))


def test_an_outcome_of_an_unknown_status_is_a_failed_check_and_no_crash(job):
    assert "outcome" in failures(check_bundle(changed(job.bundle, outcome=Outcome(status=9).encode())))


def test_a_spec_that_is_none_is_a_failed_check_and_no_error(job, tmp_path):
    bundle = with_order(job.bundle, spec=b"not json")
    bundle = changed(bundle, spec=b"not json")

    assert "spec" in failures(check_bundle(bundle))
    assert isinstance(failures(check_content(bundle, job.fetch, BlockStore(tmp_path / "fetched"))), list)


class NoHistory:
    """An endpoint that keeps no logs as old as these, as most of Filecoin do."""

    def chain_id(self):
        return 31415926

    def code(self, address):
        return b"\1"

    def call(self, *_args, **_more):
        raise RpcRefused(-32000, "lookbacks of more than 16h40m0s are disallowed")

    logs_by_range = call


def test_what_an_endpoint_cannot_say_is_open_and_accuses_nobody(job):
    checks = [*check_chain(job.bundle, NoHistory(), CONTRACT)]

    assert failures(checks) == []
    assert open_checks(checks) == ["request event", "result", "result event", "registration of node 1"]


def test_a_contract_is_named_with_its_chain_as_the_same_address_is_on_many(job):
    (found,) = check_anchors(job.bundle, asked="", contract=CONTRACT, keys=())

    assert "on chain 31415926" in found.detail
