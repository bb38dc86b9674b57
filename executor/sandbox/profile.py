"""The hardened profile of containers, as data with closed defaults, in the words of the Docker Engine API.

`container` gives the body of a create request and never a key that is not listed here; `differences` compares what the
engine says it applied. Source of the values: docs/threat-model.md; API: https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from executor.sandbox.seccomp import seccomp_option
from executor.sandbox.types import ContainerProgram, Limits

PROFILE_ID: Final = "insula/container/2"
INPUTS: Final = "/inputs"
OUTPUTS: Final = "/outputs"
SECRETS: Final = "/secrets"
MIB: Final = 2**20
MAX_TMP_BYTES: Final = 64 * MIB
TMP_INODES: Final = 4096
OPEN_FILES: Final = 1024
HOLD: Final = ("wall",)
"""What the node's own image is told to do nothing with, until it is removed."""
#: what gVisor's own kernel takes of a container's limits: each of the job's threads is some of the host's there
GVISOR_PIDS: Final = 512
GVISOR_BYTES: Final = 64 * MIB

#: the same for every job
HOST: Final[dict[str, Any]] = {
    "AutoRemove": False,
    "Binds": [],
    "BlkioWeight": 0,
    "CapAdd": [],
    "CapDrop": ["ALL"],
    "CgroupParent": "",
    "CgroupnsMode": "private",
    "ContainerIDFile": "",
    "DeviceCgroupRules": [],
    "DeviceRequests": [],
    "Devices": [],
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": [],
    "GroupAdd": [],
    "Init": True,
    "IpcMode": "private",
    "Links": [],
    "LogConfig": {"Type": "none", "Config": {}},
    "NetworkMode": "none",
    "OomKillDisable": False,
    "PidMode": "",
    "PortBindings": {},
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": True,
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "SecurityOpt": ["no-new-privileges", seccomp_option()],
    "ShmSize": 16 * MIB,
    "Sysctls": {},
    "UTSMode": "",
    "UsernsMode": "",
    "VolumesFrom": [],
}
CONFIG: Final[dict[str, Any]] = {
    "AttachStderr": True,
    "AttachStdin": False,
    "AttachStdout": True,
    "Domainname": "",
    "Healthcheck": {"Test": ["NONE"]},
    "Hostname": "job",
    "NetworkDisabled": True,
    "OpenStdin": False,
    "StdinOnce": False,
    "StopSignal": "SIGKILL",
    "Tty": False,
    "Volumes": {},
}
PER_JOB_HOST: Final = ("Memory", "MemorySwap", "Mounts", "NanoCpus", "PidsLimit", "Runtime", "Tmpfs", "Ulimits")
PER_JOB_CONFIG: Final = ("Cmd", "Entrypoint", "Env", "Image", "Labels", "User", "WorkingDir")
#: set before the job's own, so that it can change them; equal on all nodes, for equal results
ENVIRONMENT: Final = (
    ("HOME", "/tmp"),  # noqa: S108 - inside the container
    ("LANG", "C.UTF-8"),
    ("PYTHONHASHSEED", "0"),
    ("SOURCE_DATE_EPOCH", "946684800"),
    ("TZ", "UTC"),
)
#: what the engine must hide of /proc and /sys, whatever its version adds
MASKED: Final = frozenset(("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"))
READ_ONLY: Final = frozenset(("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"))


@dataclass(frozen=True, slots=True)
class Place:
    """What of the host a container gets. inputs, outputs: absolute host paths. owner: the job's uid and gid, never 0.

    quota_bytes: what of the outputs lies in memory, and so counts as the container's (0: they lie on a disk).
    secrets: a folder in memory, "" for none.
    """

    inputs: str
    outputs: str
    owner: int
    quota_bytes: int
    labels: dict[str, str]
    secrets: str = ""


def container(program: ContainerProgram, image: str, limits: Limits, place: Place) -> dict[str, Any]:
    """The body of the create request. image: the full id that the engine knows it by."""
    if place.owner <= 0:
        raise ValueError("a job never runs as root")
    config = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in (*ENVIRONMENT, *program.env)],
        "Labels": place.labels,
        "User": f"{place.owner}:{place.owner}",
        "WorkingDir": program.workdir,
    }
    if program.entrypoint is not None:
        config["Entrypoint"] = list(program.entrypoint)
    if program.args:
        config["Cmd"] = list(program.args)
    return {**CONFIG, **config, "HostConfig": {**HOST, **_host(program, limits, place)}}


def holder(image: str, place: Place) -> dict[str, Any]:
    """The body of the container that holds a job's network namespace, which has only the loopback interface."""
    limits = Limits(
        wall_seconds=0, cpu_millis=100, memory_bytes=16 * MIB, disk_bytes=0, output_files=0, log_bytes=0, pids=1
    )
    body = container(ContainerProgram(image, args=HOLD), image, limits, place)
    body["HostConfig"]["Mounts"] = []
    return {**body, "NetworkDisabled": False}


