/* Attacks on what a job can see of files: the host's, the kernel's, the image's and its own inputs. */
#define _GNU_SOURCE
#include "abuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* a folder or file that shows something counts as open; one that is empty, as a mask is, does not */
static long shows(const char *path) {
    char text[4096];
    struct stat status;
    if (stat(path, &status) != 0) return -1;
    if (S_ISDIR(status.st_mode)) {
        DIR *folder = opendir(path);
        int entries = 0;
        while (folder && readdir(folder)) entries++;
        if (folder) closedir(folder);
        errno = EACCES;
        return entries > 2 ? 1 : -1;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return -1;
    long got = read(fd, text, sizeof text);
    close(fd);
    if (got == 0) errno = ENODATA;
    return got > 0 ? 1 : -1;
}

static int reads(char **paths) {
    for (; *paths; paths++) said(*paths, shows(*paths));
    return 0;
}

static int kernel_files(char **a) {
    (void)a;
    static const char *const paths[] = {
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness",
        "/proc/sys/kernel/modprobe", "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) said(paths[i], writes(paths[i], "0"));
    return 0;
}

static int sys_files(char **a) {
    (void)a;
    static const char *const paths[] = {
        "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/pids.max", "/sys/power/state", "/sys/block/vda/queue/scheduler",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) said(paths[i], writes(paths[i], "0"));
    return said("mkdir /sys/fs/cgroup/new", mkdir("/sys/fs/cgroup/new", 0755));
}

static int root_files(char **a) {
    (void)a;
    said("mkdir /new", mkdir("/new", 0755));
    said("create /etc/new", opens("/etc/new", O_CREAT | O_WRONLY));
    said("create /new", opens("/new", O_CREAT | O_WRONLY));
    said("rename /abuse", rename("/abuse", "/other"));
    said("write itself", opens("/proc/self/exe", O_WRONLY));
    said("unlink /etc/hosts", unlink("/etc/hosts"));
    said("write /etc/resolv.conf", opens("/etc/resolv.conf", O_WRONLY));
    return said("write /dev/new", opens("/dev/new", O_CREAT | O_WRONLY));
}

static int inputs(char **a) {
    (void)a;
    said("write", opens("/inputs/data", O_WRONLY));
    said("append", opens("/inputs/data", O_WRONLY | O_APPEND));
    said("truncate", truncate("/inputs/data", 0));
    said("chmod", chmod("/inputs/data", 0777));
    said("chown", chown("/inputs/data", getuid(), getgid()));
    said("utimes", utimensat(AT_FDCWD, "/inputs/data", NULL, 0));
    said("unlink", unlink("/inputs/data"));
    said("rename", rename("/inputs/data", "/inputs/other"));
    said("create", opens("/inputs/new", O_CREAT | O_WRONLY));
    said("mkdir", mkdir("/inputs/new", 0755));
    int fd = open("/inputs/data", O_RDONLY);
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return said("mmap", shared == MAP_FAILED ? -1 : 0);
}

static int input_links(char **a) {
    (void)a;
    said("link to outputs", link("/inputs/data", "/outputs/data"));
    said("link to tmp", link("/inputs/data", "/tmp/data"));
    said("rename to outputs", rename("/inputs/data", "/outputs/data"));
    int fd = open("/inputs/data", O_RDONLY);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    said("link by descriptor", linkat(AT_FDCWD, path, AT_FDCWD, "/outputs/data", AT_SYMLINK_FOLLOW));
    return said("open by descriptor", opens(path, O_RDWR));
}

static int devices(char **a) {
    (void)a;
    static const char *const known[] = {".",    "..",   "null", "zero",  "full",   "random", "urandom", "tty",
                                        "console", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "core"};
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], entry->d_name) != 0) i++;
        if (i == sizeof known / sizeof *known) said(entry->d_name, 0);
    }
    static const char *const wanted[] = {"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kvm", "/dev/fuse", "/dev/sda",
                                         "/dev/vda", "/dev/net/tun", "/dev/kmsg", "/dev/vsock", "/dev/vhost-vsock"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) said(wanted[i], opens(wanted[i], O_RDONLY));
    return 0;
}

/* executes the copy of this program, owned by root, that its image holds with a bit or a capability too many */
static int executes(char **paths) {
    execl(paths[0], paths[0], "identity", (char *)NULL);
    return said("execute", -1);
}

static int identity(char **a) {
    (void)a;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "Cap", 3) == 0 && strtoul(line + 8, NULL, 16) && strncmp(line, "CapBnd", 6)) said(line, 0);
    gid_t groups[64];
    int count = getgroups(64, groups);
    for (int i = 0; i < count; i++)
        if (groups[i] == 0) said("group of root", 0);
    errno = EPERM;
    said("effective user is root", geteuid() == 0 ? 0 : -1);
    return said("effective group is root", getegid() == 0 ? 0 : -1);
}

/* what a dropped copy is told to do: to say that it runs */
static int runs(char **a) {
    (void)a;
    return said("execute", 0);
}

static int drops(char **paths) {
    static char block[1 << 20];
    int from = open("/proc/self/exe", O_RDONLY), to = open(paths[0], O_CREAT | O_WRONLY, 0755);
    if (to < 0) return said("create", -1);
    for (ssize_t got; (got = read(from, block, sizeof block)) > 0;)
        if (write(to, block, (size_t)got) != got) return said("write", -1);
    close(to);
    execl(paths[0], paths[0], "runs", (char *)NULL);
    return said("execute", -1);
}

/* paths relative to the working folder, which the image or the job chose */
static int climbs(char **paths) {
    char path[8192] = "";
    for (int up = 0; up < 24; up++) {
        char whole[16384];
        snprintf(whole, sizeof whole, "%s%s", path, paths[0] + 1);
        if (shows(whole) > 0) return said("a file of the host", 0);
        strcat(path, "../");
    }
    errno = ENOENT;
    return said("a file of the host", -1);
}

const struct attack file_attacks[] = {
    {"read", reads}, {"proc-write", kernel_files}, {"sys-write", sys_files}, {"root-write", root_files},
    {"input-write", inputs}, {"input-links", input_links}, {"devices", devices}, {"execute", executes},
    {"identity", identity}, {"drop", drops}, {"runs", runs}, {"climb", climbs}, {NULL, NULL},
};
