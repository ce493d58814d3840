/* SPDX-License-Identifier: MIT */
/* What is refused of a request before anyone looks at a span: each field at and beside its bounds. */
#include <string.h>

#include "proto/request.h"
#include "tests/harness/suite.h"

#define ARENA (UINT64_C(1) << 20)
#define SPAN_MAX (ARENA - 128)

static const struct shape shape = {.arena_bytes = ARENA, .span_max_bytes = SPAN_MAX, .granularity = 128};
static const struct shape widest = {
    .arena_bytes = ARENA_LIMIT_BYTES, .span_max_bytes = ARENA_LIMIT_BYTES - 64, .granularity = 64};
static const uint8_t data[WRITE_MAX_BYTES];

static void assert_passes_in(const struct shape *in, struct request request)
{
    struct result result;

    result_init(&result);
    ck_assert_msg(request_validate(&request, in, &result) == STATUS_OK, "%s", result.text);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_str_eq(result.text, "");
}

static void assert_passes(struct request request)
{
    assert_passes_in(&shape, request);
}

static void assert_refused_in(const struct shape *in, struct request request, enum status status,
                              const char *field)
{
    struct result result;

    result_init(&result);
    ck_assert_int_eq(request_validate(&request, in, &result), status);
    ck_assert_int_eq(result.status, status);
    ck_assert_str_eq(result.field, field);
    ck_assert_str_ne(result.text, "");
    ck_assert_uint_lt(strlen(result.text), ERROR_TEXT_MAX_BYTES - 1); /* nothing is cut off */
    ck_assert(!result.has_span && !result.has_usage);
}

static void assert_refused(struct request request, enum status status, const char *field)
{
    assert_refused_in(&shape, request, status, field);
}

static void assert_span_field_is_checked(struct request request)
{
    const uint64_t good[] = {0, 128, 256, ARENA / 2, ARENA - 128};
    const uint64_t no_span[] = {
        1,         64,          127,       129,       ARENA - 64,        ARENA,
        ARENA + 1, ARENA + 128, ARENA - 1, ARENA * 2, UINT64_C(1) << 63, UINT64_MAX - 127,
        UINT64_MAX};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        request.span = good[i];
        assert_passes(request);
    }
    for (size_t i = 0; i < sizeof no_span / sizeof no_span[0]; i++) {
        request.span = no_span[i];
        assert_refused(request, STATUS_NO_SPAN, "span");
    }
}

START_TEST(alloc_takes_1_byte_to_the_largest_span)
{
    struct request request = {.operation = OPERATION_ALLOC};
    const uint64_t good[] = {1, 2, 127, 128, 129, SPAN_MAX - 1, SPAN_MAX};
    const uint64_t large[] = {SPAN_MAX + 1, ARENA, UINT64_MAX / 2, UINT64_MAX - 127, UINT64_MAX};

    assert_refused(request, STATUS_INVALID, "size");
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        request.size = good[i];
        assert_passes(request);
    }
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        request.size = large[i];
        assert_refused(request, STATUS_TOO_LARGE, "size");
    }
}
END_TEST

START_TEST(a_span_starts_at_a_multiple_of_the_granularity_in_the_arena)
{
    uint8_t byte = 0;

    assert_span_field_is_checked((struct request){.operation = OPERATION_RELEASE});
    assert_span_field_is_checked((struct request){.operation = OPERATION_SEAL});
    assert_span_field_is_checked((struct request){.operation = OPERATION_SHRINK, .size = 1});
    assert_span_field_is_checked(
        (struct request){.operation = OPERATION_WRITE, .data = &byte, .data_bytes = 1});
    assert_span_field_is_checked((struct request){.operation = OPERATION_PATCH, .width = 1});
}
END_TEST

