/* SPDX-License-Identifier: MIT */
/* The daemon's side of leases: what is leased, what can be carved of it, and how it comes back. */
#include "tests/unit/lease_steps.h"

static bool can_lease(uint64_t bytes)
{
    struct placement placement;

    return heap_place_lease(&heap, bytes, &placement);
}

static struct lease lease(uint64_t bytes)
{
    struct placement placement;
    struct lease got;

    ck_assert(heap_place_lease(&heap, bytes, &placement));
    if (placement.grown_bytes > heap_grown_bytes(&heap))
        heap_set_grown(&heap, placement.grown_bytes);
    got = heap_lease(&heap, &placement);
    ck_assert_uint_eq((got.offset + got.bytes) % UNIT, 0);
    ck_assert_uint_lt(got.offset / UNIT, UNITS_MAX);
    first_leased[got.offset / UNIT] = got.offset % UNIT / granule;
    assert_counts();
    return got;
}

static void assert_leases(uint64_t bytes, uint64_t offset)
{
    struct lease got = lease(bytes);

    ck_assert_uint_eq(got.offset, offset);
    ck_assert_uint_eq(got.bytes, UNIT - offset % UNIT);
}

static struct heap_span carve(uint64_t offset, uint64_t bytes)
{
    struct heap_span span;

    ck_assert_msg(heap_carve(&heap, offset, bytes, &span), "can't carve at 0x%" PRIx64, offset);
    ck_assert_uint_eq(span.offset, offset);
    ck_assert_uint_eq(span.bytes, (bytes + granule - 1) / granule * granule);
    ck_assert(!span.sealed);
    assert_span(offset, span.bytes);
    assert_counts();
    return span;
}

static void assert_not_carved(uint64_t offset, uint64_t bytes)
{
    struct heap_span span;

    ck_assert_msg(!heap_carve(&heap, offset, bytes, &span), "carved at 0x%" PRIx64, offset);
    assert_counts();
}

static void give_back(uint64_t block)
{
    ck_assert(heap_return(&heap, block));
    first_leased[block / UNIT] = 0;
    assert_counts();
}

static void assert_not_leased(uint64_t block)
{
    ck_assert(!heap_return(&heap, block));
    assert_counts();
}

/* ---- What is leased ------------------------------------------------------------------- */

START_TEST(a_block_without_spans_is_leased_but_for_its_trap_granule)
{
    const uint64_t g = UINT64_C(64) << _i;
    const uint64_t sizes[] = {1, g, UNIT / 2, UNIT - g - 1, UNIT - g};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct placement placement;

        start(_i, 3);
        ck_assert(heap_place_lease(&heap, sizes[i], &placement));
        ck_assert_uint_eq(placement.grown_bytes, UNIT);
        ck_assert(lease(sizes[i]).clean);
        ck_assert_uint_eq(first_leased[0], 1);
        assert_holds(0, 0, 0);
        ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - g);
        ck_assert_uint_eq(heap_end_bytes(&heap), UNIT);
        assert_nobodys(0);
        assert_nobodys(g);
        assert_leases(sizes[i], UNIT + g);
        assert_leases(sizes[i], 2 * UNIT + g);
        ck_assert(!can_lease(1));
        ck_assert(!fits(1));
        ck_assert_uint_eq(heap.free_runs, 3);
    }
}
END_TEST

START_TEST(the_lowest_unit_that_is_nobodys_is_leased)
{
    start(_i, 5);
    for (uint64_t unit = 0; unit < 4; unit++)
        ck_assert_uint_eq(alloc(UNIT - granule), unit * UNIT + granule);
    release(2 * UNIT + granule);
    release(1 * UNIT + granule);
    assert_leases(1, 1 * UNIT + granule);
    ck_assert(!lease(1).clean);
    ck_assert_uint_eq(first_leased[2], 1);
    ck_assert(lease(1).clean);
    ck_assert_uint_eq(first_leased[4], 1);
    ck_assert(!can_lease(1));
}
END_TEST