def joined(body: dict[str, Any], holder_id: str, env: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """A job's body, in the namespace of a holder, whose host name it gets: the engine refuses another one here."""
    body = {key: value for key, value in body.items() if key != "Hostname"}
    return {
        **body,
        "Env": [*(f"{name}={value}" for name, value in env), *body["Env"]],
        "NetworkDisabled": False,
        "HostConfig": {**body["HostConfig"], "NetworkMode": f"container:{holder_id}"},
    }


def _host(program: ContainerProgram, limits: Limits, place: Place) -> dict[str, Any]:
    gvisor = program.runtime == "runsc"
    memory = limits.memory_bytes + place.quota_bytes + (GVISOR_BYTES if gvisor else 0)
    owner = f"uid={place.owner},gid={place.owner}"
    tmp = max(MIB, min(limits.disk_bytes, MAX_TMP_BYTES))
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": limits.cpu_millis * 10**6,
        "PidsLimit": limits.pids + 1 + (GVISOR_PIDS if gvisor else 0),  # the engine's own init is one
        "Runtime": program.runtime,
        "Tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={tmp},nr_inodes={TMP_INODES},{owner},mode=0700"},  # noqa: S108
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            # one byte over the limit, so that a file that was cut there is seen to be over it
            {"Name": "fsize", "Soft": limits.disk_bytes + 1, "Hard": limits.disk_bytes + 1},
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
        ],
        "Mounts": [
            _bind(place.inputs, INPUTS, read_only=True),
            _bind(place.outputs, OUTPUTS, read_only=False),
            *([_bind(place.secrets, SECRETS, read_only=True)] if place.secrets else []),
        ],
    }


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    if not source.startswith("/") or ".." in source.split("/") or source.rstrip("/") in ("", "/proc", "/sys", "/dev"):
        raise ValueError(f"{source!r} is no folder to give to a job")
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def differences(asked: dict[str, Any], inspected: dict[str, Any]) -> list[str]:
    """Every setting that the engine did not apply as asked: empty when all is well."""
    host = inspected.get("HostConfig") or {}
    config = inspected.get("Config") or {}
    found = [f"HostConfig.{key}" for key, value in asked["HostConfig"].items() if not _same(value, host.get(key))]
    for key, value in asked.items():
        if key == "Env":
            same = set(value) <= set(config.get("Env") or [])  # the image's own come first
        elif key == "Labels":
            same = value.items() <= (config.get("Labels") or {}).items()
        elif key == "Healthcheck":  # intervals of the image's own may stand beside it: nobody uses them
            same = (config.get(key) or {}).get("Test") == value["Test"]
        elif key == "NetworkDisabled":
            same = True  # newer engines leave it out; HostConfig.NetworkMode decides
        else:
            same = key == "HostConfig" or _same(value, config.get(key))
        if not same:
            found.append(f"Config.{key}")
    found += [f"HostConfig.MaskedPaths lacks {path}" for path in sorted(MASKED - set(host.get("MaskedPaths") or []))]
    lacking = READ_ONLY - set(host.get("ReadonlyPaths") or [])
    return found + [f"HostConfig.ReadonlyPaths lacks {path}" for path in sorted(lacking)]


def _same(asked: Any, applied: Any) -> bool:
    """Equal, where nothing, zero, false and empty are one, and the order of a list does not matter."""
    return _canonical(_stated(asked)) == _canonical(_stated(applied))


def _stated(value: Any) -> Any:
    if isinstance(value, dict):
        # an empty object stays: of a set written as an object ({"/data": {}}) the key is all there is
        return {key: _stated(item) for key, item in value.items() if item or item == {}} or None
    if isinstance(value, list):
        return sorted(map(_canonical, map(_stated, value))) or None
    return value or None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def applied(inspected: dict[str, Any]) -> dict[str, Any]:
    """The settings in force, for the receipt: without paths of the host."""
    host = inspected["HostConfig"]
    shown = {key: host.get(key) for key in sorted({*HOST, *PER_JOB_HOST, "MaskedPaths", "ReadonlyPaths"})}
    shown["SecurityOpt"] = [_short(option) for option in host.get("SecurityOpt") or []]
    shown["Mounts"] = [{key: mount[key] for key in ("Target", "ReadOnly") if key in mount} for mount in host["Mounts"]]
    return {"host": shown, "user": inspected["Config"]["User"]}


def _short(option: str) -> str:
    """The filter of system calls is the profile's: its hash says which one."""
    name, _, value = option.partition("=")
    return f"seccomp=sha256:{hashlib.sha256(value.encode()).hexdigest()}" if name == "seccomp" else option


def profile() -> dict[str, Any]:
    """The profile as JSON; of what depends on the job only the names."""
    return {
        "id": PROFILE_ID,
        "host": HOST,
        "config": CONFIG,
        "perJob": sorted((*PER_JOB_HOST, *PER_JOB_CONFIG)),
        "environment": [list(pair) for pair in ENVIRONMENT],
        "masked": sorted(MASKED),
        "readOnly": sorted(READ_ONLY),
        "openFiles": OPEN_FILES,
        "gvisor": {"pids": GVISOR_PIDS, "bytes": GVISOR_BYTES},
        "maxTmpBytes": MAX_TMP_BYTES,
        "tmpInodes": TMP_INODES,
    }


def profile_sha256() -> str:
    """The profile's identity, in hex."""
    return hashlib.sha256(_canonical(profile()).encode()).hexdigest()
