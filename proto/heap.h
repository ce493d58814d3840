/* SPDX-License-Identifier: MIT */
/*
 * The allocator: which granules of an arena belong to which span. The daemon's is the only
 * authority; a client that leases blocks has one of its own, for them alone, which proposes
 * what the daemon's then checks. It keeps nothing inside the arena. The arena is cut
 * into units of BLOCK_BYTES; a unit that holds spans is a block. Per unit there are
 * four bitmaps, one bit a granule:
 *
 *   used    the granule belongs to a span, or is the unit's leading trap granule
 *   start   a span (or the leading trap granule) starts here
 *   sealed  set at the start of a sealed span
 *   stale   the granule held code since the system gave us its memory
 *
 * Invariants:
 * - Granule 0 of a block never belongs to a span, except in the second and later
 *   units of a large span, one that does not fit a unit. A large span starts at granule 1
 *   of its first unit and fills every unit but the last, whose rest is
 *   allocated from like that of any other block. So no search leaves a unit.
 * - A block with a free run is linked in the bin of its longest one. Finding room
 *   looks at bins (a bitmap) and then at one unit's bitmap: its cost depends neither on
 *   the number of live spans, nor on that of blocks. (A large span, and a new block, look
 *   for untaken units in a bitmap of one bit a unit.)
 * - A unit without a span is nobody's: it is taken again lowest first, so that the end
 *   of the arena empties and can be given back.
 *
 * - What the bitmaps and is_leased say is the truth of a unit, from which all else can be had again
 *   (heap_restore.h); and `head` says in a torn unit whose granule 0 was.
 * - A unit beyond the memory that the arena has is not looked at, and may hold anything.
 *
 * - A leased block is in no bin of the daemon's, and is not closed: its lessee, who can get
 *   only a run that reaches to the block's end, places the spans there. In the lessee's
 *   heap all before that run counts as the block's leading trap granule.
 *
 * Allocation is in two steps: heap_place() finds room and changes nothing, the caller
 * charges and grows what that room needs, heap_take() takes it and can't fail.
 */
#ifndef PROTO_HEAP_H
#define PROTO_HEAP_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bins.h"
#include "proto/limits.h"

#define UNIT_WORDS (BLOCK_BYTES / GRANULARITY_MIN_BYTES / WORD_BITS)

/* Part of a ledger's format: whoever changes it gives the format another version. Zero: untaken. */
struct unit {
    uint64_t used[UNIT_WORDS];
    uint64_t start[UNIT_WORDS];
    uint64_t sealed[UNIT_WORDS];
    uint64_t stale[UNIT_WORDS];
    uint64_t large;     /* granules of the large span that starts in this unit, or 0 */
    uint32_t head;      /* 0, or 1 + the unit in which the large span starts that covers granule 0 */
    uint32_t lead;      /* leading granules that belong to no span: 1, in a lessee's heap perhaps more */
    uint32_t count;     /* used granules, the leading ones included */
    uint32_t rest;      /* from here to the unit's end all is free */
    uint32_t is_leased; /* 0 or 1 */
    uint32_t unused;
};
static_assert(sizeof(struct unit) == 544 && offsetof(struct unit, large) == 512 &&
                  offsetof(struct unit, is_leased) == 536,
              "as in the ledgers that there are");

struct heap {
    struct unit *units;
    uint64_t *taken; /* a bit a unit: it is part of a block */
    struct bins bins;
    size_t mapped_bytes;
    size_t beside_bytes; /* of that, what is not units */

    uint32_t granularity;   /* bytes, and ... */
    uint32_t granule_shift; /* ... its logarithm, since dividing is slow */
    uint32_t unit_granules;
    uint32_t unit_shift;
    uint32_t units_max;
    uint32_t units_grown;   /* units that have memory */
    uint32_t first_untaken; /* no unit below is untaken */
    uint32_t blocks;        /* units that hold a span, or part of one */
    uint32_t spans;
    uint64_t used_granules;
    uint64_t leased_granules; /* of leased blocks, those that no span takes */
    uint64_t free_runs;       /* in units that are taken */
    bool is_lessee;           /* a client's: it has no units but those that it adopts */
};

struct heap_span {
    uint64_t offset; /* bytes */
    uint64_t bytes;
    bool clean;
    bool sealed;
};

struct placement {
    uint64_t granule;
    uint64_t granules;
    uint64_t grown_bytes;  /* the arena must have memory up to here */
    uint32_t longest_left; /* small spans: the unit's longest free run afterwards */
};

