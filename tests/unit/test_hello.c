/* SPDX-License-Identifier: MIT */
/* What a client may ask for with Hello, whatever the policy grants of it. */
#include <string.h>

#include "proto/hello.h"
#include "tests/harness/suite.h"

static const struct hello plain = {.version_min = 1, .version_max = 1};

static struct hello assert_passes(struct hello hello)
{
    struct result result;

    result_init(&result);
    ck_assert_msg(hello_validate(&hello, &result) == STATUS_OK, "%s", result.text);
    ck_assert_int_eq(result.status, STATUS_OK);
    return hello;
}

static void assert_refused(struct hello hello, enum status status, const char *field)
{
    struct result result;

    result_init(&result);
    ck_assert_int_eq(hello_validate(&hello, &result), status);
    ck_assert_int_eq(result.status, status);
    ck_assert_str_eq(result.field, field);
    ck_assert_str_ne(result.text, "");
    ck_assert_uint_lt(strlen(result.text), ERROR_TEXT_MAX_BYTES - 1);
}

START_TEST(a_range_of_versions_must_hold_this_one)
{
    const struct {
        uint32_t min;
        uint32_t max;
        enum status status;
        const char *field;
    } ranges[] = {
        {0, 1, STATUS_OK, ""},
        {1, 1, STATUS_OK, ""},
        {1, 2, STATUS_OK, ""},
        {0, UINT32_MAX, STATUS_OK, ""},
        {1, UINT32_MAX, STATUS_OK, ""},
        {0, 0, STATUS_VERSION, "version_max"},
        {2, 2, STATUS_VERSION, "version_max"},
        {2, 3, STATUS_VERSION, "version_max"},
        {UINT32_MAX, UINT32_MAX, STATUS_VERSION, "version_max"},
        {1, 0, STATUS_INVALID, "version_min"},
        {2, 1, STATUS_INVALID, "version_min"},
        {UINT32_MAX, 0, STATUS_INVALID, "version_min"},
    };

    ck_assert_uint_eq(PROTOCOL_VERSION, 1);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        struct hello hello = plain;

        hello.version_min = ranges[i].min;
        hello.version_max = ranges[i].max;
        if (ranges[i].status == STATUS_OK)
            (void)assert_passes(hello);
        else
            assert_refused(hello, ranges[i].status, ranges[i].field);
    }
}
END_TEST

START_TEST(zeros_become_what_they_stand_for)
{
    struct hello hello = assert_passes(plain);

    ck_assert_uint_eq(hello.granularity, 64);
    ck_assert_uint_eq(hello.fill_pattern, FILL_PATTERN_DEFAULT);
    ck_assert_uint_eq(hello.arena_bytes, 0); /* the policy's to say */
    ck_assert_uint_eq(hello.write_mode, WRITE_ANY);
    ck_assert_uint_eq(hello.version_min, 1);
    ck_assert_uint_eq(hello.version_max, 1);
}
END_TEST

START_TEST(granularity_is_64_128_or_256)
{
    struct hello hello = plain;

    for (uint32_t granularity = 1; granularity <= 1024; granularity++) {
        hello.granularity = granularity;
        if (granularity == 64 || granularity == 128 || granularity == 256)
            ck_assert_uint_eq(assert_passes(hello).granularity, granularity);
        else
            assert_refused(hello, STATUS_INVALID, "granularity");
    }
    hello.granularity = 65536;
    assert_refused(hello, STATUS_INVALID, "granularity");
    hello.granularity = UINT32_MAX;
    assert_refused(hello, STATUS_INVALID, "granularity");
}
END_TEST

START_TEST(write_mode_is_any_through_or_direct)
{
    struct hello hello = plain;

    for (hello.write_mode = 0; hello.write_mode <= 2; hello.write_mode++)
        ck_assert_uint_eq(assert_passes(hello).write_mode, hello.write_mode);
    assert_refused(hello, STATUS_INVALID, "write_mode");
    hello.write_mode = UINT32_MAX; /* -1 on the wire */
    assert_refused(hello, STATUS_INVALID, "write_mode");
}
END_TEST

START_TEST(an_arena_has_at_most_64_gib)
{
    struct hello hello = plain;
    const uint64_t good[] = {1, 65535, 65536, 65537, ARENA_LIMIT_BYTES - 1, ARENA_LIMIT_BYTES};
    const uint64_t large[] = {ARENA_LIMIT_BYTES + 1, UINT64_C(1) << 63, UINT64_MAX - 65535, UINT64_MAX};

    ck_assert_uint_eq(ARENA_LIMIT_BYTES, UINT64_C(64) << 30);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        hello.arena_bytes = good[i];
        ck_assert_uint_eq(assert_passes(hello).arena_bytes, good[i]);
    }
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        hello.arena_bytes = large[i];
        assert_refused(hello, STATUS_TOO_LARGE, "arena_bytes");
    }
}
END_TEST

