/* SPDX-License-Identifier: MIT */
/* What was done, for --stats. Guarded by the lock. */
#ifndef PRELOAD_COUNTERS_H
#define PRELOAD_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

struct counters {
    uint64_t flips;        /* runs of pages that became executable */
    uint64_t pages;        /* pages of those */
    uint64_t writable;     /* calls that made code writable */
    uint64_t sent_bytes;   /* that the broker was asked to write */
    uint64_t writes;       /* in so many requests */
    uint64_t fetch_faults; /* pages that were called while they were writable */
    uint64_t store_faults; /* pages that were written while they were executable */
    uint64_t steps;        /* of those, instructions that wrote to their own page */
    uint64_t traps;        /* system calls that came by SIGSYS */
    uint64_t moves;        /* windows that left a chunk that others see */
    uint64_t chunks;       /* of the arena, at present */
    uint64_t chunks_max;
    uint64_t broker_ns; /* time spent waiting for the broker ... */
    uint64_t all_ns;    /* ... and in all of this, where it is measured: with `stats` */
};

extern struct counters counters;

/* The time, or 0 without `stats`. */
uint64_t counters_now(void);
void counters_print(void);

#endif
