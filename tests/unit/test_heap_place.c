/* SPDX-License-Identifier: MIT */
/* The allocator alone: large spans, and which of several places is taken. */
#include "tests/unit/heap_steps.h"

/* ---- Large spans --------------------------------------------------------------------- */

START_TEST(a_large_span_is_one_span_from_its_first_byte_to_its_last)
{
    uint64_t large;
    uint64_t after;

    begin(_i, 6);
    (void)take(granule);
    large = take(3 * UNIT);
    ck_assert_uint_eq(large, UNIT + granule);
    assert_span(large, 3 * UNIT);
    for (uint64_t unit = 2; unit <= 4; unit++) {
        struct heap_span span;

        assert_starts_nowhere(unit * UNIT);
        assert_starts_nowhere(unit * UNIT + granule);
        ck_assert(heap_find_around(&heap, unit * UNIT - 1, &span) && span.offset == large);
        ck_assert(heap_find_around(&heap, unit * UNIT, &span) && span.offset == large);
    }
    after = large + 3 * UNIT;
    assert_nobodys(after);
    assert_nobodys(large - 1);
    assert_holds(2, 5, granule + 3 * UNIT);
}
END_TEST

START_TEST(the_rest_of_a_large_spans_last_unit_is_allocated_from)
{
    uint64_t rest = UNIT - (UINT64_C(64) << _i);

    /* One granule of the last unit: what is left is as much as a whole block has. */
    begin(_i, 3);
    ck_assert_uint_eq(take(UNIT), granule);
    ck_assert_uint_eq(take(rest), UNIT + granule);
    assert_holds(2, 2, UNIT + rest);
    assert_span(granule, UNIT);
    assert_span(UNIT + granule, rest);
    ck_assert_uint_eq(take(1), 2 * UNIT + granule);
    /* All of it but one granule. */
    begin(_i, 2);
    ck_assert_uint_eq(take(2 * UNIT - 2 * granule), granule);
    ck_assert(!fits(2 * granule));
    ck_assert_uint_eq(take(1), 2 * UNIT - granule);
    ck_assert(!fits(1));
    assert_span(2 * UNIT - granule, granule);
}
END_TEST

START_TEST(a_large_span_shrinks_to_its_own_size)
{
    begin(_i, 4);
    (void)take(2 * UNIT + granule);
    cut(granule, 2 * UNIT + granule);
    assert_span(granule, 2 * UNIT + granule);
    cut(granule, 2 * UNIT + 1);
    assert_span(granule, 2 * UNIT + granule);
    assert_holds(1, 3, 2 * UNIT + granule);
}
END_TEST

START_TEST(a_large_span_shrinks_to_every_number_of_units)
{
    begin(_i, 5);
    (void)take(5 * UNIT - granule);
    for (uint64_t units = 5; units > 1; units--) {
        /* To the last granule of a unit, one granule into it, and out of it. */
        cut(granule, units * UNIT - 2 * granule);
        assert_span(granule, units * UNIT - 2 * granule);
        assert_nobodys(units * UNIT - granule);
        assert_holds(1, (uint32_t)units, units * UNIT - 2 * granule);
        cut(granule, (units - 1) * UNIT);
        assert_span(granule, (units - 1) * UNIT);
        assert_nobodys((units - 1) * UNIT + granule);
        assert_holds(1, (uint32_t)units, (units - 1) * UNIT);
        cut(granule, (units - 1) * UNIT - granule);
        assert_span(granule, (units - 1) * UNIT - granule);
        assert_nobodys((units - 1) * UNIT);
        assert_holds(1, (uint32_t)units - 1, (units - 1) * UNIT - granule);
        ck_assert_uint_eq(heap_end_bytes(&heap), (units - 1) * UNIT);
    }
    cut(granule, 1);
    assert_span(granule, granule);
    assert_holds(1, 1, granule);
    ck_assert_uint_eq(take(UNIT - 2 * granule), 2 * granule);
    ck_assert_uint_eq(take(4 * UNIT - granule), UNIT + granule);
}
END_TEST

START_TEST(a_large_span_shrinks_from_many_units_into_one)
{
    const uint64_t g = UINT64_C(64) << _i;
    const uint64_t sizes[] = {1, g, g + 1, UNIT / 2, UNIT - g - 1, UNIT - g};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t rounded = (sizes[i] + g - 1) / g * g;

        begin(_i, 4);
        (void)take(3 * UNIT + g);
        cut(g, sizes[i]);
        assert_span(g, rounded);
        assert_holds(1, 1, rounded);
        /* It is like any small one now: its block and the other units serve again. */
        ck_assert_uint_eq(take(3 * UNIT - g), UNIT + g);
        if (rounded < UNIT - g)
            ck_assert_uint_eq(take(g), g + rounded);
        cut(g, 0);
        assert_nobodys(g);
        ck_assert_uint_eq(take(rounded), g);
    }
}
END_TEST

