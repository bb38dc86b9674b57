"""Which system calls a container may make: a list of those that programs need, every other one is refused.

An engine's own list depends on its version: that of Docker 20.10 lets a job with no network speak to the hypervisor by
AF_VSOCK, and use io_uring. This list is the same everywhere, and part of the profile. Format: the Docker Engine's,
https://docs.docker.com/engine/security/seccomp/; calls of a processor that has no such call are passed over by it.
"""

from __future__ import annotations

import json
from typing import Any, Final

_FILES: Final = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl
lchown lchown32 lgetxattr link linkat listxattr llistxattr lremovexattr lseek _llseek lsetxattr lstat lstat64 mkdir
mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile sendfile64 setxattr splice
stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink
unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_MEMORY: Final = """
brk cachestat get_mempolicy madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mmap2
mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages shmat shmctl
shmdt shmget
"""
_PROCESSES: Final = """
alarm arch_prctl capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid geteuid32 getgid
getgid32 getgroups getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid
getresuid32 getrlimit get_robust_list getrusage getsid get_thread_area gettid getuid getuid32 ioprio_get ioprio_set
kill landlock_add_rule landlock_create_ruleset landlock_restrict_self nanosleep pause pidfd_open pidfd_send_signal
prctl prlimit64 restart_syscall riscv_flush_icache rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit set_robust_list setsid set_thread_area set_tid_address setuid setuid32 sigaltstack
sigreturn sysinfo tgkill time times tkill ugetrlimit uname vfork wait4 waitid waitpid
"""
_WAITING: Final = """
clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait
eventfd eventfd2 futex futex_requeue futex_wait futex_waitv futex_wake getrandom gettimeofday io_cancel io_destroy
io_getevents io_pgetevents io_setup io_submit mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink
msgctl msgget msgrcv msgsnd _newselect poll ppoll pselect6 select semctl semget semop semtimedop signalfd signalfd4
timer_create timer_delete timerfd_create timerfd_gettime timerfd_settime timer_getoverrun timer_gettime timer_settime
"""
_SOCKETS: Final = """
accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
sendto setsockopt shutdown
"""
_UNIX: Final = 1
#: UNIX, INET, INET6: what programs open before they find that there is no network
_FAMILIES: Final = (_UNIX, 2, 10)
_NETLINK: Final = 16
_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_PERSONALITIES: Final = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, as 32 bit and as 2.6; the last one only asks
_ENOSYS: Final = 38


def _argument(index: int, operator: str, value: int, other: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": other, "op": f"SCMP_CMP_{operator}"}


def _allow(names: list[str], *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def seccomp() -> dict[str, Any]:
    """The filter. Only the processor's own way of calling: 32-bit programs on 64 bits are killed."""
    names = sorted(f"{_FILES}{_MEMORY}{_PROCESSES}{_WAITING}{_SOCKETS}".split())
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": [
            _allow(names),
            *(_allow(["socket"], _argument(0, "EQ", family)) for family in _FAMILIES),
            _allow(["socket"], _argument(0, "EQ", _NETLINK), _argument(2, "EQ", 0)),  # NETLINK_ROUTE: own interfaces
            # a pair opens sockets of a family as `socket` does (those of TIPC), and has the kernel load its module
            _allow(["socketpair"], _argument(0, "EQ", _UNIX)),
            *(_allow(["personality"], _argument(0, "EQ", value)) for value in _PERSONALITIES),
            # a thread or a process, in no namespace of its own
            _allow(["clone"], _argument(0, "MASKED_EQ", _NEW_NAMESPACES, 0)),
            # its flags are out of a filter's sight: C libraries take this for an old kernel, and use clone
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "args": []},
        ],
    }


def seccomp_option() -> str:
    """The filter as a value of HostConfig.SecurityOpt."""
    return f"seccomp={json.dumps(seccomp(), separators=(',', ':'))}"
