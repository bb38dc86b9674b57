"""Jobs with which a node proves to itself that the hardened profile holds on its engine.

The image is part of the package: `probe/probe.c` and nothing else, built by `python -m bridge.demo.programs.build`.
"""

from __future__ import annotations

import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from executor.protocol.reasons import Reason
from executor.sandbox.archive import BadArchive, check_archive
from executor.sandbox.types import (
    Cancelled,
    Check,
    ContainerProgram,
    Execution,
    Limits,
    RunReport,
    Runtime,
    Sandbox,
    SandboxUnavailable,
)

FOLDER: Final = Path(__file__).parent / "probe"
MAX_ARCHIVE_BYTES: Final = 4 * 2**20
_LIMITS: Final = Limits(
    wall_seconds=20, cpu_millis=1000, memory_bytes=2**25, disk_bytes=2**21, output_files=16, log_bytes=4096, pids=16
)
#: what "facts" must say; a value of None is not asked of a tier that gives another answer by nature
_FACTS: Final[dict[str, tuple[str, str | None]]] = {
    "CapEff:": ("0000000000000000", "0000000000000000"),
    "CapBnd:": ("0000000000000000", "0000000000000000"),
    "NoNewPrivs:": ("1", None),
    "Seccomp:": ("2", None),
    "reaches-network": ("no", "no"),
    "writes-root": ("no", "no"),
    "writes-inputs": ("no", "no"),
    "writes-tmp": ("yes", "yes"),
    "writes-outputs": ("yes", "yes"),
    "mknod": ("no", None),
    "chroot": ("no", "no"),
}
#: what passing a limit must end as. gVisor's own threads count as processes there: it breaks down, of one or the other
_ENDINGS: Final[dict[str, tuple[Limits, frozenset[Reason], frozenset[Reason]]]] = {
    "memory": (_LIMITS, frozenset({Reason.MEMORY_LIMIT}), frozenset({Reason.MEMORY_LIMIT})),
    "disk": (_LIMITS, frozenset({Reason.DISK_LIMIT}), frozenset({Reason.DISK_LIMIT})),
    "pids": (
        replace(_LIMITS, memory_bytes=2**28),  # so that the kernel's cost of processes is not the limit
        frozenset({Reason.PIDS_LIMIT}),
        frozenset({Reason.PIDS_LIMIT, Reason.MEMORY_LIMIT}),
    ),
    "wall": (replace(_LIMITS, wall_seconds=1), frozenset({Reason.WALL_LIMIT}), frozenset({Reason.WALL_LIMIT})),
}
_REFUSED: Final = ("pids", 7)
"""How the probe says that it was refused a process, where the control group does not tell."""


def checks(sandbox: Sandbox, runtime: Runtime, cancelled: Cancelled) -> tuple[Check, ...]:
    """Run every probe; raises SandboxUnavailable where one cannot be run at all."""
    archive = probe_archive()
    gvisor = runtime == "runsc"
    with tempfile.TemporaryDirectory(prefix="insula-probe-") as folder:
        report = _run(sandbox, runtime, archive, "facts", Path(folder), _LIMITS, cancelled)
        found = _facts(report, gvisor=gvisor)
        for mode, (mode_limits, plain, gentle) in _ENDINGS.items():
            ending = _run(sandbox, runtime, archive, mode, Path(folder), mode_limits, cancelled)
            held = ending.reason in (gentle if gvisor else plain) or (mode, ending.exit_code) == _REFUSED
            found.append(Check(mode, held, f"{ending.reason.name} {ending.detail}".strip()))
    return tuple(found)


def _facts(report: RunReport, *, gvisor: bool) -> list[Check]:
    if report.reason != Reason.NONE:
        return [Check("facts", False, f"the probe failed: {report.reason.name} {report.detail}")]
    lines = [line.split(None, 1) for line in report.stdout.decode("ascii", "replace").splitlines()]
    said = {line[0]: line[1] for line in lines if len(line) == 2}
    found = []
    for name, (plain, gentle) in _FACTS.items():
        expected = gentle if gvisor else plain
        value = said.get(name, "nothing").strip()
        if expected is not None:
            found.append(Check(name.rstrip(":"), value == expected, value))
    uid = said.get("uid", "0").strip()
    return [*found, Check("uid", uid != "0", uid)]


def probe_archive() -> tuple[Path, str]:
    """The archive of the probe's image for this machine, and the image's id. SandboxUnavailable."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    path = FOLDER / f"probe-{machine}.tar"
    try:
        return path, check_archive(path, MAX_ARCHIVE_BYTES).image_id
    except (OSError, BadArchive) as exc:
        raise SandboxUnavailable(Reason.ENGINE_MISSING, f"no probe image for {machine}: {exc}") from exc


def _run(
    sandbox: Sandbox,
    runtime: Runtime,
    archive: tuple[Path, str],
    mode: str,
    folder: Path,
    limits: Limits,
    cancelled: Cancelled,
) -> RunReport:
    home = folder / mode
    outputs = home / "outputs"
    outputs.mkdir(parents=True)
    path, image = archive
    execution = Execution(
        execution_id=f"probe-{mode}",
        trace={},
        program=ContainerProgram(image, path, args=(mode,), runtime=runtime),
        inputs=(),
        outputs=outputs,
        scratch=home,
        limits=limits,
    )
    try:
        return sandbox.run(execution, cancelled)
    finally:
        sandbox.release(execution)
