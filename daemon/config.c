/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"

#define FILE_MAX_BYTES (1u << 20)
/* inih skips it, as UTF-8 has it. */
#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

struct reader {
    struct config *config;
    FILE *file;
    int line;         /* the one being parsed */
    int mistake_line; /* 0: none yet */
    char mistake[256];
    int seen[16]; /* by key: the line that set it */
};

void config_init(struct config *config)
{
    *config = (struct config){
        .sessions_max = 4096,
        .hello_timeout_ms = 5000,
        .spin_us = 50,
        .write_through = true,
        .arena_bytes = UINT64_C(64) << 20,
        .arena_max_bytes = UINT64_C(256) << 20,
        .bytes_max = UINT64_C(1) << 30,
        .session_max = 1024,
        .span_max = 4u << 20,
        .ring = true,
        .rate = 0,
    };
}

bool config_serves(const struct config *config, uid_t uid)
{
    if (config->uids_count == 0)
        return true;
    for (size_t i = 0; i < config->uids_count; i++) {
        if (uid >= config->uids[i].first && uid <= config->uids[i].last)
            return true;
    }
    return false;
}

/* ---- Values. Each returns false after saying what is wrong with it. ---------------- */

static bool mistake(struct reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool mistake(struct reader *reader, const char *format, ...)
{
    va_list args;

    if (reader->mistake_line != 0)
        return false; /* the first one is told */
    reader->mistake_line = reader->line;
    va_start(args, format);
    (void)vsnprintf(reader->mistake, sizeof reader->mistake, format, args);
    va_end(args);
    return false;
}

struct key {
    const char *section;
    const char *name;
    bool (*read)(struct reader *reader, const struct key *key, const char *value);
    size_t offset;
    uint64_t min;
    uint64_t max;
};

/* False if there are none. A number beyond 64 bits sets errno, and is larger than any key allows. */
static bool parse_digits(const char **at, uint64_t *value)
{
    char *end;

    if (**at < '0' || **at > '9')
        return false;
    errno = 0;
    *value = strtoull(*at, &end, 10);
    *at = end;
    return true;
}

static bool read_number(struct reader *reader, const struct key *key, const char *value, uint64_t *number)
{
    static const char units[] = "KMG";
    const char *at = value;
    const char *unit;
    bool scaled = key->max > UINT32_MAX;

    if (!parse_digits(&at, number))
        return mistake(reader, "%s=%s: not a whole number", key->name, value);
    if (errno != 0)
        return mistake(reader, "%s=%s: too large", key->name, value);
    if (scaled && *at != '\0' && (unit = strchr(units, *at)) != NULL) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);

        if (*number > UINT64_MAX >> shift)
            return mistake(reader, "%s=%s: too large", key->name, value);
        *number <<= shift;
        at++;
    }
    if (*at != '\0')
        return mistake(reader, "%s=%s: not a whole number%s", key->name, value,
                       scaled ? ", with K, M or G behind it or nothing" : "");
    if (*number < key->min || *number > key->max)
        return mistake(reader, "%s=%s: not between %" PRIu64 " and %" PRIu64, key->name, value, key->min,
                       key->max);
    return true;
}

static bool read_count(struct reader *reader, const struct key *key, const char *value)
{
    uint64_t number = 0;

    if (!read_number(reader, key, value, &number))
        return false;
    *(uint32_t *)(void *)((char *)reader->config + key->offset) = (uint32_t)number;
    return true;
}

static bool read_bytes(struct reader *reader, const struct key *key, const char *value)
{
    uint64_t number = 0;

    if (!read_number(reader, key, value, &number))
        return false;
    if (number % BLOCK_BYTES != 0)
        return mistake(reader, "%s=%s: not a multiple of %uK", key->name, value, BLOCK_BYTES >> 10);
    *(uint64_t *)(void *)((char *)reader->config + key->offset) = number;
    return true;
}

static bool read_write(struct reader *reader, const struct key *key, const char *value)
{
    bool through = strcmp(value, "through") == 0;
    bool direct = strcmp(value, "direct") == 0;

    if (!through && !direct && strcmp(value, "none") != 0)
        return mistake(reader, "%s=%s: it is through, direct or none", key->name, value);
    /* Who may write directly may also choose not to. */
    reader->config->write_through = through || direct;
    reader->config->write_direct = direct;
    return true;
}

