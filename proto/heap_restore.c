/* SPDX-License-Identifier: MIT */
#include "proto/heap_restore.h"

/* ---- Undoing --------------------------------------------------------------------- */

/* The granules of a span in one unit. */
struct part {
    struct unit *unit;
    uint32_t from;
    uint32_t to;
};

/* The part that starts at granule `at` of the arena, of a span that ends at `end`. */
static struct part part_of(struct heap *heap, uint64_t at, uint64_t end)
{
    uint64_t index = at >> heap->unit_shift;
    uint64_t left = end - index * heap->unit_granules;

    return (struct part){
        .unit = &heap->units[index],
        .from = (uint32_t)(at & (heap->unit_granules - 1)),
        .to = left < heap->unit_granules ? (uint32_t)left : heap->unit_granules,
    };
}

/* Some span might have been there: [*start, *end) in granules of the arena. */
static bool find_place(const struct heap *heap, uint64_t offset, uint64_t bytes, uint64_t *start,
                       uint64_t *end)
{
    uint64_t arena_bytes = (uint64_t)heap->units_max * BLOCK_BYTES;
    uint64_t from = offset % BLOCK_BYTES;

    if (bytes == 0 || offset >= arena_bytes || bytes > arena_bytes - offset ||
        ((offset | bytes) & (heap->granularity - 1)) != 0)
        return false;
    /* Only a large span leaves its unit, and it begins behind the leading trap granule. */
    if (from == 0 || (bytes > BLOCK_BYTES - from && from != heap->granularity))
        return false;
    *start = offset >> heap->granule_shift;
    *end = (offset + bytes) >> heap->granule_shift;
    return true;
}

/*
 * The unit was perhaps being opened or closed: by what it holds it is a block, or untaken. Where its granule
 * 0 belongs to a large span it was neither, and `head` says so: in such a unit no change has touched it.
 */
static void settle(const struct heap *heap, struct unit *unit)
{
    if (unit->head != 0)
        return;
    if (unit->is_leased != 0 || bit_next(unit->used, 1, heap->unit_granules, 0) < heap->unit_granules) {
        bit_set(unit->used, 0);
        bit_set(unit->start, 0);
    } else {
        bit_clear(unit->used, 0);
        bit_clear(unit->start, 0);
    }
}

bool heap_undo_take(struct heap *heap, uint64_t offset, uint64_t bytes)
{
    uint64_t start;
    uint64_t end;

    if (!find_place(heap, offset, bytes, &start, &end))
        return false;
    for (uint64_t at = start; at < end;) {
        struct part part = part_of(heap, at, end);

        range_clear(part.unit->used, part.from, part.to);
        range_clear(part.unit->start, part.from, part.to);
        if (part.from != 0)
            settle(heap, part.unit);
        at += part.to - part.from;
    }
    return true;
}

bool heap_undo_cut(struct heap *heap, uint64_t offset, uint64_t bytes, bool sealed)
{
    uint64_t start;
    uint64_t end;
    struct part part;

    if (!find_place(heap, offset, bytes, &start, &end))
        return false;
    for (uint64_t at = start; at < end; at += part.to - part.from) {
        part = part_of(heap, at, end);
        range_set(part.unit->used, part.from, part.to);
        range_clear(part.unit->start, part.from, part.to);
        range_clear(part.unit->sealed, part.from, part.to);
        if (part.from != 0)
            settle(heap, part.unit);
    }
    part = part_of(heap, start, end);
    bit_set(part.unit->start, part.from);
    if (sealed)
        bit_set(part.unit->sealed, part.from);
    return true;
}

static bool set_leased(struct heap *heap, uint64_t offset, uint32_t is_leased)
{
    struct unit *unit;

    if (offset / BLOCK_BYTES >= heap->units_max)
        return false;
    unit = &heap->units[offset / BLOCK_BYTES];
    unit->is_leased = is_leased;
    settle(heap, unit);
    return true;
}

bool heap_undo_lease(struct heap *heap, uint64_t offset)
{
    return set_leased(heap, offset, 0);
}

bool heap_undo_return(struct heap *heap, uint64_t offset)
{
    return set_leased(heap, offset, 1);
}

bool heap_redo_clear(struct heap *heap, uint64_t grown_bytes)
{
    if (grown_bytes % BLOCK_BYTES != 0 || grown_bytes / BLOCK_BYTES > heap->units_max)
        return false;
    for (uint64_t index = 0; index < grown_bytes / BLOCK_BYTES; index++) {
        heap->units[index] = (struct unit){0};
        range_set(heap->units[index].stale, 0, heap->unit_granules);
    }
    return true;
}

/* ---- Checking ---------------------------------------------------------------------- */