START_TEST(features_are_wishes_and_never_refused)
{
    struct hello hello = plain;

    hello.features = UINT64_MAX;
    ck_assert_uint_eq(assert_passes(hello).features, UINT64_MAX);
}
END_TEST

START_TEST(memory_is_filled_only_with_what_traps)
{
    struct hello hello = plain;
    const uint32_t bad[] = {
        1,           0x90909090u, 0xC3C3C3C3u,                           /* nop, ret */
        0xCCCCCC90u, 0x90CCCCCCu, 0xCC90CC90u, 0xCCCCCCCDu, 0xCDCDCDCDu, /* int3 but for one byte; int 0xCD */
        0x00CCCCCCu, 0xF4CCF4CCu, 0x0B0F0B0Fu, /* ud2 does not trap when it is entered in its middle */
        0xD4200001u, 0xD4000000u, 0xD503201Fu, UINT32_MAX,
    };

    hello.fill_pattern = FILL_PATTERN_DEFAULT;
    ck_assert_uint_eq(assert_passes(hello).fill_pattern, FILL_PATTERN_DEFAULT);
    ck_assert(fill_pattern_traps(FILL_PATTERN_DEFAULT));
    ck_assert(!fill_pattern_traps(0));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hello.fill_pattern = bad[i];
        ck_assert(!fill_pattern_traps(bad[i]));
        assert_refused(hello, STATUS_INVALID, "fill_pattern");
    }
#if defined(__x86_64__)
    ck_assert_uint_eq(FILL_PATTERN_DEFAULT, 0xCCCCCCCCu); /* int3 */
    hello.fill_pattern = 0xF4F4F4F4u;                     /* hlt */
    ck_assert_uint_eq(assert_passes(hello).fill_pattern, 0xF4F4F4F4u);
    hello.fill_pattern = 0xD4200000u; /* another machine's */
    assert_refused(hello, STATUS_INVALID, "fill_pattern");
#elif defined(__aarch64__)
    ck_assert_uint_eq(FILL_PATTERN_DEFAULT, 0xD4200000u); /* brk #0 */
    hello.fill_pattern = 0xCCCCCCCCu;
    assert_refused(hello, STATUS_INVALID, "fill_pattern");
#endif
}
END_TEST

static void assert_executor_refused(struct hello hello, enum status status, const char *field)
{
    struct result result;

    result_init(&result);
    ck_assert_int_eq(hello_validate_executor(&hello, &result), status);
    ck_assert_int_eq(result.status, status);
    ck_assert_str_eq(result.field, field);
    ck_assert_str_ne(result.text, "");
    ck_assert_uint_lt(strlen(result.text), ERROR_TEXT_MAX_BYTES - 1);
}

START_TEST(an_executor_wishes_for_no_arena_of_its_own)
{
    const struct hello whole = {.version_min = 0, .version_max = UINT32_MAX, .features = UINT64_MAX};
    struct result result;
    struct hello hello;

    result_init(&result);
    ck_assert_int_eq(hello_validate_executor(&plain, &result), STATUS_OK);
    ck_assert_int_eq(hello_validate_executor(&whole, &result), STATUS_OK);
    hello = plain;
    hello.version_min = hello.version_max = 2;
    assert_executor_refused(hello, STATUS_VERSION, "version_max");
    hello.version_max = 1;
    assert_executor_refused(hello, STATUS_INVALID, "version_min");
    /* What an owner may say, and what nobody may. */
    for (int large = 0; large < 2; large++) {
        hello = plain;
        hello.granularity = large ? UINT32_MAX : 64;
        assert_executor_refused(hello, STATUS_INVALID, "granularity");
        hello = plain;
        hello.fill_pattern = large ? UINT32_MAX : FILL_PATTERN_DEFAULT;
        assert_executor_refused(hello, STATUS_INVALID, "fill_pattern");
        hello = plain;
        hello.write_mode = large ? UINT32_MAX : WRITE_THROUGH;
        assert_executor_refused(hello, STATUS_INVALID, "write_mode");
        hello = plain;
        hello.arena_bytes = large ? UINT64_MAX : 1;
        assert_executor_refused(hello, STATUS_INVALID, "arena_bytes");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hello");
    TCase *all = tcase_create("validate");

    tcase_add_test(all, a_range_of_versions_must_hold_this_one);
    tcase_add_test(all, zeros_become_what_they_stand_for);
    tcase_add_test(all, granularity_is_64_128_or_256);
    tcase_add_test(all, write_mode_is_any_through_or_direct);
    tcase_add_test(all, an_arena_has_at_most_64_gib);
    tcase_add_test(all, features_are_wishes_and_never_refused);
    tcase_add_test(all, memory_is_filled_only_with_what_traps);
    tcase_add_test(all, an_executor_wishes_for_no_arena_of_its_own);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
