/* SPDX-License-Identifier: MIT */
/* Bits in arrays of 64-bit words, counted from the lowest of the first; ranges are [from, to). */
#ifndef PROTO_BITMAP_H
#define PROTO_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#define WORD_BITS 64u

static inline bool bit_get(const uint64_t *map, uint32_t bit)
{
    return (map[bit / WORD_BITS] >> (bit % WORD_BITS) & 1) != 0;
}

static inline void bit_set(uint64_t *map, uint32_t bit)
{
    map[bit / WORD_BITS] |= UINT64_C(1) << (bit % WORD_BITS);
}

static inline void bit_clear(uint64_t *map, uint32_t bit)
{
    map[bit / WORD_BITS] &= ~(UINT64_C(1) << (bit % WORD_BITS));
}

/* The bits of word `word` that lie in [from, to). */
static inline uint64_t range_mask(uint32_t word, uint32_t from, uint32_t to)
{
    uint32_t low = word * WORD_BITS;
    uint64_t mask = UINT64_MAX;

    if (from > low)
        mask &= UINT64_MAX << (from - low);
    if (to < low + WORD_BITS)
        mask &= UINT64_MAX >> (low + WORD_BITS - to);
    return mask;
}

static inline void range_set(uint64_t *map, uint32_t from, uint32_t to)
{
    for (uint32_t word = from / WORD_BITS; word * WORD_BITS < to; word++)
        map[word] |= range_mask(word, from, to);
}

static inline void range_clear(uint64_t *map, uint32_t from, uint32_t to)
{
    for (uint32_t word = from / WORD_BITS; word * WORD_BITS < to; word++)
        map[word] &= ~range_mask(word, from, to);
}

static inline bool range_any(const uint64_t *map, uint32_t from, uint32_t to)
{
    for (uint32_t word = from / WORD_BITS; word * WORD_BITS < to; word++) {
        if ((map[word] & range_mask(word, from, to)) != 0)
            return true;
    }
    return false;
}

/* The first bit at or after `from` that is set (with `flip`: clear), or `end`. */
static inline uint32_t bit_next(const uint64_t *map, uint32_t from, uint32_t end, uint64_t flip)
{
    for (uint32_t word = from / WORD_BITS; word * WORD_BITS < end; word++) {
        uint64_t bits = (map[word] ^ flip) & range_mask(word, from, end);

        if (bits != 0)
            return word * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
    }
    return end;
}

#define NO_BIT UINT32_MAX

/* The last set bit at or before `from`, or NO_BIT. */
static inline uint32_t bit_last(const uint64_t *map, uint32_t from)
{
    for (uint32_t word = from / WORD_BITS + 1; word-- > 0;) {
        uint64_t bits = map[word] & range_mask(word, 0, from + 1);

        if (bits != 0)
            return word * WORD_BITS + WORD_BITS - 1 - (uint32_t)__builtin_clzll(bits);
    }
    return NO_BIT;
}

#endif
