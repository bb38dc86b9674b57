/* hostile MODE: goes for one limit or one hole. One source for both tiers: WebAssembly and a static Linux binary.
 * What a sandbox must refuse and does refuse is said on standard output as "refused"; what gets through as "DONE". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#ifndef __wasi__
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <arpa/inet.h>
#endif

static int say(int got_through) {
    printf("%s\n", got_through ? "DONE" : "refused");
    return 0;
}

static int loop_forever(void) {
    for (volatile uint64_t i = 0;; i++) {}
}

static int grow(void) {
    for (size_t step = 1 << 20;;) {
        volatile char *block = malloc(step);
        if (!block) abort();
        for (size_t i = 0; i < step; i += 512) block[i] = 1;
    }
}

static int recurse(int depth) {
    volatile char block[4096];
    block[depth % 4096] = (char)depth;
    return depth < 0 ? 0 : recurse(depth + 1) + block[0];
}

static int fill(const char *folder, int each) {
    static char block[1 << 16];
    char path[128];
    for (int i = 0;; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        int fd = open(path, O_CREAT | O_WRONLY, 0644);
        if (fd < 0) return 9;
        for (int n = 0; n < each; n++)
            if (write(fd, block, sizeof block) < 0) return 9;
        close(fd);
    }
}

static int sparse(void) {
    int fd = open("/outputs/sparse", O_CREAT | O_WRONLY, 0644);
    return fd < 0 || ftruncate(fd, (off_t)1 << 40) != 0 ? 9 : 0;
}

static int seek_far(void) {
    int fd = open("/outputs/far", O_CREAT | O_WRONLY, 0644);
    if (fd < 0 || lseek(fd, (off_t)1 << 40, SEEK_SET) < 0) return 9;
    return write(fd, "x", 1) == 1 ? 0 : 9;
}

static int write_far(void) {
    int fd = open("/outputs/far", O_CREAT | O_WRONLY, 0644);
    return fd < 0 || pwrite(fd, "x", 1, (off_t)1 << 40) != 1 ? 9 : 0;
}

static int folders(void) {
    char path[64];
    for (int i = 0;; i++) {
        snprintf(path, sizeof path, "/outputs/%d", i);
        if (mkdir(path, 0755) != 0) return 9;
    }
}

/* a file without a name takes space that no listing shows */
static int hidden(void) {
    static char block[1 << 16];
    int fd = open("/outputs/hidden", O_CREAT | O_WRONLY, 0644);
    if (fd < 0) return 9;
    int unlinked = unlink("/outputs/hidden") == 0;
    printf("unlinked %d\n", unlinked);
    fflush(stdout);
    for (int n = 0; n < 1 << 12; n++)
        if (write(fd, block, sizeof block) < 0) return 9;
    return 0;
}

static int deep(void) {
    if (chdir("/outputs") != 0) return 9;
    for (int i = 0; i < 60; i++) {
#ifdef __wasi__
        char path[256] = "/outputs";
        for (int n = 0; n <= i; n++) strcat(path, "/d");
        if (mkdir(path, 0755) != 0) return 9;
#else
        if (mkdir("d", 0755) != 0 || chdir("d") != 0) return 9;
#endif
    }
    return 0;
}

static int flood(FILE *stream) {
    for (;;) fputs("all work and no play makes a dull job\n", stream);
}

static int links(void) {
    int made = symlink("/etc/passwd", "/outputs/absolute") == 0;
    made |= symlink("../../../../../../etc/passwd", "/outputs/relative") == 0;
    made |= symlink("loop", "/outputs/loop") == 0;
    return say(made);
}

static int escape(void) {
    static const char *const paths[] = {"/etc/passwd", "../../../../../../etc/passwd", "/outputs/../../../etc/passwd",
                                        "/inputs/../../../../etc/passwd", "/proc/self/environ", "/etc/shadow"};
    char line[256];
    int through = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        FILE *file = fopen(paths[i], "r");
        if (file && fgets(line, sizeof line, file) && strstr(line, "root:")) through = 1;
        if (file) fclose(file);
    }
    return say(through);
}

static int write_input(void) {
    int through = 0;
    int fd = open("/inputs/data", O_WRONLY);
    if (fd >= 0 && write(fd, "x", 1) == 1) through = 1;
    fd = open("/inputs/new", O_CREAT | O_WRONLY, 0644);
    if (fd >= 0) through = 1;
    if (unlink("/inputs/data") == 0 || truncate("/inputs/data", 0) == 0) through = 1;
    if (link("/inputs/data", "/outputs/data") == 0) through = 1;
    if (rename("/inputs/data", "/outputs/data") == 0) through = 1;
    return say(through);
}

static int show_environment(char **argv, int argc) {
    extern char **environ;
    for (int i = 0; i < argc; i++) printf("arg %s\n", argv[i]);
    for (char **each = environ; *each; each++) printf("env %s\n", *each);
    return 0;
}

/* what must be the same in every run: time, chance, names, inode numbers */
static int determinism(void) {
    struct timespec now;
    unsigned char random[16] = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    printf("time %lld %ld\n", (long long)now.tv_sec, now.tv_nsec);
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("mono %lld %ld\n", (long long)now.tv_sec, now.tv_nsec);
    getentropy(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++) printf("%02x", random[i]);
    printf("\n");
    for (int i = 9; i >= 0; i--) {
        char path[32];
        snprintf(path, sizeof path, "/outputs/%c%d", "zkbqm"[i % 5], i);
        close(open(path, O_CREAT | O_WRONLY, 0644));
    }
    DIR *folder = opendir("/outputs");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        struct stat status;
        char path[300];
        snprintf(path, sizeof path, "/outputs/%s", entry->d_name);
        stat(path, &status);
        if (entry->d_name[0] != '.')
            printf("%s %llu %lld\n", entry->d_name, (unsigned long long)status.st_ino, (long long)status.st_mtime);
    }
    if (folder) closedir(folder);
    return 0;
}

