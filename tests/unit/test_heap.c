/* SPDX-License-Identifier: MIT */
/* The allocator alone: which sizes fit where, and what is known of a span. */
#include "tests/unit/heap_steps.h"

/* ---- Sizes ------------------------------------------------------------------------- */

START_TEST(sizes_round_up_and_a_block_holds_a_unit_less_its_trap_granule)
{
    const uint64_t g = UINT64_C(64) << _i;
    const struct {
        uint64_t bytes;
        uint64_t rounded;
        uint32_t blocks;
    } sizes[] = {
        {1, g, 1},
        {g - 1, g, 1},
        {g, g, 1},
        {g + 1, 2 * g, 1},
        {UNIT - 2 * g, UNIT - 2 * g, 1},
        {UNIT - 2 * g + 1, UNIT - g, 1},
        {UNIT - g, UNIT - g, 1},
        {UNIT - g + 1, UNIT, 2},
        {UNIT, UNIT, 2},
        {2 * UNIT - g, 2 * UNIT - g, 2},
        {2 * UNIT - g + 1, 2 * UNIT, 3},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        begin(_i, 3);
        ck_assert_uint_eq(take(sizes[i].bytes), g);
        assert_span(g, sizes[i].rounded);
        assert_nobodys(g - 1);
        assert_nobodys(g + sizes[i].rounded);
        assert_holds(1, sizes[i].blocks, sizes[i].rounded);
        ck_assert_uint_eq(heap_end_bytes(&heap), sizes[i].blocks * UNIT);
        cut(g, 0);
        assert_holds(0, 0, 0);
        ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    }
}
END_TEST

START_TEST(an_arena_of_any_size_holds_exactly_its_largest_span)
{
    const uint32_t units[] = {1, 2, 3, 63, 64, 65, 200};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        uint64_t largest = units[i] * UNIT - (UINT64_C(64) << _i);

        begin(_i, units[i]);
        ck_assert_uint_eq(heap_span_max_bytes(units[i] * UNIT, (uint32_t)granule), largest);
        ck_assert(!fits(largest + 1));
        ck_assert_uint_eq(take(largest), granule);
        assert_span(granule, largest);
        assert_holds(1, units[i], largest);
        ck_assert(!fits(1));
        cut(granule, 0);
        assert_holds(0, 0, 0);
        (void)take(1);
        ck_assert(!fits(largest));
    }
}
END_TEST

START_TEST(the_trap_granule_of_a_block_is_never_part_of_a_span)
{
    enum { UNITS = 3 };
    const uint64_t granules = UNIT / (UINT64_C(64) << _i);

    begin(_i, UNITS);
    for (uint64_t unit = 0; unit < UNITS; unit++) {
        for (uint64_t at = 1; at < granules; at++)
            ck_assert_uint_eq(take(granule), unit * UNIT + at * granule);
    }
    ck_assert(!fits(1));
    assert_holds(UNITS * ((uint32_t)granules - 1), UNITS, UNITS * (UNIT - granule));
    for (uint64_t unit = 0; unit < UNITS; unit++) {
        assert_nobodys(unit * UNIT);
        assert_nobodys(unit * UNIT + granule - 1);
        assert_span(unit * UNIT + granule, granule);
        assert_span((unit + 1) * UNIT - granule, granule);
    }
}
END_TEST

START_TEST(only_the_exact_start_of_a_live_span_is_one)
{
    const uint64_t never[] = {0, 1, UINT64_C(1) << 16, UINT64_C(1) << 32, UINT64_C(1) << 48, UINT64_MAX};
    uint64_t first;
    uint64_t second;

    begin(_i, 1);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_nobodys(never[i]); /* nothing has memory yet */
    first = take(3 * granule);
    second = take(granule);
    for (uint64_t at = 1; at < 3 * granule; at++)
        assert_starts_nowhere(first + at);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_nobodys(never[i]);
    assert_nobodys(second + granule);
    assert_nobodys(UNIT - 1);
    assert_nobodys(UNIT);
    cut(first, 0);
    assert_nobodys(first);
    assert_nobodys(first + 3 * granule - 1);
    assert_span(second, granule);
}
END_TEST

/* ---- What is known of a span ------------------------------------------------------------ */

