/* scanner MODE: what an operator's scanner may do wrong. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void answer(const char *text) {
    FILE *file = fopen("/outputs/verdict.json", "w");
    fputs(text, file);
    fclose(file);
}

static void fill(const char *path, long size) {
    static char block[1 << 16];
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    for (long done = 0; done < size; done += sizeof block)
        if (write(fd, block, sizeof block) < 0) _exit(4);
    close(fd);
}

static int grow(void) {
    for (;;) {
        volatile char *block = malloc(1 << 20);
        if (!block) return 7;
        for (size_t i = 0; i < 1 << 20; i += 512) block[i] = 1;
    }
}

/* 0 where each way of changing the output was refused */
static int changes(void) {
    int done = 0;
    done |= open("/inputs/outputs/answer.txt", O_WRONLY) >= 0;
    done |= open("/inputs/outputs/new", O_CREAT | O_WRONLY, 0644) >= 0;
    done |= unlink("/inputs/outputs/answer.txt") == 0;
    done |= rename("/inputs/outputs/answer.txt", "/inputs/outputs/other") == 0;
    done |= truncate("/inputs/stdout", 0) == 0;
    return done;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    const char *clean = "{\"verdict\": \"clean\"}";
    if (strcmp(mode, "answer") == 0) answer(argv[2]);
    else if (strcmp(mode, "hang") == 0) for (;;) answer(clean);
    else if (strcmp(mode, "crash") == 0) answer(clean), abort();
    else if (strcmp(mode, "fail") == 0) return answer(clean), 1;
    else if (strcmp(mode, "fill") == 0) answer(clean), fill("/outputs/big", 1L << 30);
    else if (strcmp(mode, "long") == 0) fill("/outputs/verdict.json", 200000);
    else if (strcmp(mode, "more") == 0) answer(clean), mkdir("/outputs/more", 0755);
    else if (strcmp(mode, "link") == 0) return symlink("more.json", "/outputs/verdict.json");
    else if (strcmp(mode, "flood") == 0) for (answer(clean);;) puts("flood");
    else if (strcmp(mode, "memory") == 0) return answer(clean), grow();
    else if (strcmp(mode, "silent") == 0) return 0;
    else if (strcmp(mode, "change") == 0) answer(changes() ? "changed" : clean);
    else return 2;
    return 0;
}
