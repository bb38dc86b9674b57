/* exit3: a job that fails, to show what becomes of one. */
#include <stdio.h>

int main(void) {
    fputs("exit3: this program always fails\n", stderr);
    return 3;
}
