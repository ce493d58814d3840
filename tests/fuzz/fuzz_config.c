/* SPDX-License-Identifier: MIT */
/*
 * A configuration file of any bytes. A mistake leaves the defaults and is told in one
 * text that has an end; what was read is within its limits, and reads the same when it
 * is written out again. The first byte says how much room there is for the text.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config.h"
#include "proto/limits.h"
#include "tests/fuzz/target.h"

#define UIDS_IN_A_LINE 8u

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

static void check_limits(const struct config *config)
{
    must(config->sessions_max >= 1 && config->sessions_max <= 100000);
    must(config->hello_timeout_ms >= 1 && config->hello_timeout_ms <= 600000);
    must(config->uids_count <= CONFIG_UIDS_MAX);
    for (size_t i = 0; i < config->uids_count; i++) {
        must(config->uids[i].first <= config->uids[i].last && config->uids[i].last < UINT32_MAX);
        must(config_serves(config, config->uids[i].first) && config_serves(config, config->uids[i].last));
    }
    must(config->write_through || !config->write_direct);
    must(config->arena_bytes >= ARENA_MIN_BYTES && config->arena_bytes <= config->arena_max_bytes);
    must(config->arena_max_bytes <= ARENA_LIMIT_BYTES);
    must(config->arena_bytes % BLOCK_BYTES == 0 && config->arena_max_bytes % BLOCK_BYTES == 0);
    must(config->bytes_max >= ARENA_MIN_BYTES && config->bytes_max <= UINT64_C(1) << 46);
    must(config->bytes_max % BLOCK_BYTES == 0);
    must(config->session_max >= 1 && config->session_max <= 100000);
    must(config->span_max >= 1);
}

static void check_same(const struct config *got, const struct config *wanted)
{
    must_be(got->sessions_max, wanted->sessions_max);
    must_be(got->hello_timeout_ms, wanted->hello_timeout_ms);
    must_be(got->uids_count, wanted->uids_count);
    must(memcmp(got->uids, wanted->uids, sizeof got->uids) == 0);
    must_be(got->write_through, wanted->write_through);
    must_be(got->write_direct, wanted->write_direct);
    must_be(got->arena_bytes, wanted->arena_bytes);
    must_be(got->arena_max_bytes, wanted->arena_max_bytes);
    must_be(got->bytes_max, wanted->bytes_max);
    must_be(got->session_max, wanted->session_max);
    must_be(got->span_max, wanted->span_max);
    must_be(got->rate, wanted->rate);
    must_be(got->huge_pages, wanted->huge_pages);
}

/* Unless it has more uids than fit the longest line however they are written. */
static void check_again(const struct config *config)
{
    static struct config again;
    static char text[4096];
    char mistake[256];
    size_t used = 0;

    if (config->uids_count > UIDS_IN_A_LINE)
        return;
#define PUT(...) used += (size_t)snprintf(text + used, sizeof text - used, __VA_ARGS__)
    PUT("[daemon]\nsessions_max=%" PRIu32 "\nhello_timeout_ms=%" PRIu32 "\n[class default]\n",
        config->sessions_max, config->hello_timeout_ms);
    for (size_t i = 0; i < config->uids_count; i++)
        PUT("%s%u-%u%s", i == 0 ? "uid=" : " ", (unsigned)config->uids[i].first,
            (unsigned)config->uids[i].last, i + 1 == config->uids_count ? "\n" : "");
    PUT("write=%s\n", config->write_direct ? "direct" : config->write_through ? "through" : "none");
    PUT("arena=%" PRIu64 "\narena_max=%" PRIu64 "K\nbytes_max=%" PRIu64 "\n", config->arena_bytes,
        config->arena_max_bytes >> 10, config->bytes_max);
    PUT("session_max=%" PRIu32 "\nspan_max=%" PRIu32 "\nrate=%" PRIu32 "\nhuge_pages=%s\n",
        config->session_max, config->span_max, config->rate, config->huge_pages ? "yes" : "no");
#undef PUT
    must(used < sizeof text);
    write_file(text, used);
    must(config_read(&again, path, mistake, sizeof mistake));
    check_same(&again, config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct config config;
    static struct config defaults;
    size_t mistake_bytes;
    char *mistake;

    if (bytes == 0)
        return 0;
    mistake_bytes = 1 + (size_t)data[0] * 2;
    mistake = malloc(mistake_bytes);
    must(mistake != NULL);
    memset(&config, 0xAA, sizeof config);
    memset(&defaults, 0xAA, sizeof defaults);
    memset(mistake, 0xAA, mistake_bytes);
    write_file(data + 1, bytes - 1);
    config_init(&defaults);
    if (config_read(&config, path, mistake, mistake_bytes)) {
        check_limits(&config);
        check_again(&config);
    } else {
        size_t length = strnlen(mistake, mistake_bytes);

        must(length < mistake_bytes);
        must(strncmp(mistake, path, length < strlen(path) ? length : strlen(path)) == 0);
        check_same(&config, &defaults);
    }
    free(mistake);
    return 0;
}