/* A run of granules that a client may carve spans from: up to its block's end. */
struct lease {
    uint64_t offset; /* bytes */
    uint64_t bytes;
    bool clean;
};

/*
 * arena_bytes is a multiple of BLOCK_BYTES. The units are in memory of the heap's own, or at `units`:
 * heap_units_bytes(), aligned to 64, all zero (or see heap_restore.h), which the caller frees after
 * heap_deinit(). Returns 0 or -ENOMEM.
 */
int heap_init(struct heap *heap, uint64_t arena_bytes, uint32_t granularity, void *units);
uint64_t heap_units_bytes(uint64_t arena_bytes);
void heap_deinit(struct heap *heap);

/* The largest span that an empty heap of that size can hold. */
uint64_t heap_span_max_bytes(uint64_t arena_bytes, uint32_t granularity);

/* Room for `bytes` (1 to heap_span_max_bytes()); false if there is none. */
bool heap_place(const struct heap *heap, uint64_t bytes, struct placement *placement);
/* Takes the place found last; nothing may have changed the heap in between, but its growth. */
struct heap_span heap_take(struct heap *heap, const struct placement *placement);

/* The span that starts at `offset`, or the one that `offset` lies in. False: there is none. */
bool heap_find(const struct heap *heap, uint64_t offset, struct heap_span *span);
bool heap_find_around(const struct heap *heap, uint64_t offset, struct heap_span *span);

/* The first span that starts in [from, end); false: none. Its cost is that of the units between. */
bool heap_next(const struct heap *heap, uint64_t from, uint64_t end, struct heap_span *span);
/* The first block, one that has a span or is leased, from `offset` on, or the end of memory. */
uint64_t heap_next_block(const struct heap *heap, uint64_t offset);

/* A hint that the span that starts at `offset`, below the arena's end, will be looked for. */
void heap_prefetch(const struct heap *heap, uint64_t offset);

/* `span` is one that heap_find() found. Cuts it to `bytes`, rounded up; 0 removes it. */
void heap_cut(struct heap *heap, const struct heap_span *span, uint64_t bytes);
void heap_seal(struct heap *heap, const struct heap_span *span);
void heap_clear(struct heap *heap);

/* ---- Leases: the daemon's side --------------------------------------------------------- */

/*
 * A run with room for a span of `bytes`, which is less than a block; false if there is none
 * that is worth a lease. As with heap_place(), heap_lease() then takes it.
 */
bool heap_place_lease(const struct heap *heap, uint64_t bytes, struct placement *placement);
struct lease heap_lease(struct heap *heap, const struct placement *placement);
/* The span [offset, offset + bytes), rounded up, within one block. False: that is not leased, or not free. */
bool heap_can_carve(const struct heap *heap, uint64_t offset, uint64_t bytes);
bool heap_carve(struct heap *heap, uint64_t offset, uint64_t bytes, struct heap_span *span);
/* Ends the lease of the block at `offset`; false if it has none. */
bool heap_is_leased(const struct heap *heap, uint64_t offset);
bool heap_return(struct heap *heap, uint64_t offset);

/* ---- Leases: the lessee's side ----------------------------------------------------------- */

/* From here on the heap has no units but those that it adopts. */
void heap_become_lessee(struct heap *heap);
void heap_adopt(struct heap *heap, const struct lease *lease);
/* True if the block that `offset` lies in is adopted. */
bool heap_has(const struct heap *heap, uint64_t offset);
/* True if the block that `offset` lies in holds no span of ours. */
bool heap_is_vacant(const struct heap *heap, uint64_t offset);
/* Forgets that block, which is vacant. */
void heap_disown(struct heap *heap, uint64_t offset);

/* ---- The whole ------------------------------------------------------------------------------ */

/* The arena has memory up to `bytes`; when that shrinks, what lies beyond must be without spans. */
void heap_set_grown(struct heap *heap, uint64_t bytes);
uint64_t heap_grown_bytes(const struct heap *heap);
/* The end of the last block: beyond it all memory is free. */
uint64_t heap_end_bytes(const struct heap *heap);

uint64_t heap_used_bytes(const struct heap *heap);
uint64_t heap_leased_bytes(const struct heap *heap);
/* The largest span for which heap_place() finds room in memory that the arena has. */
uint64_t heap_largest_free_bytes(const struct heap *heap);
/* Memory that the heap itself takes, at most, for as many units as the arena has memory for. */
uint64_t heap_overhead_bytes(const struct heap *heap);

#endif
