/* SPDX-License-Identifier: MIT */
/*
 * A heap that changes, and is restored again and again.
 *
 * - After a change that was torn, as the input says, it is undone: all is as it was before.
 * - After anything was written over its units, they are refused, or the heap is one like any other,
 *   in all that it tells and under whatever changes come then.
 */
#include <string.h>

#include "tests/fuzz/input.h"
#include "tests/fuzz/target.h"

#include "tests/unit/heap_change.h"
#include "tests/unit/heap_check.h"

#define UNITS 4u
#define ROUNDS_MAX 24
#define SPOILS_MAX 15u

static _Alignas(64) struct unit units[UNITS];
static uint64_t granularity;
static uint32_t units_max;

static void make(struct heap *heap)
{
    heap_deinit(heap);
    must_be(heap_init(heap, units_max * (uint64_t)BLOCK_BYTES, (uint32_t)granularity, units), 0);
}

static void change_some(struct heap *heap, struct input *input)
{
    struct dice dice = {.state = input_number(input, 2)};
    unsigned count = input_byte(input) % 64;

    for (unsigned i = 0; i < count; i++)
        change_at_random(heap, &dice, 60);
}

/* One change of which the input says how much was done; by words, since less is a random test's. */
static void tear(struct heap *heap, struct input *input)
{
    struct dice dice = {.state = input_number(input, 2)};
    struct change change = change_choose(heap, &dice, 50);
    const uint64_t grown_bytes = heap_grown_bytes(heap);
    struct unit before[UNITS];
    struct unit after[UNITS];
    uint8_t *torn = (uint8_t *)units;
    const uint8_t *old = (const uint8_t *)before;
    uint64_t mask = input_number(input, 8);
    uint32_t turn = input_byte(input) % 64;

    memcpy(before, units, sizeof before);
    change_run(heap, &change);
    memcpy(after, units, sizeof after);
    for (size_t at = 0; at < sizeof units; at += sizeof(uint64_t), turn++) {
        if ((mask >> turn % 64 & 1) != 0)
            memcpy(torn + at, old + at, sizeof(uint64_t));
    }
    must(change_undo(heap, &change, grown_bytes));
    make(heap);
    must(heap_restore(heap, grown_bytes) == NULL);
    for (uint32_t i = 0; i < heap->units_grown; i++) {
        const struct unit *was = change.kind == CHANGE_CLEAR ? &after[i] : &before[i];

        must(memcmp(&units[i], was, offsetof(struct unit, stale)) == 0);
        must(memcmp(&units[i].large, &was->large,
                    offsetof(struct unit, unused) - offsetof(struct unit, large)) == 0);
        for (uint32_t at = 0; at < UNIT_WORDS; at++)
            must((was->stale[at] & ~units[i].stale[at]) == 0);
    }
}

static void spoil_range(struct unit *unit, struct input *input)
{
    uint64_t *const maps[] = {unit->used, unit->start, unit->sealed, unit->stale};
    uint8_t how = input_byte(input);
    uint32_t from = (uint32_t)input_number(input, 2) % (UNIT_WORDS * WORD_BITS);
    uint32_t to = from + 1 + (uint32_t)input_number(input, 2) % (UNIT_WORDS * WORD_BITS - from);

    if ((how & 0x80) != 0)
        range_set(maps[how % 4], from, to);
    else
        range_clear(maps[how % 4], from, to);
}

static void spoil(struct heap *heap, struct input *input)
{
    uint8_t how = input_byte(input);
    struct unit *unit = &units[how % UNITS];
    struct change change = {.kind = (enum change_kind)(how % CHANGE_COUNT)};
    size_t at;

    switch (how >> 5) {
    case 0:
    case 1:
        at = input_number(input, 2) % sizeof *unit;
        ((uint8_t *)unit)[at] ^= input_byte(input);
        break;
    case 2:
    case 3:
        spoil_range(unit, input);
        break;
    case 4:
        unit->is_leased ^= 1;
        break;
    case 5:
        *unit = units[input_byte(input) % UNITS];
        break;
    default:
        change.span.offset = input_number(input, 2) * granularity + input_byte(input) % 2;
        change.span.bytes = input_number(input, 2) * granularity;
        change.span.sealed = change.span.bytes / granularity % 2 != 0;
        (void)change_undo(heap, &change, (uint64_t)how % 8 * BLOCK_BYTES);
        break;
    }
}

/* False: refused. */
static bool spoil_some(struct heap *heap, struct input *input)
{
    uint8_t how = input_byte(input);
    uint64_t grown_bytes = heap_grown_bytes(heap);

    if (how >= 0x80) /* as if the arena had more memory, or less */
        grown_bytes = how % (units_max + 1) * (uint64_t)BLOCK_BYTES;
    make(heap);
    for (unsigned i = how % (SPOILS_MAX + 1); i > 0; i--)
        spoil(heap, input);
    return heap_restore(heap, grown_bytes) == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {data, bytes};
    uint8_t shape = input_byte(&input);
    struct heap heap = {0};
    bool is_good = true;

    granularity = UINT64_C(64) << shape % 3;
    units_max = 1 + shape / 3 % UNITS;
    memset(units, 0, sizeof units);
    make(&heap);
    for (int i = 0; i < ROUNDS_MAX && input.left > 0 && is_good; i++) {
        uint8_t what = input_byte(&input);

        if (what % 4 == 0)
            change_some(&heap, &input);
        else if (what % 4 == 1)
            tear(&heap, &input);
        else
            is_good = spoil_some(&heap, &input);
        if (is_good)
            heap_check(&heap);
    }
    heap_deinit(&heap);
    return 0;
}
