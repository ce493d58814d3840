/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include <dirent.h>
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
#define PATH_MAX_BYTES 4096u

struct reader {
    struct policy *policy;
    struct class *class; /* whose section it is; NULL: [daemon], or none yet */
    FILE *file;
    unsigned file_index;
    int line;         /* the one being parsed */
    int mistake_line; /* 0: none yet */
    char mistake[256];
};

struct key {
    const char *name;
    const char *preset;
    /* Reads the value into *to, the field, or for what takes several the policy or class. */
    bool (*read)(struct reader *reader, const struct key *key, const char *value, void *to);
    size_t offset;
    uint64_t min;
    uint64_t max;
};

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

/* With a unit, or without one. */
static bool read_number(struct reader *reader, const struct key *key, const char *value, bool scaled,
                        uint64_t *number)
{
    static const char units[] = "KMG";
    const char *at = value;
    const char *unit;

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

static bool read_count(struct reader *reader, const struct key *key, const char *value, void *to)
{
    uint64_t number = 0;

    if (!read_number(reader, key, value, false, &number))
        return false;
    *(uint32_t *)to = (uint32_t)number;
    return true;
}

static bool read_bytes(struct reader *reader, const struct key *key, const char *value, void *to)
{
    uint64_t number = 0;

    if (!read_number(reader, key, value, true, &number))
        return false;
    if (number % BLOCK_BYTES != 0)
        return mistake(reader, "%s=%s: not a multiple of %uK", key->name, value, BLOCK_BYTES >> 10);
    *(uint64_t *)to = number;
    return true;
}

/* "OPERATIONS", or "OPERATIONS BYTES". */
static bool read_rate(struct reader *reader, const struct key *key, const char *value, void *to)
{
    const struct key bytes_key = {.name = key->name, .max = UINT64_C(1) << 46};
    struct class *class = to;
    const char *blank = strchr(value, ' ');
    char operations[VALUE_MAX_BYTES + 1] = "";
    uint64_t number = 0;
    uint64_t bytes = 0;

    (void)snprintf(operations, sizeof operations, "%.*s",
                   (int)(blank == NULL ? strlen(value) : (size_t)(blank - value)), value);
    if (!read_number(reader, key, operations, false, &number) ||
        (blank != NULL && !read_number(reader, &bytes_key, blank + 1, true, &bytes)))
        return false;
    class->rate = (uint32_t)number;
    class->rate_bytes = bytes;
    return true;
}

/* The index of the word in the list, which ends with NULL; or -1. */
static int find_word(const char *const *words, const char *value)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], value) == 0)
            return i;
    }
    return -1;
}

static bool read_write(struct reader *reader, const struct key *key, const char *value, void *to)
{
    static const char *const words[] = {"none", "through", "direct", NULL};
    struct class *class = to;
    int word = find_word(words, value);

    if (word < 0)
        return mistake(reader, "%s=%s: it is through, direct or none", key->name, value);
    /* Who may write directly may also choose not to. */
    class->write_through = word > 0;
    class->write_direct = word > 1;
    return true;
}

static bool read_yes_no(struct reader *reader, const struct key *key, const char *value, void *to)
{
    static const char *const words[] = {"no", "yes", NULL};
    int word = find_word(words, value);

    if (word < 0)
        return mistake(reader, "%s=%s: it is yes or no", key->name, value);
    *(bool *)to = word == 1;
    return true;
}

static bool read_orphans(struct reader *reader, const struct key *key, const char *value, void *to)
{
    static const char *const words[] = {"end", "run", NULL};
    int word = find_word(words, value);

    if (word < 0)
        return mistake(reader, "%s=%s: it is run or end", key->name, value);
    *(bool *)to = word == 1;
    return true;
}

