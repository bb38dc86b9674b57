"""What a Docker Engine says of itself, and whether that is enough to run strangers' jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from executor.protocol.reasons import Reason
from executor.sandbox.types import SandboxUnavailable

_NEEDED: Final = {
    "MemoryLimit": "memory limits",
    "SwapLimit": "swap limits (boot with swapaccount=1)",
    "PidsLimit": "limits of processes",
    "CpuCfsQuota": "processor quotas",
}


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """info and version are the engine's own answers, cut down to what is used."""

    info: dict[str, Any]
    components: dict[str, str]

    @classmethod
    def of(cls, info: dict[str, Any], version: dict[str, Any]) -> EngineFacts:
        """From the answers of /info and /version."""
        parts = version.get("Components") or []
        return cls(info, {str(part.get("Name")): str(part.get("Version")) for part in parts})

    @property
    def version(self) -> str:
        """One line."""
        return f"Docker Engine {self.info.get('ServerVersion', '?')}, runc {self.components.get('runc', '?')}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know, though it does not stop the node."""
        found = []
        if not any("apparmor" in item or "selinux" in item for item in self._security()):
            found.append("the engine uses neither AppArmor nor SELinux: one fence less around containers")
        return tuple(found)

    def problem(self, runtime: str) -> str:
        """Why this engine cannot be used with `runtime`, and what to do; empty where it can."""
        if self.info.get("OSType") != "linux":
            return f"the engine runs {self.info.get('OSType')} containers; Linux containers are needed"
        if runtime not in (self.info.get("Runtimes") or {}):
            return f"the engine has no runtime {runtime!r}: install it and name it in /etc/docker/daemon.json"
        lacking = [words for key, words in _NEEDED.items() if not self.info.get(key)]
        if lacking:
            return f"the engine cannot set {', '.join(lacking)} on this kernel"
        if not any("name=seccomp" in item and "unconfined" not in item for item in self._security()):
            return (
                "the engine runs containers without seccomp: remove seccomp-profile=unconfined from its configuration"
            )
        if "io.containerd.snapshotter" in str(self.info.get("DriverStatus")):
            return (
                "the engine keeps images in containerd's store, where an image's id is not the hash of its config: set "
                '{"features": {"containerd-snapshotter": false}} in /etc/docker/daemon.json'
            )
        return ""

    def summary(self, runtime: str) -> dict[str, Any]:
        """For the receipt."""
        return {
            "engine": "docker",
            "runtime": runtime,
            "version": self.info.get("ServerVersion"),
            "components": self.components,
            "kernel": self.info.get("KernelVersion"),
            "cgroupVersion": self.info.get("CgroupVersion"),
            "securityOptions": self._security(),
        }

    def _security(self) -> list[str]:
        return [str(item) for item in self.info.get("SecurityOptions") or []]


def no_engine(why: str) -> SandboxUnavailable:
    """What to do where no engine answers."""
    text = (
        "no Docker Engine answers: install one (https://docs.docker.com/engine/install/, or the package docker.io of "
        f"your distribution), start dockerd, or set DOCKER_HOST ({why})"
    )
    return SandboxUnavailable(Reason.ENGINE_MISSING, text)
