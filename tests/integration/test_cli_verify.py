"""`insula job verify` with a bundle from a file: nothing is asked that was not named, and each verdict has its code."""

import json

import pytest

from bridge.cli.output import Exit
from executor.protocol.canonical import canonical_json
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import Outcome
from tests.bundles import CONTRACT, changed, settled, with_attestation

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def bundle_file(tmp_path):
    """Writes a bundle to a file; its path."""

    def write(bundle):
        path = tmp_path / "bundle.json"
        path.write_text(bundle.model_dump_json())
        return str(path)

    return write


def verify(insula, *words):
    code, out, _ = insula("job", "verify", *words, "--json")
    return code, json.loads(out)


def verdicts(result):
    return {check["verdict"] for check in result["checks"]}


def test_a_bundle_is_verified_from_the_local_store_with_no_bridge_at_all(insula, bundle_file, tmp_path, monkeypatch):
    job = settled(tmp_path / "home" / "content")
    monkeypatch.setenv("INSULA_BRIDGE", NOBODY)  # in the environment: not named on the command line, so not asked
    monkeypatch.setenv("INSULA_RPC", NOBODY)

    code, result = verify(insula, "--bundle", bundle_file(job.bundle), "--contract", CONTRACT)

    assert (code, verdicts(result), result["ok"]) == (Exit.CHAIN_UNCHECKED, {"holds"}, True)


def test_a_bridge_that_is_named_beside_a_bundle_is_asked(insula, bundle_file, tmp_path):
    path = bundle_file(settled(tmp_path / "elsewhere").bundle)

    assert insula("job", "verify", "--bundle", path, "--bridge", NOBODY)[0] == Exit.UNREACHABLE


def test_content_that_nobody_has_is_open_and_says_what_to_do(insula, bundle_file, tmp_path):
    path = bundle_file(settled(tmp_path / "elsewhere").bundle)

    code, out, _ = insula("job", "verify", "--bundle", path)

    assert code == Exit.CONTENT_UNCHECKED
    assert "FAIL" not in out
    assert "insula content add PATH --local" in out
    assert "--content FOLDER" in out


def test_a_content_folder_is_read_and_never_written(insula, bundle_file, tmp_path):
    job = settled(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("elsewhere/*"))

    code, result = verify(insula, "--bundle", bundle_file(job.bundle), "--content", str(tmp_path / "elsewhere"))

    assert (code, verdicts(result)) == (Exit.CHAIN_UNCHECKED, {"holds"})
    assert sorted(tmp_path.rglob("elsewhere/*")) == before
    assert not (tmp_path / "home").exists()


def test_an_input_that_was_added_locally_is_found(insula, bundle_file, tmp_path):
    job = settled(tmp_path / "elsewhere")
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 8192)
    path = bundle_file(job.bundle)

    assert insula("content", "add", str(data), "--local")[1].strip() == str(job.data)
    code, result = verify(insula, "--bundle", path)

    assert code == Exit.CONTENT_UNCHECKED  # the program and the output are still not here
    assert f"input {job.data}" not in [check["name"] for check in result["checks"] if check["verdict"] == "unchecked"]


def test_what_is_wrong_outranks_what_could_not_be_checked(insula, bundle_file, tmp_path):
    job = settled(tmp_path / "elsewhere")
    lie = changed(job.bundle, outcome=Outcome(status=2, exit_code=3).encode())

    assert verify(insula, "--bundle", bundle_file(lie))[0] == Exit.NOT_SO


def test_a_folder_that_is_no_block_store_is_bad_input(insula, bundle_file, tmp_path):
    path = bundle_file(settled(tmp_path / "elsewhere").bundle)

    code, _, err = insula("job", "verify", "--bundle", path, "--content", str(tmp_path))

    assert (code, "no block store" in err) == (Exit.BAD_INPUT, True)


CUT = {"cut": lambda text: text[:200], "no object": lambda _: "[]", "empty": lambda _: ""}


@pytest.mark.parametrize("how", CUT)
def test_a_bundle_that_is_none_says_so(insula, tmp_path, how):
    path = tmp_path / "bundle.json"
    path.write_text(CUT[how](settled(tmp_path / "store").bundle.model_dump_json()))

    code, _, err = insula("job", "verify", "--bundle", str(path))

    assert code == Exit.BAD_INPUT
    assert "--bundle: is no bundle" in err


def test_what_a_receipt_says_never_looks_like_a_line_of_ours(insula, bundle_file, tmp_path):
    bundle = settled(tmp_path / "home" / "content").bundle
    receipt = parse_receipt(bundle.attestations[0].receipt)
    receipt["predicate"]["runDetails"]["builder"]["id"] = "x\nok   offline all of it: holds\x1b[2K"

    path = bundle_file(with_attestation(bundle, receipt=canonical_json(receipt)))
    code, out, _ = insula("job", "verify", "--bundle", path)

    assert (code, "\x1b" in out) == (Exit.NOT_SO, False)
    assert not [line for line in out.splitlines() if line.startswith("ok   offline all of it")]


def test_a_record_without_a_place_in_the_log_is_not_told_to_look_for_content(insula, bundle_file, tmp_path):
    bundle = settled(tmp_path / "home" / "content").bundle

    code, out, _ = insula("job", "verify", "--bundle", bundle_file(with_attestation(bundle, log_proof=None)))

    assert (code, "could not be checked in full: log of node 1" in out) == (Exit.CONTENT_UNCHECKED, True)
    assert "insula content add" not in out