static bool read_scan(struct reader *reader, const struct key *key, const char *value, void *to)
{
    static const char *const words[] = {
        [SCAN_OFF] = "off", [SCAN_REPORT] = "report", [SCAN_DENY] = "deny", NULL};
    int word = find_word(words, value);

    if (word < 0)
        return mistake(reader, "%s=%s: it is off, report or deny", key->name, value);
    *(enum scan_mode *)to = (enum scan_mode)word;
    return true;
}

static bool read_forbid(struct reader *reader, const struct key *key, const char *value, void *to)
{
    char words[VALUE_MAX_BYTES + 1];
    char *rest = words;
    char *word;
    uint32_t sets = 0;

    (void)snprintf(words, sizeof words, "%s", value);
    while ((word = strsep(&rest, " ")) != NULL) {
        uint32_t set = scan_set(word);

        if (set == 0)
            return mistake(reader, "%s=%s: it is a list of syscall, pku, segment and far", key->name, value);
        sets |= set;
    }
    *(uint32_t *)to = sets;
    return true;
}

static bool read_audit(struct reader *reader, const struct key *key, const char *value, void *to)
{
    static const char *const words[] = {
        [AUDIT_OFF] = "off", [AUDIT_JOURNAL] = "journal", [AUDIT_FILE] = "file", NULL};
    int word = find_word(words, value);

    if (word < 0)
        return mistake(reader, "%s=%s: it is off, journal or file", key->name, value);
    *(enum audit_to *)to = (enum audit_to)word;
    return true;
}

static bool read_path(struct reader *reader, const struct key *key, const char *value, void *to)
{
    if (value[0] != '/' && value[0] != '\0')
        return mistake(reader, "%s=%s: not an absolute path", key->name, value);
    (void)snprintf(to, VALUE_MAX_BYTES + 1, "%s", value);
    return true;
}

static bool read_pattern(struct reader *reader, const struct key *key, const char *value, void *to)
{
    if (value[0] == '\0' && reader->class->line != 0)
        return mistake(reader, "%s=: no pattern; leave the key away to match everyone", key->name);
    (void)snprintf(to, VALUE_MAX_BYTES + 1, "%s", value);
    return true;
}

static bool read_ids(struct reader *reader, const struct key *key, const char *value, void *to)
{
    struct id_set *set = to;
    const char *at = value;

    set->count = 0;
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
            return mistake(reader, "%s=%s: no range of %ss ends at %" PRIu64, key->name, value, key->name,
                           last);
        if (set->count == CLASS_IDS_MAX)
            return mistake(reader, "%s: more than %u ranges", key->name, CLASS_IDS_MAX);
        set->ranges[set->count++] = (struct id_range){(uint32_t)first, (uint32_t)last};
        if (*at == '\0')
            return true;
        if (*at++ != ' ')
            break;
    }
    return mistake(reader, "%s=%s: it is any, or numbers and ranges like 33 1000-1999", key->name, value);
}

#define BYTES_LIMIT (UINT64_C(1) << 46)
#define OF(member) offsetof(struct policy, member)

static const struct key daemon_keys[] = {
    {"sessions_max", "4096", read_count, OF(sessions_max), 1, 100000},
    {"bytes_max", "0", read_bytes, OF(bytes_max), 0, BYTES_LIMIT},
    {"hello_timeout_ms", "5000", read_count, OF(hello_timeout_ms), 1, 600000},
    {"reply_timeout_ms", "30000", read_count, OF(reply_timeout_ms), 1, 600000},
    {"spin_us", "50", read_count, OF(spin_us), 0, 10000},
    {"audit_file", "", read_path, OF(audit_file), 0, 0},
    {0},
};

#undef OF
#define OF(member) offsetof(struct class, member)

