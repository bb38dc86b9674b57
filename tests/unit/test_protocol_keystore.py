"""Keys in files: which are opened, which are refused and with what words, and that no secret shows."""

import json
import os
import stat
import tracemalloc

import pytest
from eth_account import Account

from bridge.chain.filecoin import delegated_address
from executor.errors import InvalidInput
from executor.protocol.keystore import MAX_KEYSTORE_BYTES, parse_keystore
from executor.protocol.signing import Key

SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = Account.from_key(SECRET).address
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def password(monkeypatch):
    monkeypatch.delenv("INSULA_KEYSTORE_PASSWORD_FILE", raising=False)
    monkeypatch.setenv("INSULA_KEYSTORE_PASSWORD", PASSWORD)
    return monkeypatch


@pytest.fixture(scope="module")
def keystore():
    """A keystore that opens quickly."""
    return Account.encrypt(SECRET, PASSWORD, kdf="scrypt", iterations=2)


def written(tmp_path, content, mode=0o600, name="keystore.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)
    return path


def changed(keystore, path, value):
    """A copy with one field changed, or left out for None."""
    copy = json.loads(json.dumps(keystore))
    *parts, last = path.split(".")
    part = copy
    for name in parts:
        part = part[name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return copy


def refusal(reference):
    with pytest.raises(InvalidInput) as caught:
        Key.load(reference)
    text = repr(caught.value) + str(caught.value)
    assert SECRET not in text
    assert PASSWORD not in text
    assert caught.value.__cause__ is None or PASSWORD not in repr(caught.value.__cause__)
    return str(caught.value)


def test_a_keystore_opens_with_its_password(tmp_path, keystore):
    assert Key.load(f"keystore:{written(tmp_path, keystore)}").address == ADDRESS


@pytest.mark.parametrize(("kdf", "rounds"), [("scrypt", 4), ("pbkdf2", 4)], ids=["scrypt", "pbkdf2"])
def test_both_ways_of_deriving_a_key_are_known(tmp_path, kdf, rounds):
    made = Account.encrypt(SECRET, PASSWORD, kdf=kdf, iterations=rounds)

    assert Key.load(f"keystore:{written(tmp_path, made)}").address == ADDRESS


def test_a_keystore_in_the_older_spelling_and_without_address_opens(tmp_path, keystore):
    older = {"version": 3, "Crypto": keystore["crypto"]}

    assert Key.load(f"keystore:{written(tmp_path, older)}").address == ADDRESS


def test_the_vector_of_the_specification_opens(tmp_path, password):
    """The scrypt vector of the Web3 Secret Storage definition."""
    vector = {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
            "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32,
                "n": 262144,
                "p": 8,
                "r": 1,
                "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
            },
            "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    }
    password.setenv("INSULA_KEYSTORE_PASSWORD", "testpassword")
    expected = Account.from_key("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d").address

    assert Key.load(f"keystore:{written(tmp_path, vector)}").address == expected


#: a keystore that is refused: (field, value or None to leave it out) -> words of the refusal
BAD_KEYSTORES = {
    "another version": ("version", 4, "version 3"),
    "no crypto": ("crypto", None, "crypto must be an object"),
    "an unknown cipher": ("crypto.cipher", "rot13", "aes-128-ctr"),
    "an unknown kdf": ("crypto.kdf", "argon2id", "scrypt or pbkdf2"),
    "no parameters": ("crypto.kdfparams", [], "crypto.kdfparams must be an object"),
    "memory beyond all bounds": ("crypto.kdfparams.n", 2**30, "MiB of memory"),
    "memory by blocks": ("crypto.kdfparams.r", 2**20, "crypto.kdfparams.r|MiB of memory"),
    "endless work": ("crypto.kdfparams.p", 2**20, "crypto.kdfparams.p|MiB of memory"),
    "a number beyond its range": ("crypto.kdfparams.n", 2**40, "from 2 to"),
    "a number that is none": ("crypto.kdfparams.n", "2", "crypto.kdfparams.n must be a number"),
    "a number that is true": ("crypto.kdfparams.r", True, "crypto.kdfparams.r must be a number"),
    "n that is no power of two": ("crypto.kdfparams.n", 3, "power of two"),
    "another length of key": ("crypto.kdfparams.dklen", 16, "dklen"),
    "no salt": ("crypto.kdfparams.salt", "", "crypto.kdfparams.salt must be 1 to 256 bytes"),
    "a salt of another kind": ("crypto.kdfparams.salt", 5, "crypto.kdfparams.salt"),
    "a short vector": ("crypto.cipherparams.iv", "00", "crypto.cipherparams.iv must be 16 bytes"),
    "no ciphertext": ("crypto.ciphertext", None, "crypto.ciphertext must be 32 bytes"),
    "odd digits": ("crypto.mac", "0" * 63, "crypto.mac must be 32 bytes"),
    "another mac": ("crypto.mac", "00" * 32, "does not open with this password"),
    "another ciphertext": ("crypto.ciphertext", "00" * 32, "does not open with this password"),
    "another address": ("address", "00" * 20, "it was changed"),
    "an address that is none": ("address", "somebody", "address must be 20 bytes"),
}


@pytest.mark.parametrize("what", BAD_KEYSTORES)
def test_a_bad_keystore_is_refused_by_its_field(tmp_path, keystore, what):
    path, value, words = BAD_KEYSTORES[what]
    said = refusal(f"keystore:{written(tmp_path, changed(keystore, path, value))}")

    assert any(part in said for part in words.split("|"))


def test_absurd_parameters_are_refused_before_they_eat_memory(keystore):
    data = json.dumps(changed(keystore, "crypto.kdfparams.n", 2**30)).encode()
    tracemalloc.start()
    with pytest.raises(InvalidInput):
        parse_keystore(data, "key")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * 2**20


#: pbkdf2 parameters that are refused
BAD_PBKDF2 = {
    "another function": ("crypto.kdfparams.prf", "hmac-md5", "hmac-sha256"),
    "endless rounds": ("crypto.kdfparams.c", 10**12, "crypto.kdfparams.c"),
}


@pytest.mark.parametrize("what", BAD_PBKDF2)
def test_bad_parameters_of_pbkdf2_are_refused(tmp_path, what):
    path, value, words = BAD_PBKDF2[what]
    made = Account.encrypt(SECRET, PASSWORD, kdf="pbkdf2", iterations=4)

    assert words in refusal(f"keystore:{written(tmp_path, changed(made, path, value))}")


#: contents of files that are no keystores -> words of the refusal
NO_KEYSTORES = {
    "nothing": (b"", "is not JSON"),
    "a key": (SECRET.encode(), "keystore"),
    "bytes": (b"\xff\xfe\x00", "is not JSON"),
    "a list": (b"[]", "must be an object"),
    "deep nesting": (b"[" * 10_000, "is not JSON"),
    "a huge file": (b" " * (MAX_KEYSTORE_BYTES + 1), "larger than"),
}


@pytest.mark.parametrize("what", NO_KEYSTORES)
def test_what_is_no_keystore_is_refused(tmp_path, what):
    content, words = NO_KEYSTORES[what]

    assert words in refusal(f"keystore:{written(tmp_path, content)}")


def test_a_wrong_password_is_named_as_such(tmp_path, keystore, password):
    password.setenv("INSULA_KEYSTORE_PASSWORD", "wrong")

    assert "does not open with this password" in refusal(f"keystore:{written(tmp_path, keystore)}")


def test_without_a_password_the_refusal_says_how_to_give_one(tmp_path, keystore, password):
    password.delenv("INSULA_KEYSTORE_PASSWORD")

    assert "INSULA_KEYSTORE_PASSWORD_FILE" in refusal(f"keystore:{written(tmp_path, keystore)}")


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"], ids=["no end", "newline", "Windows' end"])
def test_the_password_may_come_from_a_file(tmp_path, keystore, password, ending):
    password.delenv("INSULA_KEYSTORE_PASSWORD")
    file = written(tmp_path, PASSWORD.encode() + ending, name="password")
    password.setenv("INSULA_KEYSTORE_PASSWORD_FILE", str(file))

    assert Key.load(f"keystore:{written(tmp_path, keystore)}").address == ADDRESS


#: files of a password that are refused -> words of the refusal
BAD_PASSWORD_FILES = {
    "open to others": (PASSWORD.encode(), 0o644, "chmod 600"),
    "empty": (b"\n", 0o600, "needs a password"),
    "endless": (b"x" * 5000, 0o600, "longer than"),
    "not text": (b"\xff\xff", 0o600, "is not text"),
}


@pytest.mark.parametrize("what", BAD_PASSWORD_FILES)
def test_a_bad_file_of_a_password_is_refused(tmp_path, keystore, password, what):
    content, mode, words = BAD_PASSWORD_FILES[what]
    password.delenv("INSULA_KEYSTORE_PASSWORD")
    password.setenv("INSULA_KEYSTORE_PASSWORD_FILE", str(written(tmp_path, content, mode, "password")))

    assert words in refusal(f"keystore:{written(tmp_path, keystore)}")


def test_two_passwords_are_one_too_many(tmp_path, keystore, password):
    password.setenv("INSULA_KEYSTORE_PASSWORD_FILE", str(written(tmp_path, b"x", name="password")))

    assert "both set" in refusal(f"keystore:{written(tmp_path, keystore)}")


#: references that are refused -> words of the refusal
BAD_REFERENCES = {
    "the key itself": (SECRET, "never the key itself"),
    "the key with 0x": (f"0x{SECRET}", "never the key itself"),
    "the key as a variable": (f"env:{SECRET}", "never the key itself"),
    "the key as a file": (f"file:{SECRET}", "never the key itself"),
    "an unknown kind": ("vault:key", "keystore:PATH"),
    "a folder": ("keystore:/", "is not a file"),
    "a file that is not there": ("keystore:/nowhere/key", "cannot be read"),
    "a folder of nobody": ("file:~no-such-user/key", "no user of this name"),
    "a keystore of nobody": ("keystore:~no-such-user/key", "no user of this name"),
    "a file that is no name": ("file:/a\0b", "no path"),
    "a keystore that is no name": ("keystore:/a\0b", "no path"),
}


@pytest.mark.parametrize("what", BAD_REFERENCES)
def test_a_bad_reference_is_refused_without_repeating_it(what):
    reference, words = BAD_REFERENCES[what]

    assert words in refusal(reference)


def test_a_keystore_that_others_can_read_is_refused(tmp_path, keystore):
    assert "chmod 600" in refusal(f"keystore:{written(tmp_path, keystore, 0o640)}")


def test_a_pipe_in_place_of_a_key_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert "is not a file" in refusal(f"file:{tmp_path / 'pipe'}")


def test_a_key_file_that_is_not_text_is_refused(tmp_path):
    assert "is not text" in refusal(f"file:{written(tmp_path, bytes([255] * 64))}")


def test_a_stored_key_is_for_its_owner_alone_and_opens_again(tmp_path):
    key = Key.from_hex(SECRET)
    key.store(tmp_path / "new.json")

    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "new.json").read_text())["crypto"]["kdf"] == "scrypt"
    assert SECRET not in (tmp_path / "new.json").read_text()
    assert Key.load(f"keystore:{tmp_path / 'new.json'}").address == ADDRESS


def test_a_keystore_is_never_overwritten(tmp_path):
    path = written(tmp_path, b"precious")
    with pytest.raises(InvalidInput, match="never overwritten"):
        Key.from_hex(SECRET).store(path)

    assert path.read_bytes() == b"precious"


def test_a_keystore_in_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be written"):
        Key.from_hex(SECRET).store(tmp_path / "none" / "key.json")


def test_random_keys_differ():
    assert Key.random().address != Key.random().address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0x52963EF50e27e06D72D59fcB4F3c2a687BE3cfEf", "f410fkkld55ioe7qg24wvt7fu6pbknb56ht7pt4zamxa"),
        ("0xd388ab098ed3e84c0d808776440b48f685198498", "f410f2oekwcmo2pueydmaq53eic2i62crtbeyuzx2gmy"),
    ],
)
def test_filecoins_form_of_an_address(address, expected):
    """Vectors of lotus, chain/types/ethtypes."""
    assert delegated_address(address, testnet=False) == expected
    assert delegated_address(address, testnet=True) == f"t{expected[1:]}"
