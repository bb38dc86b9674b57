/* Attacks by system calls that no job needs. */
#define _GNU_SOURCE
#include "abuse.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int mounts(char **a) {
    (void)a;
    said("mount tmpfs", mount("none", "/tmp", "tmpfs", 0, ""));
    said("mount proc", mount("none", "/tmp", "proc", 0, ""));
    said("bind mount", mount("/", "/tmp", NULL, MS_BIND, NULL));
    said("fsopen", syscall(430, "tmpfs", 0));
    return said("open_tree", syscall(428, AT_FDCWD, "/", 1));
}

static int remount(char **a) {
    (void)a;
    said("remount / writable", mount(NULL, "/", NULL, MS_REMOUNT, NULL));
    said("remount /inputs writable", mount(NULL, "/inputs", NULL, MS_REMOUNT | MS_BIND, NULL));
    said("mount_setattr", syscall(442, AT_FDCWD, "/", 0, NULL, 0));
    return said("make shared", mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL));
}

static int umounts(char **a) {
    (void)a;
    said("umount /outputs", umount2("/outputs", MNT_DETACH));
    said("umount /proc/kcore", umount2("/proc/kcore", MNT_DETACH));
    return said("umount /proc", umount2("/proc", MNT_DETACH));
}

static int user_namespace(char **a) {
    (void)a;
    return said("unshare user", unshare(CLONE_NEWUSER));
}

static int namespaces(char **a) {
    (void)a;
    said("unshare mount", unshare(CLONE_NEWNS));
    said("unshare net", unshare(CLONE_NEWNET));
    said("unshare pid", unshare(CLONE_NEWPID));
    said("unshare ipc", unshare(CLONE_NEWIPC));
    said("unshare uts", unshare(CLONE_NEWUTS));
    return said("unshare cgroup", unshare(CLONE_NEWCGROUP));
}

static int clones(char **a) {
    (void)a;
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    said("clone into a user namespace", pid);
    uint64_t arguments[8] = {CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0, SIGCHLD, 0, 0, 0};
    pid = syscall(435, arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    return said("clone3 into namespaces", pid);
}

static int enters(char **a) {
    (void)a;
    static const char *const kinds[] = {"mnt", "net", "pid", "user"};
    for (size_t i = 0; i < 4; i++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/1/ns/%s", kinds[i]);
        int fd = open(path, O_RDONLY);
        said(path, fd < 0 ? -1 : setns(fd, 0));
    }
    return said("pidfd_open 1 and setns", setns((int)syscall(434, 1, 0), CLONE_NEWNS));
}

static int roots(char **a) {
    (void)a;
    said("chroot", chroot("/tmp"));
    said("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
    int fd = open("/", O_RDONLY);
    return said("open_by_handle_at", syscall(SYS_open_by_handle_at, fd, (uint64_t[]){8, 2, 2, 0}, O_RDONLY));
}

static int nodes(char **a) {
    (void)a;
    said("mknod block", mknod("/tmp/block", S_IFBLK | 0600, makedev(8, 0)));
    said("mknod mem", mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)));
    said("mknod output", mknod("/outputs/mem", S_IFCHR | 0600, makedev(1, 1)));
    return said("open /tmp/block", opens("/tmp/block", O_RDONLY));
}