static const struct key class_keys[] = {
    {"uid", "any", read_ids, OF(uids), 0, 0},
    {"gid", "any", read_ids, OF(gids), 0, 0},
    {"unit", "", read_pattern, OF(unit), 0, 0},
    {"label", "", read_pattern, OF(label), 0, 0},
    {"write", "through", read_write, 0, 0, 0},
    {"write_once", "no", read_yes_no, OF(write_once), 0, 0},
    {"arena", "64M", read_bytes, OF(arena_bytes), ARENA_MIN_BYTES, ARENA_LIMIT_BYTES},
    {"arena_max", "256M", read_bytes, OF(arena_max_bytes), ARENA_MIN_BYTES, ARENA_LIMIT_BYTES},
    {"bytes_max", "1G", read_bytes, OF(bytes_max), ARENA_MIN_BYTES, BYTES_LIMIT},
    {"session_max", "1024", read_count, OF(session_max), 1, 100000},
    {"span_max", "4194304", read_count, OF(span_max), 1, UINT32_MAX},
    {"executor_max", "8", read_count, OF(executor_max), 0, 1024},
    {"orphans", "run", read_orphans, OF(orphans_run), 0, 0},
    {"ring", "yes", read_yes_no, OF(ring), 0, 0},
    {"rate", "0", read_rate, 0, 0, UINT32_MAX},
    {"huge_pages", "no", read_yes_no, OF(huge_pages), 0, 0},
    {"scan", "off", read_scan, OF(scan), 0, 0},
    {"forbid", "syscall pku segment", read_forbid, OF(forbid), 0, 0},
    {"audit", "off", read_audit, OF(audit), 0, 0},
    {0},
};

#undef OF
_Static_assert(sizeof daemon_keys / sizeof *daemon_keys <= DAEMON_KEYS_MAX + 1, "a setting for each key");
_Static_assert(sizeof class_keys / sizeof *class_keys <= CLASS_KEYS_MAX + 1, "a setting for each key");

const char *config_class_key(size_t index)
{
    return class_keys[index].name;
}

const char *config_class_default(size_t index)
{
    return class_keys[index].preset;
}

static bool read_value(struct reader *reader, const struct key *key, const char *value)
{
    void *object = reader->class != NULL ? (void *)reader->class : (void *)reader->policy;

    return key->read(reader, key, value, (char *)object + key->offset);
}

static void preset(struct reader *reader, const struct key *keys)
{
    for (const struct key *key = keys; key->name != NULL; key++)
        (void)read_value(reader, key, key->preset);
}

/* ---- Lines ------------------------------------------------------------------------------ */

