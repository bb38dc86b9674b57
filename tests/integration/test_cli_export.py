"""`insula job export`: files that are verified with no bridge and no network; damage to them is found and named."""

import base64
import json

import pytest

from bridge.cli.output import Exit
from executor.protocol.bundle import parse_bundle
from executor.protocol.dsse import envelope_digest
from executor.protocol.reasons import Reason
from executor.protocol.signing import recover_digest
from executor.protocol.wire import Outcome, Status
from tests.bundles import CONTRACT, KEYS, attest, changed, settled, with_attestation, with_order

ANCHORS = ("--contract", CONTRACT, "--node-key", KEYS[0].address)


@pytest.fixture
def job(tmp_path):
    """A settled job whose content is in the command line's own store."""
    return settled(tmp_path / "home" / "content")


@pytest.fixture
def exported(insula, job, tmp_path):
    """The job as `export --content` writes it, and its store gone: the path of the bundle."""
    source = tmp_path / "source.json"
    source.write_text(job.bundle.model_dump_json())
    out = tmp_path / "away" / "job.json"
    out.parent.mkdir()
    code, answer, _ = insula("job", "export", "--bundle", str(source), "--out", str(out), "--content", "--json")
    assert (code, json.loads(answer)["leftOut"]) == (Exit.OK, [])
    (tmp_path / "home").rename(tmp_path / "gone")
    return out


def verify(insula, path, *words):
    code, out, _ = insula("job", "verify", "--bundle", str(path), "--json", *words)
    return code, json.loads(out)


def test_an_exported_bundle_is_verified_with_its_content_and_nothing_else(insula, exported):
    code, found = verify(insula, exported, *ANCHORS)

    assert (code, found["offline"], found["chain"]) == (Exit.CHAIN_UNCHECKED, "holds", "unasked")
    assert "content file job.json.car" in [check["name"] for check in found["checks"]]


def test_text_tells_what_is_proved_from_what_only_the_chain_says(insula, exported):
    out = insula("job", "verify", "--bundle", str(exported))[1]

    assert "proved offline:" in out
    assert "said by the chain: nothing, it was not asked" in out


def test_a_car_file_elsewhere_is_named_by_content(insula, exported, tmp_path):
    car = exported.with_name("job.json.car").rename(tmp_path / "blocks.car")

    assert verify(insula, exported)[0] == Exit.CONTENT_UNCHECKED
    assert verify(insula, exported, "--content", str(car))[0] == Exit.CHAIN_UNCHECKED


