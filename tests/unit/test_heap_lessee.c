/* SPDX-License-Identifier: MIT */
/* The client's side of leases: a heap that has nothing but the blocks that it was lent. */
#include "tests/unit/lease_steps.h"

static void begin_lessee(int granularity, uint32_t units)
{
    start(granularity, units);
    heap_become_lessee(&heap);
    assert_counts();
}

/* From that granule of the unit to its end. */
static void adopt(uint64_t unit, uint64_t first, bool clean)
{
    heap_adopt(&heap, &(struct lease){.offset = unit * UNIT + first * granule,
                                      .bytes = UNIT - first * granule,
                                      .clean = clean});
    first_leased[unit] = first;
    assert_counts();
}

static void disown(uint64_t unit)
{
    heap_disown(&heap, unit * UNIT);
    first_leased[unit] = 0;
    assert_counts();
}

START_TEST(a_lessee_has_no_room_but_in_blocks_that_it_adopted)
{
    begin_lessee(_i, 4);
    ck_assert(!fits(1));
    ck_assert(!fits(UNIT));
    assert_nobodys(granule);
    adopt(2, 1, true);
    ck_assert_uint_eq(alloc(UNIT - granule), 2 * UNIT + granule);
    ck_assert(!fits(1));
    assert_holds(1, 1, UNIT - granule);
    adopt(3, 1, true);
    ck_assert(!fits(UNIT - granule + 1));
    release(2 * UNIT + granule);
    ck_assert(!fits(UNIT - granule + 1)); /* not even in two that are adjacent */
    ck_assert_uint_eq(heap_largest_free_bytes(&heap), UNIT - granule);
}
END_TEST

START_TEST(a_place_in_an_adopted_block_needs_no_memory)
{
    struct placement placement;

    begin_lessee(_i, 2);
    adopt(1, 1, true);
    ck_assert(heap_place(&heap, 1, &placement));
    ck_assert_uint_eq(placement.grown_bytes, 0);
    ck_assert_uint_eq(placement.granule, (UNIT + granule) / granule);
}
END_TEST

START_TEST(what_comes_before_a_lease_is_never_found)
{
    const uint64_t granules = UNIT / (UINT64_C(64) << _i);
    /* About a word of the bitmaps, and the least that can be lent. */
    const uint64_t firsts[] = {1, 2, 63, 64, 65, 128, granules - granules / 8, granules - 1};

    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        const uint64_t first = firsts[i];
        const uint64_t start_bytes = first * (UINT64_C(64) << _i);

        begin_lessee(_i, 1);
        adopt(0, first, true);
        for (uint64_t at = 0; at < UNIT; at += granule)
            assert_nobodys(at);
        ck_assert(!fits(UNIT - start_bytes + 1));
        ck_assert_uint_eq(alloc(granule), start_bytes);
        assert_nobodys(start_bytes - 1);
        for (uint64_t at = 1; at < granules - first; at++)
            ck_assert_uint_eq(take(1), start_bytes + at * granule);
        assert_counts();
        ck_assert(!fits(1));
        for (uint64_t at = 0; at < start_bytes; at += granule)
            assert_nobodys(at);
        assert_span(start_bytes, granule);
        for (uint64_t at = start_bytes; at < UNIT; at += granule) {
            ck_assert(!heap_is_vacant(&heap, 0));
            cut(at, 0);
        }
        assert_counts();
        ck_assert(heap_is_vacant(&heap, 0));
        ck_assert_uint_eq(alloc(UNIT - start_bytes), start_bytes);
    }
}
END_TEST

START_TEST(what_was_cut_off_is_placed_again)
{
    begin_lessee(_i, 1);
    adopt(0, 5, true);
    ck_assert_uint_eq(alloc(4 * granule), 5 * granule);
    ck_assert_uint_eq(alloc(granule), 9 * granule);
    shrink(5 * granule, granule + 1);
    assert_span(5 * granule, 2 * granule);
    ck_assert_uint_eq(alloc(2 * granule), 7 * granule); /* the shortest run */
    release(7 * granule);
    release(5 * granule);
    ck_assert_uint_eq(alloc(4 * granule), 5 * granule);
    release(9 * granule);
    shrink(5 * granule, granule);
    ck_assert_uint_eq(alloc(UNIT - 6 * granule), 6 * granule);
}
END_TEST

START_TEST(the_block_with_the_least_room_is_taken)
{
    begin_lessee(_i, 3);
    adopt(0, 1, true);
    adopt(1, 10, true);
    adopt(2, 5, true);
    ck_assert_uint_eq(alloc(granule), UNIT + 10 * granule);
    ck_assert_uint_eq(alloc(UNIT - 10 * granule), 2 * UNIT + 5 * granule);
    ck_assert_uint_eq(alloc(5 * granule), 3 * UNIT - 5 * granule);
    ck_assert_uint_eq(alloc(UNIT - 10 * granule), granule);
    ck_assert_uint_eq(alloc(granule), UNIT - 9 * granule);
    ck_assert(!heap_is_vacant(&heap, UNIT));
    release(UNIT + 10 * granule);
    ck_assert(heap_is_vacant(&heap, UNIT));
    ck_assert(heap_is_vacant(&heap, 2 * UNIT - 1));
}
END_TEST