START_TEST(a_blocks_end_is_leased_if_it_is_an_eighth_of_one_and_has_room)
{
    const uint64_t eighth = UNIT / 8;

    start(_i, 2);
    (void)alloc(UNIT - granule - eighth);
    assert_leases(eighth, UNIT - eighth);
    ck_assert_uint_eq(heap_leased_bytes(&heap), eighth);
    assert_holds(1, 1, UNIT - granule - eighth);
    /* No room for a granule more. */
    start(_i, 2);
    (void)alloc(UNIT - granule - eighth);
    assert_leases(eighth + 1, UNIT + granule);
    /* A granule shorter. */
    start(_i, 2);
    (void)alloc(UNIT - eighth);
    ck_assert_uint_eq(heap_largest_free_bytes(&heap), eighth - granule);
    assert_leases(1, UNIT + granule);
    ck_assert(!can_lease(1)); /* not even as there is nothing else */
    ck_assert(fits(eighth - granule));
    /* A granule longer, of which all is wanted. */
    start(_i, 1);
    (void)alloc(UNIT - 2 * granule - eighth);
    ck_assert(!can_lease(eighth + granule + 1));
    assert_leases(eighth + granule, UNIT - eighth - granule);
    ck_assert(!can_lease(1));
}
END_TEST

START_TEST(the_longest_of_several_ends_is_leased)
{
    const uint64_t left[] = {UNIT / 4, UNIT / 2, UNIT / 8};

    start(_i, 3);
    for (uint64_t unit = 0; unit < 3; unit++)
        (void)alloc(UNIT - granule);
    for (uint64_t unit = 0; unit < 3; unit++)
        shrink(unit * UNIT + granule, UNIT - granule - left[unit]);
    assert_leases(1, 2 * UNIT - UNIT / 2);
    assert_leases(1, 1 * UNIT - UNIT / 4);
    ck_assert(!can_lease(UNIT / 8 + 1));
    assert_leases(UNIT / 8, 3 * UNIT - UNIT / 8);
    ck_assert(!can_lease(1));
    ck_assert(!fits(1));
}
END_TEST

START_TEST(the_end_of_a_large_spans_last_unit_is_leased)
{
    /* The least that reaches into it: the leading granule, then one more. */
    start(_i, 2);
    (void)alloc(UNIT);
    assert_leases(UNIT - granule, UNIT + granule);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - granule);
    start(_i, 3);
    (void)alloc(UNIT + granule);
    assert_leases(UNIT - granule, 2 * UNIT + granule); /* no room there */
    assert_leases(UNIT - 2 * granule, UNIT + 2 * granule);
    assert_holds(1, 2, UNIT + granule);
    /* The most of which the end is worth it, and a granule more. */
    start(_i, 2);
    (void)alloc(2 * UNIT - granule - UNIT / 8);
    assert_leases(UNIT / 8, 2 * UNIT - UNIT / 8);
    start(_i, 2);
    (void)alloc(2 * UNIT - UNIT / 8);
    ck_assert(!can_lease(1));
    /* To its last granule: nothing is left. */
    start(_i, 2);
    (void)alloc(2 * UNIT - granule);
    ck_assert(!can_lease(1));
}
END_TEST

START_TEST(a_block_with_a_run_elsewhere_is_not_leased)
{
    /* Before a span that ends with the block. */
    start(_i, 2);
    (void)alloc(UNIT / 2);
    (void)alloc(UNIT / 2 - granule);
    release(granule);
    assert_leases(1, UNIT + granule);
    ck_assert(!can_lease(1));
    ck_assert_uint_eq(alloc(UNIT / 2), granule);
    /* Before one behind which there is room too; then that hole is filled. */
    start(_i, 2);
    (void)alloc(granule);
    (void)alloc(granule);
    release(granule);
    assert_leases(1, UNIT + granule);
    ck_assert(!can_lease(1));
    ck_assert_uint_eq(alloc(granule), granule);
    assert_leases(1, 3 * granule);
}
END_TEST

START_TEST(looking_for_a_lease_changes_nothing)
{
    struct placement first;
    struct placement again;

    start(_i, 2);
    (void)alloc(5 * granule);
    for (uint64_t bytes = 1; bytes <= UNIT - granule; bytes += 1000) {
        bool found = heap_place_lease(&heap, bytes, &first);

        ck_assert_int_eq(heap_place_lease(&heap, bytes, &again), found);
        ck_assert_uint_eq(first.granule, again.granule);
        ck_assert_uint_eq(first.grown_bytes, again.grown_bytes);
    }
    assert_counts();
    ck_assert_uint_eq(heap_grown_bytes(&heap), UNIT);
    ck_assert_uint_eq(heap_leased_bytes(&heap), 0);
}
END_TEST

