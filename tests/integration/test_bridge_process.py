"""A bridge as a process: what it leaves when it halts, and that no secret leaves it at all."""

import json
import sqlite3
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from eth_account import Account

from bridge.cli.main import _application, run
from bridge.cli.output import Exit
from tests.chain_nodes import CHAIN_ID, FUNDED_SECRETS, free_port, running, wait_for
from tests.chain_proxy import DROP, Proxy, ok

pytestmark = [pytest.mark.chain]

PASSWORD = "correct horse battery staple"
URL_SECRET = "0a1b2c3d4e5f0a1b2c3d4e5f"
KEY = FUNDED_SECRETS[2].removeprefix("0x")


@pytest.fixture
def proxy(anvil_chain):
    with Proxy(str(anvil_chain.client.transport.endpoint_uri)) as proxy:
        yield proxy


@pytest.fixture
def config(anvil_chain, proxy, tmp_path, monkeypatch):
    """A configuration with a keystore, a password file, and an endpoint whose URL holds a secret."""
    for name, content in (
        ("relayer.json", json.dumps(Account.encrypt(KEY, PASSWORD, kdf="scrypt", iterations=2))),
        ("password", PASSWORD + "\n"),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    monkeypatch.delenv("INSULA_KEYSTORE_PASSWORD", raising=False)
    monkeypatch.setenv("INSULA_KEYSTORE_PASSWORD_FILE", str(tmp_path / "password"))
    port = free_port()
    path = tmp_path / "bridge.toml"
    path.write_text(
        f"""
data_dir = "{tmp_path / "data"}"
listen_port = {port}
public_url = "http://127.0.0.1:{port}"
[chain]
rpc_urls = ["{proxy.url}/v1/{URL_SECRET}"]
chain_id = {CHAIN_ID}
bridge_contract = "{anvil_chain.deployment.bridge}"
deploy_block = {anvil_chain.deployment.deploy_block}
confirmation_depth = 1
posting_depth = 1
finality_depth = 3
poll_seconds = 0.05
[relayer]
key = "keystore:{tmp_path / "relayer.json"}"
"""
    )
    return path


@contextmanager
def bridge_of(config, log):
    """A running bridge that has answered; its process and its URL."""
    url = next(line.split('"')[1] for line in config.read_text().splitlines() if line.startswith("public_url"))
    argv = [sys.executable, "-m", "bridge.cli", "bridge", "run", "--config", str(config)]
    with running(argv, config.parent, log) as process:
        wait_for(lambda: status_of(url).get("scannedBlock") is not None, 60, "the bridge's first block")
        yield process, url


def status_of(url):
    try:
        return httpx.get(f"{url}/v1/status", timeout=5).json()
    except httpx.HTTPError:
        return {}


def insula(capsys, *words):
    """Call the program in this process; its exit code and its JSON."""
    capsys.readouterr()
    code = run(lambda: _application()([*words, "--json"]), as_json=True)
    return code, json.loads(capsys.readouterr().out)


def names(answer):
    """The alarms in an answer."""
    return [alarm["alarm"] for alarm in answer["alarms"]]


def halted(called):
    """The alarm `halted` in what a call of the program gave; what made the bridge halt may have raised others."""
    return next(alarm for alarm in called[1]["alarms"] if alarm["alarm"] == "halted")


def test_a_halted_bridge_leaves_its_alarm_until_somebody_acknowledges_it(config, proxy, tmp_path, capsys):
    with bridge_of(config, tmp_path / "first.log") as (process, url):
        assert insula(capsys, "bridge", "alarms", "--bridge", url) == (Exit.OK, {"ok": True, "alarms": []})
        proxy.rules["eth_chainId"] = lambda request, forward: ok(request, "0x1")
        assert wait_for(process.poll, 30, "the bridge's end") == Exit.NOT_SO

    alarm = halted(insula(capsys, "bridge", "alarms", "--config", str(config)))
    assert alarm["over_at"] is None
    assert "not on chain" in alarm["detail"]
    assert alarm["remedy"]

    proxy.rules.clear()
    with bridge_of(config, tmp_path / "second.log") as (_, url):
        assert halted(insula(capsys, "bridge", "alarms", "--bridge", url))["over_at"] is not None
        code, said = insula(capsys, "bridge", "acknowledge", "halted", "--config", str(config))
        assert (code, said["ok"]) == (Exit.OK, True)
        wait_for(lambda: "halted" not in names(status_of(url)), 30, "the alarm's end in the running bridge")

    assert insula(capsys, "bridge", "acknowledge", "halted", "--config", str(config))[0] == Exit.NOT_SO


def test_no_secret_leaves_a_running_bridge(config, proxy, tmp_path):
    log = tmp_path / "bridge.log"
    with bridge_of(config, log) as (process, url):
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        proxy.rules["*"] = lambda request, forward: DROP
        wait_for(lambda: "listener" in status_of(url)["standing"]["conclusion"], 60, "the failing loop")
        seen = "".join(httpx.get(f"{url}{path}").text for path in ("/v1/status", "/metrics", "/v1/nodes"))
        proxy.rules.clear()
        with closing(sqlite3.connect(tmp_path / "data" / "bridge.db", timeout=30)) as database:
            database.execute("DROP TABLE outbox")  # an error that nobody foresees, with a traceback
        wait_for(lambda: "Traceback" in log.read_text(), 60, "a traceback")
        seen += httpx.get(f"{url}/v1/status").text
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())

    everything = {
        "command line": command_line,
        "log": log.read_bytes(),
        "database": stored,
        "API": seen.encode(),
    }
    for secret in (KEY, PASSWORD, URL_SECRET):
        forms = {secret.encode(), secret.upper().encode()}
        forms |= {bytes.fromhex(secret)} if secret is not PASSWORD else set()
        assert [place for place, data in everything.items() if any(form in data for form in forms)] == [], secret


#: calls that name what is not there -> exit code and words
BAD_CALLS = {
    "an unknown alarm": (["acknowledge", "fire"], Exit.BAD_INPUT, "is no alarm"),
    "a bridge that never ran": (["acknowledge", "halted"], Exit.BAD_INPUT, "has not run yet"),
    "alarms of a bridge that never ran": (["alarms"], Exit.BAD_INPUT, "has not run yet"),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_a_call_about_alarms_that_cannot_be_is_refused(config, capsys, what):
    words, expected, said = BAD_CALLS[what]
    code, answer = insula(capsys, "bridge", *words, "--config", str(config))

    assert (code, said in answer["error"]) == (expected, True)


def test_a_database_of_an_older_version_or_none_is_named(config, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "bridge.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE jobs (x)")
    assert "older version" in insula(capsys, "bridge", "alarms", "--config", str(config))[1]["error"]

    path.write_bytes(b"this is no database" * 100)
    assert "is damaged or no database" in insula(capsys, "bridge", "alarms", "--config", str(config))[1]["error"]