START_TEST(granules_are_clean_if_the_lease_is_until_they_have_been_in_a_span)
{
    begin_lessee(_i, 2);
    adopt(0, 3, false);
    ck_assert(!take_span(granule).clean);
    ck_assert(!take_span(UNIT - 4 * granule).clean);
    adopt(1, 3, true);
    ck_assert(take_span(granule).clean);
    release(UNIT + 3 * granule);
    ck_assert(!take_span(2 * granule).clean);
    ck_assert(take_span(granule).clean);
    /* Nothing is remembered of a block that was given back. */
    release(UNIT + 3 * granule);
    release(UNIT + 5 * granule);
    disown(1);
    adopt(1, 1, true);
    ck_assert(take_span(UNIT - granule).clean);
}
END_TEST

START_TEST(a_disowned_block_can_be_adopted_from_elsewhere)
{
    begin_lessee(_i, 2);
    adopt(1, 7, true);
    ck_assert_uint_eq(alloc(granule), UNIT + 7 * granule);
    release(UNIT + 7 * granule);
    disown(1);
    ck_assert(!fits(1));
    assert_nobodys(UNIT + 7 * granule);
    adopt(1, 2, true);
    ck_assert_uint_eq(alloc(UNIT - 2 * granule), UNIT + 2 * granule);
    release(UNIT + 2 * granule);
    disown(1);
    adopt(1, 9, true);
    adopt(0, 1, true);
    ck_assert_uint_eq(alloc(UNIT - 9 * granule), UNIT + 9 * granule);
    ck_assert_uint_eq(alloc(UNIT - granule), granule);
    ck_assert(!fits(1));
}
END_TEST

START_TEST(a_seal_is_remembered_until_the_span_goes)
{
    struct heap_span span;

    begin_lessee(_i, 1);
    adopt(0, 2, true);
    (void)alloc(granule);
    span = find(2 * granule);
    heap_seal(&heap, &span);
    ck_assert(find(2 * granule).sealed);
    release(2 * granule);
    (void)alloc(granule);
    ck_assert(!find(2 * granule).sealed);
}
END_TEST

START_TEST(clearing_forgets_all_blocks)
{
    begin_lessee(_i, 3);
    for (int i = 0; i < 3; i++) {
        adopt(0, 4, true);
        adopt(2, 1, false);
        (void)alloc(UNIT - granule);
        (void)alloc(granule);
        heap_clear(&heap);
        memset(first_leased, 0, sizeof first_leased);
        assert_counts();
        ck_assert(!fits(1));
        for (uint64_t at = 0; at < 3 * UNIT; at += granule)
            assert_nobodys(at);
    }
    adopt(0, 1, true); /* also what came before the last lease */
    ck_assert(take_span(UNIT - granule).clean);
    assert_counts();
}
END_TEST

START_TEST(the_last_block_of_the_largest_arena_can_be_lent)
{
    const uint64_t last = ARENA_LIMIT_BYTES - UNIT;

    begin(_i, (uint32_t)(ARENA_LIMIT_BYTES / UNIT));
    heap_become_lessee(&heap);
    heap_adopt(&heap, &(struct lease){.offset = last + 2 * granule, .bytes = UNIT - 2 * granule});
    ck_assert_uint_eq(take(UNIT - 2 * granule), last + 2 * granule);
    ck_assert(!fits(1));
    assert_span(last + 2 * granule, UNIT - 2 * granule);
    assert_nobodys(ARENA_LIMIT_BYTES);
    cut(last + 2 * granule, 0);
    ck_assert(heap_is_vacant(&heap, last));
    heap_disown(&heap, last);
    ck_assert(!fits(1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap: a lessee's");

    ADD_TESTS(suite, "places", a_lessee_has_no_room_but_in_blocks_that_it_adopted,
              a_place_in_an_adopted_block_needs_no_memory, what_comes_before_a_lease_is_never_found,
              what_was_cut_off_is_placed_again, the_block_with_the_least_room_is_taken,
              the_last_block_of_the_largest_arena_can_be_lent);
    ADD_TESTS(suite, "blocks", granules_are_clean_if_the_lease_is_until_they_have_been_in_a_span,
              a_disowned_block_can_be_adopted_from_elsewhere, a_seal_is_remembered_until_the_span_goes,
              clearing_forgets_all_blocks);
    return suite_run(suite);
}
