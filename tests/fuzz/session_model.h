/* SPDX-License-Identifier: MIT */
/* Whose each granule of the fuzzed session's arena is, and what follows from that alone. */
#ifndef TESTS_FUZZ_SESSION_MODEL_H
#define TESTS_FUZZ_SESSION_MODEL_H

#include <stdbool.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/fuzz/target.h"

#define UNITS_MAX 40u /* more than a session keeps when blocks become free */
#define UNITS_FEW 8u  /* which is faster */
#define UNIT_GRANULES_MAX (BLOCK_BYTES / GRANULARITY_MIN_BYTES)

struct live {
    uint64_t offset;
    uint64_t bytes;
    bool sealed;
};

struct free_runs {
    bool known;
    uint32_t count;
    uint32_t granules;
    uint32_t longest;
    uint32_t last; /* up to the unit's end, or 0 */
};

static uint32_t units;
static uint32_t granularity;
static uint32_t unit_granules;

static uint32_t owner[UNITS_MAX * UNIT_GRANULES_MAX]; /* by granule: 1 + its span's first, or 0 */
static bool stale[UNITS_MAX * UNIT_GRANULES_MAX];     /* by granule: was part of a span */
static uint8_t content[UNITS_MAX * BLOCK_BYTES];
static uint32_t owned[UNITS_MAX];           /* by unit: granules that are in spans */
static struct free_runs counted[UNITS_MAX]; /* if known: see free_runs() */
static bool leased[UNITS_MAX];
static struct live spans[UNITS_MAX * UNIT_GRANULES_MAX];
static uint32_t place[UNITS_MAX * UNIT_GRANULES_MAX]; /* by a span's first granule: which of `spans` */
static size_t count;
static uint64_t used;
static uint64_t grown;

static inline void begin_model(void)
{
    memset(owner, 0, sizeof owner[0] * units * unit_granules);
    memset(stale, 0, sizeof stale[0] * units * unit_granules);
    memset(owned, 0, sizeof owned);
    memset(counted, 0, sizeof counted);
    memset(leased, 0, sizeof leased);
    count = 0;
    used = 0;
    grown = 0;
}

static inline struct live *find(uint64_t offset)
{
    uint64_t granule = offset / granularity;

    if (granule >= (uint64_t)units * unit_granules || owner[granule] != granule + 1 ||
        offset % granularity != 0)
        return NULL;
    return &spans[place[granule]];
}

static inline struct live *find_around(uint64_t offset)
{
    uint64_t granule = offset / granularity;

    if (granule >= (uint64_t)units * unit_granules || owner[granule] == 0)
        return NULL;
    return find((uint64_t)(owner[granule] - 1) * granularity);
}

static inline struct free_runs free_runs(uint32_t unit)
{
    const uint32_t *granules = owner + (size_t)unit * unit_granules;
    struct free_runs runs = {.known = true};

    if (counted[unit].known)
        return counted[unit];
    for (uint32_t at = 1; at < unit_granules; at++) {
        bool is_free = granules[at] == 0;

        runs.last = is_free ? runs.last + 1 : 0;
        runs.granules += is_free;
        runs.count += runs.last == 1;
        if (runs.last > runs.longest)
            runs.longest = runs.last;
    }
    counted[unit] = runs;
    return runs;
}

/* In a block, or a block that waits for its first span. */
static inline bool is_taken(uint32_t unit)
{
    return owned[unit] != 0 || leased[unit];
}

/* What is free there is for anyone. */
static inline bool is_open(uint32_t unit)
{
    return owned[unit] != 0 && !leased[unit];
}

/* Up to where the arena needs memory for such a span: 0 for what it has; UINT64_MAX if there's no room. */
static inline uint64_t needed_bytes(uint64_t bytes)
{
    uint64_t granules = (bytes + granularity - 1) / granularity;
    uint64_t wanted = granules / unit_granules + 1; /* with the trap granule */
    uint64_t run = 0;

    for (uint32_t unit = 0; wanted == 1 && unit < units; unit++) {
        if (is_open(unit) && free_runs(unit).longest >= granules)
            return 0;
    }
    for (uint32_t unit = 0; unit < units; unit++) {
        run = is_taken(unit) ? 0 : run + 1;
        if (run == wanted)
            return (uint64_t)(unit + 1) * BLOCK_BYTES;
    }
    return UINT64_MAX;
}

static inline uint64_t end_bytes(void)
{
    for (uint32_t unit = units; unit > 0; unit--) {
        if (is_taken(unit - 1))
            return (uint64_t)unit * BLOCK_BYTES;
    }
    return 0;
}

static inline bool is_clean(uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = offset / granularity; at < (offset + bytes) / granularity; at++) {
        if (stale[at])
            return false;
    }
    return true;
}

#endif