START_TEST(granules_are_clean_until_they_have_been_in_a_span)
{
    begin(_i, 4);
    ck_assert(take_span(2 * granule).clean);
    cut(granule, 0);
    ck_assert(!take_span(granule).clean);
    ck_assert(!take_span(granule).clean);
    ck_assert(take_span(granule).clean); /* the third one of the block is fresh */
    cut(3 * granule, 0);
    ck_assert(!take_span(4 * granule).clean); /* in part */
    ck_assert(take_span(granule).clean);
    /* The tail that was cut off. */
    cut(3 * granule, granule);
    ck_assert(!take_span(granule).clean);
    /* One stale granule makes a large span stale. */
    ck_assert(take_span(2 * UNIT).clean);
    cut(UNIT + granule, 0);
    ck_assert_uint_eq(take(UNIT - granule), UNIT + granule);
    ck_assert(!take_span(UNIT).clean);
}
END_TEST

START_TEST(memory_that_was_given_back_comes_again_clean)
{
    begin(_i, 3);
    (void)take(granule);
    (void)take(2 * UNIT - granule);
    cut(UNIT + granule, 0);
    heap_set_grown(&heap, 2 * UNIT);
    ck_assert_uint_eq(heap_grown_bytes(&heap), 2 * UNIT);
    assert_nobodys(2 * UNIT + granule);
    ck_assert(!take_span(UNIT - granule).clean); /* unit 1 was kept */
    ck_assert(take_span(UNIT - granule).clean);
    cut(UNIT + granule, 0);
    cut(2 * UNIT + granule, 0);
    heap_set_grown(&heap, UNIT);
    ck_assert(take_span(2 * UNIT - granule).clean);
    cut(granule, 0);
    cut(UNIT + granule, 0);
    heap_set_grown(&heap, 0);
    assert_nobodys(granule);
    ck_assert(take_span(3 * UNIT - granule).clean);
}
END_TEST

START_TEST(what_was_cleared_is_not_clean)
{
    begin(_i, 3);
    (void)take(2 * granule);
    (void)take(UNIT + granule);
    heap_clear(&heap);
    ck_assert(!take_span(granule).clean);
    ck_assert(!take_span(granule).clean);
    ck_assert(take_span(granule).clean);
    ck_assert(!take_span(UNIT).clean);
}
END_TEST

START_TEST(a_seal_goes_with_its_span)
{
    struct heap_span span;

    begin(_i, 4);
    (void)take(3 * granule);
    (void)take(3 * granule);
    span = find(4 * granule);
    heap_seal(&heap, &span);
    heap_seal(&heap, &span);
    ck_assert(find(4 * granule).sealed);
    ck_assert(!find(granule).sealed);
    ck_assert(heap_find_around(&heap, 7 * granule - 1, &span) && span.sealed);
    cut(4 * granule, 0);
    ck_assert(!take_span(3 * granule).sealed);
    ck_assert(!find(4 * granule).sealed);
    /* A large one, also where one looks from its second unit. */
    ck_assert_uint_eq(take(2 * UNIT), UNIT + granule);
    span = find(UNIT + granule);
    heap_seal(&heap, &span);
    ck_assert(heap_find_around(&heap, 2 * UNIT, &span) && span.sealed);
    cut(UNIT + granule, 0);
    ck_assert(!take_span(2 * UNIT).sealed);
    ck_assert(!find(UNIT + granule).sealed);
    /* And by clearing everything. */
    span = find(granule);
    heap_seal(&heap, &span);
    span = find(UNIT + granule);
    heap_seal(&heap, &span);
    heap_clear(&heap);
    (void)take(granule);
    (void)take(2 * UNIT);
    ck_assert(!find(granule).sealed);
    ck_assert(!find(UNIT + granule).sealed);
}
END_TEST

START_TEST(clearing_makes_everything_free_again)
{
    begin(_i, 5);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(take(5 * granule), granule);
        ck_assert_uint_eq(take(3 * UNIT - 4 * granule), UNIT + granule);
        ck_assert_uint_eq(take(3 * granule), 4 * UNIT - 3 * granule);
        cut(UNIT + granule, UNIT);
        (void)take(UNIT - granule);
        heap_clear(&heap);
        assert_holds(0, 0, 0);
        ck_assert_uint_eq(heap_end_bytes(&heap), 0);
        for (uint64_t at = 0; at < 5 * UNIT; at += granule)
            assert_nobodys(at);
    }
    ck_assert_uint_eq(take(5 * UNIT - granule), granule);
    heap_clear(&heap);
    heap_clear(&heap);
    ck_assert_uint_eq(take(granule), granule);
    assert_span(granule, granule); /* not what the large one had */
    cut(granule, 0);
    for (uint64_t unit = 0; unit < 5; unit++)
        ck_assert_uint_eq(take(UNIT - granule), unit * UNIT + granule);
}
END_TEST

