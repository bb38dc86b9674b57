/* What the parts of the program `abuse` share: what an attempt came to, said in one line on standard output. */
#include <stddef.h>

struct attack {
    const char *name;
    int (*run)(char **arguments);
};

extern const struct attack kernel_attacks[], file_attacks[], network_attacks[], process_attacks[], output_attacks[];

/* "refused WHY", or "DONE" where it got through; `result` is as of a system call. Always 0, the exit code. */
int said(const char *what, long result);
/* 0 where the file could be opened so, else -1 and errno */
long opens(const char *path, int flags);
long writes(const char *path, const char *text);
