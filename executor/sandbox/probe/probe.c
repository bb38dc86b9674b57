/* probe MODE: a job of the node's own that goes for one limit, and not much further: where a limit does not hold, the host
 * must live. Static, no shell: it is all there is in its image.
 * "facts" prints what a job can see and do, one "name value" a line; the other modes try to pass a limit. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void status_lines(void) {
    static const char *const wanted[] = {"CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"};
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) fputs(line, stdout);
    if (file) fclose(file);
}

static int interfaces(void) {
    char line[512];
    int count = -2; /* two lines of heading */
    FILE *file = fopen("/proc/net/dev", "r");
    while (file && fgets(line, sizeof line, file)) count++;
    if (file) fclose(file);
    return count;
}

static const char *reach(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) return "no";
    const char *answer = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? "yes" : "no";
    close(fd);
    return answer;
}

static const char *creates(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0755);
    if (fd < 0) return "no";
    close(fd);
    return "yes";
}

static int facts(void) {
    status_lines();
    printf("uid %u\n", (unsigned)getuid());
    printf("interfaces %d\n", interfaces());
    printf("reaches-network %s\n", reach("192.0.2.1")); /* an address for documentation: nobody is there */
    printf("writes-root %s\n", creates("/probe-file"));
    printf("writes-inputs %s\n", creates("/inputs/probe-file"));
    printf("writes-tmp %s\n", creates("/tmp/probe-file"));
    printf("writes-outputs %s\n", creates("/outputs/probe-file"));
    printf("mknod %s\n", mknod("/tmp/probe-device", S_IFBLK | 0600, 0x800) == 0 ? "yes" : "no");
    printf("chroot %s\n", chroot("/tmp") == 0 ? "yes" : "no");
    return 0;
}

static int memory(void) {
    size_t step = 1 << 20;
    for (int taken = 0; taken < 192; taken++) {
        volatile char *block = malloc(step);
        if (!block) return 1;
        for (size_t i = 0; i < step; i += 512) block[i] = 1;
    }
    return 0;
}

static int disk(void) {
    static char block[1 << 16];
    char path[64];
    for (int i = 0; i < 64; i++) {
        snprintf(path, sizeof path, "/outputs/%d", i);
        int fd = open(path, O_CREAT | O_WRONLY, 0644);
        if (fd < 0) return 1;
        for (int n = 0; n < 16; n++)
            if (write(fd, block, sizeof block) < 0) return 1;
        close(fd);
    }
    return 0;
}

/* its exit code is 7 where it was refused a process, 0 where it had as many as it wanted */
static int pids(void) {
    for (int i = 0; i < 700; i++) {
        pid_t child = fork();
        if (child < 0) return 7;
        if (child == 0)
            for (;;) pause();
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "facts") == 0) return facts();
    if (strcmp(mode, "memory") == 0) return memory();
    if (strcmp(mode, "disk") == 0) return disk();
    if (strcmp(mode, "pids") == 0) return pids();
    if (strcmp(mode, "wall") == 0)
        for (;;) pause();
    fputs("probe: facts, memory, disk, pids or wall\n", stderr);
    return 2;
}
