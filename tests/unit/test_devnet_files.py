"""What a devnet leaves for the next command, whatever its folder is called."""

import subprocess
from pathlib import Path
from shlex import split

import pytest

from bridge.cli.devnet_verbs import _next_steps, fresh
from bridge.devnet.net import TEST_KEYS, Devnet, shell_variables
from executor.errors import InvalidInput

ODD = "/tmp/a folder with 'quotes', $(spaces) and *"


def net(folder):
    return Devnet(
        folder=folder, rpc_url="http://127.0.0.1:1", bridge_url="http://127.0.0.1:2", chain_id=1, contract="0x1",
        registry="0x2", result_book="0x3", lens="0x5", deploy_block=1, curator="0x4",
        keys={name: f"file:{folder}/keys/{name}" for name in TEST_KEYS}, nodes=(),
    )  # fmt: skip


def sourced(text, tmp_path, name):
    (tmp_path / "env").write_text(text)
    script = f'. ./env; printf %s "${name}"'
    return subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True).stdout


def test_the_env_file_can_be_sourced_whatever_the_folder_is_called(tmp_path):
    text = shell_variables(net(ODD))

    assert sourced(text, tmp_path, "INSULA_KEY") == f"file:{ODD}/keys/requester"
    assert sourced(text, tmp_path, "INSULA_BRIDGE") == "http://127.0.0.1:2"


def test_the_env_file_names_the_engine_that_the_nodes_use(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/my docker.sock")

    assert sourced(shell_variables(net("/x")), tmp_path, "DOCKER_HOST") == "unix:///run/my docker.sock"


def test_what_to_try_next_can_be_pasted(tmp_path):
    line = next(line for line in _next_steps(ODD, "", "", "", 1).splitlines() if line.startswith("next"))

    assert split(line) == ["next", ".", f"{ODD}/env"]


def test_the_folder_of_a_running_devnet_is_named_so_that_it_can_be_pasted(tmp_path, monkeypatch):
    folder = tmp_path / "a b"
    folder.mkdir()
    own = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    pid = int(Path("/proc/self").readlink().name)
    (folder / "processes.json").write_text(f'[{{"name": "me", "pid": {pid}, "started": {own}}}]')

    with pytest.raises(InvalidInput, match="devnet stop --dir ") as told:
        fresh(folder)

    assert split(str(told.value).rpartition("with: ")[2]) == ["insula", "devnet", "stop", "--dir", str(folder)]