START_TEST(a_lease_is_clean_if_none_of_it_was_in_a_span)
{
    start(_i, 1);
    (void)alloc(2 * granule);
    ck_assert(lease(1).clean);
    give_back(0);
    /* What comes before it does not count, its last granule does. */
    (void)alloc(UNIT - 3 * granule);
    release(3 * granule);
    ck_assert(!lease(1).clean);
    ck_assert_uint_eq(first_leased[0], 3);
    give_back(0);
    release(granule);
    heap_set_grown(&heap, 0);
    ck_assert(lease(1).clean);
    (void)carve(UNIT - granule, 1);
    release(UNIT - granule);
    give_back(0);
    ck_assert(!lease(1).clean); /* it was not taken from the arena */
}
END_TEST

/* ---- What can be carved ------------------------------------------------------------------ */

START_TEST(a_span_is_carved_wherever_a_leased_block_is_free)
{
    start(_i, 2);
    (void)lease(1);
    (void)carve(granule, 1);
    (void)carve(UNIT - granule, granule);
    (void)carve(3 * granule, 2 * granule);
    (void)carve(2 * granule, 1); /* fills the hole */
    (void)carve(6 * granule, UNIT - 7 * granule - 1);
    (void)carve(5 * granule, 1);
    ck_assert_uint_eq(heap_leased_bytes(&heap), 0);
    ck_assert_uint_eq(heap.free_runs, 0);
    assert_holds(6, 1, UNIT - granule);
    for (uint64_t at = 0; at < UNIT; at += granule)
        assert_not_carved(at, 1);
    /* All at once. */
    start(_i, 1);
    (void)lease(1);
    (void)carve(granule, UNIT - granule);
    assert_holds(1, 1, UNIT - granule);
    release(granule);
    assert_holds(0, 0, 0);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - granule);
}
END_TEST

START_TEST(nothing_is_carved_where_a_span_or_the_trap_granule_is)
{
    start(_i, 1);
    (void)lease(1);
    assert_not_carved(0, 1);
    assert_not_carved(0, UNIT);
    (void)carve(4 * granule, 2 * granule);
    assert_not_carved(4 * granule, 1);
    assert_not_carved(5 * granule, 1);
    assert_not_carved(4 * granule, 2 * granule);
    assert_not_carved(3 * granule, granule + 1);
    assert_not_carved(granule, UNIT - granule);
    assert_not_carved(5 * granule, 2 * granule);
    (void)carve(3 * granule, granule);
    (void)carve(6 * granule, 1);
    assert_holds(3, 1, 4 * granule);
}
END_TEST

START_TEST(nothing_is_carved_in_a_block_that_is_not_leased)
{
    start(_i, 4);
    assert_not_carved(granule, 1); /* nothing has memory yet */
    (void)alloc(UNIT / 2 + granule);
    (void)alloc(UNIT / 2);
    heap_set_grown(&heap, 3 * UNIT);
    assert_not_carved(UNIT - granule, 1);
    assert_not_carved(2 * UNIT - granule, 1);
    assert_not_carved(2 * UNIT + granule, 1); /* in no block */
    assert_not_carved(3 * UNIT + granule, 1); /* without memory */
    assert_not_carved(4 * UNIT, 1);           /* beyond the arena */
    assert_leases(1, 1 * UNIT + UNIT / 2 + granule);
    (void)carve(2 * UNIT - granule, 1);
    assert_not_carved(UNIT - granule, 1);
    give_back(UNIT);
    assert_not_carved(2 * UNIT - 2 * granule, 1);
}
END_TEST

START_TEST(the_part_before_a_lease_is_carved_when_its_spans_are_gone)
{
    start(_i, 1);
    (void)alloc(2 * granule);
    (void)alloc(granule);
    assert_leases(1, 4 * granule);
    for (uint64_t at = 0; at < 4; at++)
        assert_not_carved(at * granule, 1);
    assert_not_carved(3 * granule, 2 * granule);
    release(granule);
    assert_not_carved(0, 1);
    assert_not_carved(2 * granule, 2 * granule);
    (void)carve(granule, 2 * granule);
    release(3 * granule);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - 3 * granule);
    (void)carve(3 * granule, UNIT - 3 * granule);
}
END_TEST

