"""`insula content` on a disk that is full, becomes read-only, or under a process that is killed: nothing half, and the
same command goes on when there is room. The disks are small ones of their own, the processes real.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bridge.cli.output import Exit
from executor.content.blockstore import BlockStore
from executor.content.gc import collect_garbage
from executor.content.roots import RootSet
from tests.chain_nodes import wait_for
from tests.content_kit import BIG, age
from tests.faulty_sources import Content, Gateway

REPOSITORY = Path(__file__).parents[2]
UNSHARE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
MOUNT = [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"]
CAN_MOUNT = subprocess.run(MOUNT, capture_output=True, check=False).returncode == 0
CONTENT = Content.of(os.urandom(3_000_000))
DISK_BYTES, FILLER_BYTES = 8 * 2**20, 6 * 2**20

pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="no small disk can be mounted here (mount namespaces are closed)")

#: What runs where the small disk is mounted: a verb without room, then with it.
ON_THE_DISK = """
import contextlib, io, json, os, sys
from pathlib import Path
from bridge.cli.main import _application, run
from executor.content.blockstore import BlockStore
from executor.content.quota import StoreLimits
from executor.content.roots import RootSet

disk, home, room, words = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
store = BlockStore(home / "content")
store.meter.set_limits(StoreLimits(0, 0))
roots = RootSet(store)

os.environ["INSULA_HOME"] = str(home)
application = _application()

def call(*words):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run(lambda: application(["content", *words, "--json"]), as_json=True)
    return int(code), json.loads(out.getvalue())

def state():
    return {
        "damaged": [str(cid) for cid in store.damaged()],
        "tmp": [path.name for path in (store.root / "tmp").iterdir()],
        "blocks": len(list(store)),
        "pins": [root.label for root in roots.live(1e9)],
        "disk": sorted(path.name for path in disk.iterdir()),
        "used": store.meter.usage().used,
        "counted": store._bytes_on_disk(),
    }

