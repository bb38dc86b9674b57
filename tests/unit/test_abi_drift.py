"""The exported ABIs are those of the Solidity sources, and their bytecode runs on FEVM. No Node needed."""

import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
EXPORTED = ("ComputeBridge", "ComputeLens", "LilypadCaller", "LilypadV0", "NodeRegistry", "ResultBook")
CODE_LIMIT = 24 * 1024  # bytes: EIP-170, and FEVM's MAX_CODE_SIZE
PUSH0, PUSH1, PUSH32 = 0x5F, 0x60, 0x7F
# BLOBHASH and BLOBBASEFEE (EIP-4844, EIP-7516) and CALLCODE are missing in FEVM.
MISSING_ON_FEVM = {0x49, 0x4A, 0xF2}


def load(name):
    return json.loads((ROOT / "bridge" / "chain" / "abi" / f"{name}.json").read_text(encoding="utf-8"))


def source_sha256(contracts):
    """The formula of hardhat/scripts/export-abi.ts: sha256 over the sorted lines of `sha256sum`."""
    paths = (path.relative_to(contracts).as_posix() for path in contracts.rglob("*.sol"))
    kept = sorted(path for path in paths if not path.startswith("mocks/") and not path.endswith(".t.sol"))
    lines = (f"{hashlib.sha256((contracts / path).read_bytes()).hexdigest()}  {path}\n" for path in kept)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def opcodes(code):
    """The opcodes of runtime bytecode: PUSH data is skipped, and so is the metadata tail with its length."""
    end = len(code) - 2 - int.from_bytes(code[-2:], "big")
    at = 0
    while at < end:
        yield code[at]
        at += 1 + (code[at] - PUSH0 if PUSH1 <= code[at] <= PUSH32 else 0)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_abi_is_that_of_the_sources(name):
    hint = "Solidity changed: run `npm run export-abi` in hardhat/ and commit bridge/chain/abi"
    assert load(name)["sourceSha256"] == source_sha256(CONTRACTS), hint


def test_a_changed_an_added_and_a_renamed_source_each_change_the_hash(tmp_path):
    (tmp_path / "A.sol").write_text("contract A {}")
    seen = {source_sha256(tmp_path)}
    (tmp_path / "A.sol").write_text("contract A { }")
    seen.add(source_sha256(tmp_path))
    (tmp_path / "B.sol").write_text("")
    seen.add(source_sha256(tmp_path))
    (tmp_path / "B.sol").rename(tmp_path / "C.sol")
    seen.add(source_sha256(tmp_path))
    assert len(seen) == 4


def test_mocks_and_solidity_tests_do_not_change_the_hash(tmp_path):
    (tmp_path / "A.sol").write_text("contract A {}")
    before = source_sha256(tmp_path)
    (tmp_path / "mocks").mkdir()
    (tmp_path / "mocks" / "M.sol").write_text("contract M {}")
    (tmp_path / "A.t.sol").write_text("contract T {}")
    assert source_sha256(tmp_path) == before


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_says_how_it_was_compiled(name):
    exported = load(name)
    assert sorted(exported) == [
        "abi",
        "bytecode",
        "compiler",
        "contractName",
        "deployedBytecode",
        "settings",
        "sourceSha256",
    ]
    assert exported["contractName"] == name
    assert exported["compiler"].startswith("0.8.28+commit.")
    assert exported["settings"]["evmVersion"] == "cancun"


@pytest.mark.parametrize("name", EXPORTED)
def test_the_bytecode_fits_the_code_limit_and_has_no_opcode_that_fevm_lacks(name):
    code = bytes.fromhex(load(name)["deployedBytecode"].removeprefix("0x"))
    assert 0 < len(code) <= CODE_LIMIT
    assert not MISSING_ON_FEVM & set(opcodes(code))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        pytest.param("4900a20000" + "0002", {0x49, 0x00, 0xA2}, id="a blob opcode in the code is found"),
        pytest.param("60495000" + "0000", {0x60, 0x50, 0x00}, id="the data of PUSH1 is no opcode"),
        pytest.param("7f" + "49" * 32 + "00" + "0000", {0x7F, 0x00}, id="the data of PUSH32 is no opcode"),
        pytest.param("5f49" + "0000", {0x5F, 0x49}, id="PUSH0 has no data"),
        pytest.param("00" + "494a" + "0002", {0x00}, id="the metadata tail is no code"),
    ],
)
def test_the_opcode_walk(code, found):
    assert set(opcodes(bytes.fromhex(code))) == found