START_TEST(a_unit_that_a_large_span_left_stands_for_itself_again)
{
    uint64_t small;

    begin(_i, 3);
    (void)take(UNIT + 4 * granule);
    small = take(granule);
    ck_assert_uint_eq(small, UNIT + 5 * granule);
    cut(granule, 0);
    assert_span(small, granule);
    assert_nobodys(UNIT);
    assert_nobodys(UNIT + granule);
    assert_holds(1, 1, granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), 2 * UNIT);
    /* Four granules before it, not five: the leading one is trap fill. */
    ck_assert_uint_eq(take(4 * granule), UNIT + granule);
    ck_assert_uint_eq(take(UNIT - 6 * granule), UNIT + 6 * granule);
    assert_nobodys(UNIT);
    ck_assert_uint_eq(take(1), granule);
    cut(small, 0);
    cut(UNIT + granule, 0);
    cut(UNIT + 6 * granule, 0);
    assert_holds(1, 1, granule);
    ck_assert_uint_eq(take(2 * UNIT - granule), UNIT + granule);
}
END_TEST

START_TEST(a_small_span_right_behind_the_trap_granule_outlives_a_large_one)
{
    struct heap_span span;

    begin(_i, 2);
    (void)take(UNIT); /* reaches one granule into unit 1 */
    ck_assert_uint_eq(take(granule), UNIT + granule);
    ck_assert(heap_find_around(&heap, UNIT, &span) && span.offset == granule);
    cut(granule, UNIT - granule);
    assert_nobodys(UNIT);
    assert_span(UNIT + granule, granule);
    assert_span(granule, UNIT - granule);
    assert_holds(2, 2, UNIT);
    cut(UNIT + granule, 0);
    assert_holds(1, 1, UNIT - granule);
    ck_assert_uint_eq(take(UNIT - granule), UNIT + granule);
}
END_TEST

START_TEST(small_spans_come_and_go_in_a_large_spans_last_unit)
{
    begin(_i, 3);
    (void)take(UNIT + granule);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(take(granule), UNIT + 2 * granule);
        ck_assert_uint_eq(take(UNIT - 3 * granule), UNIT + 3 * granule);
        assert_holds(3, 2, 2 * UNIT - granule);
        cut(UNIT + 2 * granule, 0);
        cut(UNIT + 3 * granule, 0);
        assert_span(granule, UNIT + granule);
        assert_holds(1, 2, UNIT + granule);
    }
    ck_assert_uint_eq(take(UNIT - 2 * granule), UNIT + 2 * granule);
}
END_TEST

/* ---- Choice -------------------------------------------------------------------------- */

START_TEST(the_shortest_run_of_a_block_that_is_long_enough_is_taken)
{
    uint64_t held[7];

    begin(_i, 1);
    for (size_t i = 0; i < 7; i++) /* runs of 3, 1 and 2 granules, once every other one is gone */
        held[i] = take((const uint64_t[]){1, 3, 1, 1, 1, 2, 1}[i] * granule);
    (void)take(UNIT - 11 * granule);
    ck_assert(!fits(1));
    cut(held[1], 0);
    cut(held[3], 0);
    cut(held[5], 0);
    ck_assert(!fits(4 * granule));
    ck_assert_uint_eq(take(2 * granule), held[5]);
    ck_assert_uint_eq(take(1 * granule), held[3]);
    ck_assert_uint_eq(take(2 * granule), held[1]);
    ck_assert_uint_eq(take(1 * granule), held[1] + 2 * granule);
    ck_assert(!fits(1));
}
END_TEST

START_TEST(the_block_with_the_least_room_that_is_enough_is_taken)
{
    const uint64_t room[] = {9, 3, 5};

    begin(_i, 4);
    for (size_t i = 0; i < 3; i++)
        (void)take(UNIT - granule);
    for (size_t i = 0; i < 3; i++)
        cut(i * UNIT + granule, UNIT - granule - room[i] * granule);
    ck_assert_uint_eq(take(4 * granule), 3 * UNIT - 5 * granule);
    ck_assert_uint_eq(take(4 * granule), 1 * UNIT - 9 * granule);
    ck_assert_uint_eq(take(1 * granule), 3 * UNIT - 1 * granule);
    ck_assert_uint_eq(take(3 * granule), 2 * UNIT - 3 * granule);
    ck_assert_uint_eq(take(6 * granule), 3 * UNIT + granule);
    ck_assert_uint_eq(take(5 * granule), 1 * UNIT - 5 * granule);
}
END_TEST

