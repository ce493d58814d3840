/* SPDX-License-Identifier: MIT */
/*
 * A configuration file of any bytes. A mistake is told in one text that has an end; what was
 * read is within its limits, and reads the same when it is written out again. The first byte
 * says how much room there is for the text.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config.h"
#include "proto/limits.h"
#include "tests/fuzz/target.h"

static char path[64];
static int fd = -1;

static void write_file(const void *bytes, size_t count)
{
    if (fd < 0) {
        fd = memfd_create("fuzz-config", MFD_CLOEXEC);
        must(fd >= 0);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    must(ftruncate(fd, 0) == 0);
    must_be(pwrite(fd, bytes, count, 0), count);
}

static void check_ids(const struct id_set *set)
{
    must(set->count <= CLASS_IDS_MAX);
    for (size_t i = 0; i < set->count; i++)
        must(set->ranges[i].first <= set->ranges[i].last && set->ranges[i].last < UINT32_MAX);
}

static void check_class(const struct policy *policy, const struct class *class)
{
    must(class->line > 0 && class->file < policy->files_count);
    must(strlen(class->name) >= 1 && strlen(class->name) <= CLASS_NAME_MAX_BYTES);
    must(policy_find(policy, class->name) == class);
    check_ids(&class->uids);
    check_ids(&class->gids);
    must(class->write_through || !class->write_direct);
    must(!class->write_direct ||
         (!class->write_once && class->scan == SCAN_OFF && class->audit == AUDIT_OFF));
    must(class->arena_bytes >= ARENA_MIN_BYTES && class->arena_bytes <= class->arena_max_bytes);
    must(class->arena_max_bytes <= ARENA_LIMIT_BYTES);
    must(class->arena_bytes % BLOCK_BYTES == 0 && class->arena_max_bytes % BLOCK_BYTES == 0);
    must(class->bytes_max >= ARENA_MIN_BYTES && class->bytes_max <= UINT64_C(1) << 46);
    must(class->bytes_max % BLOCK_BYTES == 0);
    must(class->session_max >= 1 && class->session_max <= 100000);
    must(class->span_max >= 1);
    must(class->executor_max <= 1024);
    must(class->rate_bytes <= UINT64_C(1) << 46);
    must(class->scan <= SCAN_DENY && class->audit <= AUDIT_FILE);
    must(class->forbid >= 1 && class->forbid <= (SCAN_SYSCALL | SCAN_PKU | SCAN_SEGMENT | SCAN_FAR));
    must(class->audit != AUDIT_FILE || policy->audit_file[0] == '/');
}

static void check_limits(const struct policy *policy)
{
    must(policy->sessions_max >= 1 && policy->sessions_max <= 100000);
    must(policy->bytes_max <= UINT64_C(1) << 46);
    must(policy->hello_timeout_ms >= 1 && policy->hello_timeout_ms <= 600000);
    must(policy->reply_timeout_ms >= 1 && policy->reply_timeout_ms <= 600000);
    must(policy->spin_us <= 10000);
    must(policy->classes_count <= CLASSES_MAX);
    for (size_t i = 0; i < policy->classes_count; i++) {
        check_class(policy, policy->classes[i]);
        if (strcmp(policy->classes[i]->name, "default") == 0)
            must_be(i, policy->classes_count - 1);
    }
}

static char text[1 << 18];
static size_t used;

/* What the settings of one section say, as they were written. */
static void put_settings(const struct setting *settings, size_t count, const char *(*name)(size_t))
{
    for (size_t i = 0; i < count && name(i) != NULL; i++) {
        if (settings[i].value != NULL)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s=%s\n", name(i), settings[i].value);
    }
}

/* Classes that are written out again are the same classes. */
static void check_again(const struct policy *policy)
{
    struct policy *again;
    char mistake[256];

    used = (size_t)snprintf(text, sizeof text, "[daemon]\naudit_file=/a\n");
    for (size_t i = 0; i < policy->classes_count; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "[class %s]\n", policy->classes[i]->name);
        put_settings(policy->classes[i]->settings, CLASS_KEYS_MAX, config_class_key);
    }
    must(used < sizeof text);
    write_file(text, used);
    again = config_read(path, false, mistake, sizeof mistake);
    must(again != NULL);
    must_be(again->classes_count, policy->classes_count);
    must_be(again->facts, policy->facts);
    for (size_t i = 0; i < policy->classes_count; i++) {
        const size_t from = offsetof(struct class, uids);

        must(memcmp((const char *)again->classes[i] + from, (const char *)policy->classes[i] + from,
                    sizeof(struct class) - from) == 0);
    }
    (void)policy_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct policy *policy;
    size_t mistake_bytes;
    char *mistake;

    if (bytes == 0)
        return 0;
    mistake_bytes = 1 + (size_t)data[0] * 2;
    mistake = malloc(mistake_bytes);
    must(mistake != NULL);
    memset(mistake, 0xAA, mistake_bytes);
    write_file(data + 1, bytes - 1);
    policy = config_read(path, false, mistake, mistake_bytes);
    if (policy != NULL) {
        check_limits(policy);
        check_again(policy);
    } else {
        size_t length = strnlen(mistake, mistake_bytes);

        must(length < mistake_bytes);
        must(strncmp(mistake, path, length < strlen(path) ? length : strlen(path)) == 0);
    }
    (void)policy_unref(policy);
    free(mistake);
    return 0;
}
