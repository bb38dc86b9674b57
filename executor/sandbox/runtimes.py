"""Which container runtimes an engine on this machine uses, and of which distribution packages they are."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any, Final

from executor.sandbox.escapes import Component, Found
from executor.sandbox.types import Runtime

ASK_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 4096
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*")


def found_runtimes(info: dict[str, Any], version: dict[str, Any], runtime: Runtime) -> tuple[Found, ...]:
    """What runs a container of `runtime`. info, version: the engine's own answers."""
    parts = {str(part.get("Name")): part for part in version.get("Components") or []}
    containerd = _of_engine("containerd", parts)
    if runtime == "runc":
        return _of_engine("runc", parts), containerd
    path = str(((info.get("Runtimes") or {}).get("runsc") or {}).get("path") or "runsc")
    said = _ask([path, "--version"])
    first = said.splitlines()[0].removeprefix("runsc version").strip() if said else ""
    return Found("runsc", first, _package(path, "runsc")), containerd


def _of_engine(component: Component, parts: dict[str, Any]) -> Found:
    part = parts.get(component) or {}
    version = str(part.get("Version") or "")
    commit = str((part.get("Details") or {}).get("GitCommit") or "")
    # Debian and Ubuntu put the package's revision in the place of the commit
    if version and commit.startswith(f"{version}-"):
        return Found(component, version, f"{component} {commit}")
    package = _package(component, component)
    return Found(component, version, package if package.startswith(f"{component} {version}") else "")


def _package(program: str, component: Component) -> str:
    """Name and revision of the Debian package that the program is of; empty where it is of none."""
    path = shutil.which(program)
    if path is None or shutil.which("dpkg-query") is None:
        return ""
    owner = _ask(["dpkg-query", "--search", path]).partition(":")[0].strip()
    if owner != component or not _PACKAGE.fullmatch(owner):
        return ""  # of another package, such as a vendor's bundle, whose numbers are not the component's
    return f"{owner} {_ask(['dpkg-query', '--show', '--showformat=${Version}', owner]).strip()}".strip()


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout[:MAX_ANSWER_BYTES].decode("utf-8", "replace")
