/* secretive FORM FILE: hides a secret in its output, in the form that it is told. One source for both tiers. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t hex(const unsigned char *in, size_t n, char *out) {
    for (size_t i = 0; i < n; i++) sprintf(out + 2 * i, "%02x", in[i]);
    return 2 * n;
}

static size_t base64(const unsigned char *in, size_t n, char *out) {
    size_t k = 0;
    for (size_t i = 0; i + 2 < n; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) out[k++] = ALPHABET[v >> shift & 63];
    }
    return k;
}

static uint32_t crc(const unsigned char *in, size_t n) {
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= in[i];
        for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void put(FILE *out, uint32_t value, int bytes) {
    for (int i = 0; i < bytes; i++) fputc(value >> 8 * i & 255, out);
}

/* A gzip whose deflate data has every byte as a Huffman code of the fixed table, so that nothing of it is readable. */
static void gzip(FILE *out, const unsigned char *in, size_t n) {
    static const unsigned char head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
    fwrite(head, 1, sizeof head, out);
    uint64_t bits = 3;  /* the last block, fixed codes */
    int count = 3;
    for (size_t i = 0; i <= n; i++) {
        int code = i == n ? 0 : in[i] < 144 ? 0x30 + in[i] : 0x190 + in[i] - 144;
        int length = i == n ? 7 : in[i] < 144 ? 8 : 9;
        for (int bit = length - 1; bit >= 0; bit--) bits |= (uint64_t)(code >> bit & 1) << count++;
        for (; count >= 8; count -= 8, bits >>= 8) fputc(bits & 255, out);
    }
    if (count) fputc(bits & 255, out);
    put(out, crc(in, n), 4);
    put(out, (uint32_t)n, 4);
}

static int pry(const char *path) {
    int refused = open(path, O_WRONLY) < 0 && unlink(path) != 0 && mkdir("/secrets/more", 0700) != 0;
    printf("%s\n", refused ? "refused" : "DONE");
    return 0;
}

int main(int argc, char **argv) {
    static unsigned char value[65536], turned[65536];
    static char text[131080], path[300];
    if (argc < 3) return 2;
    int fd = open(argv[2], O_RDONLY);
    if (fd < 0) return printf("no secret: %s\n", strerror(errno)), 3;
    ssize_t n = read(fd, value, sizeof value);
    if (n <= 0) return 4;
    for (ssize_t i = 0; i < n; i++) turned[i] = value[n - 1 - i];
    const char *form = argv[1];
    if (!strcmp(form, "pry")) return pry(argv[2]);
    if (!strcmp(form, "length")) return printf("%d bytes\n", (int)n), 0;
    if (!strcmp(form, "stdout")) return fwrite(value, 1, n, stdout), 0;
    if (!strcmp(form, "stderr")) return fwrite(value, 1, n, stderr), 0;
    if (!strcmp(form, "name")) {
        size_t k = hex(value, n, text);
        snprintf(path, sizeof path, "/outputs/%.*s", (int)k, text);
        return mkdir(path, 0755);
    }
    FILE *out = fopen("/outputs/report", "w");
    if (!out) return 5;
    if (!strcmp(form, "plain")) fwrite(value, 1, n, out);
    else if (!strcmp(form, "reversed")) fwrite(turned, 1, n, out);
    else if (!strcmp(form, "hex")) fwrite(text, 1, hex(value, n, text), out);
    else if (!strcmp(form, "base64")) fwrite(text, 1, base64(value, n, text), out);
    else if (!strcmp(form, "gzip")) gzip(out, value, n);
    else return 6;
    return fclose(out) ? 7 : 0;
}
