"""The hardened profile is data: this holds it to the letter."""

import copy

import pytest

from executor.sandbox import profile
from executor.sandbox.seccomp import seccomp, seccomp_option
from executor.sandbox.types import ContainerProgram, Limits

IMAGE = "sha256:" + "a" * 64
LIMITS = Limits(
    wall_seconds=60, cpu_millis=1500, memory_bytes=2**28, disk_bytes=2**26, output_files=9, log_bytes=9, pids=64
)
PLACE = profile.Place("/srv/job/inputs", "/srv/job/outputs", 65534, 0, {"insula.node": "n"})


def body(program=None, place=PLACE):
    return profile.container(program or ContainerProgram(IMAGE, args=("run",)), IMAGE, LIMITS, place)


def inspected(asked):
    """What a faithful engine would answer."""
    answer = copy.deepcopy(asked)
    host = answer.pop("HostConfig")
    host |= {"MaskedPaths": sorted(profile.MASKED), "ReadonlyPaths": sorted(profile.READ_ONLY)}
    return {"HostConfig": host, "Config": answer}


def test_the_create_request_is_golden():
    assert body() == {
        "AttachStderr": True,
        "AttachStdin": False,
        "AttachStdout": True,
        "Cmd": ["run"],
        "Domainname": "",
        "Env": ["HOME=/tmp", "LANG=C.UTF-8", "PYTHONHASHSEED=0", "SOURCE_DATE_EPOCH=946684800", "TZ=UTC"],
        "Healthcheck": {"Test": ["NONE"]},
        "Hostname": "job",
        "Image": IMAGE,
        "Labels": {"insula.node": "n"},
        "NetworkDisabled": True,
        "OpenStdin": False,
        "StdinOnce": False,
        "StopSignal": "SIGKILL",
        "Tty": False,
        "User": "65534:65534",
        "Volumes": {},
        "WorkingDir": "/",
        "HostConfig": {
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
            "Memory": 2**28,
            "MemorySwap": 2**28,
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": "/srv/job/inputs",
                    "Target": "/inputs",
                    "ReadOnly": True,
                    "BindOptions": {"Propagation": "rprivate"},
                },
                {
                    "Type": "bind",
                    "Source": "/srv/job/outputs",
                    "Target": "/outputs",
                    "ReadOnly": False,
                    "BindOptions": {"Propagation": "rprivate"},
                },
            ],
            "NanoCpus": 1_500_000_000,
            "NetworkMode": "none",
            "OomKillDisable": False,
            "PidMode": "",
            "PidsLimit": 65,
            "PortBindings": {},
            "Privileged": False,
            "PublishAllPorts": False,
            "ReadonlyRootfs": True,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "Runtime": "runc",
            "SecurityOpt": ["no-new-privileges", seccomp_option()],
            "ShmSize": 16 * 2**20,
            "Sysctls": {},
            "Tmpfs": {
                "/tmp": "rw,noexec,nosuid,nodev,size=67108864,nr_inodes=4096,uid=65534,gid=65534,mode=0700",
            },
            "UTSMode": "",
            "Ulimits": [
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "fsize", "Soft": 2**26 + 1, "Hard": 2**26 + 1},
                {"Name": "nofile", "Soft": 1024, "Hard": 1024},
            ],
            "UsernsMode": "",
            "VolumesFrom": [],
        },
    }


def test_every_key_is_on_the_list():
    asked = body(ContainerProgram(IMAGE, entrypoint=("/x",), args=("y",), env=(("A", "1"),), workdir="/w"))

    assert set(asked["HostConfig"]) == {*profile.HOST, *profile.PER_JOB_HOST}
    assert set(asked) == {*profile.CONFIG, *profile.PER_JOB_CONFIG, "HostConfig"}


def test_the_image_s_own_entrypoint_and_command_stay_where_the_job_names_none():
    assert {"Entrypoint", "Cmd"} & set(body(ContainerProgram(IMAGE))) == set()


def test_what_lies_in_memory_is_added_to_the_memory_limit():
    place = profile.Place("/srv/job/inputs", "/srv/job/outputs", 65534, 1000, {})

    assert body(place=place)["HostConfig"]["Memory"] == 2**28 + 1000


@pytest.mark.parametrize("source", ["/", "relative", "/a/../etc", "/proc", "/sys", "/dev/", ""])
def test_a_folder_that_is_none_of_a_job_s_is_never_mounted(source):
    with pytest.raises(ValueError, match="no folder"):
        body(place=profile.Place(source, "/srv/job/outputs", 65534, 0, {}))


def test_a_job_never_runs_as_root():
    with pytest.raises(ValueError, match="root"):
        body(place=profile.Place("/a", "/b", 0, 0, {}))


