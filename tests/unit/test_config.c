/* SPDX-License-Identifier: MIT */
/* The configuration: every key at its bounds, and the defaults that the shipped file documents. */
#include <inttypes.h>

#include "tests/unit/config_steps.h"

/* ---- What is good -------------------------------------------------------------------- */

START_TEST(an_empty_file_means_the_defaults)
{
    const char *const empty[] = {"", "\n", "# nothing\n", "; nothing", "[daemon]\n", "  \n\t\n"};

    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        assert_reads(empty[i]);
        assert_defaults();
    }
    ck_assert_uint_eq(policy->classes_count, 0);
    ck_assert(!serves(0) && !serves(12345));
    assert_reads("[daemon]\n[class default]\n");
    assert_defaults();
    ck_assert(serves(0) && serves(12345));
    ck_assert(class_default()->write_through && !class_default()->write_direct);
}
END_TEST

START_TEST(every_key_is_read)
{
    assert_reads("[daemon]\nsessions_max=1\nhello_timeout_ms=2\n"
                 "[class default]\nuid=3-4\nwrite=direct\narena=320K\narena_max=6M\nbytes_max=7G\n"
                 "session_max=8\nspan_max=9\nrate=10\nhuge_pages=yes\n");
    ck_assert_uint_eq(policy->sessions_max, 1);
    ck_assert_uint_eq(policy->hello_timeout_ms, 2);
    ck_assert_uint_eq(class_default()->uids.count, 1);
    ck_assert_uint_eq(class_default()->uids.ranges[0].first, 3);
    ck_assert_uint_eq(class_default()->uids.ranges[0].last, 4);
    ck_assert(class_default()->write_through && class_default()->write_direct);
    ck_assert_uint_eq(class_default()->arena_bytes, 320 << 10);
    ck_assert_uint_eq(class_default()->arena_max_bytes, 6 << 20);
    ck_assert_uint_eq(class_default()->bytes_max, UINT64_C(7) << 30);
    ck_assert_uint_eq(class_default()->session_max, 8);
    ck_assert_uint_eq(class_default()->span_max, 9);
    ck_assert_uint_eq(class_default()->rate, 10);
    ck_assert(class_default()->huge_pages);
}
END_TEST

static const char *object(const char *section)
{
    return section[0] == 'd' ? (const char *)policy : (const char *)class_default();
}

START_TEST(counts_take_their_bounds_and_nothing_beyond)
{
    const struct {
        const char *section;
        const char *name;
        size_t offset;
        uint64_t min;
        uint64_t max;
    } keys[] = {
        {"daemon", "sessions_max", offsetof(struct policy, sessions_max), 1, 100000},
        {"daemon", "hello_timeout_ms", offsetof(struct policy, hello_timeout_ms), 1, 600000},
        {"daemon", "spin_us", offsetof(struct policy, spin_us), 0, 10000},
        {"class default", "session_max", offsetof(struct class, session_max), 1, 100000},
        {"class default", "span_max", offsetof(struct class, span_max), 1, UINT32_MAX},
        {"class default", "rate", offsetof(struct class, rate), 0, UINT32_MAX},
    };
    char text[128];

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const uint64_t good[] = {keys[i].min, keys[i].min + 1, keys[i].max - 1, keys[i].max};
        const uint64_t bad[] = {keys[i].max + 1, keys[i].max * 10, UINT64_MAX, keys[i].min - 1};

        for (size_t j = 0; j < 4; j++) {
            uint32_t got;

            (void)snprintf(text, sizeof text, "[%s]\n%s=%" PRIu64 "\n", keys[i].section, keys[i].name,
                           good[j]);
            assert_reads(text);
            memcpy(&got, object(keys[i].section) + keys[i].offset, sizeof got);
            ck_assert_uint_eq(got, good[j]);
            (void)snprintf(text, sizeof text, "[%s]\n%s=%" PRIu64 "\n", keys[i].section, keys[i].name,
                           bad[j]);
            assert_mistake(text, 2, "not between");
        }
        /* No unit: they are not bytes. */
        (void)snprintf(text, sizeof text, "[%s]\n%s=1K\n", keys[i].section, keys[i].name);
        assert_mistake(text, 2, "not a whole number");
    }
}
END_TEST

