/* Attacks on those who read outputs: links, special files, sizes, modes and names. */
#define _GNU_SOURCE
#include "abuse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static int writes_file(const char *path, int mode) {
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    if (fd < 0 || write(fd, "x", 1) != 1) return 9;
    return fchmod(fd, (mode_t)mode) == 0 ? close(fd) : 9;
}

/* PATH TARGET: also where the target is a folder of the host */
static int links(char **a) { return symlink(a[1], a[0]) == 0 ? 0 : 9; }

static int fifo(char **a) { return mkfifo(a[0], 0644) == 0 ? 0 : 9; }

static int binds(char **a) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, a[0], sizeof at.sun_path - 1);
    return bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&at, sizeof at) == 0 ? 0 : 9;
}

static int sparse(char **a) {
    int fd = open(a[0], O_CREAT | O_WRONLY, 0644);
    return fd >= 0 && ftruncate(fd, strtoll(a[1], NULL, 10)) == 0 ? 0 : 9;
}

/* PATH OCTAL-MODE: a file */
static int mode(char **a) { return writes_file(a[0], (int)strtol(a[1], NULL, 8)); }

static int folder(char **a) {
    if (mkdir(a[0], 0755) != 0) return 9;
    char path[256];
    snprintf(path, sizeof path, "%s/inside", a[0]);
    return writes_file(path, 0644) == 0 && chmod(a[0], (mode_t)strtol(a[1], NULL, 8)) == 0 ? 0 : 9;
}

static int named(char **a) {
    for (; *a; a++) {
        char path[8192], *to = path + sprintf(path, "/outputs/");
        for (const char *from = *a; *from; from++)
            if (*from == '%' && from[1]) {
                char hex[3] = {from[1], from[2], 0};
                *to++ = (char)strtol(hex, NULL, 16);
                from += 2;
            } else
                *to++ = *from;
        *to = 0;
        if (writes_file(path, 0644) != 0) return said(*a, -1) + 9;
    }
    return 0;
}

static int digs(char **a) {
    int depth = atoi(a[0]);
    if (chdir("/outputs") != 0) return 9;
    for (int i = 0; i < depth; i++)
        if (mkdir("d", 0755) != 0 || chdir("d") != 0) {
            printf("refused at %s depth: %s\n", i < depth ? "less" : "full", strerror(errno));
            return 9;
        }
    return 0;
}

static int many(char **a) {
    int count = atoi(a[0]);
    char path[64];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/outputs/%d", i);
        int fd = open(path, O_CREAT | O_WRONLY, 0644);
        if (fd < 0) return said("create", -1) + 9;
        close(fd);
    }
    return 0;
}

/* what a naive reader would expand: a gzip member that claims to be a zip, with a name that climbs */
static int bomb(char **a) {
    static const char data[] = "PK\3\4\x14\0\0\0\b\0\0\0\0\0\0\0\0\0\2\0\0\0\xff\xff\xff\xff\x0b\0\0\0../../x.txt\3\0"
                               "PK\5\6\0\0\0\0\1\0\1\0\xff\xff\xff\xff\0\0\0\0\0\0";
    (void)a;
    int fd = open("/outputs/bomb.zip", O_CREAT | O_WRONLY, 0644);
    return write(fd, data, sizeof data - 1) == sizeof data - 1 ? 0 : 9;
}

static int replaces(char **a) {
    (void)a;
    said("rmdir /outputs", rmdir("/outputs"));
    said("rename /outputs", rename("/outputs", "/tmp/outputs"));
    return said("link over /outputs", symlink("/etc", "/outputs"));
}

static int attributes(char **a) {
    (void)a;
    if (writes_file("/outputs/file", 0644) != 0) return 9;
    setxattr("/outputs/file", "user.insula", "hidden", 6, 0);
    said("security attribute", setxattr("/outputs/file", "security.capability", "x", 1, 0));
    return said("trusted attribute", setxattr("/outputs/file", "trusted.insula", "x", 1, 0));
}

static int locked(char **a) {
    int fd = open(a[0], O_CREAT | O_RDWR, 0644);
    return fd >= 0 && flock(fd, LOCK_EX) == 0 && write(fd, "x", 1) == 1 ? 0 : 9;
}

/* one file of half the limit under many names: what is copied counts, not what is stored */
static int twins(char **a) {
    int count = atoi(a[0]);
    static char block[1 << 20];
    char path[64];
    int fd = open("/outputs/first", O_CREAT | O_WRONLY, 0644);
    if (write(fd, block, sizeof block) != sizeof block) return 9;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/outputs/link%d", i);
        if (link("/outputs/first", path) != 0) return said("link", -1) + 9;
    }
    return 0;
}

const struct attack output_attacks[] = {
    {"link", links}, {"fifo", fifo}, {"socket", binds}, {"sparse", sparse}, {"mode", mode}, {"folder", folder},
    {"named", named}, {"dig", digs}, {"many", many}, {"bomb", bomb}, {"replace", replaces}, {"attributes", attributes},
    {"locked", locked}, {"twins", twins}, {NULL, NULL},
};
