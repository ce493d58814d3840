/* SPDX-License-Identifier: MIT */
/*
 * Heaps that are restored at random moments of a random life: after a change, in the middle of
 * one, and from units that something else wrote over. JITBROKER_SEED replays a run,
 * JITBROKER_OPERATIONS sets its length.
 */
#include <string.h>

#include "tests/harness/suite.h"
#include "tests/unit/model.h" /* must(), must_be() */

#include "tests/unit/heap_change.h"
#include "tests/unit/heap_check.h"

#define OPERATIONS_DEFAULT UINT64_C(150000)
#define UNITS 6u
#define GRANULARITIES 3

static uint64_t seed;
static struct dice dice;
static uint64_t granularity;

/* Two heaps over units of their own: one lives, the other is made from a copy of its units. */
static struct place {
    struct heap heap;
    _Alignas(64) struct unit units[UNITS];
} places[2];
static struct heap *heap;
static struct heap *restored;

/* What the live heap's units were. */
static struct unit at_first[UNITS]; /* before the arena grew for a change */
static struct unit before[UNITS];
static struct unit after[UNITS];

static void make(struct heap *of)
{
    struct unit *units = of == &places[0].heap ? places[0].units : places[1].units;

    heap_deinit(of);
    must_be(heap_init(of, UNITS * (uint64_t)BLOCK_BYTES, (uint32_t)granularity, units), 0);
}

static void begin(int i)
{
    dice.state = seed + (uint64_t)i;
    granularity = UINT64_C(64) << i % GRANULARITIES;
    heap = &places[0].heap;
    restored = &places[1].heap;
    memset(places[0].units, 0, sizeof places[0].units);
    make(heap);
}

static void end(void)
{
    heap_deinit(&places[0].heap);
    heap_deinit(&places[1].heap);
}

/* Life goes on in the heap that was restored. */
static void swap(void)
{
    struct heap *other = heap;

    heap = restored;
    restored = other;
}

static unsigned some_percent(void)
{
    static unsigned percent = 45;

    if (dice_below(&dice, 300) == 0)
        percent = 30 + (unsigned)dice_below(&dice, 35);
    return percent;
}

/* All that can't be other than it was; the order in a bin can. */
static void must_be_same(const struct heap *one, const struct heap *other)
{
    struct placement placement;
    struct placement same;

    must_be(one->units_grown, other->units_grown);
    must_be(one->first_untaken, other->first_untaken);
    must_be(one->blocks, other->blocks);
    must_be(one->spans, other->spans);
    must_be(one->used_granules, other->used_granules);
    must_be(one->leased_granules, other->leased_granules);
    must_be(one->free_runs, other->free_runs);
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        must_be(bit_get(one->taken, unit), bit_get(other->taken, unit));
        must_be(one->bins.links[unit].longest, other->bins.links[unit].longest);
    }
    for (int i = 0; i < 8; i++) {
        uint64_t bytes = change_some_bytes(one, &dice);

        must_be(heap_place(one, bytes, &placement), heap_place(other, bytes, &same));
        must_be(placement.grown_bytes, same.grown_bytes);
    }
}

START_TEST(a_restored_heap_is_the_one_that_its_units_were_of)
{
    uint64_t operations = dice_environment("JITBROKER_OPERATIONS", OPERATIONS_DEFAULT) / GRANULARITIES;

    begin(_i);
    for (uint64_t done = 0; done < operations; done++) {
        change_at_random(heap, &dice, some_percent());
        if (dice_below(&dice, 20) != 0)
            continue;
        make(restored);
        memcpy(restored->units, heap->units, sizeof before);
        /* Nobody looks beyond. */
        memset(&restored->units[heap->units_grown], (int)dice_below(&dice, 256),
               (UNITS - heap->units_grown) * sizeof(struct unit));
        must(heap_restore(restored, heap_grown_bytes(heap)) == NULL, "a good heap is refused");
        must_be_same(heap, restored);
        must_be(memcmp(restored->units, heap->units, heap->units_grown * sizeof(struct unit)), 0);
        if (dice_below(&dice, 10) == 0)
            heap_check(restored);
        swap();
    }
    heap_check(heap);
    end();
}
END_TEST

/* ---- Torn ------------------------------------------------------------------------------ */

/* What might be found after a kill in the middle: of each part the old value, or the new one. */
static void tear(struct unit *units)
{
    const size_t part = UINT64_C(1) << dice_below(&dice, 4); /* bytes */
    const unsigned new_percent = (unsigned)dice_below(&dice, 101);
    const uint8_t *grown = (const uint8_t *)before;
    const uint8_t *old = (const uint8_t *)at_first;
    const uint8_t *new = (const uint8_t *)after;
    uint8_t *torn = (uint8_t *)units;

    for (size_t at = 0; at < sizeof before; at += part) {
        const uint8_t *from = dice_percent(&dice, new_percent) ? new : dice_percent(&dice, 50) ? old : grown;

        memcpy(torn + at, from + at, part);
    }
}

/* `stale` may have more bits, but none that no granule has. */
static void must_be_undone(const struct unit *unit, const struct unit *was)
{
    must_be(memcmp(unit->used, was->used, sizeof was->used), 0);
    must_be(memcmp(unit->start, was->start, sizeof was->start), 0);
    must_be(memcmp(unit->sealed, was->sealed, sizeof was->sealed), 0);
    must_be(memcmp(&unit->large, &was->large, sizeof *was - offsetof(struct unit, large)), 0);
    for (uint32_t word = 0; word < UNIT_WORDS; word++)
        must_be(was->stale[word] & ~unit->stale[word], 0);
}