/* What is wrong with the unit's truth by itself. */
static const char *check_unit(const struct unit *unit, uint32_t unit_granules)
{
    uint64_t before = 1; /* the granule before this word's first one is used; granule 0 is looked at below */

    for (uint32_t word = 0; word < UNIT_WORDS; word++) {
        uint64_t used = unit->used[word];
        uint64_t start = unit->start[word];
        uint64_t sealed = unit->sealed[word];

        if (word * WORD_BITS >= unit_granules && (used | start | sealed | unit->stale[word]) != 0)
            return "a granule behind its unit's last one";
        if ((start & ~used) != 0)
            return "a span starts at a free granule";
        if ((sealed & ~start) != 0)
            return "a seal where no span starts";
        if ((used & ~(used << 1 | before) & ~start) != 0)
            return "used granules of no span";
        before = used >> (WORD_BITS - 1);
    }
    if (unit->is_leased > 1)
        return "a block that is leased more than once";
    if (bit_get(unit->sealed, 0))
        return "a sealed trap granule";
    if (!bit_get(unit->used, 0)) {
        if (unit->is_leased != 0 || range_any(unit->used, 1, unit_granules))
            return "a block without its trap granule";
    } else if (bit_get(unit->start, 0) && bit_get(unit->used, 1) && !bit_get(unit->start, 1)) {
        return "a span starts at a trap granule";
    }
    return NULL;
}

/* ---- Restoring --------------------------------------------------------------------- */

/* The free runs of the unit, and the longest one. */
static uint32_t count_runs(const struct unit *unit, uint32_t unit_granules, uint32_t *longest)
{
    uint32_t runs = 0;
    uint32_t end;

    *longest = 0;
    for (uint32_t from = 0; from < unit_granules; from = end) {
        uint32_t first = bit_next(unit->used, from, unit_granules, UINT64_MAX);

        end = bit_next(unit->used, first, unit_granules, 0);
        if (end - first > *longest)
            *longest = end - first;
        runs += end > first;
    }
    return runs;
}

static uint32_t count_bits(const uint64_t *map)
{
    uint32_t count = 0;

    for (uint32_t word = 0; word < UNIT_WORDS; word++)
        count += (uint32_t)__builtin_popcountll(map[word]);
    return count;
}

/*
 * The unit's part of what is derived. *head: 0, or 1 + the unit whose granule 1 starts a span
 * that takes all up to this unit, and continues in it if that does not begin with a trap granule.
 */
static const char *restore_unit(struct heap *heap, uint32_t index, uint32_t *head)
{
    const uint32_t granules = heap->unit_granules;
    struct unit *unit = &heap->units[index];
    const char *reason = check_unit(unit, granules);
    bool continues;
    bool is_full;
    uint32_t longest;

    if (reason != NULL)
        return reason;
    continues = bit_get(unit->used, 0) && !bit_get(unit->start, 0);
    if (continues && *head == 0)
        return "a large span that starts nowhere";
    unit->large = 0;
    unit->head = continues ? *head : 0;
    unit->lead = 1;
    unit->count = count_bits(unit->used);
    if (unit->count <= 1 && !continues && unit->is_leased == 0) {
        bit_clear(unit->used, 0);
        bit_clear(unit->start, 0);
        unit->lead = 0;
        unit->count = 0;
        unit->rest = 0;
        *head = 0;
        return NULL;
    }
    unit->rest = bit_last(unit->used, granules - 1) + 1;
    is_full = unit->count == granules;
    if (continues) {
        struct unit *first = &heap->units[*head - 1];
        uint32_t start = bit_next(unit->start, 0, granules, 0);
        uint32_t free = bit_next(unit->used, 0, granules, UINT64_MAX);
        uint32_t to = start < free ? start : free;

        if (unit->is_leased != 0 && to == granules)
            return "a lease in the middle of a large span";
        first->large = (first->large == 0 ? granules - 1 : first->large) + to;
        if (to < granules)
            *head = 0;
    } else {
        bool is_one_span = is_full && bit_last(unit->start, granules - 1) == 1;

        *head = is_one_span && unit->is_leased == 0 ? index + 1 : 0;
    }

    bit_set(heap->taken, index);
    heap->blocks += continues || unit->count > 1;
    heap->spans += count_bits(unit->start) - !continues;
    heap->used_granules += unit->count - !continues;
    heap->free_runs += count_runs(unit, granules, &longest);
    if (unit->is_leased != 0)
        heap->leased_granules += granules - unit->count;
    else
        bins_link(&heap->bins, index, longest);
    return NULL;
}

const char *heap_restore(struct heap *heap, uint64_t grown_bytes)
{
    uint32_t head = 0;

    assert(heap->units_grown == 0 && heap->blocks == 0 && !heap->is_lessee);
    if (grown_bytes % BLOCK_BYTES != 0 || grown_bytes / BLOCK_BYTES > heap->units_max)
        return "more memory than the arena can have, or part of a block";
    for (uint32_t index = 0; index < grown_bytes / BLOCK_BYTES; index++) {
        const char *reason = restore_unit(heap, index, &head);

        if (reason != NULL)
            return reason;
    }
    heap->first_untaken = bit_next(heap->taken, 0, heap->units_max, UINT64_MAX);
    heap->units_grown = (uint32_t)(grown_bytes / BLOCK_BYTES);
    return NULL;
}
