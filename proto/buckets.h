/* SPDX-License-Identifier: MIT */
/*
 * How times are sorted: by powers of two of a nanosecond, each in four parts. So whatever the time is, its
 * bucket's bounds are at most a quarter of it apart.
 */
#ifndef PROTO_BUCKETS_H
#define PROTO_BUCKETS_H

#include <stdint.h>

#define BUCKET_PART_BITS 2u
#define BUCKET_PARTS (1u << BUCKET_PART_BITS)
/* The last one holds all from 2^36 ns (69 s) on. */
#define BUCKET_LAST_BITS 36u
#define BUCKETS_COUNT ((BUCKET_LAST_BITS - BUCKET_PART_BITS + 1) * BUCKET_PARTS + 1)

static inline uint32_t bucket_of(uint64_t ns)
{
    uint32_t bits;

    if (ns < BUCKET_PARTS)
        return (uint32_t)ns;
    bits = 63 - (uint32_t)__builtin_clzll(ns);
    if (bits >= BUCKET_LAST_BITS)
        return BUCKETS_COUNT - 1;
    return (bits - BUCKET_PART_BITS) * BUCKET_PARTS + (uint32_t)(ns >> (bits - BUCKET_PART_BITS));
}

/* The shortest time that belongs to it. */
static inline uint64_t bucket_from_ns(uint32_t bucket)
{
    uint32_t shift;

    if (bucket < 2 * BUCKET_PARTS)
        return bucket;
    shift = bucket / BUCKET_PARTS - 1;
    return (uint64_t)(BUCKET_PARTS + bucket % BUCKET_PARTS) << shift;
}

#endif
