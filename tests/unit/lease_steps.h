/* SPDX-License-Identifier: MIT */
/*
 * What the tests of leases do again and again, on either side. After each step all that
 * the heap counts is counted once more, granule by granule.
 */
#ifndef TESTS_UNIT_LEASE_STEPS_H
#define TESTS_UNIT_LEASE_STEPS_H

#include "tests/unit/heap_steps.h"

#define UNITS_MAX 8u

/* By unit: the first granule that a lessee may have, 0: it is not leased. */
static uint64_t first_leased[UNITS_MAX];

struct counts {
    uint64_t blocks;
    uint64_t spans;
    uint64_t used;
    uint64_t leased;
    uint64_t free_runs;
    uint64_t largest;
    uint64_t empty; /* granules of the units before this one that are in no block */
};

static inline void start(int granularity, uint32_t units)
{
    ck_assert_uint_le(units, UNITS_MAX);
    memset(first_leased, 0, sizeof first_leased);
    begin(granularity, units);
}

static inline void count_unit(uint64_t unit, struct counts *counts)
{
    const uint64_t granules = UNIT / granule;
    const uint64_t first = heap.is_lessee ? first_leased[unit] : 1;
    const bool leased = first_leased[unit] != 0;
    uint64_t owned = 0;
    uint64_t runs = 0;
    uint64_t run = 0;
    uint64_t longest = 0;
    uint64_t free = 0;

    for (uint64_t at = 0; at < granules; at++) {
        uint64_t offset = unit * UNIT + at * granule;
        struct heap_span span;
        bool is_owned = heap_find_around(&heap, offset, &span);

        owned += is_owned;
        counts->spans += heap_find(&heap, offset, &span);
        run = is_owned || at < first ? 0 : run + 1;
        free += run > 0;
        runs += run == 1;
        if (run > longest)
            longest = run;
    }
    counts->used += owned;
    counts->blocks += owned > 0;
    counts->empty = owned > 0 || leased ? 0 : counts->empty + granules;
    if (owned > 0 || leased)
        counts->free_runs += runs;
    if (leased && !heap.is_lessee)
        counts->leased += free;
    if (leased != heap.is_lessee)
        longest = 0; /* not for this heap to give */
    else if (!heap.is_lessee && owned == 0)
        longest = counts->empty - 1;
    if (longest > counts->largest)
        counts->largest = longest;
}

static inline void assert_counts(void)
{
    struct counts counts = {0};
    struct placement placement;

    for (uint64_t unit = 0; unit < heap.units_grown; unit++)
        count_unit(unit, &counts);
    ck_assert_uint_eq(heap.blocks, counts.blocks);
    ck_assert_uint_eq(heap.spans, counts.spans);
    ck_assert_uint_eq(heap_used_bytes(&heap), counts.used * granule);
    ck_assert_uint_eq(heap_leased_bytes(&heap), counts.leased * granule);
    ck_assert_uint_eq(heap.free_runs, counts.free_runs);
    ck_assert_uint_eq(heap_largest_free_bytes(&heap), counts.largest * granule);
    /* That much can be had without growing, and no granule more. */
    if (counts.largest > 0) {
        ck_assert(heap_place(&heap, counts.largest * granule, &placement));
        ck_assert_uint_le(placement.grown_bytes, heap_grown_bytes(&heap));
    }
    if (heap_place(&heap, counts.largest * granule + 1, &placement))
        ck_assert_uint_gt(placement.grown_bytes, heap_grown_bytes(&heap));
}

static inline uint64_t alloc(uint64_t bytes)
{
    uint64_t offset = take(bytes);

    assert_counts();
    return offset;
}

static inline void shrink(uint64_t offset, uint64_t bytes)
{
    cut(offset, bytes);
    assert_counts();
}

static inline void release(uint64_t offset)
{
    shrink(offset, 0);
}

#endif