static bool read_yes_no(struct reader *reader, const struct key *key, const char *value)
{
    bool yes = strcmp(value, "yes") == 0;

    if (!yes && strcmp(value, "no") != 0)
        return mistake(reader, "%s=%s: it is yes or no", key->name, value);
    *(bool *)(void *)((char *)reader->config + key->offset) = yes;
    return true;
}

static bool read_uids(struct reader *reader, const struct key *key, const char *value)
{
    struct config *config = reader->config;
    const char *at = value;

    if (strcmp(value, "any") == 0)
        return true;
    for (;;) {
        uint64_t first;
        uint64_t last;

        if (!parse_digits(&at, &first))
            break;
        last = first;
        if (*at == '-') {
            at++;
            if (!parse_digits(&at, &last))
                break;
        }
        if (last < first || last >= UINT32_MAX)
            return mistake(reader, "%s=%s: no range of uids ends at %" PRIu64, key->name, value, last);
        if (config->uids_count == CONFIG_UIDS_MAX)
            return mistake(reader, "%s: more than %u ranges", key->name, CONFIG_UIDS_MAX);
        config->uids[config->uids_count++] = (struct uid_range){(uid_t)first, (uid_t)last};
        if (*at == '\0')
            return true;
        if (*at++ != ' ')
            break;
    }
    return mistake(reader, "%s=%s: it is any, or uids and ranges like 33 1000-1999", key->name, value);
}

static bool read_audit(struct reader *reader, const struct key *key, const char *value)
{
    static const char *const names[] = {
        [AUDIT_OFF] = "off", [AUDIT_JOURNAL] = "journal", [AUDIT_FILE] = "file"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(value, names[i]) == 0) {
            reader->config->audit = (enum audit_to)i;
            return true;
        }
    }
    return mistake(reader, "%s=%s: it is off, journal or file", key->name, value);
}

static bool read_path(struct reader *reader, const struct key *key, const char *value)
{
    if (value[0] != '/' || strlen(value) >= sizeof reader->config->audit_file)
        return mistake(reader, "%s=%s: no absolute path, or a long one", key->name, value);
    memcpy(reader->config->audit_file, value, strlen(value) + 1);
    return true;
}

#define KEY_OF(section, name, read, member, min, max)                  \
    {                                                                  \
        section, name, read, offsetof(struct config, member), min, max \
    }

static const struct key keys[] = {
    KEY_OF("daemon", "sessions_max", read_count, sessions_max, 1, 100000),
    KEY_OF("daemon", "hello_timeout_ms", read_count, hello_timeout_ms, 1, 600000),
    KEY_OF("daemon", "spin_us", read_count, spin_us, 0, 10000),
    KEY_OF("daemon", "audit_file", read_path, audit_file, 0, 0),
    KEY_OF("class default", "uid", read_uids, uids, 0, 0),
    KEY_OF("class default", "write", read_write, write_through, 0, 0),
    KEY_OF("class default", "arena", read_bytes, arena_bytes, ARENA_MIN_BYTES, ARENA_LIMIT_BYTES),
    KEY_OF("class default", "arena_max", read_bytes, arena_max_bytes, ARENA_MIN_BYTES, ARENA_LIMIT_BYTES),
    KEY_OF("class default", "bytes_max", read_bytes, bytes_max, ARENA_MIN_BYTES, UINT64_C(1) << 46),
    KEY_OF("class default", "session_max", read_count, session_max, 1, 100000),
    KEY_OF("class default", "span_max", read_count, span_max, 1, UINT32_MAX),
    KEY_OF("class default", "ring", read_yes_no, ring, 0, 0),
    KEY_OF("class default", "rate", read_count, rate, 0, UINT32_MAX),
    KEY_OF("class default", "huge_pages", read_yes_no, huge_pages, 0, 0),
    KEY_OF("class default", "audit", read_audit, audit, 0, 0),
};

/* ---- The file ------------------------------------------------------------------------- */

static bool is_section(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strlen(keys[i].section) == length && strncmp(keys[i].section, name, length) == 0)
            return true;
    }
    return false;
}