/* ---- Memory ------------------------------------------------------------------------------ */

START_TEST(the_end_is_that_of_the_last_block)
{
    begin(_i, 200);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    (void)take(UNIT - granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), UNIT);
    (void)take(100 * UNIT);
    ck_assert_uint_eq(heap_end_bytes(&heap), 102 * UNIT);
    cut(granule, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), 102 * UNIT);
    cut(UNIT + granule, 64 * UNIT - granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), 65 * UNIT);
    cut(UNIT + granule, 63 * UNIT - granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), 64 * UNIT);
    cut(UNIT + granule, 63 * UNIT - 2 * granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), 64 * UNIT);
    cut(UNIT + granule, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    ck_assert_uint_eq(heap_grown_bytes(&heap), 102 * UNIT);
}
END_TEST

START_TEST(a_place_says_how_far_the_arena_must_reach)
{
    struct placement placement;

    begin(_i, 4);
    ck_assert(heap_place(&heap, UNIT - granule, &placement));
    ck_assert_uint_eq(placement.grown_bytes, UNIT);
    ck_assert(heap_place(&heap, UNIT - granule + 1, &placement));
    ck_assert_uint_eq(placement.grown_bytes, 2 * UNIT);
    ck_assert(heap_place(&heap, 4 * UNIT - granule, &placement));
    ck_assert_uint_eq(placement.grown_bytes, 4 * UNIT);
    (void)take(granule);
    ck_assert(heap_place(&heap, granule, &placement)); /* in a block that is there */
    ck_assert_uint_le(placement.grown_bytes, UNIT);
    ck_assert(heap_place(&heap, UNIT - granule, &placement));
    ck_assert_uint_eq(placement.grown_bytes, 2 * UNIT);
}
END_TEST

START_TEST(the_overhead_follows_the_memory_that_the_arena_has)
{
    uint64_t before;

    begin(_i, 1000);
    before = heap_overhead_bytes(&heap);
    ck_assert_uint_gt(before, 0);
    heap_set_grown(&heap, 10 * UNIT);
    ck_assert_uint_gt(heap_overhead_bytes(&heap), before);
    heap_set_grown(&heap, 1000 * UNIT);
    ck_assert_uint_le(heap_overhead_bytes(&heap), heap.mapped_bytes);
    ck_assert_uint_lt(heap_overhead_bytes(&heap), 1000 * UNIT / 64); /* about a hundredth */
    heap_set_grown(&heap, 0);
    ck_assert_uint_eq(heap_overhead_bytes(&heap), before);
}
END_TEST

START_TEST(the_largest_arena_can_be_managed)
{
    begin(_i, (uint32_t)(ARENA_LIMIT_BYTES / UNIT));
    heap_set_grown(&heap, ARENA_LIMIT_BYTES);
    ck_assert_uint_eq(take(ARENA_LIMIT_BYTES - UNIT - granule), granule);
    ck_assert_uint_eq(take(UNIT - granule), ARENA_LIMIT_BYTES - UNIT + granule);
    ck_assert(!fits(1));
    assert_span(granule, ARENA_LIMIT_BYTES - UNIT - granule);
    assert_nobodys(ARENA_LIMIT_BYTES);
    cut(granule, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), ARENA_LIMIT_BYTES);
    heap_clear(&heap);
    ck_assert_uint_eq(take(ARENA_LIMIT_BYTES - granule), granule);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap");

    ADD_TESTS(suite, "sizes", sizes_round_up_and_a_block_holds_a_unit_less_its_trap_granule,
              an_arena_of_any_size_holds_exactly_its_largest_span,
              the_trap_granule_of_a_block_is_never_part_of_a_span,
              only_the_exact_start_of_a_live_span_is_one);
    ADD_TESTS(suite, "flags", granules_are_clean_until_they_have_been_in_a_span,
              memory_that_was_given_back_comes_again_clean, what_was_cleared_is_not_clean,
              a_seal_goes_with_its_span, clearing_makes_everything_free_again);
    ADD_TESTS(suite, "memory", the_end_is_that_of_the_last_block, a_place_says_how_far_the_arena_must_reach,
              the_overhead_follows_the_memory_that_the_arena_has, the_largest_arena_can_be_managed);
    return suite_run(suite);
}
