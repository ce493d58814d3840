/* SPDX-License-Identifier: MIT */
/* A configuration file to write and read, in a folder of its own. */
#ifndef TESTS_UNIT_CONFIG_STEPS_H
#define TESTS_UNIT_CONFIG_STEPS_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "proto/limits.h"
#include "tests/harness/suite.h"

static char folder[64];
static char path[96];
static struct config config;
static char mistake[512];

static inline void make_folder(void)
{
    (void)snprintf(folder, sizeof folder, "/tmp/jitbroker-config-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/test.conf", folder);
}

static inline void remove_file(void)
{
    (void)unlink(path);
    (void)rmdir(path);
}

static inline void remove_folder(void)
{
    remove_file();
    (void)rmdir(folder);
}

static inline void write_bytes(const void *bytes, size_t count)
{
    FILE *file = fopen(path, "we");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
    ck_assert_int_eq(fclose(file), 0);
}

static inline void assert_same(const struct config *got, const struct config *wanted)
{
    ck_assert_uint_eq(got->sessions_max, wanted->sessions_max);
    ck_assert_uint_eq(got->hello_timeout_ms, wanted->hello_timeout_ms);
    ck_assert_uint_eq(got->uids_count, wanted->uids_count);
    ck_assert_mem_eq(got->uids, wanted->uids, sizeof got->uids);
    ck_assert_int_eq(got->write_through, wanted->write_through);
    ck_assert_int_eq(got->write_direct, wanted->write_direct);
    ck_assert_uint_eq(got->arena_bytes, wanted->arena_bytes);
    ck_assert_uint_eq(got->arena_max_bytes, wanted->arena_max_bytes);
    ck_assert_uint_eq(got->bytes_max, wanted->bytes_max);
    ck_assert_uint_eq(got->session_max, wanted->session_max);
    ck_assert_uint_eq(got->span_max, wanted->span_max);
    ck_assert_uint_eq(got->rate, wanted->rate);
    ck_assert_int_eq(got->huge_pages, wanted->huge_pages);
}

static inline void assert_defaults(void)
{
    struct config defaults;

    config_init(&defaults);
    assert_same(&config, &defaults);
}

static inline bool read_config(void)
{
    memset(&config, 0xAA, sizeof config); /* whatever was there before */
    memset(mistake, 0xAA, sizeof mistake);
    return config_read(&config, path, mistake, sizeof mistake);
}

static inline void assert_reads_bytes(const void *bytes, size_t count)
{
    write_bytes(bytes, count);
    ck_assert_msg(read_config(), "%s", mistake);
}

static inline void assert_reads(const char *text)
{
    assert_reads_bytes(text, strlen(text));
}

/* line 0: the mistake is the whole file's. */
static inline void assert_told(int line, const char *reason)
{
    char where[128];

    ck_assert(!read_config());
    (void)snprintf(where, sizeof where, line == 0 ? "%s: " : "%s:%d: ", path, line);
    ck_assert_msg(strncmp(mistake, where, strlen(where)) == 0, "not in line %d: %s", line, mistake);
    ck_assert_msg(strstr(mistake + strlen(where), reason) != NULL, "not \"%s\": %s", reason, mistake);
    assert_defaults();
}

static inline void assert_mistake(const char *text, int line, const char *reason)
{
    write_bytes(text, strlen(text));
    assert_told(line, reason);
}

static inline void add_tests(Suite *suite, const char *name, const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, make_folder, remove_folder);
    tcase_add_checked_fixture(tcase, remove_file, NULL);
    for (; *tests != NULL; tests++)
        tcase_add_test(tcase, *tests);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
}

#define ADD_TESTS(suite, name, ...) add_tests(suite, name, (const TTest *const[]){__VA_ARGS__, NULL})

#endif
