"""A node's work folder: made once, checked on every start, readable without the process."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.agent.config import NodeConfig, init_node, to_toml
from executor.agent.service import drain_node, node_status, run_node
from executor.errors import InvalidInput
from executor.ledger import FolderLock
from executor.protocol.signing import Key

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
FIELDS = {"bridge_url": "http://127.0.0.1:1/", "chain_id": 314, "bridge_contract": ADDRESS, "registry": ADDRESS}


@pytest.fixture
def folder(tmp_path):
    init_node(tmp_path / "node", **FIELDS, labels=["site=camera"])
    return tmp_path / "node"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_and_its_key_are_private(tmp_path):
    made = init_node(tmp_path / "node", **FIELDS)

    folder = tmp_path / "node"
    assert (mode(folder), mode(folder / "key"), mode(folder / "node.toml")) == (0o700, 0o600, 0o600)
    assert made["key"] == Key.load(f"file:{folder / 'key'}").address
    assert NodeConfig.load(folder).bridge_url == "http://127.0.0.1:1"


def test_a_node_takes_its_key_from_a_keystore(tmp_path, monkeypatch):
    monkeypatch.delenv("INSULA_KEYSTORE_PASSWORD_FILE", raising=False)
    monkeypatch.setenv("INSULA_KEYSTORE_PASSWORD", "a password")
    key = Key.random()
    key.store(tmp_path / "key.json")
    made = init_node(tmp_path / "node", **FIELDS, key=f"keystore:{tmp_path / 'key.json'}")
    (tmp_path / "key.json").rename(tmp_path / "node" / "own.json")
    moved = NodeConfig(**FIELDS, key="keystore:own.json")

    assert made["key"] == key.address == moved.load_key(tmp_path / "node").address
    assert not (tmp_path / "node" / "key").exists()


def test_a_folder_holds_one_node_only(folder):
    key = (folder / "key").read_text()

    with pytest.raises(InvalidInput, match="folder of its own"):
        init_node(folder, **FIELDS)
    assert (folder / "key").read_text() == key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bridge_url", "ftp://x"),
        ("chain_id", 0),
        ("bridge_contract", "0x12"),
        ("labels", ["no label"]),
        ("slots", 0),
        ("tiers", ["vm"]),
        ("rpc_url", "host:1"),
        ("colour", "blue"),
    ],
)
def test_a_field_that_is_not_valid_is_named_and_nothing_is_written(tmp_path, field, value):
    with pytest.raises(InvalidInput):
        init_node(tmp_path / "node", **{**FIELDS, field: value})

    assert not (tmp_path / "node").exists()


@given(
    slots=st.integers(1, 256),
    labels=st.lists(st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,5}=[A-Za-z0-9._-]{0,5}", fullmatch=True), max_size=3),
    price=st.integers(0, 2**200),
    path=st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=8),
)
def test_a_configuration_survives_its_file(tmp_path_factory, slots, labels, price, path):
    folder = tmp_path_factory.mktemp("node")
    config = NodeConfig.parse(
        {**FIELDS, "slots": slots, "labels": labels, "min_unit_price": price, "policy": path}, "node"
    )
    (folder / "node.toml").write_text(to_toml(config), encoding="utf-8")

    assert NodeConfig.load(folder) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [("slots = ", "is not TOML"), ("slots = 1", "bridge_url"), ("\xff", "is not TOML")],
    ids=["not TOML", "a missing field", "not UTF-8"],
)
def test_a_file_that_is_not_valid_says_where(folder, text, says):
    (folder / "node.toml").write_text(text, encoding="latin-1")

    with pytest.raises(InvalidInput, match=says):
        NodeConfig.load(folder)


def test_a_folder_without_a_node_says_how_to_make_one(tmp_path):
    with pytest.raises(InvalidInput, match="insula node init"):
        NodeConfig.load(tmp_path)


def test_a_policy_on_who_asks_does_not_start_without_an_rpc_endpoint(folder):
    (folder / "policy.toml").write_text(f'requesters_allow = ["{ADDRESS}"]\n')

    with pytest.raises(InvalidInput, match="rpc_url"):
        NodeConfig.load(folder).load_policy(folder)


def test_a_named_policy_must_be_there(folder):
    config = NodeConfig.load(folder).model_copy(update={"policy": "mine.toml"})

    with pytest.raises(InvalidInput, match="cannot be read"):
        config.load_policy(folder)


def test_the_policy_is_never_cheaper_than_the_configuration(folder):
    (folder / "policy.toml").write_text('min_unit_price = "5"\n')
    config = NodeConfig.load(folder).model_copy(update={"min_unit_price": 7, "min_fail_price": 1})

    policy = config.load_policy(folder)

    assert (policy.min_unit_price, policy.min_fail_price) == (7, 1)


def test_a_node_whose_ledger_is_gone_does_not_start(folder, stopped):
    (folder / "ledger.db").unlink()

    with pytest.raises(InvalidInput, match="new key"):
        run_node(folder, stopped, [])


def test_a_node_with_another_key_than_its_ledgers_does_not_start(folder, stopped, tmp_path):
    (folder / "key").unlink()
    Key.create(folder / "key")

    with pytest.raises(InvalidInput, match="belongs to the key"):
        run_node(folder, stopped, [])


def test_a_second_process_on_a_folder_does_not_start(folder, stopped):
    with FolderLock(folder), pytest.raises(InvalidInput, match="another node process"):
        run_node(folder, stopped, [])


def test_a_node_without_any_usable_sandbox_does_not_start(folder, stopped):
    with pytest.raises(InvalidInput, match="no sandbox"):
        run_node(folder, stopped, [])


@pytest.fixture
def stopped():
    import threading

    event = threading.Event()
    event.set()
    return event


def test_the_status_of_a_fresh_node_is_empty(folder):
    status = node_status(folder)

    assert status["labels"] == ["site=camera"]
    assert (status["signed"], status["log_size"], status["running"], status["last"]) == (0, 0, [], [])
    assert (status["is_running"], status["is_draining"]) == (False, False)


def test_a_node_is_drained_and_back_at_work_by_its_folder(folder):
    drain_node(folder)
    assert node_status(folder)["is_draining"]

    drain_node(folder, is_draining=False)
    assert not node_status(folder)["is_draining"]
