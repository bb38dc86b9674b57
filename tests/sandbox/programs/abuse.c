/* abuse NAME [ARGUMENT...]: one attack on a container, by name. Static, no shell: it is all there is in its image.
 * Linux only; what a WebAssembly job can try as well is in hostile.c. */
#define _GNU_SOURCE
#include "abuse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int said(const char *what, long result) {
    const char *why = result < 0 ? strerror(errno) : "";
    if (result < 0) printf("refused %s: %s\n", what, why);
    else printf("DONE %s\n", what);
    fflush(stdout);
    return 0;
}

long opens(const char *path, int flags) {
    int fd = open(path, flags | O_NONBLOCK, 0644);
    if (fd >= 0) close(fd);
    return fd;
}

long writes(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    if (fd < 0) return -1;
    long wrote = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return wrote;
}

int main(int argc, char **argv) {
    static const struct attack *const tables[] = {kernel_attacks, file_attacks, network_attacks, process_attacks,
                                                  output_attacks};
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct attack *each = tables[t]; each->name; each++)
            if (strcmp(each->name, name) == 0) return each->run(argv + 2);
    fprintf(stderr, "abuse: no attack %s\n", name);
    return 2;
}
