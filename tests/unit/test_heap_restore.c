/* SPDX-License-Identifier: MIT */
#include "proto/heap_restore.h"

#include "tests/unit/model.h" /* must_be() */

#include "tests/unit/heap_check.h"
#include "tests/unit/heap_steps.h"

#define UNITS 4u

static _Alignas(64) struct unit units[UNITS];
static uint32_t granules; /* of a unit */

/* A heap over units that hold what they hold. */
static void begin_again(int granularity)
{
    heap_deinit(&heap);
    granule = UINT64_C(64) << granularity;
    granules = (uint32_t)(UNIT / granule);
    ck_assert_int_eq(heap_init(&heap, UNITS * UNIT, (uint32_t)granule, units), 0);
}

static void begin_empty(int granularity)
{
    memset(units, 0, sizeof units);
    begin_again(granularity);
}

/* What another daemon makes of the same units. */
static void restore(int granularity)
{
    uint64_t grown_bytes = heap_grown_bytes(&heap);

    begin_again(granularity);
    ck_assert_pstr_eq(heap_restore(&heap, grown_bytes), NULL);
    heap_check(&heap);
}

static uint64_t lease_at(uint64_t bytes)
{
    struct placement placement;

    ck_assert(heap_place_lease(&heap, bytes, &placement));
    if (placement.grown_bytes > heap_grown_bytes(&heap))
        heap_set_grown(&heap, placement.grown_bytes);
    return heap_lease(&heap, &placement).offset;
}

static void carve(uint64_t offset, uint64_t bytes)
{
    struct heap_span span;

    ck_assert(heap_carve(&heap, offset, bytes, &span));
}

static void seal(uint64_t offset)
{
    struct heap_span span = find(offset);

    heap_seal(&heap, &span);
}

/* ---- What comes back --------------------------------------------------------------- */

START_TEST(nothing_comes_back_from_nothing)
{
    for (uint32_t grown = 0; grown <= UNITS; grown++) {
        begin_empty(_i);
        ck_assert_pstr_eq(heap_restore(&heap, grown * UNIT), NULL);
        assert_holds(0, 0, 0);
        ck_assert_uint_eq(heap_grown_bytes(&heap), grown * UNIT);
        heap_check(&heap);
    }
}
END_TEST

START_TEST(a_large_span_comes_back_however_far_it_reaches)
{
    for (uint64_t more = 0; more < 3; more++) {
        const uint64_t sizes[] = {UNIT - (2 - more) * granule, 2 * UNIT - (2 - more) * granule,
                                  3 * UNIT - (2 - more) * granule};

        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            begin_empty(_i);
            ck_assert_uint_eq(take(sizes[i]), granule);
            seal(granule);
            restore(_i);
            assert_span(granule, sizes[i]);
            ck_assert(find(granule).sealed);
            assert_holds(1, (uint32_t)((sizes[i] + granule + UNIT - 1) / UNIT), sizes[i]);
            cut(granule, 0);
            assert_holds(0, 0, 0);
            ck_assert_uint_eq(heap_end_bytes(&heap), 0);
        }
    }
}
END_TEST

START_TEST(a_full_block_and_the_next_one_are_no_large_span)
{
    begin_empty(_i);
    ck_assert_uint_eq(take(UNIT - granule), granule);
    ck_assert_uint_eq(take(UNIT - granule), UNIT + granule);
    restore(_i);
    assert_span(granule, UNIT - granule);
    assert_span(UNIT + granule, UNIT - granule);
    assert_nobodys(UNIT);
}
END_TEST

START_TEST(a_lease_comes_back_with_what_was_carved)
{
    uint64_t lease;

    begin_empty(_i);
    ck_assert_uint_eq(take(UNIT), granule); /* up to granule 0 of the second unit */
    lease = lease_at(granule);
    ck_assert_uint_eq(lease, UNIT + granule);
    carve(lease + granule, 2 * granule);
    carve(2 * UNIT - granule, granule);
    restore(_i);
    assert_span(granule, UNIT);
    assert_span(lease + granule, 2 * granule);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - 4 * granule);
    carve(lease, granule);
    ck_assert(heap_return(&heap, lease));
    ck_assert(!heap_return(&heap, lease));
    ck_assert_uint_eq(heap_leased_bytes(&heap), 0);
    heap_check(&heap);
}
END_TEST

START_TEST(a_lease_without_a_span_comes_back)
{
    begin_empty(_i);
    (void)lease_at(granule);
    restore(_i);
    assert_holds(0, 0, 0);
    ck_assert_uint_eq(heap_end_bytes(&heap), UNIT);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - granule);
    carve(granule, UNIT - granule);
    restore(_i);
    assert_span(granule, UNIT - granule);
    ck_assert(heap_return(&heap, 0));
}
END_TEST