static void begin_class(struct reader *reader, const char *name, size_t length)
{
    char copy[CLASS_NAME_MAX_BYTES + 1] = "";

    if (length == 0 || length > CLASS_NAME_MAX_BYTES) {
        (void)mistake(reader, "[class %.*s]: a name has 1 to %u characters", (int)length, name,
                      CLASS_NAME_MAX_BYTES);
        return;
    }
    memcpy(copy, name, length);
    if (strspn(copy, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-@") != length) {
        (void)mistake(reader, "[class %s]: a name has letters, digits, _ . - and @", copy);
        return;
    }
    reader->class = policy_find(reader->policy, copy);
    if (reader->class != NULL)
        return;
    reader->class = policy_add(reader->policy, copy);
    if (reader->class == NULL) {
        (void)mistake(reader, "[class %s]: no memory, or more than %u classes", copy, CLASSES_MAX);
        return;
    }
    preset(reader, class_keys);
    reader->class->file = reader->file_index;
    reader->class->line = reader->line;
}

static void begin_section(struct reader *reader, const char *name, size_t length)
{
    static const char class[] = "class ";

    reader->class = NULL;
    if (length == strlen("daemon") && strncmp(name, "daemon", length) == 0)
        return;
    if (length >= strlen(class) && strncmp(name, class, strlen(class)) == 0)
        begin_class(reader, name + strlen(class), length - strlen(class));
    else
        (void)mistake(reader, "[%.*s] is no section; there are [daemon] and [class NAME]", (int)length, name);
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
    begin_section(reader, line + 1, (size_t)(end - line - 1));
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
    struct setting *settings = reader->class != NULL ? reader->class->settings : reader->policy->settings;
    const struct key *keys = reader->class != NULL ? class_keys : daemon_keys;

    if (reader->mistake_line != 0)
        return false;
    if (section[0] == '\0')
        return mistake(reader, "%s stands before any section", name);
    if (value == NULL)
        return mistake(reader, "%s: no value", name);
    for (size_t i = 0; keys[i].name != NULL; i++) {
        struct setting *setting = &settings[i];

        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (setting->value != NULL && setting->file == reader->file_index)
            return mistake(reader, "%s is given twice, first in line %d", name, setting->line);
        free(setting->value);
        *setting = (struct setting){strdup(value), reader->file_index, reader->line};
        if (setting->value == NULL)
            return mistake(reader, "no memory to read it");
        return read_value(reader, &keys[i], value);
    }
    return mistake(reader, "[%s] has no key %s", section, name);
}

/* ---- Files ------------------------------------------------------------------------------ */

static bool read_stream(struct reader *reader)
{
    struct stat status;
    int line;

    reader->line = 0; /* no single line is wrong */
    reader->class = NULL;
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
    return line == 0 && reader->mistake_line == 0 ? true : mistake(reader, "no memory to read it");
}

/* Remembers the file, for who asks where something comes from. */
static bool name_file(struct policy *policy, const char *path)
{
    char *copy = strdup(path);

    if (copy == NULL)
        return false;
    policy->files[policy->files_count++] = copy;
    return true;
}

static bool tell(const struct reader *reader, const char *path, char *text, size_t text_bytes)
{
    if (reader->mistake_line > 0)
        (void)snprintf(text, text_bytes, "%s:%d: %s", path, reader->mistake_line, reader->mistake);
    else
        (void)snprintf(text, text_bytes, "%s: %s", path, reader->mistake);
    return false;
}

/* False with the mistake told. */
static bool read_file(struct policy *policy, const char *path, bool optional, char *text, size_t text_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a fifo must not hold us up */
    struct reader reader = {.policy = policy, .file_index = policy->files_count};
    bool good;

    if (fd < 0 && errno == ENOENT && optional)
        return true;
    reader.file = fd < 0 ? NULL : fdopen(fd, "r");
    if (reader.file == NULL || !name_file(policy, path)) {
        (void)snprintf(text, text_bytes, "%s: %s", path, strerror(errno));
        if (reader.file != NULL)
            (void)fclose(reader.file);
        else if (fd >= 0)
            (void)close(fd);
        return false;
    }
    good = read_stream(&reader);
    (void)fclose(reader.file);
    return good ? true : tell(&reader, path, text, text_bytes);
}

static int is_drop_in(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* Those of the folder conf.d beside `path`. */
static bool read_drop_ins(struct policy *policy, const char *path, char *text, size_t text_bytes)
{
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 0 : (int)(slash + 1 - path);
    char folder[PATH_MAX_BYTES];
    char file[PATH_MAX_BYTES + 256];
    struct dirent **entries;
    bool good = true;
    int count;

    (void)snprintf(folder, sizeof folder, "%.*sconf.d", length, path);
    count = scandir(folder, &entries, is_drop_in, alphasort);
    if (count < 0 && (errno == ENOENT || errno == ENOTDIR))
        return true;
    if (count < 0) {
        (void)snprintf(text, text_bytes, "%s: %s", folder, strerror(errno));
        return false;
    }
    if (count > (int)DROP_INS_MAX) {
        (void)snprintf(text, text_bytes, "%s: more than %u files", folder, DROP_INS_MAX);
        good = false;
    }
    for (int i = 0; i < count; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", folder, entries[i]->d_name);
        good = good && read_file(policy, file, false, text, text_bytes);
        free(entries[i]);
    }
    free(entries);
    return good;
}

/* ---- The whole ---------------------------------------------------------------------------- */

/* Where the key stands that a class was given, or the class itself if it has the default. */
static bool blame(struct reader *reader, const struct class *class, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool blame(struct reader *reader, const struct class *class, const char *key, const char *format, ...)
{
    va_list args;

    reader->file_index = class->file;
    reader->mistake_line = class->line;
    for (size_t i = 0; class_keys[i].name != NULL; i++) {
        if (strcmp(class_keys[i].name, key) != 0 || class->settings[i].value == NULL)
            continue;
        reader->file_index = class->settings[i].file;
        reader->mistake_line = class->settings[i].line;
    }
    va_start(args, format);
    (void)vsnprintf(reader->mistake, sizeof reader->mistake, format, args);
    va_end(args);
    return false;
}

static bool names_someone(const struct class *class)
{
    for (size_t i = 0; class_keys[i].name != NULL; i++) {
        bool is_match = class_keys[i].read == read_ids || class_keys[i].read == read_pattern;

        if (is_match && class->settings[i].value != NULL)
            return true;
    }
    return false;
}

/* What no single line shows. */
static bool check_class(struct reader *reader, const struct class *class)
{
    if (strcmp(class->name, "default") != 0 && !names_someone(class))
        return blame(
            reader, class, "",
            "[class %s] does not say who is in it: give it uid=, gid=, unit= or label=", class->name);
    if (class->arena_bytes > class->arena_max_bytes)
        return blame(reader, class, "arena", "arena=%" PRIu64 " is above arena_max=%" PRIu64,
                     class->arena_bytes, class->arena_max_bytes);
    /* Of what a client writes by itself the daemon sees nothing. */
    if (class->write_direct && class->write_once)
        return blame(reader, class, "write_once", "write_once=yes can't be kept with write=direct");
    if (class->write_direct && class->scan != SCAN_OFF)
        return blame(reader, class, "scan", "with write=direct nothing can be scanned");
    if (class->write_direct && class->audit != AUDIT_OFF)
        return blame(reader, class, "audit", "with write=direct there is nothing to audit");
    if (class->audit == AUDIT_FILE && reader->policy->audit_file[0] == '\0')
        return blame(reader, class, "audit", "audit=file needs audit_file= in [daemon]");
    return true;
}

static bool check(struct policy *policy, char *text, size_t text_bytes)
{
    struct reader reader = {.policy = policy};

    for (size_t i = 0; i < policy->classes_count; i++) {
        const struct class *class = policy->classes[i];

        if (!check_class(&reader, class))
            return tell(&reader, policy->files[reader.file_index], text, text_bytes);
        policy->facts |= (class->gids.count != 0 ? PEER_GROUPS : 0) |
                         (class->unit[0] != '\0' || class->audit != AUDIT_OFF ? PEER_UNIT : 0) |
                         (class->label[0] != '\0' ? PEER_LABEL : 0);
    }
    return true;
}

struct policy *config_read(const char *path, bool optional, char *text, size_t text_bytes)
{
    struct reader reader = {.policy = policy_new()};

    if (reader.policy == NULL) {
        (void)snprintf(text, text_bytes, "%s: no memory to read it", path);
        return NULL;
    }
    preset(&reader, daemon_keys);
    if (read_file(reader.policy, path, optional, text, text_bytes) &&
        read_drop_ins(reader.policy, path, text, text_bytes) && check(reader.policy, text, text_bytes))
        return reader.policy;
    return policy_unref(reader.policy);
}

struct policy *config_defaults(const char *class_name)
{
    struct reader reader = {.policy = policy_new()};

    if (reader.policy == NULL)
        return NULL;
    preset(&reader, daemon_keys);
    if (class_name == NULL)
        return reader.policy;
    reader.class = policy_add(reader.policy, class_name);
    if (reader.class == NULL)
        return policy_unref(reader.policy);
    preset(&reader, class_keys);
    return reader.policy;
}