START_TEST(sizes_take_their_bounds_and_nothing_beyond)
{
    const struct {
        const char *name;
        size_t offset;
        uint64_t max;
    } keys[] = {
        {"arena", offsetof(struct class, arena_bytes), ARENA_LIMIT_BYTES},
        {"arena_max", offsetof(struct class, arena_max_bytes), ARENA_LIMIT_BYTES},
        {"bytes_max", offsetof(struct class, bytes_max), UINT64_C(1) << 46},
    };
    char text[128];

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const uint64_t good[] = {65536, 131072, keys[i].max - 65536, keys[i].max};
        const uint64_t beyond[] = {0, 1, 65535, keys[i].max + 1, keys[i].max + 65536, UINT64_MAX};
        const uint64_t uneven[] = {65537, 100000, keys[i].max - 1};
        /* So that `arena` and `arena_max` agree. */
        const char *other[] = {"arena_max=64G", "arena=64K", "rate=0"};

        for (size_t j = 0; j < 4; j++) {
            uint64_t got;

            (void)snprintf(text, sizeof text, "[class default]\n%s=%" PRIu64 "\n%s", keys[i].name, good[j],
                           other[i]);
            assert_reads(text);
            memcpy(&got, (const char *)class_default() + keys[i].offset, sizeof got);
            ck_assert_uint_eq(got, good[j]);
        }
        for (size_t j = 0; j < sizeof beyond / sizeof beyond[0]; j++) {
            (void)snprintf(text, sizeof text, "[class default]\n%s=%" PRIu64 "\n", keys[i].name, beyond[j]);
            assert_mistake(text, 2, "not between");
        }
        for (size_t j = 0; j < sizeof uneven / sizeof uneven[0]; j++) {
            (void)snprintf(text, sizeof text, "[class default]\n%s=%" PRIu64 "\n", keys[i].name, uneven[j]);
            assert_mistake(text, 2, "not a multiple of 64K");
        }
    }
}
END_TEST

START_TEST(sizes_have_units_of_1024)
{
    assert_reads("[class default]\narena=64K\n");
    ck_assert_uint_eq(class_default()->arena_bytes, 65536);
    assert_reads("[class default]\narena=3M\n");
    ck_assert_uint_eq(class_default()->arena_bytes, 3 << 20);
    assert_reads("[class default]\narena=1G\narena_max=1G\n");
    ck_assert_uint_eq(class_default()->arena_bytes, 1 << 30);
    assert_reads("[class default]\nbytes_max=65536G\n");
    ck_assert_uint_eq(class_default()->bytes_max, UINT64_C(1) << 46);
    assert_mistake("[class default]\nbytes_max=65537G\n", 2, "not between");
    assert_mistake("[class default]\narena=63K\n", 2, "not between");
    assert_mistake("[class default]\narena=65K\n", 2, "not a multiple of 64K");
    assert_mistake("[class default]\narena=64k\n", 2, "not a whole number");
    assert_mistake("[class default]\narena=64KB\n", 2, "not a whole number");
    assert_mistake("[class default]\narena=64 K\n", 2, "not a whole number");
    assert_mistake("[class default]\narena=1T\n", 2, "not a whole number");
    assert_mistake("[class default]\narena=M\n", 2, "not a whole number");
    assert_mistake("[class default]\narena=0.5M\n", 2, "not a whole number");
    /* 2^64 and just below, by unit. */
    assert_mistake("[class default]\narena=17179869184G\n", 2, "too large");
    assert_mistake("[class default]\narena=17179869183G\n", 2, "not between");
    assert_mistake("[class default]\narena=17179869248G\n", 2, "too large"); /* 64G after wrapping */
}
END_TEST

