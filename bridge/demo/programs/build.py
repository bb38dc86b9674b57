"""Compile C programs with ziglang (PyPI), byte for byte the same each time: `python -m bridge.demo.programs.build`.

Needs the package `ziglang`, which only development has: what it makes is checked in. The hashes depend on the version
of ziglang, which the lock file fixes.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge.demo.image import build_image_archive

HERE: Final = Path(__file__).parent
WASM_PROGRAMS: Final = ("logstat", "exit3")
PROBE: Final = HERE.parents[2] / "executor" / "sandbox" / "probe" / "probe.c"
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
WASM_TARGET: Final = "wasm32-wasi"
WASM_STACK_BYTES: Final = 256 * 1024
BUILD_SECONDS: Final = 300
_FLAGS: Final = ("-std=gnu17", "-Os", "-g0", "-s", "-Wall", "-Wextra", "-Werror", "-fno-ident", "-Wl,--build-id=none")


def native_target() -> str:
    """The static Linux target for this machine's processor."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    return f"{machine}-linux-musl"


def compile_c(source: Path | Sequence[Path], output: Path, target: str) -> None:
    """Compile a source, or several of one folder, for `target`, statically.

    CalledProcessError with the compiler's words where it does not.
    """
    sources = [source] if isinstance(source, Path) else source
    # a small stack: the linker's 16 MiB are more than the least memory that a job can ask for
    linking = (f"-Wl,-z,stack-size={WASM_STACK_BYTES}",) if target == WASM_TARGET else ("-static",)
    # by its name alone, from its own folder: no path of this machine gets into the file
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *linking, *_FLAGS]
    subprocess.run(
        [*command, *(each.name for each in sources), "-o", os.fspath(output.absolute())],
        cwd=sources[0].parent,
        check=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
    )
    output.chmod(0o644)


def build_archive(source: Path, folder: Path, machine: str) -> Path:
    """Write to `folder` the archive of an image that holds this one program, for `machine`; its path."""
    architecture = ARCHITECTURES[machine]
    binary = folder / f"{source.stem}-{architecture}"
    compile_c(source, binary, f"{machine}-linux-musl")
    archive = folder / f"{source.stem}-{architecture}.tar"
    build_image_archive(binary, archive, source.stem, architecture)
    binary.unlink()
    return archive


def main() -> None:
    """Build in place all that is checked in: the demo's WebAssembly and binaries, and the image of the nodes' probe."""
    for name in WASM_PROGRAMS:
        compile_c(HERE / f"{name}.c", HERE / f"{name}.wasm", WASM_TARGET)
    for machine, architecture in ARCHITECTURES.items():
        compile_c(HERE / "histogram.c", HERE / f"histogram-{architecture}", f"{machine}-linux-musl")
        build_archive(PROBE, PROBE.parent, machine)


if __name__ == "__main__":
    main()