START_TEST(empty_units_are_taken_lowest_first)
{
    enum { UNITS = 70 }; /* more than a word of the map */

    begin(_i, UNITS);
    for (uint64_t unit = 0; unit < UNITS; unit++)
        ck_assert_uint_eq(take(UNIT - granule), unit * UNIT + granule);
    ck_assert(!fits(1));
    cut(66 * UNIT + granule, 0);
    cut(3 * UNIT + granule, 0);
    cut(1 * UNIT + granule, 0);
    cut(63 * UNIT + granule, 0);
    cut(64 * UNIT + granule, 0);
    ck_assert_uint_eq(take(UNIT), 63 * UNIT + granule); /* the lowest two that are adjacent */
    ck_assert(!fits(UNIT));
    ck_assert_uint_eq(take(UNIT - granule), 64 * UNIT + granule); /* the rest of those */
    ck_assert_uint_eq(take(1), 1 * UNIT + granule);
    ck_assert_uint_eq(take(UNIT - granule), 3 * UNIT + granule);
    ck_assert_uint_eq(take(UNIT - granule), 66 * UNIT + granule);
    ck_assert(!fits(UNIT - granule));
}
END_TEST

START_TEST(neighbours_that_are_released_make_one_run_in_any_order)
{
    enum { SPANS = 8 };
    const unsigned orders[][SPANS] = {
        {0, 1, 2, 3, 4, 5, 6, 7}, {7, 6, 5, 4, 3, 2, 1, 0}, {3, 4, 2, 5, 1, 6, 0, 7},
        {0, 7, 1, 6, 2, 5, 3, 4}, {0, 2, 4, 6, 1, 3, 5, 7},
    };

    for (size_t order = 0; order < sizeof orders / sizeof orders[0]; order++) {
        uint64_t rest;

        begin(_i, 1);
        for (unsigned i = 0; i < SPANS; i++)
            ck_assert_uint_eq(take(4 * granule), (1 + 4 * i) * granule);
        rest = take(UNIT - granule - SPANS * 4 * granule);
        for (unsigned i = 0; i < SPANS; i++)
            cut((1 + 4 * orders[order][i]) * granule, 0);
        assert_holds(1, 1, UNIT - granule - SPANS * 4 * granule);
        ck_assert(!fits(SPANS * 4 * granule + 1));
        ck_assert_uint_eq(take(SPANS * 4 * granule), granule);
        cut(granule, 0);
        cut(rest, 0);
        assert_holds(0, 0, 0);
        ck_assert_uint_eq(take(UNIT - granule), granule);
    }
}
END_TEST

START_TEST(a_fragmented_arena_has_room_for_single_granules_only)
{
    enum { UNITS = 2 };
    const uint64_t granules = UNIT / (UINT64_C(64) << _i);
    uint64_t holes = 0;

    begin(_i, UNITS);
    while (fits(1))
        (void)take(1);
    for (uint64_t at = 1; at < UNITS * granules; at += 2) {
        cut(at * granule, 0);
        holes++;
    }
    ck_assert(!fits(granule + 1));
    for (; holes > 0; holes--)
        ck_assert_uint_eq(take(granule) / granule % 2, 1);
    ck_assert(!fits(1));
    assert_holds(UNITS * ((uint32_t)granules - 1), UNITS, UNITS * (UNIT - granule));
}
END_TEST

START_TEST(looking_for_room_changes_nothing)
{
    struct placement first;
    struct placement again;

    begin(_i, 4);
    (void)take(5 * granule);
    for (uint64_t bytes = 1; bytes < 4 * UNIT; bytes += 1000) {
        bool found = heap_place(&heap, bytes, &first);

        ck_assert_int_eq(heap_place(&heap, bytes, &again), found);
        ck_assert_uint_eq(first.granule, again.granule);
        ck_assert_uint_eq(first.granules, (bytes + granule - 1) / granule);
    }
    assert_holds(1, 1, 5 * granule);
    ck_assert_uint_eq(heap_grown_bytes(&heap), UNIT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap: places");

    ADD_TESTS(suite, "large spans", a_large_span_is_one_span_from_its_first_byte_to_its_last,
              the_rest_of_a_large_spans_last_unit_is_allocated_from, a_large_span_shrinks_to_its_own_size,
              a_large_span_shrinks_to_every_number_of_units, a_large_span_shrinks_from_many_units_into_one,
              a_unit_that_a_large_span_left_stands_for_itself_again,
              a_small_span_right_behind_the_trap_granule_outlives_a_large_one,
              small_spans_come_and_go_in_a_large_spans_last_unit);
    ADD_TESTS(suite, "choice", the_shortest_run_of_a_block_that_is_long_enough_is_taken,
              the_block_with_the_least_room_that_is_enough_is_taken, empty_units_are_taken_lowest_first,
              neighbours_that_are_released_make_one_run_in_any_order,
              a_fragmented_arena_has_room_for_single_granules_only, looking_for_room_changes_nothing);
    return suite_run(suite);
}
