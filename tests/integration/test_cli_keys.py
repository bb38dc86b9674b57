"""`insula key`: keystores are made, imported and shown; no key, no password on the screen."""

import json

import pytest

from bridge.cli.main import _application, run
from bridge.cli.output import Exit
from executor.protocol.signing import Key

SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
PASSWORD = "correct horse battery staple"


@pytest.fixture
def insula(capsys, monkeypatch):
    """Call the program in this process; its exit code and what it printed."""
    monkeypatch.delenv("INSULA_KEYSTORE_PASSWORD_FILE", raising=False)
    monkeypatch.setenv("INSULA_KEYSTORE_PASSWORD", PASSWORD)
    monkeypatch.setenv("OLD_KEY", SECRET)
    application = _application()

    def call(*words):
        code = run(lambda: application(list(words)), as_json=True)
        out, err = capsys.readouterr()
        for text in (out, err):
            assert SECRET not in text
            assert PASSWORD not in text
            assert "Traceback" not in text
        return code, json.loads(out), err

    return call


def test_a_new_key_opens_and_is_shown_by_its_addresses(insula, tmp_path):
    code, made, _ = insula("key", "new", "--keystore", str(tmp_path / "key.json"), "--json")
    assert code == Exit.OK
    _, shown, _ = insula("key", "show", made["key"], "--json")

    assert shown["address"] == made["address"] == Key.load(made["key"]).address
    assert shown["filecoin"].startswith("f410f")
    assert shown["filecoinTestnet"] == "t" + shown["filecoin"][1:]


def test_a_key_moves_into_a_keystore(insula, tmp_path):
    code, made, _ = insula("key", "import", "env:OLD_KEY", "--keystore", str(tmp_path / "key.json"), "--json")

    assert (code, made["address"]) == (Exit.OK, Key.from_hex(SECRET).address)


def test_a_second_key_does_not_take_the_firsts_place(insula, tmp_path):
    (tmp_path / "key.json").write_text("precious")
    code, said, _ = insula("key", "new", "--keystore", str(tmp_path / "key.json"), "--json")

    assert code == Exit.BAD_INPUT
    assert "never overwritten" in said["error"]


def test_without_a_password_no_key_is_made(insula, tmp_path, monkeypatch):
    monkeypatch.delenv("INSULA_KEYSTORE_PASSWORD")
    code, said, _ = insula("key", "new", "--keystore", str(tmp_path / "key.json"), "--json")

    assert (code, list(tmp_path.iterdir())) == (Exit.BAD_INPUT, [])
    assert "INSULA_KEYSTORE_PASSWORD_FILE" in said["error"]
