"""Secrets: which files are taken, and where their bytes go."""

import os
import stat
from pathlib import Path

import pytest

from executor.agent.errors import GiveBack
from executor.agent.secrets import JOB_OWNER, SecretFolder, check_secrets, read_secret, reap_secrets
from executor.audit.needles import Seed
from executor.audit.openings import SecretRules
from executor.errors import InvalidInput
from executor.protocol.reasons import Reason
from executor.protocol.spec import SecretRef
from executor.sandbox import docker
from executor.sandbox.mounts import quota_mounts
from tests.docker_engine import needs_root

VALUE = b"correct horse battery\n"
RULES = SecretRules(file="token")
REFS = [SecretRef(name="api", path="/secrets/token"), SecretRef(name="api", path="/secrets/again")]


def write(folder, value=VALUE, mode=0o600):
    path = folder / "token"
    path.write_bytes(value)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_only_the_nodes_user_reads_is_taken_as_it_is(tmp_path, mode):
    write(tmp_path, mode=mode)

    assert read_secret("api", RULES, tmp_path) == Seed("api", VALUE)


REFUSED = {
    "abuse: the group may read it": lambda folder: write(folder, mode=0o640),
    "abuse: everybody may read it": lambda folder: write(folder, mode=0o604),
    "abuse: it can be executed": lambda folder: write(folder, mode=0o700),
    "abuse: it is setuid": lambda folder: write(folder, mode=0o4600),
    "abuse: a link": lambda folder: (folder / "token").symlink_to("/etc/hostname"),
    "abuse: a FIFO": lambda folder: os.mkfifo(folder / "token", 0o600),
    "abuse: a folder": lambda folder: (folder / "token").mkdir(mode=0o600),
    "too short": lambda folder: write(folder, b" 1234567\n"),
    "too large": lambda folder: write(folder, b"x" * (64 * 1024 + 1)),
    "not there": lambda folder: None,
}


@pytest.mark.parametrize("row", REFUSED)
def test_any_other_file_is_refused_and_its_content_is_not_told(tmp_path, row):
    REFUSED[row](tmp_path)

    with pytest.raises(InvalidInput, match="token") as caught:
        check_secrets({"api": RULES}, tmp_path)

    assert caught.value.field == "secrets.api.file"
    assert "1234567" not in str(caught.value)


def test_abuse_a_file_of_another_user_is_refused(tmp_path, as_root):
    os.chown(write(tmp_path), JOB_OWNER, JOB_OWNER)

    with pytest.raises(InvalidInput, match="must belong to the user"):
        read_secret("api", RULES, tmp_path)


@pytest.fixture
def as_root():
    needs_root()


@pytest.fixture
def folder(tmp_path, as_root):
    made = SecretFolder(tmp_path / "secrets", "node-of-tests", "execution-1")
    yield made
    made.remove()


def test_secrets_lie_in_memory_for_the_job_alone_and_are_gone_afterwards(tmp_path, folder):
    place = folder.place(REFS, {"api": Seed("api", VALUE)})

    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place} " in line)
    assert " - tmpfs " in line
    assert {"nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
    assert (stat.S_IMODE(place.stat().st_mode), place.stat().st_uid) == (0o500, JOB_OWNER)
    for name in ("token", "again"):
        status = (place / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o400, JOB_OWNER, JOB_OWNER)
        assert (place / name).read_bytes() == VALUE
    held = (place / "token").open("rb")  # somebody who has it open still

    folder.remove()

    assert held.read() == bytes(len(VALUE))
    held.close()
    assert list((tmp_path / "secrets").iterdir()) == []
    assert quota_mounts("node-of-tests") == []
    folder.remove()


def test_what_a_crash_left_is_wiped_at_the_next_start(folder):
    folder.place(REFS, {"api": Seed("api", VALUE)})

    assert reap_secrets("another-node") == []
    assert reap_secrets("node-of-tests") == ["execution-1"]
    assert quota_mounts("node-of-tests") == []


def test_a_node_that_cannot_mount_refuses_rather_than_write_to_a_disk(tmp_path):
    user = os.geteuid()
    os.seteuid(user or JOB_OWNER)
    try:
        with pytest.raises(GiveBack, match="a node that runs as root") as caught:
            SecretFolder(tmp_path / "secrets", "n", "e").place(REFS, {"api": Seed("api", VALUE)})
    finally:
        os.seteuid(user)

    assert caught.value.reason == Reason.NODE_FAULT
    assert not (tmp_path / "secrets").exists()


def test_the_jobs_user_is_that_of_containers():
    assert docker.JOB_OWNER == JOB_OWNER
