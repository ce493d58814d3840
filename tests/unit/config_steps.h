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
static struct policy *policy; /* what was read last */
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
    policy = policy_unref(policy);
}

static inline void write_bytes(const void *bytes, size_t count)
{
    FILE *file = fopen(path, "we");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
    ck_assert_int_eq(fclose(file), 0);
}

/* The class of that name, or fails the test. */
static inline const struct class *class_of(const char *name)
{
    const struct class *class = policy_find(policy, name);

    ck_assert_msg(class != NULL, "no class %s", name);
    return class;
}

static inline const struct class *class_default(void)
{
    return class_of("default");
}

static inline bool serves(uid_t uid)
{
    return policy_match(policy, &(struct peer){.uid = uid, .gid = (gid_t)-1}) != NULL;
}

/* All that the keys of a class say, as far as it does not name a place. */
static inline void assert_same_class(const struct class *got, const struct class *wanted)
{
    ck_assert_mem_eq((const char *)got + offsetof(struct class, uids),
                     (const char *)wanted + offsetof(struct class, uids),
                     sizeof *got - offsetof(struct class, uids));
}

static inline void assert_defaults(void)
{
    struct policy *defaults = config_defaults("default");

    ck_assert_ptr_nonnull(defaults);
    ck_assert_uint_eq(policy->sessions_max, defaults->sessions_max);
    ck_assert_uint_eq(policy->bytes_max, defaults->bytes_max);
    ck_assert_uint_eq(policy->hello_timeout_ms, defaults->hello_timeout_ms);
    ck_assert_uint_eq(policy->reply_timeout_ms, defaults->reply_timeout_ms);
    ck_assert_uint_eq(policy->spin_us, defaults->spin_us);
    ck_assert_str_eq(policy->audit_file, defaults->audit_file);
    for (size_t i = 0; i < policy->classes_count; i++)
        assert_same_class(policy->classes[i], defaults->classes[0]);
    (void)policy_unref(defaults);
}

static inline bool read_config(void)
{
    memset(mistake, 0xAA, sizeof mistake);
    policy = policy_unref(policy);
    policy = config_read(path, false, mistake, sizeof mistake);
    return policy != NULL;
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