START_TEST(each_granularity_is_its_own_bound)
{
    for (uint32_t granularity = 64; granularity <= 256; granularity *= 2) {
        const struct shape other = {
            .arena_bytes = 65536, .span_max_bytes = 65472, .granularity = granularity};
        struct request request = {.operation = OPERATION_RELEASE, .span = granularity};

        assert_passes_in(&other, request);
        request.span = 65536 - granularity;
        assert_passes_in(&other, request);
        request.span = granularity / 2;
        assert_refused_in(&other, request, STATUS_NO_SPAN, "span");
        request.span = 65536;
        assert_refused_in(&other, request, STATUS_NO_SPAN, "span");
    }
}
END_TEST

START_TEST(shrink_takes_any_size_but_0)
{
    /* Whether it is larger than the span is known only where the span is. */
    assert_refused((struct request){.operation = OPERATION_SHRINK, .span = 128}, STATUS_INVALID, "size");
    assert_passes((struct request){.operation = OPERATION_SHRINK, .span = 128, .size = 1});
    assert_passes((struct request){.operation = OPERATION_SHRINK, .span = 128, .size = SPAN_MAX});
    assert_passes((struct request){.operation = OPERATION_SHRINK, .span = 128, .size = UINT64_MAX});
}
END_TEST

START_TEST(query_takes_any_byte_of_the_arena)
{
    struct request request = {.operation = OPERATION_QUERY};
    const uint64_t good[] = {0, 1, 127, 128, ARENA - 1};
    const uint64_t beyond[] = {ARENA, ARENA + 1, UINT64_MAX};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        request.span = good[i];
        assert_passes(request);
    }
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        request.span = beyond[i];
        assert_refused(request, STATUS_NO_SPAN, "offset");
    }
}
END_TEST

START_TEST(write_takes_up_to_65536_bytes)
{
    struct request request = {.operation = OPERATION_WRITE, .data = data};
    const size_t good[] = {0, 1, WRITE_MAX_BYTES - 1, WRITE_MAX_BYTES};
    const size_t large[] = {WRITE_MAX_BYTES + 1, 2 * WRITE_MAX_BYTES, SIZE_MAX - 1, SIZE_MAX};

    ck_assert_uint_eq(WRITE_MAX_BYTES, 65536);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        request.data_bytes = good[i];
        assert_passes(request);
    }
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        request.data_bytes = large[i];
        assert_refused(request, STATUS_TOO_LARGE, "data");
    }
}
END_TEST

START_TEST(a_write_ends_within_the_arena_whatever_the_sum)
{
    const size_t sizes[] = {0, 1, 64, WRITE_MAX_BYTES};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct request request = {.operation = OPERATION_WRITE, .data = data, .data_bytes = sizes[i]};
        const uint64_t beyond[] = {ARENA - sizes[i] + 1,      ARENA + 1,      UINT64_MAX - sizes[i],
                                   UINT64_MAX - sizes[i] + 1, UINT64_MAX - 1, UINT64_MAX};

        request.at = ARENA - sizes[i] - 1;
        assert_passes(request);
        request.at = ARENA - sizes[i];
        assert_passes(request);
        for (size_t j = 0; j < sizeof beyond / sizeof beyond[0]; j++) {
            request.at = beyond[j];
            /* UINT64_MAX - 0 + 1 is 0: a good place. */
            if (request.at != 0)
                assert_refused(request, STATUS_OUT_OF_RANGE, "at");
        }
    }
}
END_TEST

START_TEST(a_patch_has_1_2_4_or_8_bytes)
{
    for (uint32_t width = 0; width <= 65; width++) {
        struct request request = {.operation = OPERATION_PATCH, .width = width};

        if (width == 1 || width == 2 || width == 4 || width == 8)
            assert_passes(request);
        else
            assert_refused(request, STATUS_INVALID, "width");
    }
    assert_refused((struct request){.operation = OPERATION_PATCH, .width = 1u << 31}, STATUS_INVALID,
                   "width");
    assert_refused((struct request){.operation = OPERATION_PATCH, .width = UINT32_MAX}, STATUS_INVALID,
                   "width");
}
END_TEST