START_TEST(write_is_through_direct_or_none)
{
    assert_reads("[class default]\nwrite=through\n");
    ck_assert(class_default()->write_through && !class_default()->write_direct);
    assert_reads("[class default]\nwrite=direct\n");
    ck_assert(class_default()->write_through && class_default()->write_direct);
    assert_reads("[class default]\nwrite=none\n");
    ck_assert(!class_default()->write_through && !class_default()->write_direct);
    assert_mistake("[class default]\nwrite=Direct\n", 2, "through, direct or none");
    assert_mistake("[class default]\nwrite=\n", 2, "through, direct or none");
    assert_mistake("[class default]\nwrite=through direct\n", 2, "through, direct or none");
}
END_TEST

START_TEST(huge_pages_are_yes_or_no)
{
    assert_reads("[class default]\nhuge_pages=yes\n");
    ck_assert(class_default()->huge_pages);
    assert_reads("[class default]\nhuge_pages=no\n");
    ck_assert(!class_default()->huge_pages);
    assert_mistake("[class default]\nhuge_pages=\n", 2, "yes or no");
    assert_mistake("[class default]\nhuge_pages=Yes\n", 2, "yes or no");
    assert_mistake("[class default]\nhuge_pages=1\n", 2, "yes or no");
    assert_mistake("[daemon]\nhuge_pages=yes\n", 2, "[daemon] has no key huge_pages");
}
END_TEST

START_TEST(uids_are_any_or_numbers_and_ranges)
{
    assert_reads("[class default]\nuid=any\n");
    ck_assert(serves(0) && serves(UINT32_MAX - 1));
    assert_reads("[class default]\nuid=33 1000-1999 4294967294\n");
    ck_assert_uint_eq(class_default()->uids.count, 3);
    ck_assert(!serves(0) && !serves(32));
    ck_assert(serves(33) && !serves(34));
    ck_assert(!serves(999) && serves(1000));
    ck_assert(serves(1999) && !serves(2000));
    ck_assert(serves(UINT32_MAX - 1) && !serves(UINT32_MAX));
    assert_reads("[class default]\nuid=0\n");
    ck_assert(serves(0) && !serves(1));
    assert_reads("[class default]\nuid=5-5\n");
    ck_assert(serves(5) && !serves(4) && !serves(6));
}
END_TEST

START_TEST(at_most_64_ranges_of_uids_are_taken)
{
    char text[256] = "[class default]\nuid=";

    for (int i = 0; i < 64; i++)
        strcat(text, i == 0 ? "0" : " 1");
    assert_reads(text);
    ck_assert_uint_eq(class_default()->uids.count, 64);
    ck_assert_uint_eq(CLASS_IDS_MAX, 64);
    strcat(text, " 2");
    assert_mistake(text, 2, "more than 64 ranges");
}
END_TEST

START_TEST(bad_lists_of_uids_are_told)
{
    const char *const bad[] = {"",
                               "-1",
                               "1-",
                               "-",
                               "1,2",
                               "1  2",
                               "1\t2",
                               "all",
                               "any 1",
                               "1 any",
                               "root",
                               "1 - 2",
                               "1-2-3",
                               "5-3",
                               "0x1",
                               "1;2",
                               "+1",
                               "1 2 x",
                               "1.5 2.5",
                               "4294967295",
                               "0-4294967295",
                               "99999999999999999999",
                               "18446744073709551616-1"};
    char text[128];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text, "[daemon]\n[class default]\nuid=%s\n", bad[i]);
        assert_mistake(text, 3, "uid");
    }
}
END_TEST

START_TEST(lines_may_end_and_stand_as_editors_leave_them)
{
    const char *const texts[] = {
        "[class default]\nrate=77",
        "[class default]\r\nrate=77\r\n",
        "[class default]\r\nrate=77",
        "\xEF\xBB\xBF[class default]\nrate=77\n",
        "\xEF\xBB\xBF# first\r\n[class default]\r\nrate=77\r\n",
        "[class default]\nrate = 77  \n",
        "[class default]\nrate=77 ; a comment\n",
        "\n\n\n[class default]\n\n\nrate=77\n\n\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_reads(texts[i]);
        ck_assert_uint_eq(class_default()->rate, 77);
    }
    assert_mistake("\xEF\xBB\xBF[class default]\r\n\r\nrate=x\r\n", 3, "not a whole number");
}
END_TEST

