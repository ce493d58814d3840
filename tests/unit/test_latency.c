/* SPDX-License-Identifier: MIT */
/* Buckets of times at their exact bounds, and what a sample stands for. */
#include <check.h>

#include "daemon/latency.h"
#include "tests/harness/suite.h"

static struct latency latency;
static const struct latency_operation *const writes = &latency.operations[OPERATION_WRITE];

static void start(void)
{
    latency = (struct latency){0};
}

static uint64_t timed(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < BUCKETS_COUNT; i++)
        sum += writes->buckets[i];
    return sum;
}

/* One operation of so many steps; what the connection keeps between them is 0 again afterwards. */
static void run(enum operation operation, unsigned steps, enum status status)
{
    const struct request request = {.operation = operation};
    struct result result = {.status = STATUS_OK};
    uint64_t began_ns = 0;

    for (unsigned step = 1; step <= steps; step++) {
        uint64_t step_ns = latency_begin(&latency, operation, began_ns);

        result.status = status;
        latency_end(&latency, &request, step_ns, &began_ns, &result, step == steps);
    }
    ck_assert_uint_eq(began_ns, 0);
}

START_TEST(each_bucket_begins_where_the_one_before_ends)
{
    ck_assert_uint_eq(bucket_of(0), 0);
    for (uint32_t i = 1; i < BUCKETS_COUNT; i++) {
        ck_assert_uint_eq(bucket_of(bucket_from_ns(i)), i);
        ck_assert_uint_eq(bucket_of(bucket_from_ns(i) - 1), i - 1);
    }
    ck_assert_uint_eq(bucket_from_ns(BUCKETS_COUNT - 1), UINT64_C(1) << BUCKET_LAST_BITS);
    ck_assert_uint_eq(bucket_of(UINT64_MAX), BUCKETS_COUNT - 1);
}
END_TEST

START_TEST(a_bucket_is_at_most_a_quarter_wide)
{
    for (uint32_t i = BUCKET_PARTS; i + 1 < BUCKETS_COUNT; i++)
        ck_assert_uint_le(4 * (bucket_from_ns(i + 1) - bucket_from_ns(i)), bucket_from_ns(i));
}
END_TEST

START_TEST(one_of_64_is_timed_and_stands_for_as_many)
{
    for (unsigned i = 1; i < LATENCY_SAMPLE; i++)
        run(OPERATION_WRITE, 1, STATUS_OK);
    ck_assert_uint_eq(timed(), 0);
    run(OPERATION_WRITE, 1, STATUS_OK);
    ck_assert_uint_eq(timed(), LATENCY_SAMPLE);
    run(OPERATION_WRITE, 1, STATUS_OK);
    ck_assert_uint_eq(timed(), LATENCY_SAMPLE);
    ck_assert_uint_eq(writes->done, LATENCY_SAMPLE + 1);
}
END_TEST

START_TEST(operations_of_other_kinds_between_do_not_matter)
{
    for (unsigned i = 0; i < LATENCY_SAMPLE; i++) {
        run(OPERATION_ALLOC, 1, STATUS_OK);
        run(OPERATION_WRITE, 1, STATUS_OK);
    }
    ck_assert_uint_eq(timed(), LATENCY_SAMPLE);
}
END_TEST

START_TEST(what_takes_steps_is_timed_always_and_stands_for_itself)
{
    run(OPERATION_WRITE, 3, STATUS_OK);
    ck_assert_uint_eq(timed(), 1);
    ck_assert_uint_eq(writes->done, 1);
    for (unsigned i = 1; i < LATENCY_SAMPLE; i++)
        run(OPERATION_WRITE, 1, STATUS_OK);
    ck_assert_uint_eq(timed(), 1); /* it is none of the 64 */
    run(OPERATION_WRITE, 2, STATUS_OK);
    ck_assert_uint_eq(timed(), 2); /* in the place of a sample too */
    run(OPERATION_WRITE, 1, STATUS_OK);
    ck_assert_uint_eq(timed(), 2 + LATENCY_SAMPLE);
    ck_assert_uint_eq(writes->done, 2 + LATENCY_SAMPLE);
}
END_TEST

START_TEST(a_refusal_is_counted_as_one_and_a_patch_that_finds_other_bytes_is_none)
{
    run(OPERATION_WRITE, 1, STATUS_SEALED);
    run(OPERATION_WRITE, 1, STATUS_MISMATCH);
    ck_assert_uint_eq(writes->refused, 1);
    ck_assert_uint_eq(writes->done, 1);
}
END_TEST

START_TEST(times_are_summed_by_what_they_stand_for)
{
    struct latency_operation *operation = &latency.operations[OPERATION_WRITE];

    latency_add(operation, 100, 32);
    latency_add(operation, 1000, 1);
    ck_assert_uint_eq(operation->sum_ns, 4200);
    ck_assert_uint_eq(operation->buckets[bucket_of(100)], 32);
    ck_assert_uint_eq(operation->buckets[bucket_of(1000)], 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("latency");
    TCase *tests = tcase_create("latency");

    tcase_add_checked_fixture(tests, start, NULL);
    tcase_add_test(tests, each_bucket_begins_where_the_one_before_ends);
    tcase_add_test(tests, a_bucket_is_at_most_a_quarter_wide);
    tcase_add_test(tests, one_of_64_is_timed_and_stands_for_as_many);
    tcase_add_test(tests, operations_of_other_kinds_between_do_not_matter);
    tcase_add_test(tests, what_takes_steps_is_timed_always_and_stands_for_itself);
    tcase_add_test(tests, a_refusal_is_counted_as_one_and_a_patch_that_finds_other_bytes_is_none);
    tcase_add_test(tests, times_are_summed_by_what_they_stand_for);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