START_TEST(code_that_was_there_stays_stale)
{
    begin_empty(_i);
    ck_assert_uint_eq(take(2 * granule), granule);
    ck_assert_uint_eq(take(granule), 3 * granule);
    cut(granule, 0);
    restore(_i);
    ck_assert(!take_span(granule).clean);
    ck_assert(!take_span(granule).clean);
    ck_assert(take_span(granule).clean); /* behind the third */
}
END_TEST

START_TEST(a_block_that_was_opened_for_nothing_is_untaken)
{
    begin_empty(_i);
    bit_set(units[0].used, 0);
    bit_set(units[0].start, 0);
    units[0].lead = 1;
    ck_assert_pstr_eq(heap_restore(&heap, UNIT), NULL);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
    heap_check(&heap);
    ck_assert_int_eq(memcmp(&units[0], &units[1], sizeof units[0]), 0); /* zero */
}
END_TEST

START_TEST(what_lies_beyond_the_memory_is_cleared_when_that_grows)
{
    begin_empty(_i);
    ck_assert_uint_eq(take(granule), granule);
    restore(_i);
    memset(&units[1], 255, (UNITS - 1) * sizeof units[0]);
    restore(_i);
    assert_holds(1, 1, granule);
    heap_set_grown(&heap, UNITS * UNIT);
    heap_check(&heap);
    ck_assert(take_span(2 * UNIT).clean);
}
END_TEST

START_TEST(what_is_counted_is_never_believed)
{
    begin_empty(_i);
    ck_assert_uint_eq(take(2 * UNIT), granule);
    ck_assert_uint_eq(take(granule), 2 * UNIT + 2 * granule - granule);
    (void)lease_at(granule);
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        uint32_t is_leased = units[unit].is_leased;

        memset(&units[unit].large, 255, sizeof units[unit] - offsetof(struct unit, large));
        units[unit].is_leased = is_leased;
    }
    restore(_i);
    assert_span(granule, 2 * UNIT);
    cut(granule, 0);
    heap_check(&heap);
}
END_TEST

/* ---- Damage ---------------------------------------------------------------------------- */

/* A span of granules [from, to) of the unit. */
static void put(uint32_t unit, uint32_t from, uint32_t to)
{
    bit_set(units[unit].used, 0);
    bit_set(units[unit].start, 0);
    range_set(units[unit].used, from, to);
    bit_set(units[unit].start, from);
}

/* Granules [0, to) of the unit continue a large span. */
static void put_rest(uint32_t unit, uint32_t to)
{
    range_set(units[unit].used, 0, to);
}

/* Restores what was put; NULL for fine. */
static void assert_told(const char *reason)
{
    uint64_t granularity = (uint64_t)__builtin_ctzll(granule) - 6;

    begin_again((int)granularity);
    ck_assert_pstr_eq(heap_restore(&heap, UNITS * UNIT), reason);
    if (reason == NULL)
        heap_check(&heap);
    begin_empty((int)granularity);
}

START_TEST(a_bitmap_that_no_unit_has_is_told)
{
    begin_empty(_i);
    put(1, granules - 1, granules);
    assert_told(NULL);
    if (granules < UNIT_WORDS * WORD_BITS) {
        bit_set(units[1].stale, granules);
        assert_told("a granule behind its unit's last one");
        put(1, granules - 1, granules + 1);
        assert_told("a granule behind its unit's last one");
        bit_set(units[1].used, UNIT_WORDS * WORD_BITS - 1);
        assert_told("a granule behind its unit's last one");
    }
    put(1, 64, 66);
    bit_set(units[1].start, 66);
    assert_told("a span starts at a free granule");
    put(1, 64, 66);
    bit_set(units[1].start, 65);
    assert_told(NULL);
    put(1, 64, 66);
    bit_set(units[1].sealed, 65);
    assert_told("a seal where no span starts");
    put(1, 64, 66);
    bit_set(units[1].sealed, 64);
    assert_told(NULL);
    put(1, 64, 66);
    bit_set(units[1].used, 67);
    assert_told("used granules of no span");
    put(1, 60, 68); /* over two words */
    assert_told(NULL);
    put(1, 60, 68);
    bit_clear(units[1].used, 63);
    assert_told("used granules of no span");
}
END_TEST

