/* SPDX-License-Identifier: MIT */
/* All spans of a heap, one after the other, and its leased blocks: against what was allocated; seed printed.
 */
#include <check.h>

#include "proto/heap.h"
#include "proto/limits.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"

enum { UNITS = 64, STEPS = 20000, LIVE_MAX = 2000 };

static struct heap heap;

static void start(void)
{
    ck_assert_int_eq(heap_init(&heap, UNITS * (uint64_t)BLOCK_BYTES, 64, NULL), 0);
}

static void stop(void)
{
    heap_deinit(&heap);
}

static struct heap_span take(uint64_t bytes)
{
    struct placement placement;

    ck_assert(heap_place(&heap, bytes, &placement));
    if (placement.grown_bytes > heap_grown_bytes(&heap))
        heap_set_grown(&heap, placement.grown_bytes);
    return heap_take(&heap, &placement);
}

static void assert_next(uint64_t from, const struct heap_span *span)
{
    struct heap_span next;

    ck_assert(heap_next(&heap, from, UINT64_MAX, &next));
    ck_assert_uint_eq(next.offset, span->offset);
    ck_assert_uint_eq(next.bytes, span->bytes);
}

START_TEST(a_heap_without_spans_has_no_next_one)
{
    struct heap_span span;

    ck_assert(!heap_next(&heap, 0, UINT64_MAX, &span));
    ck_assert(!heap_next(&heap, UINT64_MAX - BLOCK_BYTES, UINT64_MAX, &span));
    span = take(64);
    heap_cut(&heap, &span, 0);
    ck_assert(!heap_next(&heap, 0, UINT64_MAX, &span));
}
END_TEST

START_TEST(the_next_one_starts_at_the_offset_or_behind_it)
{
    struct heap_span first = take(64);
    struct heap_span second = take(128);
    struct heap_span none;

    assert_next(0, &first);
    assert_next(first.offset, &first);
    assert_next(first.offset + 1, &second);
    assert_next(second.offset, &second);
    ck_assert(!heap_next(&heap, second.offset + 1, UINT64_MAX, &none));
}
END_TEST

START_TEST(one_that_starts_at_the_end_or_behind_it_is_not_found)
{
    struct heap_span first = take(64);
    struct heap_span large = take(BLOCK_BYTES);
    struct heap_span found;

    ck_assert(!heap_next(&heap, 0, first.offset, &found));
    ck_assert(heap_next(&heap, 0, first.offset + 1, &found));
    ck_assert_uint_eq(found.offset, first.offset);
    ck_assert(!heap_next(&heap, first.offset + 1, BLOCK_BYTES, &found)); /* the next block has one */
    ck_assert(!heap_next(&heap, first.offset + 1, large.offset, &found));
    ck_assert(heap_next(&heap, first.offset + 1, large.offset + 1, &found));
    ck_assert_uint_eq(found.offset, large.offset);
    ck_assert(!heap_next(&heap, large.offset, large.offset, &found));
}
END_TEST

START_TEST(a_large_span_is_one_and_the_rest_of_its_last_block_follows)
{
    struct heap_span large = take(3 * (uint64_t)BLOCK_BYTES);
    struct heap_span behind = take(64);

    assert_next(0, &large);
    ck_assert_uint_gt(behind.offset, large.offset);
    assert_next(large.offset + 1, &behind); /* from inside it, and so ... */
    assert_next(large.offset + large.bytes, &behind);
}
END_TEST

START_TEST(blocks_without_spans_are_skipped)
{
    struct heap_span spans[5];

    for (int i = 0; i < 5; i++)
        spans[i] = take(BLOCK_BYTES - 64);
    for (int i = 1; i < 4; i++)
        heap_cut(&heap, &spans[i], 0);
    assert_next(spans[0].offset + 1, &spans[4]);
    ck_assert_uint_eq(heap_next_block(&heap, 0), 0);
    ck_assert_uint_eq(heap_next_block(&heap, 1), 4 * (uint64_t)BLOCK_BYTES);
    ck_assert_uint_eq(heap_next_block(&heap, 4 * (uint64_t)BLOCK_BYTES + 1), 5 * (uint64_t)BLOCK_BYTES);
    ck_assert_uint_eq(heap_next_block(&heap, UINT64_MAX - BLOCK_BYTES), 5 * (uint64_t)BLOCK_BYTES);
}
END_TEST

START_TEST(a_leased_block_is_known_until_it_is_returned)
{
    struct placement placement;
    struct lease lease;

    ck_assert(heap_place_lease(&heap, 64, &placement));
    heap_set_grown(&heap, placement.grown_bytes);
    ck_assert(!heap_is_leased(&heap, 0));
    lease = heap_lease(&heap, &placement);
    ck_assert(heap_is_leased(&heap, lease.offset));
    ck_assert(heap_is_leased(&heap, BLOCK_BYTES - 1));
    ck_assert(!heap_is_leased(&heap, BLOCK_BYTES));
    ck_assert(heap_return(&heap, lease.offset));
    ck_assert(!heap_is_leased(&heap, 0));
}
END_TEST

static int by_offset(const void *a, const void *b)
{
    const struct heap_span *left = a;
    const struct heap_span *right = b;

    return left->offset < right->offset ? -1 : 1;
}

START_TEST(a_walk_meets_all_spans_in_order_whatever_was_allocated_and_released)
{
    static struct heap_span live[LIVE_MAX];
    struct dice dice = {dice_seed()};
    size_t count = 0;

    for (int step = 0; step < STEPS; step++) {
        if (count < LIVE_MAX && dice_below(&dice, 5) < 3) {
            uint64_t bytes = dice_below(&dice, 50) == 0 ? 1 + dice_below(&dice, 3 * BLOCK_BYTES)
                                                        : 1 + dice_below(&dice, 2000);
            struct placement placement;

            if (heap_place(&heap, bytes, &placement))
                live[count++] = take(bytes);
        } else if (count > 0) {
            size_t which = (size_t)dice_below(&dice, count);

            heap_cut(&heap, &live[which], 0);
            live[which] = live[--count];
        }
        if (step % 500 == 0) {
            struct heap_span span = {.offset = 0};
            uint64_t from = 0;

            qsort(live, count, sizeof live[0], by_offset);
            for (size_t i = 0; i < count; i++) {
                assert_next(from, &live[i]);
                from = live[i].offset + live[i].bytes;
            }
            ck_assert(!heap_next(&heap, from, UINT64_MAX, &span));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap_walk");
    TCase *tests = tcase_create("heap_walk");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, a_heap_without_spans_has_no_next_one);
    tcase_add_test(tests, the_next_one_starts_at_the_offset_or_behind_it);
    tcase_add_test(tests, one_that_starts_at_the_end_or_behind_it_is_not_found);
    tcase_add_test(tests, a_large_span_is_one_and_the_rest_of_its_last_block_follows);
    tcase_add_test(tests, blocks_without_spans_are_skipped);
    tcase_add_test(tests, a_leased_block_is_known_until_it_is_returned);
    tcase_add_test(tests, a_walk_meets_all_spans_in_order_whatever_was_allocated_and_released);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
