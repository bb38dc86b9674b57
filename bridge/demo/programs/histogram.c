/* histogram FILE: how often each byte value occurs; writes /outputs/histogram.txt. For the container tier.
 * Exit codes: 1 cannot read or write, 2 wrong use. */
#include <stdint.h>
#include <stdio.h>

int main(int argc, char **argv) {
    static uint64_t counts[256];
    static unsigned char buffer[1 << 16];
    if (argc != 2) {
        fputs("usage: histogram FILE\n", stderr);
        return 2;
    }
    FILE *in = fopen(argv[1], "rb");
    if (!in) {
        perror(argv[1]);
        return 1;
    }
    uint64_t bytes = 0;
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, in)) > 0; bytes += got)
        for (size_t i = 0; i < got; i++) counts[buffer[i]]++;
    if (ferror(in)) {
        perror(argv[1]);
        return 1;
    }
    fclose(in);
    FILE *out = fopen("/outputs/histogram.txt", "w");
    if (!out) {
        perror("/outputs/histogram.txt");
        return 1;
    }
    unsigned kinds = 0;
    for (int i = 0; i < 256; i++)
        if (counts[i] && ++kinds) fprintf(out, "%02x %llu\n", (unsigned)i, (unsigned long long)counts[i]);
    if (fclose(out) != 0) {
        perror("/outputs/histogram.txt");
        return 1;
    }
    printf("%llu bytes, %u different values\n", (unsigned long long)bytes, kinds);
    return 0;
}