START_TEST(a_wrong_trap_granule_is_told)
{
    begin_empty(_i);
    put(0, 1, 2);
    bit_set(units[0].sealed, 0);
    assert_told("a sealed trap granule");
    put(0, 1, 2);
    bit_clear(units[0].start, 1);
    assert_told("a span starts at a trap granule");
    put(0, 2, 3);
    bit_clear(units[0].used, 0);
    bit_clear(units[0].start, 0);
    assert_told("a block without its trap granule");
    put(0, 2, 3);
    units[0].is_leased = 1;
    assert_told(NULL);
    put(0, 2, 3);
    units[0].is_leased = 2;
    assert_told("a block that is leased more than once");
    units[0].is_leased = 1;
    assert_told("a block without its trap granule");
}
END_TEST

START_TEST(a_large_span_that_can_not_be_is_told)
{
    static const char nowhere[] = "a large span that starts nowhere";

    begin_empty(_i);
    put(0, 1, granules);
    put_rest(1, granules);
    put_rest(2, 1);
    assert_told(NULL);
    put_rest(0, 1); /* of what is before the arena */
    assert_told(nowhere);
    put_rest(1, 1); /* behind an untaken unit */
    assert_told(nowhere);
    put(0, 1, granules);
    put_rest(2, 1);
    assert_told(nowhere);
    put(0, 1, granules - 1); /* behind a block that is not full */
    put_rest(1, 1);
    assert_told(nowhere);
    put(0, 1, granules); /* behind one that several spans fill */
    bit_set(units[0].start, granules - 1);
    put_rest(1, 1);
    assert_told(nowhere);
    put(0, 1, granules); /* a large span ends in the unit before */
    put_rest(1, granules - 1);
    put_rest(2, 1);
    assert_told(nowhere);
    put(0, 1, granules);
    put_rest(1, granules);
    bit_set(units[1].start, granules - 1);
    put_rest(2, 1);
    assert_told(nowhere);
    put(0, 1, granules);
    put_rest(1, granules);
    bit_set(units[1].start, 1);
    put_rest(2, 1);
    assert_told(nowhere);
}
END_TEST

START_TEST(a_lease_in_a_large_span_is_told)
{
    begin_empty(_i);
    put(0, 1, granules);
    put_rest(1, granules - 1);
    units[1].is_leased = 1; /* of the rest, a granule */
    assert_told(NULL);
    put(0, 1, granules);
    put_rest(1, granules);
    units[1].is_leased = 1;
    assert_told("a lease in the middle of a large span");
    put(0, 1, granules);
    put_rest(1, 1);
    units[0].is_leased = 1;
    assert_told("a large span that starts nowhere");
    put(0, 1, granules);
    units[0].is_leased = 1; /* carved to the last granule */
    assert_told(NULL);
}
END_TEST

START_TEST(memory_that_the_arena_can_not_have_is_told)
{
    static const char more[] = "more memory than the arena can have, or part of a block";
    static const uint64_t wrong[] = {1,
                                     UNIT - 1,
                                     UNIT + 1,
                                     (UNITS + 1) * UNIT,
                                     UINT64_MAX - UNIT + 1,
                                     UINT64_MAX,
                                     (UINT64_C(1) << 48) + UNIT};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        begin_empty(_i);
        ck_assert_pstr_eq(heap_restore(&heap, wrong[i]), more);
        begin_empty(_i);
        ck_assert(!heap_redo_clear(&heap, wrong[i]));
    }
}
END_TEST

START_TEST(any_one_bit_may_be_flipped)
{
    static struct unit good[UNITS];
    uint32_t refused = 0;

    begin_empty(_i);
    ck_assert_uint_eq(take(UNIT + granule), granule);
    seal(granule);
    (void)lease_at(granule);
    carve(UNIT + 5 * granule, 3 * granule);
    ck_assert_uint_eq(take(UNIT - granule), 2 * UNIT + granule);
    memcpy(good, units, sizeof good);
    for (uint32_t bit = 0; bit < 3 * sizeof good[0] * 8; bit++) {
        memcpy(units, good, sizeof good);
        ((uint8_t *)units)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        begin_again(_i);
        if (heap_restore(&heap, UNITS * UNIT) != NULL)
            refused++;
        else
            heap_check(&heap);
    }
    /* A seal too many, another clean granule, a shorter or longer span is no damage that could be seen. */
    ck_assert_uint_gt(refused, 3 * granules);
}
END_TEST

/* ---- Undoing -------------------------------------------------------------------------- */