START_TEST(a_carved_span_is_clean_if_its_granules_were_in_none)
{
    start(_i, 1);
    (void)lease(1);
    ck_assert(carve(3 * granule, granule).clean);
    release(3 * granule);
    ck_assert(carve(2 * granule, granule).clean);
    ck_assert(!carve(3 * granule, 2 * granule).clean);
    ck_assert(carve(5 * granule, granule).clean);
    shrink(3 * granule, granule);
    ck_assert(!carve(4 * granule, granule).clean);
    /* Not what is told later on. */
    ck_assert(!find(2 * granule).clean);
}
END_TEST

START_TEST(a_carved_span_is_one_like_any_other)
{
    struct heap_span span;

    start(_i, 1);
    (void)lease(1);
    (void)carve(4 * granule, 4 * granule);
    span = find(4 * granule);
    heap_seal(&heap, &span);
    ck_assert(find(4 * granule).sealed);
    shrink(4 * granule, 2 * granule + 1);
    assert_span(4 * granule, 3 * granule);
    (void)carve(7 * granule, granule);
    release(4 * granule);
    assert_nobodys(4 * granule);
    ck_assert(!carve(4 * granule, granule).sealed);
    ck_assert(!find(4 * granule).sealed);
    assert_holds(2, 1, 2 * granule);
    release(7 * granule);
    release(4 * granule);
    assert_holds(0, 0, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), UNIT); /* it waits for the next one */
}
END_TEST

START_TEST(what_is_leased_is_not_allocated)
{
    const uint64_t granules = UNIT / (UINT64_C(64) << _i);
    uint64_t total = 0;

    start(_i, 4);
    (void)alloc(UNIT + 3 * granule);
    assert_leases(1, UNIT + 4 * granule);
    assert_leases(1, 2 * UNIT + granule);
    (void)carve(2 * UNIT + 3 * granule, granule);
    ck_assert(!fits(UNIT)); /* one unit is nobody's */
    for (; fits(1); total++)
        ck_assert_uint_eq(take(1) / UNIT, 3);
    ck_assert_uint_eq(total, granules - 1);
    assert_counts();
    release(2 * UNIT + 3 * granule);
    ck_assert(!fits(1));
    release(granule); /* frees unit 0, and granules of a leased block */
    ck_assert_uint_eq(alloc(UNIT - granule), granule);
    ck_assert(!fits(1));
}
END_TEST

/* ---- How it comes back --------------------------------------------------------------------- */

START_TEST(a_block_is_returned_once)
{
    start(_i, 3);
    assert_not_leased(0); /* nothing has memory yet */
    (void)lease(1);
    (void)lease(1);
    assert_not_leased(2 * UNIT);
    give_back(0);
    assert_not_leased(0);
    (void)alloc(granule);
    assert_not_leased(0); /* a block, but not leased */
    give_back(UNIT);
    assert_not_leased(UNIT);
    assert_holds(1, 1, granule);
}
END_TEST

START_TEST(a_block_without_spans_is_nobodys_once_it_is_returned)
{
    start(_i, 3);
    (void)lease(1);
    (void)carve(UNIT / 2, granule);
    release(UNIT / 2);
    ck_assert_uint_eq(heap_end_bytes(&heap), UNIT);
    give_back(0);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    ck_assert_uint_eq(heap.free_runs, 0);
    ck_assert_uint_eq(alloc(3 * UNIT - granule), granule);
    release(granule);
    assert_leases(1, granule);
}
END_TEST