START_TEST(a_patch_has_values_of_its_width)
{
    for (uint32_t width = 1; width <= 8; width *= 2) {
        uint64_t largest = UINT64_MAX >> (64 - 8 * width);

        assert_passes((struct request){
            .operation = OPERATION_PATCH, .width = width, .expected = largest, .desired = largest});
        if (width == 8)
            break;
        assert_refused(
            (struct request){.operation = OPERATION_PATCH, .width = width, .expected = largest + 1},
            STATUS_INVALID, "expected");
        assert_refused((struct request){.operation = OPERATION_PATCH, .width = width, .expected = UINT64_MAX},
                       STATUS_INVALID, "expected");
        assert_refused((struct request){.operation = OPERATION_PATCH, .width = width, .desired = largest + 1},
                       STATUS_INVALID, "desired");
        assert_refused(
            (struct request){.operation = OPERATION_PATCH, .width = width, .desired = UINT64_C(1) << 63},
            STATUS_INVALID, "desired");
    }
}
END_TEST

START_TEST(a_patch_is_aligned_to_its_width_and_in_the_arena)
{
    for (uint32_t width = 1; width <= 8; width *= 2) {
        struct request request = {.operation = OPERATION_PATCH, .width = width};

        for (uint32_t at = 0; at < 32; at++) {
            request.at = at;
            if (at % width == 0)
                assert_passes(request);
            else
                assert_refused(request, STATUS_MISALIGNED, "at");
        }
        request.at = ARENA - width;
        assert_passes(request);
        request.at = ARENA;
        assert_refused(request, STATUS_OUT_OF_RANGE, "at");
        request.at = UINT64_MAX - width + 1;
        assert_refused(request, STATUS_OUT_OF_RANGE, "at");
    }
}
END_TEST

START_TEST(a_reset_is_soft_or_hard)
{
    assert_passes((struct request){.operation = OPERATION_RESET, .kind = RESET_SOFT});
    assert_passes((struct request){.operation = OPERATION_RESET, .kind = RESET_HARD});
    assert_refused((struct request){.operation = OPERATION_RESET, .kind = 2}, STATUS_INVALID, "kind");
    assert_refused((struct request){.operation = OPERATION_RESET, .kind = UINT32_MAX}, STATUS_INVALID,
                   "kind");
}
END_TEST

START_TEST(statistics_ask_for_nothing)
{
    assert_passes((struct request){.operation = OPERATION_STATISTICS});
}
END_TEST

/* The largest that a block has room for, by its granularity, and a byte more. */
START_TEST(a_lease_is_for_a_span_that_fits_a_block)
{
    for (uint32_t granularity = 64; granularity <= 256; granularity *= 2) {
        const struct shape other = {
            .arena_bytes = BLOCK_BYTES, .span_max_bytes = BLOCK_BYTES - 256, .granularity = granularity};
        const uint64_t largest = BLOCK_BYTES - granularity;
        const uint64_t good[] = {1, 2, granularity - 1, granularity, granularity + 1, largest - 1, largest};
        const uint64_t large[] = {largest + 1,     BLOCK_BYTES - 1,   BLOCK_BYTES,    BLOCK_BYTES + 1,
                                  2 * BLOCK_BYTES, UINT64_C(1) << 32, UINT64_MAX - 1, UINT64_MAX};
        struct request request = {.operation = OPERATION_LEASE};

        assert_refused_in(&other, request, STATUS_INVALID, "size");
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            request.size = good[i];
            assert_passes_in(&other, request);
        }
        for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
            request.size = large[i];
            assert_refused_in(&other, request, STATUS_TOO_LARGE, "size");
        }
    }
}
END_TEST

