"""Section 5 of the CIS Docker Benchmark (container runtime), as docker-bench-security checks it, for one container.

Each entry: number, title, and how it is seen to hold in the engine's answers about a running container of ours; or why
it is nothing that a container's settings can decide. Source: CIS Docker Benchmark 1.6.0, section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    """inspected: `docker inspect` of the container; processes: what runs in it; info: `docker info`."""

    title: str
    holds: Callable[[dict[str, Any], list[str], dict[str, Any]], bool] | None = None
    not_ours: str = ""


def host(key, *values):
    """HostConfig's key has one of these values."""
    return lambda inspected, processes, info: (inspected["HostConfig"].get(key) or None) in values


def positive(key):
    """HostConfig's key is a number above zero."""
    return lambda inspected, processes, info: inspected["HostConfig"][key] > 0


def _apparmor(inspected, processes, info):
    has = any("apparmor" in option for option in info["SecurityOptions"])
    return not has or inspected["AppArmorProfile"] not in ("", "unconfined")


def _selinux(inspected, processes, info):
    has = any("selinux" in option for option in info["SecurityOptions"])
    return not has or bool(inspected["HostConfig"]["SecurityOpt"])


def _no_sensitive_mounts(inspected, processes, info):
    bad = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
    return {mount["Destination"] for mount in inspected["Mounts"]} == {"/inputs", "/outputs"} and not any(
        mount["Source"] in bad for mount in inspected["Mounts"]
    )


def _no_socket(inspected, processes, info):
    return not any(mount["Source"].endswith((".sock", "/run")) for mount in inspected["Mounts"])


def _no_engine_port(inspected, processes, info):
    return not inspected["NetworkSettings"]["Ports"] and not inspected["HostConfig"]["PortBindings"]


def _seccomp(inspected, processes, info):
    options = inspected["HostConfig"]["SecurityOpt"]
    return any(option.startswith("seccomp={") for option in options)


def _core_limit(inspected, processes, info):
    return {"Name": "core", "Soft": 0, "Hard": 0} in inspected["HostConfig"]["Ulimits"]


def _no_swarm(inspected, processes, info):
    return info["Swarm"]["LocalNodeState"] != "active"


def _no_capabilities(inspected, processes, info):
    return inspected["HostConfig"]["CapDrop"] == ["ALL"] and not inspected["HostConfig"]["CapAdd"]


def _no_sshd(inspected, processes, info):
    return not any("sshd" in one for one in processes)


def _no_restart(inspected, processes, info):
    return inspected["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")


def _private_mounts(inspected, processes, info):
    return all(mount["Propagation"] != "shared" for mount in inspected["Mounts"])


def _no_new_privileges(inspected, processes, info):
    return "no-new-privileges" in inspected["HostConfig"]["SecurityOpt"]


def _few_processes(inspected, processes, info):
    return 0 < inspected["HostConfig"]["PidsLimit"] < 2**16


NO_EXEC = "nothing is ever executed in a running container"
FACTS = {
    "5.1": Fact("swarm mode is not enabled if not needed", _no_swarm),
    "5.2": Fact("an AppArmor profile is enabled, where the host has it", _apparmor),
    "5.3": Fact("SELinux options are set, where the host has it", _selinux),
    "5.4": Fact("capabilities are restricted", _no_capabilities),
    "5.5": Fact("no privileged containers", host("Privileged", None)),
    "5.6": Fact("no sensitive host folders are mounted", _no_sensitive_mounts),
    "5.7": Fact("sshd does not run within containers", _no_sshd),
    "5.8": Fact("privileged ports are not mapped", _no_engine_port),
    "5.9": Fact("only needed ports are open", _no_engine_port),
    "5.10": Fact("the host's network namespace is not shared", host("NetworkMode", "none")),
    "5.11": Fact("memory is limited", positive("Memory")),
    "5.12": Fact("processor priority is set", positive("NanoCpus")),
    "5.13": Fact("the root file system is read-only", host("ReadonlyRootfs", True)),
    "5.14": Fact("incoming traffic is bound to a host interface", _no_engine_port),
    "5.15": Fact("the restart policy is at most on-failure:5", _no_restart),
    "5.16": Fact("the host's process namespace is not shared", host("PidMode", None)),
    "5.17": Fact("the host's IPC namespace is not shared", host("IpcMode", "private")),
    "5.18": Fact("host devices are not exposed", host("Devices", None)),
    "5.19": Fact("the default ulimit is overwritten where needed", _core_limit),
    "5.20": Fact("mount propagation is not shared", _private_mounts),
    "5.21": Fact("the host's UTS namespace is not shared", host("UTSMode", None)),
    "5.22": Fact("the seccomp profile is not disabled", _seccomp),
    "5.23": Fact("docker exec is not used with --privileged", not_ours=NO_EXEC),
    "5.24": Fact("docker exec is not used with --user=root", not_ours=NO_EXEC),
    "5.25": Fact("control group usage is confirmed", host("CgroupParent", None)),
    "5.26": Fact("no additional privileges are acquired", _no_new_privileges),
    "5.27": Fact("container health is checked", not_ours="it would be a second program; our deadline ends a job"),
    "5.28": Fact("images are at their latest version", not_ours="images are pinned by their hash, which is the point"),
    "5.29": Fact("processes are limited", _few_processes),
    "5.30": Fact("the default bridge is not used", host("NetworkMode", "none")),
    "5.31": Fact("the host's user namespaces are not shared", host("UsernsMode", None)),
    "5.32": Fact("the engine's socket is not mounted", _no_socket),
}