filler = disk / "filler"
filler.write_bytes(bytes(room))
code, said = call(*words)
full = {"code": code, "said": said, **state()}
filler.unlink()
code, said = call(*words)
print(json.dumps({"full": full, "after": {"code": code, "said": said, **state()}}))
"""


def on_a_small_disk(tmp_path, *words, home=None):
    """A verb on a disk of 8 MB of which 6 are taken, then again without those: what it said, and what was there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_BYTES} none "$1" && shift && exec "$@"'
    here = [sys.executable, "-c", ON_THE_DISK, str(disk), str(home or disk / "home"), str(FILLER_BYTES)]
    command = [*UNSHARE, "sh", "-c", mount, "sh", str(disk), *here, *map(str, words)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["full"], found["after"]


def verbs(tmp_path, url):
    """name -> a verb that brings 3 MB into the store."""
    (tmp_path / "file").write_bytes(b"".join(CONTENT.blocks.get(cid) for cid in CONTENT.leaves))
    (tmp_path / "x.car").write_bytes(CONTENT.car)
    return {
        "add": ("add", tmp_path / "file", "--local"),
        "import": ("import", tmp_path / "x.car"),
        "get": ("get", CONTENT.root, "-o", tmp_path / "out", "--bridge", url),
        "get from several": ("get", CONTENT.root, "-o", tmp_path / "out", "--gateway", url),
    }


@pytest.mark.parametrize("name", ["add", "import", "get", "get from several"])
def test_a_disk_that_becomes_full_is_named_and_keeps_nothing_half_and_the_same_command_goes_on(name, tmp_path):
    with Gateway(CONTENT) as gateway:
        full, after = on_a_small_disk(tmp_path, *verbs(tmp_path, gateway.url)[name])

    assert (full["code"], full["damaged"], full["tmp"]) == (Exit.NOT_SO, [], [])
    assert "no space left in the block store" in full["said"]["error"]
    assert "\n" not in full["said"]["error"]
    assert full["used"] == full["counted"]
    assert set(full["pins"]) <= {"arriving"}
    assert (after["code"], after["damaged"], after["tmp"], after["blocks"]) == (Exit.OK, [], [], len(CONTENT.blocks))
    assert len(after["pins"]) == 1


def test_a_full_disk_under_what_is_written_out_leaves_nothing_there(tmp_path):
    with Gateway(CONTENT) as gateway:
        words = ("get", CONTENT.root, "-o", tmp_path / "disk" / "out", "--bridge", gateway.url)
        full, after = on_a_small_disk(tmp_path, *words, home=tmp_path / "home")

    assert (full["code"], full["disk"]) == (Exit.NOT_SO, ["filler"])
    assert "no space left to write" in full["said"]["error"]
    assert (after["code"], after["disk"]) == (Exit.OK, ["out"])


def test_a_full_disk_under_an_export_leaves_nothing_there(tmp_path):
    store = BlockStore(tmp_path / "home" / "content")
    store.put_many((cid, CONTENT.blocks.get(cid)) for cid in CONTENT.blocks)
    words = ("export", CONTENT.root, tmp_path / "disk" / "x.car")

    full, after = on_a_small_disk(tmp_path, *words, home=tmp_path / "home")

    assert (full["code"], full["disk"]) == (Exit.NOT_SO, ["filler"])
    assert "no space left to write" in full["said"]["error"]
    assert (after["code"], after["disk"]) == (Exit.OK, ["x.car"])


READ_ONLY = """
import contextlib, io, json, os, subprocess, sys
from pathlib import Path
from bridge.cli.main import _application, run
from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet

disk, words = Path(sys.argv[1]), sys.argv[2:]
store = BlockStore(disk / "home" / "content")
RootSet(store)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
os.environ["INSULA_HOME"] = str(disk / "home")
application = _application()
with contextlib.redirect_stdout(io.StringIO()) as out:
    code = run(lambda: application(["content", *words, "--json"]), as_json=True)
assert list(store) == []
print(json.dumps([int(code), json.loads(out.getvalue())]))
"""


@pytest.mark.parametrize("name", ["add", "import", "get", "get from several"])
def test_a_disk_that_became_read_only_is_named(name, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_BYTES} none "$1" && exec "$2" -c "$3" "$1" "${{@:4}}"'
    with Gateway(CONTENT) as gateway:
        words = [str(word) for word in verbs(tmp_path, gateway.url)[name]]
        command = [*UNSHARE, "bash", "-c", mount, "sh", str(disk), sys.executable, READ_ONLY, *words]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    code, said = json.loads(done.stdout)

    assert code != Exit.OK
    assert "Read-only file system" in said["error"] or "readonly database" in said["error"]
    assert not (tmp_path / "out").exists()


NO_LONGER_OURS = """
import contextlib, io, json, os, sys
from pathlib import Path
from bridge.cli.main import _application, run
from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet

home, words = Path(sys.argv[1]), sys.argv[2:]
store = BlockStore(home / "content")
RootSet(store)
os.environ["INSULA_HOME"] = str(home)
application = _application()

def call(*words):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run(lambda: application(["content", *words, "--json"]), as_json=True)
    return int(code), json.loads(out.getvalue())

call("ls")  # loads what another user may not be able to read
if os.geteuid() == 0:  # whom no permission stops
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    os.setuid(65534)
(store.root / "tmp").chmod(0o500)
answer = call(*words)
assert list(store) == []
print(json.dumps(answer))
"""


@pytest.mark.parametrize("name", ["add", "import", "get", "get from several"])
def test_a_store_that_may_not_be_written_any_longer_is_named(name, tmp_path):
    with TemporaryDirectory() as reachable, Gateway(CONTENT) as gateway:
        Path(reachable).chmod(0o777)
        words = [str(word) for word in verbs(Path(reachable), gateway.url)[name]]
        command = [sys.executable, "-c", NO_LONGER_OURS, str(Path(reachable) / "home"), *words]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    code, said = json.loads(done.stdout)

    assert code != Exit.OK
    assert "Permission denied" in said["error"]
    assert "\n" not in said["error"]


@pytest.fixture
def program(tmp_path):
    """Start the program as a process of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("INSULA_")}
    env["INSULA_HOME"] = str(tmp_path / "home")
    command = [sys.executable, "-m", "bridge.cli", "content"]
    return lambda *words: subprocess.Popen([*command, *map(str, words)], env=env, stdout=subprocess.DEVNULL)


def killed(process, own_store):
    """Kill it when it has stored some of its blocks."""
    with process:
        wait_for(lambda: len(list(own_store)) > 3 or process.poll() is not None, 60, "the first blocks")
        process.kill()
    return set(own_store)


def test_an_add_that_is_killed_is_finished_by_the_same_command(program, answer, own_store, tmp_path):
    (tmp_path / "file").write_bytes(b"".join(BIG.blocks.get(cid) for cid in BIG.leaves))
    here = killed(program("add", tmp_path / "file", "--local"), own_store)

    assert list(own_store.damaged()) == []
    code, found = answer("add", tmp_path / "file", "--local")

    assert (code, found["cid"]) == (Exit.OK, str(BIG.root))
    assert here <= set(own_store)
    assert answer("stat", BIG.root, "--verify")[1]["verified"] is True


def test_a_get_that_is_killed_asks_only_for_what_is_missing(program, answer, own_store, tmp_path):
    with Gateway(BIG, bytes_per_second=20 * 2**20) as slow:
        here = killed(program("get", BIG.root, "-o", tmp_path / "out", "--gateway", slow.url), own_store)
    assert 0 < len(here) < len(BIG.blocks)
    assert not (tmp_path / "out").exists()
    age(own_store)
    assert collect_garbage(own_store, RootSet(own_store), time.time()).blocks == 0, "what arrived stays for a day"

    with Gateway(BIG) as good:
        code, found = answer("get", BIG.root, "-o", tmp_path / "out", "--gateway", good.url)

    assert (code, sum(share["blocks"] for share in found["sources"])) == (Exit.OK, len(BIG.blocks) - len(here))
    assert (tmp_path / "out").stat().st_size == 40 * 2**20


def test_an_add_beside_garbage_collection_of_everything_keeps_what_it_adds(program, answer, own_store, tmp_path):
    (tmp_path / "file").write_bytes(b"".join(BIG.blocks.get(cid) for cid in BIG.leaves))
    with program("add", tmp_path / "file", "--local") as process:
        wait_for(lambda: len(list(own_store)) > 3, 60, "the first blocks")
        roots = RootSet(own_store)
        collect_garbage(own_store, roots, time.time() + 7200)  # as if an hour had passed since they were put
        assert process.wait(60) == Exit.OK

    assert answer("stat", BIG.root, "--verify")[1]["verified"] is True
    assert list((own_store.root / "tmp").iterdir()) == []


def test_a_disk_that_may_only_be_read_is_told_before_anything_is_fetched(tmp_path):
    command = [sys.executable, "-m", "bridge.cli", "content", "get", str(CONTENT.root), "-o", "/mnt/new/out"]
    script = 'mount -t tmpfs -o ro none /mnt && exec "$@"'
    with Gateway(CONTENT) as good:
        command = [*UNSHARE, "sh", "-c", script, "sh", *command, "--gateway", good.url]
        environment = {**os.environ, "INSULA_HOME": str(tmp_path)}
        options = {"cwd": REPOSITORY, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, timeout=60, **options)
        assert good.calls == []

    told = "error: --output: nothing can be written in /mnt; give another place\n"
    assert (done.returncode, done.stderr) == (Exit.BAD_INPUT, told)