START_TEST(a_span_is_carved_within_one_block)
{
    const uint64_t offsets[] = {0, 128, 256, BLOCK_BYTES - 128};
    const uint64_t blocks[] = {0, BLOCK_BYTES, ARENA - BLOCK_BYTES};

    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        const uint64_t room = BLOCK_BYTES - offsets[i];
        const uint64_t good[] = {1, 127, 128, room - 1, room};
        const uint64_t bad[] = {0,
                                room + 1,
                                BLOCK_BYTES + 1,
                                2 * BLOCK_BYTES,
                                UINT64_C(1) << 32,
                                UINT64_MAX - offsets[i],
                                UINT64_MAX - offsets[i] + 1,
                                UINT64_MAX};

        for (size_t block = 0; block < sizeof blocks / sizeof blocks[0]; block++) {
            struct request request = {.operation = OPERATION_CARVE, .span = blocks[block] + offsets[i]};

            for (size_t j = 0; j < sizeof good / sizeof good[0]; j++) {
                request.size = good[j];
                assert_passes(request);
            }
            for (size_t j = 0; j < sizeof bad / sizeof bad[0]; j++) {
                request.size = bad[j];
                assert_refused(request, STATUS_INVALID, "size"); /* UINT64_MAX - 0 + 1 is 0: bad too */
            }
        }
    }
    assert_span_field_is_checked((struct request){.operation = OPERATION_CARVE, .size = 1});
}
END_TEST

START_TEST(a_block_that_is_returned_starts_at_a_multiple_of_65536_in_the_arena)
{
    struct request request = {.operation = OPERATION_RETURN};
    const uint64_t no_block[] = {1,
                                 64,
                                 128,
                                 BLOCK_BYTES - 1,
                                 BLOCK_BYTES - 128,
                                 BLOCK_BYTES + 1,
                                 ARENA - 128,
                                 ARENA,
                                 ARENA + BLOCK_BYTES,
                                 UINT64_C(1) << 63,
                                 UINT64_MAX - BLOCK_BYTES + 1,
                                 UINT64_MAX};

    ck_assert_uint_eq(BLOCK_BYTES, 65536);
    for (request.span = 0; request.span < ARENA; request.span += BLOCK_BYTES)
        assert_passes(request);
    for (size_t i = 0; i < sizeof no_block / sizeof no_block[0]; i++) {
        request.span = no_block[i];
        assert_refused(request, STATUS_NO_SPAN, "block");
    }
}
END_TEST

START_TEST(only_in_a_direct_session_has_the_client_filled)
{
    struct shape direct = shape;
    struct request release = {.operation = OPERATION_RELEASE, .span = 128, .filled = true};
    struct request shrink = {.operation = OPERATION_SHRINK, .span = 128, .size = 1, .filled = true};

    direct.is_direct = true;
    assert_passes_in(&direct, release);
    assert_passes_in(&direct, shrink);
    assert_refused(release, STATUS_INVALID, "filled");
    assert_refused(shrink, STATUS_INVALID, "filled");
    release.filled = shrink.filled = false;
    assert_passes_in(&direct, release);
    assert_passes_in(&direct, shrink);
    /* The rest is checked as without. */
    release.filled = shrink.filled = true;
    release.span = shrink.span = ARENA;
    assert_refused_in(&direct, release, STATUS_NO_SPAN, "span");
    assert_refused_in(&direct, shrink, STATUS_NO_SPAN, "span");
    shrink.size = 0;
    assert_refused_in(&direct, shrink, STATUS_INVALID, "size");
}
END_TEST

