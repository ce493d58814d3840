/* SPDX-License-Identifier: MIT */
/*
 * What a session should hold, in the simplest way that can be thought of: for each
 * granule of the arena whose it is, for each byte what it is. Shares nothing with the
 * daemon's allocator but the rules in heap.h that a client can observe.
 */
#ifndef TESTS_UNIT_MODEL_H
#define TESTS_UNIT_MODEL_H

#include <check.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

/* As ck_assert_*(), which write to a pipe each time, good or not: too slow for a million operations. */
#define must(condition, ...)           \
    do {                               \
        if (!(condition))              \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)
#define must_be(got, wanted)                                                             \
    do {                                                                                 \
        uint64_t got_ = (uint64_t)(got);                                                 \
        uint64_t wanted_ = (uint64_t)(wanted);                                           \
        must(got_ == wanted_, "%s: 0x%" PRIx64 ", not 0x%" PRIx64, #got, got_, wanted_); \
    } while (0)

#define MODEL_NO_UNIT UINT32_MAX

struct live {
    uint64_t offset;
    uint64_t bytes;
    bool sealed;
};

struct model {
    uint32_t units;
    uint32_t granularity;
    uint32_t fill_pattern;
    bool trims;             /* memory at the arena's end goes back when blocks become free ... */
    uint64_t reserve_bytes; /* ... but for so much */

    uint32_t unit_granules;
    uint64_t granules;
    uint32_t *owner; /* by granule: 1 + the first granule of the span it belongs to, or 0 */
    uint32_t *index; /* by first granule: which of `spans` */
    bool *stale;     /* by granule: was part of a span since the arena last grew to it */
    uint8_t *bytes;  /* of the arena; trap fill where no span is */
    struct live *spans;
    uint32_t count;
    uint32_t *owned;   /* by unit: granules that are in spans */
    uint32_t *longest; /* by unit: the longest free run, and how many there are, if not `dirty` */
    uint32_t *runs;
    bool *dirty;
    bool *leased; /* by unit */
    uint32_t blocks;
    uint64_t used;
    uint64_t reserved;
    uint64_t peak;
};

/* The first five members say what is modelled. */
void model_init(struct model *model);
void model_deinit(struct model *model);

/* A span is there now; returns whether it is clean. `reserved` must reach over it. */
bool model_add(struct model *model, uint64_t offset, uint64_t bytes);
/* Cuts it to `keep` bytes, a multiple of the granularity; 0 removes it. `filled`: the bytes stay as they are.
 */
void model_cut(struct model *model, struct live *live, uint64_t keep, bool filled);
/* All spans and leases are gone. */
void model_clear(struct model *model);
void model_reserve(struct model *model, uint64_t bytes);
/* Memory behind the last block goes back, but for `keep` bytes. */
void model_trim(struct model *model, uint64_t keep);
uint64_t model_end(const struct model *model);

/* The unit's free granules are leased; `reserved` must reach over it. Or are no longer. */
void model_lease(struct model *model, uint32_t unit);
void model_return(struct model *model, uint32_t unit);
/* That many granules can be carved there. */
bool model_can_carve(const struct model *model, uint64_t granule, uint64_t granules);

/* The span that starts at `offset`, or that it lies in; NULL: none. */
struct live *model_find(const struct model *model, uint64_t offset);
struct live *model_find_around(const struct model *model, uint64_t offset);

/* Where a span of so many granules must go: the unit, with *longest free run, 0 if it is in no block. */
uint32_t model_place(struct model *model, uint64_t granules, uint32_t *longest);
/*
 * Where a lease with room for so many granules may begin: in a block whose only free run is
 * its end, if no free run is longer (`tail` granules, 0: not there), or in a unit that is in no
 * block (MODEL_NO_UNIT: there is none). Of blocks with runs as long any can be the one that is
 * looked at, so both may do; `must_be_tail` if only the first does.
 */
struct lease_place {
    uint32_t tail;
    bool must_be_tail;
    uint32_t unit;
};
struct lease_place model_place_lease(struct model *model, uint64_t granules);
/* The granule that the unit's only free run starts at, if that reaches to the unit's end; else 0. */
uint32_t model_tail(struct model *model, uint32_t unit);
/* The unit's longest free run, and the shortest that has `granules` (0: none). */
uint32_t model_longest(struct model *model, uint32_t unit);
uint32_t model_shortest(const struct model *model, uint32_t unit, uint64_t granules);
/* The length of the free run that starts at `granule`; 0 if none starts there. */
uint32_t model_run(const struct model *model, uint64_t granule);

/* As the session tells them. */
uint64_t model_leased_bytes(const struct model *model);
uint64_t model_free_runs(struct model *model);
uint64_t model_largest_free_bytes(struct model *model);

#endif