def test_a_faithful_engine_shows_no_differences():
    assert profile.differences(body(), inspected(body())) == []


def changed(path, value):
    def apply(answer):
        place = answer
        *way, last = path.split(".")
        for step in way:
            place = place[step]
        place[last] = value

    return apply


IGNORED = {
    "network": changed("HostConfig.NetworkMode", "bridge"),
    "read-only root": changed("HostConfig.ReadonlyRootfs", False),
    "capabilities kept": changed("HostConfig.CapDrop", None),
    "capability added": changed("HostConfig.CapAdd", ["SYS_ADMIN"]),
    "new privileges": changed("HostConfig.SecurityOpt", []),
    "seccomp off": changed("HostConfig.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
    "processes": changed("HostConfig.PidsLimit", None),
    "memory": changed("HostConfig.Memory", 0),
    "swap": changed("HostConfig.MemorySwap", -1),
    "processor": changed("HostConfig.NanoCpus", 0),
    "limits": changed("HostConfig.Ulimits", []),
    "privileged": changed("HostConfig.Privileged", True),
    "runtime": changed("HostConfig.Runtime", "other"),
    "a bind more": changed("HostConfig.Binds", ["/:/host"]),
    "mounts": changed("HostConfig.Mounts", []),
    "host's processes": changed("HostConfig.PidMode", "host"),
    "tmpfs options": changed("HostConfig.Tmpfs", {"/tmp": "rw"}),
    "log": changed("HostConfig.LogConfig", {"Type": "json-file", "Config": {}}),
    "nothing masked": changed("HostConfig.MaskedPaths", []),
    "nothing read-only in /proc": changed("HostConfig.ReadonlyPaths", None),
    "user": changed("Config.User", ""),
    "health check": changed("Config.Healthcheck", {"Test": ["CMD", "x"]}),
    "image": changed("Config.Image", "other"),
    "volumes": changed("Config.Volumes", {"/data": {}}),
    "environment": changed("Config.Env", ["A=1"]),
    "labels": changed("Config.Labels", {}),
}


@pytest.mark.parametrize("name", IGNORED)
def test_a_setting_that_the_engine_ignores_is_noticed(name):
    answer = inspected(body())
    IGNORED[name](answer)

    assert len(profile.differences(body(), answer)) > 0


def test_a_writable_input_is_noticed():
    answer = inspected(body())
    answer["HostConfig"]["Mounts"][0]["ReadOnly"] = False

    assert profile.differences(body(), answer) == ["HostConfig.Mounts"]


def test_an_engine_that_leaves_out_empty_settings_is_faithful():
    answer = inspected(body())
    answer["HostConfig"] = {key: value for key, value in answer["HostConfig"].items() if value}
    answer["HostConfig"]["Mounts"][1].pop("ReadOnly")

    assert profile.differences(body(), answer) == []


def test_the_profile_s_identity_changes_only_on_purpose():
    assert profile.profile_sha256() == "21bba138e653ecf2f14be71733876be114ebf5eae0a61940c14559b12dc64529"


def test_gvisor_gets_room_for_its_own_kernel():
    plain, gentle = (body(ContainerProgram(IMAGE, runtime=runtime))["HostConfig"] for runtime in ("runc", "runsc"))

    assert gentle["Memory"] - plain["Memory"] == profile.GVISOR_BYTES
    assert gentle["PidsLimit"] - plain["PidsLimit"] == profile.GVISOR_PIDS


def test_the_receipt_names_the_filter_of_system_calls_by_its_hash():
    shown = profile.applied({"HostConfig": {**body()["HostConfig"]}, "Config": {"User": "65534:65534"}})

    assert shown["host"]["SecurityOpt"][0] == "no-new-privileges"
    assert shown["host"]["SecurityOpt"][1].startswith("seccomp=sha256:")


NEVER = {
    "add_key", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init",
    "finit_module", "fsmount", "fsopen", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "memfd_secret",
    "mount", "mount_setattr", "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree",
    "perf_event_open", "pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace",
    "quotactl", "reboot", "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "swapoff",
    "swapon", "syslog", "umount", "umount2", "unshare", "userfaultfd", "vhangup",
}  # fmt: skip


def test_the_filter_allows_nothing_that_leads_out():
    allowed = {name for rule in seccomp()["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}

    assert seccomp()["defaultAction"] == "SCMP_ACT_ERRNO"
    assert allowed.isdisjoint(NEVER)
    assert {"read", "write", "execve", "mmap", "futex", "clone", "socket"} <= allowed


def test_calls_that_are_allowed_in_part_are_allowed_with_conditions_only():
    for rule in seccomp()["syscalls"]:
        if {"clone", "socket", "socketpair", "personality"} & set(rule["names"]):
            assert rule["args"]