START_TEST(a_returned_block_with_spans_is_allocated_from)
{
    start(_i, 2);
    (void)lease(1);
    (void)carve(4 * granule, granule);
    (void)carve(10 * granule, UNIT - 15 * granule);
    give_back(0);
    assert_span(4 * granule, granule);
    ck_assert_uint_eq(heap.free_runs, 3);
    ck_assert_uint_eq(heap_largest_free_bytes(&heap), 5 * granule);
    ck_assert_uint_eq(alloc(6 * granule), UNIT + granule); /* runs of 3, 5 and 5 */
    ck_assert_uint_eq(alloc(3 * granule), granule);
    ck_assert_uint_eq(alloc(5 * granule), 5 * granule);
    ck_assert_uint_eq(alloc(5 * granule), UNIT - 5 * granule);
    /* Full: with nothing to give, then again with something. */
    start(_i, 1);
    (void)lease(1);
    (void)carve(granule, UNIT - granule);
    give_back(0);
    ck_assert(!fits(1));
    shrink(granule, UNIT - 2 * granule);
    ck_assert_uint_eq(alloc(1), UNIT - granule);
    release(granule);
    release(UNIT - granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
}
END_TEST

START_TEST(a_returned_block_is_leased_again_if_its_end_is_worth_it)
{
    start(_i, 1);
    (void)lease(1);
    (void)carve(granule, granule);
    (void)carve(3 * granule, granule);
    give_back(0);
    ck_assert(!can_lease(1)); /* a hole before the last span */
    release(3 * granule);
    assert_leases(UNIT - 2 * granule, 2 * granule);
    give_back(0);
    release(granule);
    assert_leases(1, granule);
}
END_TEST

START_TEST(clearing_ends_all_leases)
{
    start(_i, 4);
    (void)alloc(UNIT + granule);
    (void)lease(1);
    (void)lease(1);
    (void)carve(2 * UNIT + granule, 2 * granule);
    (void)carve(UNIT + 2 * granule, granule);
    heap_clear(&heap);
    memset(first_leased, 0, sizeof first_leased);
    assert_counts();
    assert_holds(0, 0, 0);
    ck_assert_uint_eq(heap_leased_bytes(&heap), 0);
    ck_assert_uint_eq(heap.free_runs, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    for (uint64_t unit = 0; unit < 4; unit++) {
        assert_not_leased(unit * UNIT);
        assert_not_carved(unit * UNIT + granule, 1);
    }
    ck_assert(!lease(1).clean);
    ck_assert(!carve(granule, granule).clean);
    assert_leases(1, UNIT + granule);
    ck_assert(!carve(UNIT + 2 * granule, granule).clean);
    ck_assert(carve(UNIT + 3 * granule, granule).clean);
    assert_leases(1, 2 * UNIT + granule);
    ck_assert(!carve(2 * UNIT + 2 * granule, granule).clean);
    ck_assert(carve(2 * UNIT + 3 * granule, granule).clean);
    ck_assert(lease(1).clean);
}
END_TEST

START_TEST(memory_up_to_the_last_leased_block_is_kept)
{
    start(_i, 4);
    for (uint64_t unit = 0; unit < 3; unit++)
        assert_leases(1, unit * UNIT + granule);
    give_back(UNIT);
    heap_set_grown(&heap, 4 * UNIT);
    assert_counts();
    ck_assert_uint_eq(heap_end_bytes(&heap), 3 * UNIT);
    heap_set_grown(&heap, 3 * UNIT);
    assert_counts();
    (void)carve(2 * UNIT + granule, 1);
    give_back(0);
    ck_assert_uint_eq(heap_end_bytes(&heap), 3 * UNIT);
    give_back(2 * UNIT);
    ck_assert_uint_eq(heap_end_bytes(&heap), 3 * UNIT);
    release(2 * UNIT + granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    heap_set_grown(&heap, 0);
    assert_counts();
    assert_not_leased(2 * UNIT);
    ck_assert(lease(1).clean);
}
END_TEST

/* ---- A large span whose last unit's end is leased ---------------------------------------------- */

START_TEST(a_large_span_goes_while_the_end_of_its_last_unit_is_leased)
{
    /* With the leading granule alone, one more, and many. */
    const uint64_t g = UINT64_C(64) << _i;
    const uint64_t into[] = {g, 2 * g, UNIT / 2};

    for (size_t i = 0; i < sizeof into / sizeof into[0]; i++) {
        start(_i, 3);
        (void)alloc(2 * UNIT - g + into[i]);
        assert_leases(1, 2 * UNIT + into[i]);
        release(g);
        assert_holds(0, 0, 0);
        ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - g);
        ck_assert_uint_eq(heap.free_runs, 1);
        ck_assert_uint_eq(heap_end_bytes(&heap), 3 * UNIT);
        assert_not_carved(2 * UNIT, 1);
        ck_assert_int_eq(carve(2 * UNIT + g, g).clean, into[i] == g);
        ck_assert_uint_eq(alloc(2 * UNIT - g), g);
        ck_assert(!fits(1));
        give_back(2 * UNIT);
        ck_assert_uint_eq(alloc(UNIT - 2 * g), 2 * UNIT + 2 * g);
        release(2 * UNIT + g);
        release(2 * UNIT + 2 * g);
        ck_assert_uint_eq(heap_end_bytes(&heap), 2 * UNIT);
    }
}
END_TEST

START_TEST(a_large_span_shrinks_while_the_end_of_its_last_unit_is_leased)
{
    start(_i, 2);
    (void)alloc(UNIT + 4 * granule);
    assert_leases(1, UNIT + 5 * granule);
    (void)carve(UNIT + 8 * granule, granule);
    shrink(granule, UNIT + 3 * granule);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - 5 * granule);
    (void)carve(UNIT + 4 * granule, granule);
    shrink(granule, UNIT); /* the leading granule is all that it has there */
    assert_not_carved(UNIT, 1);
    (void)carve(UNIT + granule, granule);
    shrink(granule, UNIT - granule);
    assert_nobodys(UNIT);
    assert_not_carved(UNIT, 1);
    assert_holds(4, 2, UNIT + 2 * granule);
    release(UNIT + granule);
    release(UNIT + 4 * granule);
    release(UNIT + 8 * granule);
    assert_holds(1, 1, UNIT - granule);
    give_back(UNIT);
    ck_assert_uint_eq(heap_end_bytes(&heap), UNIT);
}
END_TEST

START_TEST(a_block_that_a_large_span_holds_is_returned_before_it_goes)
{
    start(_i, 2);
    (void)alloc(UNIT);
    assert_leases(1, UNIT + granule);
    give_back(UNIT);
    assert_holds(1, 2, UNIT);
    assert_leases(1, UNIT + granule);
    (void)carve(UNIT + 2 * granule, granule);
    give_back(UNIT);
    ck_assert_uint_eq(alloc(granule), UNIT + granule);
    release(granule);
    assert_span(UNIT + 2 * granule, granule);
    assert_holds(2, 1, 2 * granule);
    assert_leases(1, UNIT + 3 * granule);
    give_back(UNIT);
    release(UNIT + granule);
    release(UNIT + 2 * granule);
    assert_holds(0, 0, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap: leases");

    ADD_TESTS(suite, "what is leased", a_block_without_spans_is_leased_but_for_its_trap_granule,
              the_lowest_unit_that_is_nobodys_is_leased,
              a_blocks_end_is_leased_if_it_is_an_eighth_of_one_and_has_room,
              the_longest_of_several_ends_is_leased, the_end_of_a_large_spans_last_unit_is_leased,
              a_block_with_a_run_elsewhere_is_not_leased, looking_for_a_lease_changes_nothing,
              a_lease_is_clean_if_none_of_it_was_in_a_span);
    ADD_TESTS(suite, "what can be carved", a_span_is_carved_wherever_a_leased_block_is_free,
              nothing_is_carved_where_a_span_or_the_trap_granule_is,
              nothing_is_carved_in_a_block_that_is_not_leased,
              the_part_before_a_lease_is_carved_when_its_spans_are_gone,
              a_carved_span_is_clean_if_its_granules_were_in_none, a_carved_span_is_one_like_any_other,
              what_is_leased_is_not_allocated);
    ADD_TESTS(suite, "how it comes back", a_block_is_returned_once,
              a_block_without_spans_is_nobodys_once_it_is_returned,
              a_returned_block_with_spans_is_allocated_from,
              a_returned_block_is_leased_again_if_its_end_is_worth_it, clearing_ends_all_leases,
              memory_up_to_the_last_leased_block_is_kept);
    ADD_TESTS(suite, "large spans", a_large_span_goes_while_the_end_of_its_last_unit_is_leased,
              a_large_span_shrinks_while_the_end_of_its_last_unit_is_leased,
              a_block_that_a_large_span_holds_is_returned_before_it_goes);
    return suite_run(suite);
}
