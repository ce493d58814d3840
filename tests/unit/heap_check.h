/* SPDX-License-Identifier: MIT */
/*
 * All that a daemon's heap tells, counted once more granule by granule from the spans that
 * heap_next() finds. Who includes this has a must_be(got, wanted).
 */
#ifndef TESTS_UNIT_HEAP_CHECK_H
#define TESTS_UNIT_HEAP_CHECK_H

#include <string.h>

#include "proto/heap.h"

#define CHECK_UNITS_MAX 8u
#define CHECK_GRANULES_MAX (CHECK_UNITS_MAX * (BLOCK_BYTES / GRANULARITY_MIN_BYTES))

struct heap_totals {
    uint64_t spans;
    uint64_t used; /* granules, as all below */
    uint64_t leased;
    uint64_t free_runs;
    uint64_t largest;
    uint64_t empty; /* of the units before this one that are in no block */
    uint32_t blocks;
};

/* Each span is found as what it is, and lies where one may be. */
static inline void check_spans(const struct heap *heap, bool *owned, struct heap_totals *totals)
{
    const uint64_t unit = heap->unit_granules;
    struct heap_span span;
    struct heap_span same;
    uint64_t end = 0;

    for (; heap_next(heap, end, UINT64_MAX, &span); end = span.offset + span.bytes) {
        uint64_t first = span.offset / heap->granularity;
        uint64_t granules = span.bytes / heap->granularity;

        must_be(span.offset % heap->granularity, 0);
        must_be(span.bytes % heap->granularity, 0);
        must_be(granules > 0 && span.offset >= end, true);
        must_be(span.bytes <= heap_grown_bytes(heap) - span.offset, true);
        must_be(first % unit != 0, true);
        must_be(first % unit + granules <= unit || first % unit == 1, true);
        must_be(heap_find(heap, span.offset, &same), true);
        must_be(same.bytes, span.bytes);
        must_be(same.sealed, span.sealed);
        for (uint64_t at = first; at < first + granules; at++) {
            owned[at] = true;
            must_be(heap_find(heap, at * heap->granularity, &same), at == first);
            must_be(heap_find_around(heap, at * heap->granularity, &same), true);
            must_be(same.offset, span.offset);
            must_be(same.bytes, span.bytes);
            must_be(same.sealed, span.sealed);
        }
        totals->spans++;
        totals->used += granules;
    }
}

static inline void check_unit_totals(const struct heap *heap, uint32_t unit, const bool *owned,
                                     struct heap_totals *totals)
{
    const bool is_leased = heap->units[unit].is_leased != 0;
    uint32_t used = 0;
    uint32_t free = 0;
    uint32_t runs = 0;
    uint32_t run = 0;
    uint32_t longest = 0;

    for (uint32_t at = 0; at < heap->unit_granules; at++) {
        uint64_t offset = ((uint64_t)unit * heap->unit_granules + at) * heap->granularity;
        bool is_owned = owned[offset / heap->granularity];
        struct heap_span span;

        must_be(heap_find_around(heap, offset, &span), is_owned);
        used += is_owned;
        run = is_owned || at == 0 ? 0 : run + 1;
        free += run > 0;
        runs += run == 1;
        longest = run > longest ? run : longest;
    }
    totals->blocks += used > 0;
    totals->leased += is_leased ? free : 0;
    totals->free_runs += used > 0 || is_leased ? runs : 0;
    totals->empty = used > 0 || is_leased ? 0 : totals->empty + heap->unit_granules;
    if (is_leased)
        longest = 0; /* not for this heap to give */
    if (totals->empty > 0 && totals->empty - 1 > longest)
        totals->largest = totals->empty - 1 > totals->largest ? totals->empty - 1 : totals->largest;
    else
        totals->largest = longest > totals->largest ? longest : totals->largest;
}

static inline void heap_check(const struct heap *heap)
{
    static bool owned[CHECK_GRANULES_MAX];
    struct heap_totals totals = {0};
    struct placement placement;

    must_be(heap->units_max <= CHECK_UNITS_MAX, true);
    memset(owned, false, sizeof owned);
    check_spans(heap, owned, &totals);
    for (uint32_t unit = 0; unit < heap->units_grown; unit++)
        check_unit_totals(heap, unit, owned, &totals);
    must_be(heap->spans, totals.spans);
    must_be(heap->blocks, totals.blocks);
    must_be(heap->free_runs, totals.free_runs);
    must_be(heap_used_bytes(heap), totals.used * heap->granularity);
    must_be(heap_leased_bytes(heap), totals.leased * heap->granularity);
    must_be(heap_largest_free_bytes(heap), totals.largest * heap->granularity);
    /* That much can be had without growing, and no granule more. */
    if (totals.largest > 0) {
        must_be(heap_place(heap, totals.largest * heap->granularity, &placement), true);
        must_be(placement.grown_bytes <= heap_grown_bytes(heap), true);
    }
    if (heap_place(heap, totals.largest * heap->granularity + 1, &placement))
        must_be(placement.grown_bytes > heap_grown_bytes(heap), true);
}

#endif
