/* SPDX-License-Identifier: MIT */
/* An allocator of code memory as the loops see it, so that ours and the others run the same loops. */
#ifndef BENCH_ALLOCATOR_H
#define BENCH_ALLOCATOR_H

#include <stddef.h>
#include <stdint.h>

#include "sample.h"

#define FUNCTION_MAX_BYTES 65536u

struct allocator {
    void *self;
    /* alloc of `size` and write of `bytes` of it; returns where it runs */
    void *(*publish)(void *self, size_t size, const void *code, size_t bytes);
    void (*release)(void *self, void *rx);
    void (*statistics)(void *self, uint64_t *used_bytes, uint64_t *reserved_bytes);
};

/* What is written: FUNCTION_MAX_BYTES of it. */
extern const uint8_t allocator_code[];

/* alloc + write + release of `bytes`, with whatever else is live. */
struct sample allocator_cycle(const struct allocator *allocator, size_t bytes, const struct effort *effort,
                              unsigned batch);
/* The same after a pause each time. */
struct sample allocator_cycle_paused(const struct allocator *allocator, size_t bytes,
                                     const struct effort *effort);

#endif