START_TEST(a_section_may_come_twice_but_a_key_may_not)
{
    assert_reads("[daemon]\nsessions_max=5\n[class default]\nrate=6\n[daemon]\nhello_timeout_ms=7\n");
    ck_assert_uint_eq(policy->sessions_max, 5);
    ck_assert_uint_eq(policy->hello_timeout_ms, 7);
    assert_mistake("[daemon]\nsessions_max=5\n[class default]\nrate=6\n[daemon]\nsessions_max=5\n", 6,
                   "given twice, first in line 2");
    assert_mistake("[class default]\n\nuid=any\nuid=any\n", 4, "uid is given twice, first in line 3");
}
END_TEST

/* ---- The file that is shipped ---------------------------------------------------------- */

START_TEST(the_shipped_file_means_the_defaults)
{
    (void)snprintf(path, sizeof path, "%s", SHIPPED_CONFIG);
    ck_assert_msg(read_config(), "%s", mistake);
    assert_defaults();
}
END_TEST

START_TEST(the_shipped_file_documents_the_true_defaults_of_every_key)
{
    const char *const keys[] = {"sessions_max",
                                "bytes_max",
                                "hello_timeout_ms",
                                "reply_timeout_ms",
                                "spin_us",
                                "audit_file",
                                "uid",
                                "gid",
                                "unit",
                                "label",
                                "write",
                                "write_once",
                                "arena",
                                "arena_max",
                                "session_max",
                                "span_max",
                                "ring",
                                "rate",
                                "executor_max",
                                "huge_pages",
                                "orphans",
                                "scan",
                                "forbid",
                                "audit"};
    bool seen[sizeof keys / sizeof keys[0]] = {false};
    char text[8192] = "";
    char line[512];
    unsigned uncommented = 0;
    FILE *shipped = fopen(SHIPPED_CONFIG, "re");

    ck_assert_ptr_nonnull(shipped);
    while (fgets(line, sizeof line, shipped) != NULL) {
        const char *start = line;
        size_t name = strspn(line + 1, "abcdefghijklmnopqrstuvwxyz_");

        if (strncmp(line, "#[", 2) == 0)
            start++;
        if (line[0] == '#' && name > 0 && line[1 + name] == '=') {
            /* Left away, they match everyone; empty ones would be a mistake. */
            if (strncmp(line + 1, "unit=", 5) == 0 || strncmp(line + 1, "label=", 6) == 0)
                start = "";
            else
                start++;
            uncommented++;
            for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
                seen[i] = seen[i] || (strlen(keys[i]) == name && strncmp(line + 1, keys[i], name) == 0);
        }
        ck_assert_uint_lt(strlen(text) + strlen(start), sizeof text);
        strcat(text, start);
    }
    (void)fclose(shipped);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        ck_assert_msg(seen[i], "%s is not mentioned", keys[i]);
    ck_assert_uint_eq(uncommented, sizeof keys / sizeof keys[0] + 1); /* bytes_max is in both sections */
    assert_reads(text);
    assert_defaults();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");

    ADD_TESTS(suite, "values", an_empty_file_means_the_defaults, every_key_is_read,
              counts_take_their_bounds_and_nothing_beyond, sizes_take_their_bounds_and_nothing_beyond,
              sizes_have_units_of_1024, write_is_through_direct_or_none, huge_pages_are_yes_or_no,
              uids_are_any_or_numbers_and_ranges, at_most_64_ranges_of_uids_are_taken,
              bad_lists_of_uids_are_told, lines_may_end_and_stand_as_editors_leave_them,
              a_section_may_come_twice_but_a_key_may_not);
    ADD_TESTS(suite, "shipped", the_shipped_file_means_the_defaults,
              the_shipped_file_documents_the_true_defaults_of_every_key);
    return suite_run(suite);
}