START_TEST(no_sum_of_what_passes_overflows)
{
    assert_passes_in(&widest, (struct request){.operation = OPERATION_WRITE,
                                               .span = ARENA_LIMIT_BYTES - 64,
                                               .at = ARENA_LIMIT_BYTES - WRITE_MAX_BYTES,
                                               .data = data,
                                               .data_bytes = WRITE_MAX_BYTES});
    assert_passes_in(&widest, (struct request){.operation = OPERATION_PATCH,
                                               .span = ARENA_LIMIT_BYTES - 64,
                                               .at = ARENA_LIMIT_BYTES - 8,
                                               .width = 8});
    assert_refused_in(&widest, (struct request){.operation = OPERATION_RELEASE, .span = ARENA_LIMIT_BYTES},
                      STATUS_NO_SPAN, "span");
    assert_passes_in(&widest, (struct request){.operation = OPERATION_CARVE,
                                               .span = ARENA_LIMIT_BYTES - BLOCK_BYTES,
                                               .size = BLOCK_BYTES});
    assert_passes_in(
        &widest, (struct request){.operation = OPERATION_RETURN, .span = ARENA_LIMIT_BYTES - BLOCK_BYTES});
    assert_refused_in(&widest, (struct request){.operation = OPERATION_RETURN, .span = ARENA_LIMIT_BYTES},
                      STATUS_NO_SPAN, "block");
    assert_refused_in(&widest, (struct request){.operation = OPERATION_ALLOC, .size = ARENA_LIMIT_BYTES - 63},
                      STATUS_TOO_LARGE, "size");
}
END_TEST

START_TEST(every_operation_has_a_name_of_its_own)
{
    for (int i = 0; i < OPERATION_COUNT; i++) {
        ck_assert_ptr_nonnull(operation_name((enum operation)i));
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(operation_name((enum operation)i), operation_name((enum operation)j));
    }
    ck_assert_str_eq(operation_name(OPERATION_ALLOC), "alloc");
    ck_assert_str_eq(operation_name(OPERATION_STATISTICS), "statistics");
}
END_TEST

START_TEST(only_query_and_statistics_leave_all_as_it_is)
{
    for (int i = 0; i < OPERATION_COUNT; i++)
        ck_assert_int_eq(operation_only_reads((enum operation)i),
                         i == OPERATION_QUERY || i == OPERATION_STATISTICS);
}
END_TEST

START_TEST(a_long_reason_is_cut_and_ended)
{
    struct result result;
    char text[2 * ERROR_TEXT_MAX_BYTES];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    result_init(&result);
    ck_assert_int_eq(result_refuse(&result, STATUS_REFUSED, "", "%s", text), STATUS_REFUSED);
    ck_assert_uint_eq(strlen(result.text), ERROR_TEXT_MAX_BYTES - 1);
    result_init(&result);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_str_eq(result.text, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request");
    TCase *all = tcase_create("validate");

    tcase_add_test(all, alloc_takes_1_byte_to_the_largest_span);
    tcase_add_test(all, a_span_starts_at_a_multiple_of_the_granularity_in_the_arena);
    tcase_add_test(all, each_granularity_is_its_own_bound);
    tcase_add_test(all, shrink_takes_any_size_but_0);
    tcase_add_test(all, query_takes_any_byte_of_the_arena);
    tcase_add_test(all, write_takes_up_to_65536_bytes);
    tcase_add_test(all, a_write_ends_within_the_arena_whatever_the_sum);
    tcase_add_test(all, a_patch_has_1_2_4_or_8_bytes);
    tcase_add_test(all, a_patch_has_values_of_its_width);
    tcase_add_test(all, a_patch_is_aligned_to_its_width_and_in_the_arena);
    tcase_add_test(all, a_reset_is_soft_or_hard);
    tcase_add_test(all, statistics_ask_for_nothing);
    tcase_add_test(all, a_lease_is_for_a_span_that_fits_a_block);
    tcase_add_test(all, a_span_is_carved_within_one_block);
    tcase_add_test(all, a_block_that_is_returned_starts_at_a_multiple_of_65536_in_the_arena);
    tcase_add_test(all, only_in_a_direct_session_has_the_client_filled);
    tcase_add_test(all, no_sum_of_what_passes_overflows);
    tcase_add_test(all, every_operation_has_a_name_of_its_own);
    tcase_add_test(all, only_query_and_statistics_leave_all_as_it_is);
    tcase_add_test(all, a_long_reason_is_cut_and_ended);
    tcase_set_timeout(all, 0);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