static int trace(char **a) {
    (void)a;
    said("ptrace 1", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    return said("ptrace seize 1", ptrace(PTRACE_SEIZE, 1, NULL, NULL));
}

static int other_memory(char **a) {
    (void)a;
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    said("process_vm_readv", process_vm_readv(1, &here, 1, &there, 1, 0));
    said("process_vm_writev", process_vm_writev(1, &here, 1, &there, 1, 0));
    return said("kcmp", syscall(SYS_kcmp, 1, getpid(), 0, 0, 0));
}

static int keys(char **a) {
    (void)a;
    said("add_key", syscall(SYS_add_key, "user", "insula", "x", 1, -3));
    said("request_key", syscall(SYS_request_key, "user", "insula", NULL, 0));
    return said("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
}

static int bpf(char **a) {
    (void)a;
    char attributes[128] = {1, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1};
    return said("bpf", syscall(SYS_bpf, 0, attributes, sizeof attributes));
}

static int perf(char **a) {
    (void)a;
    uint32_t attributes[32] = {1, 128};
    return said("perf_event_open", syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
}

static int io_uring(char **a) {
    (void)a;
    char parameters[120] = {0};
    return said("io_uring_setup", syscall(425, 4, parameters));
}

static int userfault(char **a) {
    (void)a;
    return said("userfaultfd", syscall(SYS_userfaultfd, 0));
}

static int modules(char **a) {
    (void)a;
    said("init_module", syscall(SYS_init_module, "", 0, ""));
    said("finit_module", syscall(SYS_finit_module, 0, "", 0));
    said("delete_module", syscall(SYS_delete_module, "none", O_NONBLOCK));
    return said("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

/* a magic number that is none: even a kernel that would let this through does nothing */
static int power(char **a) {
    (void)a;
    said("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
    said("swapon", swapon("/outputs/none", 0));
    said("swapoff", swapoff("/outputs/none"));
    said("acct", syscall(SYS_acct, "/outputs/none"));
    return said("quotactl", syscall(SYS_quotactl, 0, "/none", 0, NULL));
}

static int clocks(char **a) {
    (void)a;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    said("clock_settime", clock_settime(CLOCK_REALTIME, &now));
    struct timeval time = {now.tv_sec, now.tv_nsec / 1000};
    said("settimeofday", settimeofday(&time, NULL));
    struct timex change = {.modes = ADJ_FREQUENCY, .freq = 0};
    return said("adjtimex", adjtimex(&change));
}

static int names(char **a) {
    (void)a;
    said("sethostname", sethostname("x", 1));
    return said("setdomainname", setdomainname("x", 1));
}

static int kernel_log(char **a) {
    (void)a;
    char text[256];
    said("syslog clear", klogctl(5, NULL, 0));
    long got = klogctl(3, text, sizeof text);
    text[got > 0 && got < 256 ? got : 0] = 0;
    /* gVisor tells a story of its own */
    return said("syslog read", got > 0 && !strstr(text, "gVisor") ? 1 : (errno = got < 0 ? errno : EPERM, -1));
}

static int becomes_root(char **a) {
    (void)a;
    said("setuid", setuid(0));
    said("setgid", setgid(0));
    said("setresuid", setresuid(0, 0, 0));
    gid_t root = 0;
    return said("setgroups", syscall(SYS_setgroups, 1, &root));
}

static int privileges(char **a) {
    (void)a;
    said("priority", setpriority(PRIO_PROCESS, 0, -20));
    struct sched_param real_time = {.sched_priority = 50};
    said("real-time", syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &real_time));
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    said("core size", setrlimit(RLIMIT_CORE, &most));
    said("open files", setrlimit(RLIMIT_NOFILE, &most));
    said("file size", setrlimit(RLIMIT_FSIZE, &most));
    said("nice below", nice(-5) == -1 ? -1 : 0);
    return said("oom score", writes("/proc/self/oom_score_adj", "-1000"));
}

static int locks(char **a) {
    (void)a;
    size_t size = 1UL << 30;
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return said("mlock 1 GiB", block == MAP_FAILED ? -1 : mlock(block, size));
}

static int huge_pages(char **a) {
    (void)a;
    size_t size = 1UL << 30;
    char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (block == MAP_FAILED) return said("huge pages", -1);
    for (size_t i = 0; i < size; i += 1 << 21) block[i] = 1;
    return said("huge pages", 0);
}

const struct attack kernel_attacks[] = {
    {"mount", mounts}, {"remount", remount}, {"umount", umounts}, {"user-namespace", user_namespace},
    {"namespaces", namespaces}, {"clone", clones}, {"setns", enters}, {"chroot", roots}, {"mknod", nodes},
    {"ptrace", trace}, {"process-vm", other_memory}, {"keys", keys}, {"bpf", bpf}, {"perf", perf},
    {"io-uring", io_uring}, {"userfaultfd", userfault}, {"modules", modules}, {"power", power}, {"clock", clocks},
    {"hostname", names}, {"kernel-log", kernel_log}, {"root", becomes_root}, {"limits", privileges}, {"mlock", locks},
    {"huge-pages", huge_pages}, {NULL, NULL},
};
