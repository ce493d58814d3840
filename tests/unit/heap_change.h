/* SPDX-License-Identifier: MIT */
/*
 * A daemon's heap, changed at random. In two steps, as in the daemon: what is to be done, for
 * which the arena may have to grow, and then the change, which can be undone from what the
 * first step said. Who includes this has a must_be(got, wanted).
 */
#ifndef TESTS_UNIT_HEAP_CHANGE_H
#define TESTS_UNIT_HEAP_CHANGE_H

#include "proto/heap_restore.h"
#include "tests/unit/dice.h"

enum change_kind {
    CHANGE_NOTHING,
    CHANGE_TAKE,
    CHANGE_CARVE,
    CHANGE_CUT,
    CHANGE_SEAL,
    CHANGE_LEASE,
    CHANGE_RETURN,
    CHANGE_CLEAR,
    CHANGE_COUNT,
};

struct change {
    enum change_kind kind;
    struct placement placement; /* take, lease */
    struct heap_span span;      /* where it will be, or is; lease, return: its block */
    uint64_t keep_bytes;        /* cut */
};

static inline uint64_t change_some_bytes(const struct heap *heap, struct dice *dice)
{
    uint64_t lot = dice_below(dice, 100);

    if (lot < 50)
        return 1 + dice_below(dice, 8 * (uint64_t)heap->granularity);
    if (lot < 85)
        return 1 + dice_below(dice, BLOCK_BYTES - heap->granularity);
    if (lot < 90) /* around what fits a unit exactly */
        return (1 + dice_below(dice, 3)) * BLOCK_BYTES - dice_below(dice, 4) * heap->granularity;
    return 1 + dice_below(dice, 3 * (uint64_t)BLOCK_BYTES);
}

static inline void change_prepare(struct heap *heap, const struct placement *placement)
{
    if (placement->grown_bytes > heap_grown_bytes(heap))
        heap_set_grown(heap, placement->grown_bytes);
}

/* A span at random; false: there is none. */
static inline bool change_pick(const struct heap *heap, struct dice *dice, struct heap_span *span)
{
    uint64_t from = dice_below(dice, heap_grown_bytes(heap) + 1);

    return heap_next(heap, from, UINT64_MAX, span) || heap_next(heap, 0, UINT64_MAX, span);
}

static inline bool change_pick_leased(const struct heap *heap, struct dice *dice, uint32_t *unit)
{
    uint32_t first = (uint32_t)dice_below(dice, heap->units_max);

    for (uint32_t i = 0; i < heap->units_grown; i++) {
        *unit = (first + i) % heap->units_grown;
        if (heap->units[*unit].is_leased != 0)
            return true;
    }
    return false;
}

static inline bool change_choose_carve(const struct heap *heap, struct dice *dice, struct change *change)
{
    uint32_t index;
    uint32_t at;
    uint32_t end;

    if (!change_pick_leased(heap, dice, &index))
        return false;
    at = 1 + (uint32_t)dice_below(dice, heap->unit_granules - 1);
    at = bit_next(heap->units[index].used, at, heap->unit_granules, UINT64_MAX);
    end = bit_next(heap->units[index].used, at, heap->unit_granules, 0);
    if (end == at)
        return false;
    if (dice_percent(dice, 80) && end - at > 8)
        end = at + 8;
    change->kind = CHANGE_CARVE;
    change->span = (struct heap_span){
        .offset = ((uint64_t)index * heap->unit_granules + at) * heap->granularity,
        .bytes = (1 + dice_below(dice, end - at)) * heap->granularity,
    };
    return true;
}

/* Finds something that can be done; the arena has memory for it then. */
static inline struct change change_choose(struct heap *heap, struct dice *dice, unsigned take_percent)
{
    struct change change = {.kind = CHANGE_NOTHING};
    uint64_t lot = dice_below(dice, 100);
    uint32_t unit;

    if (dice_below(dice, 2000) == 0) {
        change.kind = CHANGE_CLEAR;
    } else if (lot < take_percent / 2) {
        if (heap_place(heap, change_some_bytes(heap, dice), &change.placement))
            change.kind = CHANGE_TAKE;
    } else if (lot < take_percent) {
        (void)change_choose_carve(heap, dice, &change);
    } else if (lot < 90) {
        if (change_pick(heap, dice, &change.span)) {
            change.kind = CHANGE_CUT;
            change.keep_bytes = dice_percent(dice, 70) ? 0 : dice_below(dice, change.span.bytes + 1);
        }
    } else if (lot < 93) {
        if (change_pick(heap, dice, &change.span))
            change.kind = CHANGE_SEAL;
    } else if (lot < 96) {
        if (heap_place_lease(heap, 1 + dice_below(dice, BLOCK_BYTES - heap->granularity), &change.placement))
            change.kind = CHANGE_LEASE;
    } else if (lot < 98) {
        if (change_pick_leased(heap, dice, &unit)) {
            change.kind = CHANGE_RETURN;
            change.span.offset = (uint64_t)unit * BLOCK_BYTES + dice_below(dice, BLOCK_BYTES);
        }
    } else {
        heap_set_grown(heap, heap_end_bytes(heap)); /* no change that could be torn */
    }
    if (change.kind == CHANGE_TAKE || change.kind == CHANGE_LEASE) {
        change_prepare(heap, &change.placement);
        change.span.offset = change.placement.granule * heap->granularity;
        change.span.bytes = change.placement.granules * heap->granularity;
    }
    return change;
}

static inline void change_run(struct heap *heap, const struct change *change)
{
    struct heap_span span;
    struct lease lease;

    switch (change->kind) {
    case CHANGE_TAKE:
        span = heap_take(heap, &change->placement);
        must_be(span.offset, change->span.offset);
        must_be(span.bytes, change->span.bytes);
        break;
    case CHANGE_CARVE:
        must_be(heap_carve(heap, change->span.offset, change->span.bytes, &span), true);
        must_be(span.bytes, change->span.bytes);
        break;
    case CHANGE_CUT:
        heap_cut(heap, &change->span, change->keep_bytes);
        break;
    case CHANGE_SEAL:
        heap_seal(heap, &change->span);
        break;
    case CHANGE_LEASE:
        lease = heap_lease(heap, &change->placement);
        must_be(lease.offset, change->span.offset);
        must_be(lease.bytes >= change->span.bytes, true);
        break;
    case CHANGE_RETURN:
        must_be(heap_return(heap, change->span.offset), true);
        break;
    case CHANGE_CLEAR:
        heap_clear(heap);
        break;
    default:
        break;
    }
}

/* On the units that a change may have been half done to; what it was must lie in `grown_bytes`. */
static inline bool change_undo(struct heap *heap, const struct change *change, uint64_t grown_bytes)
{
    const struct heap_span *span = &change->span;

    switch (change->kind) {
    case CHANGE_TAKE:
    case CHANGE_CARVE:
        return heap_undo_take(heap, span->offset, span->bytes);
    case CHANGE_CUT:
    case CHANGE_SEAL:
        return heap_undo_cut(heap, span->offset, span->bytes, span->sealed);
    case CHANGE_LEASE:
        return heap_undo_lease(heap, span->offset);
    case CHANGE_RETURN:
        return heap_undo_return(heap, span->offset);
    case CHANGE_CLEAR:
        return heap_redo_clear(heap, grown_bytes);
    default:
        return true;
    }
}

static inline void change_at_random(struct heap *heap, struct dice *dice, unsigned take_percent)
{
    struct change change = change_choose(heap, dice, take_percent);

    change_run(heap, &change);
}

#endif