/* What inih would let pass, or take for something else. */
static void check_line(struct reader *reader, const char *line)
{
    const char *end;
    const char *rest;

    if ((line[0] == ' ' || line[0] == '\t') && line[strspn(line, " \t\r\n")] != '\0')
        (void)mistake(reader, "the line starts with a blank"); /* the rest of the value above */
    if (line[0] != '[' || (end = strchr(line, ']')) == NULL)
        return;
    rest = end + 1 + strspn(end + 1, " \t\r\n");
    if (*rest != '\0' && *rest != ';' && *rest != '#')
        (void)mistake(reader, "there is something behind the ]");
    if (!is_section(line + 1, (size_t)(end - line - 1)))
        (void)mistake(reader, "[%.*s] is no section; there are [daemon] and [class default]",
                      (int)(end - line - 1), line + 1);
}

/* As fgets() does it, for inih; which would end a line at a byte 0, and take a long one for two. */
static char *next_line(char *line, int bytes, void *user)
{
    struct reader *reader = user;
    int used = 0;
    int byte = 0;

    reader->line++;
    while (used < bytes - 1 && byte != '\n' && (byte = getc(reader->file)) != EOF) {
        if (byte == '\0')
            (void)mistake(reader, "there is a byte 0 in the line");
        line[used++] = (char)byte;
    }
    line[used] = '\0';
    if (used == 0)
        return NULL;
    if (used == bytes - 1 && byte != '\n' && !feof(reader->file))
        (void)mistake(reader, "the line is longer than %d characters", bytes - 2);
    check_line(reader, reader->line == 1 && strncmp(line, BYTE_ORDER_MARK, 3) == 0 ? line + 3 : line);
    return line;
}

static int handle(void *user, const char *section, const char *name, const char *value)
{
    struct reader *reader = user;

    if (value == NULL)
        return mistake(reader, "%s: no value", name);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        if (reader->seen[i] != 0)
            return mistake(reader, "%s is given twice, first in line %d", name, reader->seen[i]);
        reader->seen[i] = reader->line;
        return keys[i].read(reader, &keys[i], value);
    }
    if (section[0] == '\0')
        return mistake(reader, "%s stands before any section", name);
    return mistake(reader, "[%s] has no key %s", section, name);
}

static bool consistent(struct reader *reader)
{
    const struct config *config = reader->config;

    reader->line = 0; /* no single line is wrong */
    if (config->arena_bytes > config->arena_max_bytes)
        return mistake(reader, "arena=%" PRIu64 " is above arena_max=%" PRIu64, config->arena_bytes,
                       config->arena_max_bytes);
    if (config->audit == AUDIT_FILE && config->audit_file[0] == '\0')
        return mistake(reader, "audit=file needs an audit_file");
    return true;
}

static bool read_file(struct reader *reader)
{
    struct stat status;
    int line;

    if (fstat(fileno(reader->file), &status) != 0 || !S_ISREG(status.st_mode))
        return mistake(reader, "not a regular file");
    if (status.st_size > FILE_MAX_BYTES)
        return mistake(reader, "larger than %u bytes", FILE_MAX_BYTES);
    line = ini_parse_stream(next_line, reader, handle, reader);
    if (ferror(reader->file) != 0)
        return mistake(reader, "it can't be read to its end");
    if (line > 0 && (reader->mistake_line == 0 || line < reader->mistake_line)) {
        reader->mistake_line = 0;
        reader->line = line;
        return mistake(reader, "neither [section], name=value nor comment");
    }
    if (line != 0 || reader->mistake_line != 0)
        return mistake(reader, "no memory to read it");
    return consistent(reader);
}

bool config_read(struct config *config, const char *path, char *mistake_text, size_t mistake_bytes)
{
    struct reader reader = {.config = config};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a fifo must not hold us up */
    bool good;

    config_init(config);
    reader.file = fd < 0 ? NULL : fdopen(fd, "r");
    if (reader.file == NULL) {
        (void)snprintf(mistake_text, mistake_bytes, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    good = read_file(&reader);
    (void)fclose(reader.file);
    if (!good) {
        if (reader.mistake_line > 0)
            (void)snprintf(mistake_text, mistake_bytes, "%s:%d: %s", path, reader.mistake_line,
                           reader.mistake);
        else
            (void)snprintf(mistake_text, mistake_bytes, "%s: %s", path, reader.mistake);
        config_init(config);
    }
    return good;
}
