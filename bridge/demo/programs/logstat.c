/* logstat FILE: counts lines, words, levels and the ten busiest stations of an access point log.
 *
 * Writes /outputs/report.json and one line to standard output. Equal input gives equal bytes. A station is a word of
 * the form xx:xx:xx:xx:xx:xx after "STA "; ties among stations are broken by address. Exit codes: 1 cannot read or
 * write, 2 wrong use, 3 too many stations. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, MAC_BYTES = 17, BUCKETS = 1 << 16, MOST_STATIONS = BUCKETS / 2, TOP = 10 };

static const char *const LEVELS[] = {"DEBUG", "INFO", "NOTICE", "WARNING", "ERROR"};
enum { LEVEL_COUNT = sizeof LEVELS / sizeof *LEVELS };

struct station {
    char mac[MAC_BYTES + 1];
    uint64_t lines;
};

static struct station stations[BUCKETS];
static uint32_t station_count;
static uint64_t bytes, lines, words, levels[LEVEL_COUNT];

static int is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

static int is_mac(const char *text) {
    for (int i = 0; i < MAC_BYTES; i++)
        if (i % 3 == 2 ? text[i] != ':' : !is_hex(text[i])) return 0;
    return 1;
}

static void count_station(const char *mac) {
    uint32_t hash = 2166136261u;
    for (int i = 0; i < MAC_BYTES; i++) hash = (hash ^ (unsigned char)mac[i]) * 16777619u;
    for (uint32_t i = hash % BUCKETS;; i = (i + 1) % BUCKETS) {
        if (!stations[i].lines) {
            if (++station_count > MOST_STATIONS) {
                fputs("logstat: too many stations\n", stderr);
                exit(3);
            }
            memcpy(stations[i].mac, mac, MAC_BYTES);
        } else if (memcmp(stations[i].mac, mac, MAC_BYTES) != 0) {
            continue;
        }
        stations[i].lines++;
        return;
    }
}

static void count_line(char *line) {
    lines++;
    for (char *word = strtok(line, " \t\r"); word; word = strtok(NULL, " \t\r")) {
        words++;
        for (int i = 0; i < LEVEL_COUNT; i++)
            if (strcmp(word, LEVELS[i]) == 0) levels[i]++;
        if (strlen(word) == MAC_BYTES && is_mac(word)) count_station(word);
    }
}

/* Longer lines than LINE_MAX_BYTES are counted as several. */
static int count_file(int file) {
    static char buffer[1 << 16], line[LINE_MAX_BYTES + 1];
    size_t length = 0;
    ssize_t got;
    while ((got = read(file, buffer, sizeof buffer)) > 0) {
        bytes += (uint64_t)got;
        for (ssize_t i = 0; i < got; i++) {
            if (buffer[i] != '\n' && length < LINE_MAX_BYTES) {
                line[length++] = buffer[i] ? buffer[i] : ' ';
                continue;
            }
            line[length] = '\0';
            count_line(line);
            length = 0;
        }
    }
    if (length) {
        line[length] = '\0';
        count_line(line);
    }
    return got < 0;
}

static int by_lines(const void *left, const void *right) {
    const struct station *a = left, *b = right;
    if (a->lines != b->lines) return a->lines < b->lines ? 1 : -1;
    return strcmp(a->mac, b->mac);
}

static int write_report(const char *path) {
    FILE *out = fopen(path, "w");
    if (!out) return 1;
    fprintf(out, "{\n  \"bytes\": %llu,\n  \"levels\": {", (unsigned long long)bytes);
    for (int i = 0; i < LEVEL_COUNT; i++)
        fprintf(out, "%s\n    \"%s\": %llu", i ? "," : "", LEVELS[i], (unsigned long long)levels[i]);
    fprintf(out, "\n  },\n  \"lines\": %llu,\n  \"stations\": %u,\n  \"top\": [", (unsigned long long)lines,
            station_count);
    for (int i = 0; i < TOP && stations[i].lines; i++)
        fprintf(out, "%s\n    {\"lines\": %llu, \"station\": \"%s\"}", i ? "," : "",
                (unsigned long long)stations[i].lines, stations[i].mac);
    fprintf(out, "\n  ],\n  \"words\": %llu\n}\n", (unsigned long long)words);
    return fclose(out) != 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: logstat FILE\n", stderr);
        return 2;
    }
    int file = open(argv[1], O_RDONLY);
    if (file < 0 || count_file(file)) {
        perror(argv[1]);
        return 1;
    }
    close(file);
    qsort(stations, BUCKETS, sizeof *stations, by_lines);
    if (write_report("/outputs/report.json")) {
        perror("/outputs/report.json");
        return 1;
    }
    printf("%llu lines, %llu words, %u stations, %llu errors\n", (unsigned long long)lines, (unsigned long long)words,
           station_count, (unsigned long long)levels[LEVEL_COUNT - 1]);
    return 0;
}
