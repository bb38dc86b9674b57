/* Attacks by numbers: processes, memory, time, descriptors, and outliving the job. */
#define _GNU_SOURCE
#include "abuse.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int fork_bomb(char **a) {
    (void)a;
    for (;;)
        if (fork() < 0) usleep(1000);
}

static void takes(void) {
    for (;;) {
        volatile char *block = malloc(1 << 20);
        if (!block) abort();
        for (size_t i = 0; i < 1 << 20; i += 512) block[i] = 1;
    }
}

static int memory(char **a) {
    (void)a;
    takes();
    return 0;
}

/* the child dies of it, the job itself ends well */
static int child_memory(char **a) {
    (void)a;
    pid_t child = fork();
    if (child == 0) takes();
    waitpid(child, NULL, 0);
    return 0;
}

static int shared_memory(char **a) {
    (void)a;
    int id = shmget(IPC_PRIVATE, 1UL << 30, IPC_CREAT | 0600);
    char *block = id < 0 ? (void *)-1 : shmat(id, NULL, 0);
    if (block == (void *)-1) return said("shmget 1 GiB", -1);
    for (size_t i = 0; i < 1UL << 30; i += 4096) block[i] = 1;
    return said("shmget 1 GiB", 0);
}

static int file_memory(char **a) {
    (void)a;
    static char block[1 << 20];
    for (int i = 0; i < 512; i++) { /* many, because a file's size has a limit of its own */
        int fd = memfd_create("insula", 0);
        if (fd < 0 || write(fd, block, sizeof block) < 0) return said("memfd 512 MiB", -1);
    }
    return said("memfd 512 MiB", 0);
}

static int fills(char **a) {
    static char block[1 << 16];
    char path[128];
    int each = atoi(a[1]), made = 0;
    for (;; made++) {
        snprintf(path, sizeof path, "%s/%d", a[0], made);
        int fd = open(path, O_CREAT | O_WRONLY, 0644);
        if (fd < 0) break;
        int whole = 1;
        for (int n = 0; n < each && whole; n++) whole = write(fd, block, sizeof block) == sizeof block;
        close(fd);
        if (!whole) break;
    }
    printf("refused after %d files: %s\n", made, strerror(errno));
    return 9;
}

static int folders(char **a) {
    char path[128];
    for (int i = 0;; i++) {
        snprintf(path, sizeof path, "%s/%d", a[0], i);
        if (mkdir(path, 0755) != 0) return 9;
    }
}

static int descriptors(char **a) {
    (void)a;
    int count = 0;
    while (open("/dev/null", O_RDONLY) >= 0) count++;
    printf("refused after %s: %s\n", count <= 1024 ? "1024 or less" : "more", strerror(errno));
    return 0;
}

static int spins(char **a) {
    (void)a;
    for (int i = 0; i < 4; i++)
        if (fork() == 0) break;
    for (volatile unsigned long i = 0;; i++) {}
}

/* how much of a second of wall time four processes got, in hundredths */
static int share(char **a) {
    (void)a;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 1000);
    printf("%ld\n", clock() * 100 / CLOCKS_PER_SEC);
    return 0;
}

static int ignores(char **a) {
    (void)a;
    for (int i = 1; i < 32; i++) signal(i, SIG_IGN);
    for (;;) pause();
}

static int sleeps(char **a) {
    (void)a;
    for (;;) sleep(3600);
}

static int stops(char **a) {
    (void)a;
    raise(SIGSTOP);
    for (;;) pause();
}

static int kills_itself(char **a) {
    (void)a;
    raise(SIGKILL);
    return 0;
}

static int kills(char **a) {
    (void)a;
    signal(SIGTERM, SIG_IGN);
    kill(-1, SIGKILL);
    kill(1, SIGKILL);
    kill(1, SIGTERM);
    usleep(50000);
    return said("kill init", -1 + (kill(1, 0) != 0));
}

static int dumps(char **a) {
    (void)a;
    if (chdir("/outputs") != 0) return 9;
    abort();
}

static int zombies(char **a) {
    (void)a;
    for (int i = 0; i < 40; i++) {
        pid_t child = fork();
        if (child == 0) _exit(fork() == 0 ? 0 : 0);
        if (child > 0) waitpid(child, NULL, 0);
    }
    usleep(300000);
    int left = 0;
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (isdigit((unsigned char)entry->d_name[0])) left++;
    errno = ECHILD;
    return said("zombies", left > 3 ? 1 : -1);
}

static int other_processes(char **a) {
    (void)a;
    int others = 0;
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (isdigit((unsigned char)entry->d_name[0])) others += atoi(entry->d_name) != getpid();
    errno = ESRCH;
    return said("processes of others", others > 1 ? 1 : -1); /* the engine's init is one */
}

/* a child of a session of its own that goes on writing after the job has ended */
static int outlives(char **a) {
    (void)a;
    if (fork() == 0) {
        setsid();
        if (fork() != 0) _exit(0);
        close(0), close(1), close(2);
        for (;;) {
            int fd = open("/outputs/late", O_CREAT | O_WRONLY | O_APPEND, 0644);
            if (fd < 0 || write(fd, "late\n", 5) < 0) _exit(1);
            close(fd);
            usleep(1000);
        }
    }
    while (access("/outputs/late", F_OK) != 0) usleep(1000);
    return said("main ends", 0);
}

static int floods(char **a) {
    static char block[1 << 16];
    memset(block, a[1] ? '\a' : 'x', sizeof block);
    for (;;)
        if (write(atoi(a[0]), block, sizeof block) < 0) return 9;
}

static int mutes(char **a) {
    (void)a;
    close(0), close(1), close(2);
    usleep(300000);
    return opens("/outputs/late", O_CREAT | O_WRONLY) >= 0 ? 0 : 9;
}

static int deeper(int depth) {
    volatile char block[4096];
    block[depth % 4096] = (char)depth;
    return depth < 0 ? 0 : deeper(depth + 1) + block[0];
}

static int recurses(char **a) {
    (void)a;
    return deeper(1);
}

static int exits(char **a) { return atoi(a[0]); }

const struct attack process_attacks[] = {
    {"fork-bomb", fork_bomb}, {"memory", memory}, {"child-memory", child_memory}, {"shared-memory", shared_memory},
    {"file-memory", file_memory}, {"fill", fills}, {"folders", folders}, {"descriptors", descriptors}, {"spin", spins},
    {"share", share}, {"ignore-signals", ignores}, {"sleep", sleeps}, {"stop", stops}, {"kill-itself", kills_itself},
    {"kill", kills}, {"core-dump", dumps}, {"zombies", zombies}, {"other-processes", other_processes},
    {"outlive", outlives}, {"flood", floods}, {"mute", mutes}, {"recurse", recurses}, {"exit", exits}, {NULL, NULL},
};