static int rest(void) {
    time_t before = time(NULL);
    sleep(3600);
    printf("slept %d\n", time(NULL) - before >= 3600);
    return 0;
}

/* rewrites one file of 100 000 bytes again and again: allowed, however much that is in all */
static int rewrite(void) {
    static char block[50000];
    for (int round = 0; round < 20; round++) {
        FILE *file = fopen("/outputs/same", round % 2 ? "r+" : "w");
        if (!file || fwrite(block, sizeof block, 2, file) != 2 || fclose(file)) return 9;
    }
    for (int round = 0; round < 50; round++) {
        FILE *file = fopen("/outputs/short-lived", "w");
        if (!file || fwrite(block, sizeof block, 1, file) != 1 || fclose(file)) return 9;
        if (remove("/outputs/short-lived")) return 9;
    }
    return 0;
}

#ifndef __wasi__
static int fork_bomb(void) {
    for (;;)
        if (fork() < 0) usleep(1000);
}

static int child_memory(void) {
    if (fork() == 0) grow();
    sleep(2);
    return 0;
}

/* addresses for documentation (RFC 5737, RFC 3849): a route to them is a route to anywhere */
static int network(void) {
    int through = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    inet_pton(AF_INET6, "2001:db8::1", &to6.sin6_addr);
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int fd = socket(AF_INET, kinds[i], 0), fd6 = socket(AF_INET6, kinds[i], 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0) through = 1;
        if (fd6 >= 0 && connect(fd6, (struct sockaddr *)&to6, sizeof to6) == 0) through = 1;
        if (fd >= 0) close(fd);
        if (fd6 >= 0) close(fd6);
    }
    if (socket(AF_INET, SOCK_RAW, 1) >= 0 || socket(17, SOCK_RAW, 0) >= 0) through = 1;
    static const char *const sockets[] = {"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"};
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++)
        if (access(sockets[i], F_OK) == 0) through = 1;
    return say(through);
}

static int privileges(void) {
    int through = setuid(0) == 0 || chroot("/tmp") == 0 || mknod("/tmp/device", S_IFBLK | 0600, 0x800) == 0;
    through |= mount("none", "/tmp", "tmpfs", 0, "") == 0 || sethostname("x", 1) == 0;
    through |= open("/proc/sys/kernel/hostname", O_WRONLY) >= 0 || open("/proc/sysrq-trigger", O_WRONLY) >= 0;
    through |= open("/proc/kcore", O_RDONLY) >= 0 && open("/dev/mem", O_RDONLY) >= 0;
    through |= open("/etc/new", O_CREAT | O_WRONLY, 0644) >= 0 || mkdir("/new", 0755) == 0;
    return say(through);
}

/* copies itself to /tmp and executes the copy */
static int dropper(void) {
    static char block[1 << 20];
    int from = open("/proc/self/exe", O_RDONLY), to = open("/tmp/copy", O_CREAT | O_WRONLY, 0755);
    ssize_t got = read(from, block, sizeof block);
    if (got <= 0 || write(to, block, (size_t)got) != got) return 9;
    close(to);
    execl("/tmp/copy", "/tmp/copy", "done", (char *)NULL);
    return say(0);
}

static int ignore_signals(void) {
    for (int i = 1; i < 32; i++) signal(i, SIG_IGN);
    for (;;) pause();
}

static int special(void) {
    return mkfifo("/outputs/fifo", 0644) == 0 ? 0 : 9;
}

static int closed_streams(void) {
    close(0), close(1), close(2);
    sleep(1);
    return open("/outputs/late", O_CREAT | O_WRONLY, 0644) >= 0 ? 0 : 9;
}
#endif

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
#define MODE(name, call) if (strcmp(mode, name) == 0) return call
    MODE("loop", loop_forever());
    MODE("grow", grow());
    MODE("recurse", recurse(argc));
    MODE("fill", fill("/outputs", 16));
    MODE("fill-tmp", fill("/tmp", 16));
    MODE("files", fill("/outputs", 0));
    MODE("folders", folders());
    MODE("sparse", sparse());
    MODE("seek", seek_far());
    MODE("pwrite", write_far());
    MODE("hidden", hidden());
    MODE("deep", deep());
    MODE("stdout", flood(stdout));
    MODE("stderr", flood(stderr));
    MODE("links", links());
    MODE("escape", escape());
    MODE("write-input", write_input());
    MODE("environment", show_environment(argv, argc));
    MODE("determinism", determinism());
    MODE("sleep", rest());
    MODE("rewrite", rewrite());
    MODE("abort", (abort(), 0));
    MODE("exit", atoi(argv[2]));
    MODE("done", say(1));
#ifndef __wasi__
    MODE("fork", fork_bomb());
    MODE("child-memory", child_memory());
    MODE("network", network());
    MODE("privileges", privileges());
    MODE("dropper", dropper());
    MODE("ignore-signals", ignore_signals());
    MODE("special", special());
    MODE("closed-streams", closed_streams());
#endif
    fprintf(stderr, "hostile: no mode %s\n", mode);
    return 2;
}