/* Undoes the change as one that was torn somewhere. */
static void restore_torn(const struct change *change, uint64_t grown_bytes)
{
    const char *reason;

    make(restored);
    tear(restored->units);
    for (uint64_t times = 1 + dice_below(&dice, 2); times > 0; times--)
        must(change_undo(restored, change, grown_bytes), "change %d can't be undone", change->kind);
    reason = heap_restore(restored, grown_bytes);
    must(reason == NULL, "change %d at 0x%" PRIx64 ", undone: %s", change->kind, change->span.offset, reason);
    for (uint32_t unit = 0; unit < restored->units_grown; unit++)
        must_be_undone(&restored->units[unit], change->kind == CHANGE_CLEAR ? &after[unit] : &before[unit]);
}

START_TEST(a_change_that_was_torn_anywhere_is_undone)
{
    uint64_t operations = dice_environment("JITBROKER_OPERATIONS", OPERATIONS_DEFAULT) / GRANULARITIES / 2;
    uint64_t tried[CHANGE_COUNT] = {0};

    begin(_i);
    for (uint64_t done = 0; done < operations; done++) {
        struct change change;

        memcpy(at_first, heap->units, sizeof at_first);
        change = change_choose(heap, &dice, some_percent());
        if (change.kind == CHANGE_NOTHING)
            continue;
        tried[change.kind]++;
        memcpy(before, heap->units, sizeof before);
        change_run(heap, &change);
        memcpy(after, heap->units, sizeof after);
        for (int times = 0; times < 3; times++)
            restore_torn(&change, heap_grown_bytes(heap));
        if (dice_percent(&dice, 10)) {
            if (dice_percent(&dice, 10))
                heap_check(restored);
            /* The change is done again, as by the next daemon. */
            swap();
            if (change.kind == CHANGE_TAKE)
                must_be(heap_place(heap, change.placement.granules * granularity, &change.placement), true);
            if (change.kind != CHANGE_TAKE && change.kind != CHANGE_LEASE)
                change_run(heap, &change);
        }
    }
    for (int kind = CHANGE_NOTHING + 1; kind < CHANGE_COUNT; kind++)
        must(tried[kind] > 0 || operations < 20000, "change %d was never tried", kind);
    heap_check(heap);
    end();
}
END_TEST

/* ---- Garbage ----------------------------------------------------------------------------- */

static uint8_t *some_byte(void)
{
    return (uint8_t *)restored->units + dice_below(&dice, heap->units_grown * sizeof(struct unit));
}

static void spoil(void)
{
    struct unit *unit = &restored->units[dice_below(&dice, heap->units_grown)];

    switch (dice_below(&dice, 6)) {
    case 0:
    case 1:
        *some_byte() ^= (uint8_t)(1u << dice_below(&dice, 8));
        break;
    case 2:
        *some_byte() = (uint8_t)dice_next(&dice);
        break;
    case 3:
        *unit = restored->units[dice_below(&dice, heap->units_grown)];
        break;
    case 4:
        memset(unit, (int)dice_below(&dice, 2) * 255, dice_below(&dice, sizeof *unit + 1));
        break;
    default:
        for (uint32_t word = 0; word < UNIT_WORDS; word++)
            unit->used[word] = dice_next(&dice);
        break;
    }
}

/* The undoing of something that never was. */
static void undo_nonsense(void)
{
    struct change change = {
        .kind = (enum change_kind)dice_below(&dice, CHANGE_CLEAR),
        .span =
            {
                .offset = dice_below(&dice, UNITS * UINT64_C(70000) / granularity) * granularity,
                .bytes = change_some_bytes(heap, &dice) / granularity * granularity,
                .sealed = dice_percent(&dice, 50),
            },
    };

    (void)change_undo(restored, &change, 0);
}

START_TEST(spoiled_units_are_refused_or_a_heap_like_any_other)
{
    uint64_t rounds = dice_environment("JITBROKER_OPERATIONS", OPERATIONS_DEFAULT) / GRANULARITIES / 20;
    uint64_t refused = 0;
    uint64_t passed = 0;

    begin(_i);
    for (uint64_t done = 0; done < rounds; done++) {
        for (int i = 0; i < 20 || heap->units_grown == 0; i++)
            change_at_random(heap, &dice, some_percent());
        make(restored);
        memcpy(restored->units, heap->units, sizeof before);
        for (uint64_t spoils = dice_below(&dice, 4); spoils > 0; spoils--)
            spoil();
        for (uint64_t undone = dice_below(&dice, 3); undone > 0; undone--)
            undo_nonsense();
        if (heap_restore(restored, heap_grown_bytes(heap)) != NULL) {
            refused++;
            continue;
        }
        passed++;
        heap_check(restored);
        for (uint64_t i = dice_below(&dice, 50) == 0 ? 10000 : 100; i > 0; i--)
            change_at_random(restored, &dice, some_percent());
        heap_check(restored);
    }
    must(rounds < 1000 || (refused > rounds / 10 && passed > rounds / 10),
         "of %" PRIu64 " %" PRIu64 " were refused", rounds, refused);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap: restored at random");
    TCase *all = tcase_create("with 64, 128, 256");

    seed = dice_seed();
    tcase_add_loop_test(all, a_restored_heap_is_the_one_that_its_units_were_of, 0, GRANULARITIES);
    tcase_add_loop_test(all, a_change_that_was_torn_anywhere_is_undone, 0, GRANULARITIES);
    tcase_add_loop_test(all, spoiled_units_are_refused_or_a_heap_like_any_other, 0, GRANULARITIES);
    tcase_set_timeout(all, 0);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