START_TEST(only_what_could_be_a_span_is_undone)
{
    const uint64_t end = UNITS * UNIT;
    const struct {
        uint64_t offset;
        uint64_t bytes;
        bool could_be;
    } places[] = {
        {UINT64_C(64) << _i, 0, false},
        {0, UINT64_C(64) << _i, false}, /* a trap granule */
        {UINT64_C(64) << _i, UINT64_C(64) << _i, true},
        {UINT64_C(64) << _i, (UINT64_C(64) << _i) + 1, false},
        {(UINT64_C(64) << _i) + 1, UINT64_C(64) << _i, false},
        {UINT64_C(64) << _i, end - (UINT64_C(64) << _i), true},
        {UINT64_C(64) << _i, end, false},
        {UINT64_C(64) << _i, UINT64_MAX - (UINT64_C(64) << _i) + 1, false},
        {UINT64_C(128) << _i, UNIT - (UINT64_C(128) << _i), true},
        {UINT64_C(128) << _i, UNIT - (UINT64_C(64) << _i), false}, /* would leave its unit */
        {end - UNIT, UINT64_C(64) << _i, false},
        {end - (UINT64_C(64) << _i), UINT64_C(64) << _i, true},
        {end - (UINT64_C(64) << _i), UINT64_C(128) << _i, false},
        {end, UINT64_C(64) << _i, false},
        {end + (UINT64_C(64) << _i), UINT64_C(64) << _i, false},
        {UINT64_MAX - (UINT64_C(64) << _i) + 1, UINT64_C(64) << _i, false},
    };

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        static struct unit zero[UNITS];

        begin_empty(_i);
        ck_assert_msg(heap_undo_take(&heap, places[i].offset, places[i].bytes) == places[i].could_be,
                      "place %zu", i);
        ck_assert_int_eq(memcmp(units, zero, sizeof zero), 0);
        ck_assert_msg(heap_undo_cut(&heap, places[i].offset, places[i].bytes, true) == places[i].could_be,
                      "place %zu", i);
        ck_assert_int_eq(memcmp(units, zero, sizeof zero) != 0, places[i].could_be);
    }
}
END_TEST

START_TEST(only_a_block_of_the_arena_is_leased_again)
{
    const uint64_t end = UNITS * UNIT;

    begin_empty(_i);
    ck_assert(!heap_undo_return(&heap, end));
    ck_assert(!heap_undo_lease(&heap, end));
    ck_assert(!heap_undo_return(&heap, UINT64_MAX));
    ck_assert(!heap_undo_lease(&heap, UINT64_MAX));
    ck_assert(heap_undo_return(&heap, end - 1));
    ck_assert_pstr_eq(heap_restore(&heap, end), NULL);
    ck_assert_uint_eq(heap_leased_bytes(&heap), UNIT - granule);
    begin_again(_i);
    ck_assert(heap_undo_lease(&heap, end - 1));
    ck_assert_pstr_eq(heap_restore(&heap, end), NULL);
    ck_assert_uint_eq(heap_end_bytes(&heap), 0);
}
END_TEST

/* Its first granule used and not yet, or no longer, a start looks like the end of a large span. */
START_TEST(a_block_behind_a_full_one_is_half_opened_or_closed)
{
    begin_empty(_i);
    put(0, 1, granules);
    bit_set(units[1].used, 0);
    begin_again(_i);
    ck_assert(heap_undo_take(&heap, UNIT + granule, granule));
    ck_assert_pstr_eq(heap_restore(&heap, 2 * UNIT), NULL);
    assert_span(granule, UNIT - granule);
    ck_assert_uint_eq(heap_end_bytes(&heap), UNIT);

    bit_set(units[1].used, 0);
    begin_again(_i);
    ck_assert(heap_undo_lease(&heap, UNIT));
    ck_assert_pstr_eq(heap_restore(&heap, 2 * UNIT), NULL);
    assert_span(granule, UNIT - granule);

    bit_set(units[1].used, 0);
    begin_again(_i);
    ck_assert(heap_undo_cut(&heap, UNIT + granule, granule, false));
    ck_assert_pstr_eq(heap_restore(&heap, 2 * UNIT), NULL);
    assert_span(granule, UNIT - granule);
    assert_span(UNIT + granule, granule);
}
END_TEST

/* The unit's first granule is all that a large span has of it, and the only one that is used. */
START_TEST(a_span_behind_a_large_ones_last_granule_is_undone)
{
    begin_empty(_i);
    ck_assert_uint_eq(take(UNIT), granule);
    ck_assert_uint_eq(take(granule), UNIT + granule);
    begin_again(_i);
    ck_assert(heap_undo_take(&heap, UNIT + granule, granule));
    ck_assert_pstr_eq(heap_restore(&heap, 2 * UNIT), NULL);
    assert_span(granule, UNIT);
    assert_holds(1, 2, UNIT);
}
END_TEST

