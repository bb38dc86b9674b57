/* k-anonymity K COLUMN...: a scanner that lets tables out only where nobody stands out.
 *
 * Every file of the output has to be a CSV table with a heading, and in each table every combination of values in the
 * named columns has to stand in at least K rows. Nothing may be written to standard output or error, which nobody counts.
 * The output is below /inputs; the answer goes to /outputs/verdict.json. Quotes are not read: such a table is refused.
 *
 *     python -m ziglang cc -target wasm32-wasi -O2 -o k-anonymity.wasm k-anonymity.c */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LINE = 4096, MAX_PATH = 4096, MAX_COLUMNS = 16, MAX_DEPTH = 32, MAX_FINDINGS = 20 };

struct group {
    char *key;
    unsigned long rows;
};
struct table {
    struct group *groups;
    size_t used, size; /* size is a power of two */
};

static unsigned long least;
static int columns;
static char **wanted;
static FILE *answer;
static int findings;

/* JSON text: control characters, quotes and backslashes by their numbers; the rest is UTF-8 already */
static void put_text(const char *text) {
    fputc('"', answer);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == '"' || *c == '\\' || *c == 0x7f) fprintf(answer, "\\u%04x", *c);
        else fputc(*c, answer);
    fputc('"', answer);
}

static void find(const char *path, const char *rule, const char *text) {
    if (findings >= MAX_FINDINGS) return;
    fputs(findings++ ? ", " : "{\"verdict\": \"finding\", \"findings\": [", answer);
    fputs("{\"path\": ", answer);
    put_text(path);
    fprintf(answer, ", \"rule\": \"%s\", \"text\": \"%s\"}", rule, text);
}

static void *all_or_nothing(void *block) {
    if (!block) abort(); /* a scanner that breaks off lets nothing out */
    return block;
}

static struct group *slot(struct group *groups, size_t size, const char *key) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *c = key; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    for (size_t at = hash & (size - 1);; at = (at + 1) & (size - 1))
        if (!groups[at].key || strcmp(groups[at].key, key) == 0) return &groups[at];
}

static void count(struct table *table, const char *key) {
    if (table->used * 2 >= table->size) {
        size_t size = table->size ? table->size * 2 : 1024;
        struct group *groups = all_or_nothing(calloc(size, sizeof *groups));
        for (size_t i = 0; i < table->size; i++)
            if (table->groups[i].key) *slot(groups, size, table->groups[i].key) = table->groups[i];
        free(table->groups);
        table->groups = groups;
        table->size = size;
    }
    struct group *found = slot(table->groups, table->size, key);
    if (!found->key) {
        found->key = all_or_nothing(strdup(key));
        table->used++;
    }
    found->rows++;
}

/* Cut a line into cells in place; -1 where it is none that is read here. */
static int cells_of(char *line, char **cells, int most) {
    size_t length = strlen(line);
    if (length == 0 || line[length - 1] != '\n' || strchr(line, '"')) return -1;
    line[length - 1] = 0;
    if (length > 1 && line[length - 2] == '\r') line[length - 2] = 0;
    int number = 0;
    for (char *cell = line; cell; number++) {
        char *comma = strchr(cell, ',');
        if (comma) *comma++ = 0;
        if (number < most) cells[number] = cell;
        cell = comma;
    }
    return number;
}

static const char *read_table(FILE *file, struct table *table) {
    static char line[MAX_LINE], key[MAX_LINE + MAX_COLUMNS];
    static char *cells[MAX_LINE];
    int at[MAX_COLUMNS];
    if (!fgets(line, sizeof line, file)) return "the table has no heading";
    int width = cells_of(line, cells, MAX_LINE);
    for (int i = 0; i < columns; i++) {
        at[i] = -1;
        for (int j = 0; j < width; j++)
            if (strcmp(cells[j], wanted[i]) == 0) at[i] = at[i] < 0 ? j : -2;
        if (at[i] < 0) return "the heading does not name each column once";
    }
    while (fgets(line, sizeof line, file)) {
        if (cells_of(line, cells, MAX_LINE) != width) return "a row cannot be read";
        key[0] = 0;
        for (int i = 0; i < columns; i++) {
            strcat(key, cells[at[i]]);
            strcat(key, ",");
        }
        count(table, key);
    }
    return ferror(file) ? "the table cannot be read" : NULL;
}

static void judge(const char *full, const char *path) {
    struct table table = {0};
    FILE *file = fopen(full, "r");
    const char *problem = file ? read_table(file, &table) : "the file cannot be read";
    if (file) fclose(file);
    if (problem) find(path, "unreadable", problem);
    int few = 0;
    for (size_t i = 0; i < table.size; i++) {
        few |= table.groups[i].key && table.groups[i].rows < least;
        free(table.groups[i].key);
    }
    free(table.groups);
    if (few) find(path, "k-anonymity", "a combination of values stands in too few rows");
}

static void walk(const char *full, const char *path, int depth) {
    char below[MAX_PATH], name[MAX_PATH];
    DIR *folder = opendir(full);
    if (!folder || depth > MAX_DEPTH) abort();
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat facts;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        int size = snprintf(below, sizeof below, "%s/%s", full, entry->d_name);
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (size >= (int)sizeof below || lstat(below, &facts) != 0) abort();
        if (S_ISDIR(facts.st_mode)) walk(below, name, depth + 1);
        else judge(below, name);
    }
    closedir(folder);
}

static void must_be_empty(const char *full, const char *path) {
    struct stat facts;
    if (stat(full, &facts) != 0 || facts.st_size != 0) find(path, "not-empty", "nothing may be written here");
}

int main(int argc, char **argv) {
    least = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    columns = argc - 2;
    wanted = argv + 2;
    answer = fopen("/outputs/verdict.json", "w");
    if (least < 1 || columns < 1 || columns > MAX_COLUMNS || !answer) return 2;
    walk("/inputs/outputs", "outputs", 0);
    must_be_empty("/inputs/stdout", "stdout");
    must_be_empty("/inputs/stderr", "stderr");
    fputs(findings ? "]}" : "{\"verdict\": \"clean\"}", answer);
    return fclose(answer) == 0 ? 0 : 3;
}
