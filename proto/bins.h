/* SPDX-License-Identifier: MIT */
/*
 * Units by the length of their longest free run: which is the shortest that is long enough, and
 * which the longest, is a look at two words of bits. A unit is in one bin or in none.
 */
#ifndef PROTO_BINS_H
#define PROTO_BINS_H

#include "proto/bitmap.h"

/* A unit's place in its bin. Not in the unit: its neighbours there may be anywhere, and in no cache. */
struct link {
    uint32_t next; /* unit + 1, or 0 */
    uint32_t prev;
    uint32_t longest; /* free run of the unit, in granules: its bin; 0: in none */
};

struct bins {
    struct link *links; /* by unit */
    uint32_t *first;    /* by longest free run: unit + 1, or 0 */
    uint64_t *used;     /* a bit a bin */
    uint32_t words;     /* a bit for each word of `used` that has any */
};

static inline void bins_unlink(struct bins *bins, uint32_t unit)
{
    struct link *link = &bins->links[unit];
    uint32_t bin = link->longest;

    if (bin == 0)
        return;
    if (link->prev != 0)
        bins->links[link->prev - 1].next = link->next;
    else
        bins->first[bin] = link->next;
    if (link->next != 0)
        bins->links[link->next - 1].prev = link->prev;
    if (bins->first[bin] == 0) {
        bit_clear(bins->used, bin);
        if (bins->used[bin / WORD_BITS] == 0)
            bins->words &= ~(1u << (bin / WORD_BITS));
    }
    link->longest = 0;
}

/* The unit, which is in no bin, goes into that of `longest`; 0: into none. */
static inline void bins_link(struct bins *bins, uint32_t unit, uint32_t longest)
{
    struct link *link = &bins->links[unit];

    link->longest = longest;
    if (longest == 0)
        return;
    link->prev = 0;
    link->next = bins->first[longest];
    if (link->next != 0)
        bins->links[link->next - 1].prev = unit + 1;
    bins->first[longest] = unit + 1;
    bit_set(bins->used, longest);
    bins->words |= 1u << (longest / WORD_BITS);
}

static inline void bins_move(struct bins *bins, uint32_t unit, uint32_t longest)
{
    if (bins->links[unit].longest == longest)
        return;
    bins_unlink(bins, unit);
    bins_link(bins, unit, longest);
}

/* The first bin from `from` on that has a unit, or 0. */
static inline uint32_t bins_next(const struct bins *bins, uint32_t from)
{
    uint32_t word = from / WORD_BITS;
    uint64_t bits = bins->used[word] & (UINT64_MAX << (from % WORD_BITS));
    uint32_t words;

    if (bits == 0) {
        words = bins->words & ~((2u << word) - 1);
        if (words == 0)
            return 0;
        word = (uint32_t)__builtin_ctz(words);
        bits = bins->used[word];
    }
    return word * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
}

/* The last bin that has a unit, or 0. */
static inline uint32_t bins_last(const struct bins *bins)
{
    uint32_t word;

    if (bins->words == 0)
        return 0;
    word = 31 - (uint32_t)__builtin_clz(bins->words);
    return word * WORD_BITS + WORD_BITS - 1 - (uint32_t)__builtin_clzll(bins->used[word]);
}

#endif