START_TEST(after_a_redone_clear_all_is_free_and_stale)
{
    begin_empty(_i);
    ck_assert_uint_eq(take(UNIT + granule), granule);
    (void)lease_at(granule);
    begin_again(_i);
    ck_assert(heap_redo_clear(&heap, 2 * UNIT));
    ck_assert(heap_redo_clear(&heap, 2 * UNIT));
    ck_assert_pstr_eq(heap_restore(&heap, 2 * UNIT), NULL);
    heap_check(&heap);
    assert_holds(0, 0, 0);
    ck_assert_uint_eq(heap_leased_bytes(&heap), 0);
    ck_assert(!take_span(UNIT - granule).clean);
    ck_assert(!take_span(UNIT - granule).clean);
    ck_assert(take_span(UNIT - granule).clean); /* in memory that was not there */
}
END_TEST

/* ---- One after another ------------------------------------------------------------------ */

START_TEST(the_next_span_is_the_first_that_starts_there_or_behind)
{
    struct heap_span span;

    begin_empty(_i);
    ck_assert(!heap_next(&heap, 0, UINT64_MAX, &span));
    heap_set_grown(&heap, UNITS * UNIT);
    ck_assert(!heap_next(&heap, 0, UINT64_MAX, &span));
    ck_assert_uint_eq(take(UNIT), granule);
    ck_assert_uint_eq(take(2 * granule), UNIT + granule);
    ck_assert_uint_eq(take(UNIT - granule), 2 * UNIT + granule);
    seal(UNIT + granule);

    ck_assert(heap_next(&heap, 0, UINT64_MAX, &span) && span.offset == granule && span.bytes == UNIT);
    ck_assert(!span.sealed);
    ck_assert(heap_next(&heap, granule, UINT64_MAX, &span) && span.offset == granule);
    ck_assert(heap_next(&heap, granule + 1, UINT64_MAX, &span) && span.offset == UNIT + granule);
    ck_assert(span.bytes == 2 * granule && span.sealed);
    ck_assert(heap_next(&heap, UNIT, UINT64_MAX, &span) && span.offset == UNIT + granule);
    ck_assert(heap_next(&heap, UNIT + granule, UINT64_MAX, &span) && span.offset == UNIT + granule);
    ck_assert(heap_next(&heap, UNIT + granule + 1, UINT64_MAX, &span) && span.offset == 2 * UNIT + granule);
    ck_assert(heap_next(&heap, 2 * UNIT - 1, UINT64_MAX, &span) && span.offset == 2 * UNIT + granule);
    ck_assert(heap_next(&heap, 2 * UNIT + granule, UINT64_MAX, &span) && span.offset == 2 * UNIT + granule);
    ck_assert(!heap_next(&heap, 2 * UNIT + granule + 1, UINT64_MAX, &span));
    ck_assert(!heap_next(&heap, UNITS * UNIT - 1, UINT64_MAX, &span));
    ck_assert(!heap_next(&heap, UNITS * UNIT, UINT64_MAX, &span));
    ck_assert(!heap_next(&heap, UINT64_MAX, UINT64_MAX, &span));

    cut(2 * UNIT + granule, 0);
    ck_assert(heap_next(&heap, UNIT, UINT64_MAX, &span) && span.offset == UNIT + granule);
    ck_assert(!heap_next(&heap, UNIT + granule + 1, UINT64_MAX, &span));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap: from its units");

    ADD_TESTS(suite, "what comes back", nothing_comes_back_from_nothing,
              a_large_span_comes_back_however_far_it_reaches, a_full_block_and_the_next_one_are_no_large_span,
              a_lease_comes_back_with_what_was_carved, a_lease_without_a_span_comes_back,
              code_that_was_there_stays_stale, a_block_that_was_opened_for_nothing_is_untaken,
              what_lies_beyond_the_memory_is_cleared_when_that_grows, what_is_counted_is_never_believed);
    ADD_TESTS(suite, "damage", a_bitmap_that_no_unit_has_is_told, a_wrong_trap_granule_is_told,
              a_large_span_that_can_not_be_is_told, a_lease_in_a_large_span_is_told,
              memory_that_the_arena_can_not_have_is_told, any_one_bit_may_be_flipped);
    ADD_TESTS(suite, "undoing", only_what_could_be_a_span_is_undone,
              only_a_block_of_the_arena_is_leased_again, a_block_behind_a_full_one_is_half_opened_or_closed,
              a_span_behind_a_large_ones_last_granule_is_undone, after_a_redone_clear_all_is_free_and_stale);
    ADD_TESTS(suite, "one after another", the_next_span_is_the_first_that_starts_there_or_behind);
    return suite_run(suite);
}