DAMAGE = {
    "a flipped byte": lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
    "a byte less": lambda data: data[:-1],
    "a byte more": lambda data: data + b"\1",
    "a flipped byte of the first block": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_content_file_is_a_failure_that_names_it(insula, exported, how):
    car = exported.with_name("job.json.car")
    car.write_bytes(DAMAGE[how](car.read_bytes()))

    code, found = verify(insula, exported)

    assert code == Exit.NOT_SO
    assert "content file job.json.car" in [check["name"] for check in found["checks"] if check["verdict"] == "fails"]


def test_content_that_nobody_has_is_left_out_and_told(insula, tmp_path):
    source = tmp_path / "source.json"
    source.write_text(settled(tmp_path / "elsewhere").bundle.model_dump_json())

    code, out, _ = insula(
        "job", "export", "--bundle", str(source), "--out", str(tmp_path / "o.json"), "--content", "--json"
    )

    assert (code, len(json.loads(out)["leftOut"])) == (Exit.CONTENT_UNCHECKED, 3)


def test_envelopes_are_written_as_other_tools_read_them(insula, exported, tmp_path):
    code, out, _ = insula("job", "export", "--bundle", str(exported), "--dsse", str(tmp_path / "dsse"), "--json")
    (path,) = json.loads(out)["written"]
    made = json.loads((tmp_path / "dsse" / path.rpartition("/")[2]).read_text())
    payload = base64.b64decode(made["payload"])

    assert code == Exit.OK
    assert payload == parse_bundle(exported.read_bytes()).attestations[0].receipt
    signature = base64.b64decode(made["signatures"][0]["sig"])
    assert recover_digest(envelope_digest(payload), signature) == made["signatures"][0]["keyid"] == KEYS[0].address


def test_a_crate_has_the_outputs_files_and_a_bundle_that_holds(insula, exported, tmp_path):
    crate = tmp_path / "crate"

    code, _, _ = insula("job", "export", "--bundle", str(exported), "--ro-crate", str(crate))

    metadata = json.loads((crate / "ro-crate-metadata.json").read_text())
    names = {entity["@id"] for entity in metadata["@graph"]}
    assert (code, (crate / "output/outputs/report.json").read_bytes()) == (Exit.OK, b'{"lines":42}')
    for path in crate.rglob("*"):
        if path.is_file() and path.name != "ro-crate-metadata.json":
            assert path.relative_to(crate).as_posix() in names
    assert verify(insula, crate / "bundle.json")[0] == Exit.CONTENT_UNCHECKED


def test_a_crate_without_the_output_is_not_made(insula, tmp_path):
    source = tmp_path / "source.json"
    source.write_text(settled(tmp_path / "elsewhere").bundle.model_dump_json())

    code, _, err = insula("job", "export", "--bundle", str(source), "--ro-crate", str(tmp_path / "crate"))

    assert (code, "not to be had" in err) == (Exit.BAD_INPUT, True)
    assert not (tmp_path / "crate").exists()
    assert not list(tmp_path.glob(".insula-*"))


def test_a_refused_job_has_no_crate(insula, tmp_path):
    bundle = changed(with_order(settled(tmp_path / "home" / "content").bundle, spec=b"{}"), spec=b"{}")
    bundle = changed(bundle, request_hash=bundle.request.request().hash)
    outcome = Outcome(status=Status.REFUSED, reason=int(Reason.SPEC_MISSING_FIELD))
    word = attest(bundle.request.request(), outcome, 0, [])
    source = tmp_path / "source.json"
    source.write_text(changed(bundle, outcome=outcome.encode(), attestations=(word,)).model_dump_json())

    code, _, err = insula("job", "export", "--bundle", str(source), "--ro-crate", str(tmp_path / "crate"))

    assert (code, "was refused" in err) == (Exit.BAD_INPUT, True)


CALLS = {
    "nothing to write": ((), "--out"),
    "content without a bundle": (("--content", "--dsse", "d"), "--content"),
    "a crate where something is": (("--ro-crate", "."), "--ro-crate"),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_call_that_says_too_little_names_the_option(insula, exported, what):
    words, option = CALLS[what]

    code, _, err = insula("job", "export", "--bundle", str(exported), *words)

    assert (code, option in err) == (Exit.BAD_INPUT, True)


UNTRUE = {
    "a signature that is not the node's": lambda b: with_attestation(b, signature=b"\1" * 64 + b"\x1b"),
    "an envelope that is not the node's": lambda b: with_attestation(b, dsse_signature=b"\1" * 64 + b"\x1b"),
    "a reason that there is not": lambda b: changed(b, outcome=Outcome(status=Status.FAILED, reason=299).encode()),
    "a status that there is not": lambda b: changed(b, outcome=Outcome(status=9).encode()),
    "a receipt that is none": lambda b: with_attestation(b, receipt=b"[]"),
}


@pytest.mark.parametrize("what", UNTRUE)
@pytest.mark.parametrize("option", ["--dsse", "--ro-crate"])
def test_of_a_record_that_does_not_hold_nothing_is_made_that_looks_as_if(insula, job, tmp_path, what, option):
    source = tmp_path / "source.json"
    source.write_text(UNTRUE[what](job.bundle).model_dump_json())

    code, _, err = insula("job", "export", "--bundle", str(source), option, str(tmp_path / "made"))

    assert (code, "does not hold" in err, (tmp_path / "made").exists()) == (Exit.BAD_INPUT, True, False)


def test_a_bundle_of_another_request_than_was_asked_for_is_not_written(insula, exported, tmp_path):
    code, _, err = insula("job", "export", "7", "--bundle", str(exported), "--out", str(tmp_path / "seven.json"))

    assert (code, "you asked for 7" in err, (tmp_path / "seven.json").exists()) == (Exit.BAD_INPUT, True, False)


def test_a_link_that_leads_nowhere_is_no_place_for_a_crate(insula, exported, tmp_path):
    (tmp_path / "crate").symlink_to(tmp_path / "elsewhere")

    code, _, err = insula("job", "export", "--bundle", str(exported), "--ro-crate", str(tmp_path / "crate"))

    assert (code, "exists already" in err) == (Exit.BAD_INPUT, True)
