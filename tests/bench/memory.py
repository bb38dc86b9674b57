"""The most memory that a verb of `insula content` has, in a process of its own, with a small and a large file."""

import os
import subprocess
import sys
from contextlib import ExitStack

from tests.bench.chains import folder_of
from tests.bench.fetching import gateway
from tests.bench.importing import LARGE, MIB, large_file

SMALL_MIB = min(64, MIB)
TARGET_MB = 100
#: a verb, and the peak of its process when it ends
MEASURED = """
import atexit, sys
from bridge.cli.main import main
peak = lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
atexit.register(lambda: sys.stderr.write(f"peak {peak()}"))
main()
"""


def peak(home, *words):
    """Megabytes of a verb's process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INSULA_")}
    environment["INSULA_HOME"] = str(home)
    command = [sys.executable, "-c", MEASURED, "content", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rpartition("peak ")[2]) * 1024 / 10**6


def peaks(mib):
    """By verb."""
    with ExitStack() as stack:
        folder = folder_of(stack)
        home, elsewhere, path, car = folder / "home", folder / "elsewhere", folder / "large", folder / "a.car"
        large_file(folder, mib)
        url, root, _ = stack.enter_context(gateway(folder / "bridge", path))
        return {
            "start (ls)": peak(home, "ls"),
            "add --only-hash": peak(home, "add", path, "--only-hash"),
            "add --local": peak(home, "add", path, "--local"),
            "export (CAR)": peak(home, "export", root, car),
            "import (CAR)": peak(elsewhere, "import", car),
            "get": peak(folder / "fetched", "get", root, "--bridge", url, "-o", folder / "out"),
        }


def table():
    small, large = peaks(SMALL_MIB), peaks(MIB)
    start = large["start (ls)"]
    lines = [
        f"{'peak memory of `insula content`, MB':<42} {f'{SMALL_MIB} MiB':>10} {LARGE:>10} {'above start':>12}  target"
    ]
    for verb, most in large.items():
        holds = "holds" if max(most, small[verb]) < TARGET_MB else "DOES NOT HOLD"
        lines.append(f"{verb:<42} {small[verb]:>10.0f} {most:>10.0f} {most - start:>12.0f}  below {TARGET_MB}: {holds}")
    return "\n".join(lines)
