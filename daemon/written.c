/* SPDX-License-Identifier: MIT */
#include "daemon/written.h"

/* The bits of word `word` that stand for granules in [first, end). */
static uint64_t bits(uint64_t word, uint64_t first, uint64_t end)
{
    uint64_t from = first > word * 64 ? first - word * 64 : 0;
    uint64_t to = end < word * 64 + 64 ? end - word * 64 : 64;

    return (UINT64_MAX << from) & (UINT64_MAX >> (64 - to));
}

enum deed { LOOK, SET, CLEAR };

/* Returns whether one of the bits was set. */
static bool over_range(const struct written *written, uint64_t offset, uint64_t bytes, enum deed deed)
{
    uint64_t first;
    uint64_t end;
    bool any = false;

    if (written->words == NULL || bytes == 0)
        return false;
    first = offset / written->granularity;
    end = (offset + bytes - 1) / written->granularity + 1;
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        uint64_t mask = bits(word, first, end);

        any = any || (written->words[word] & mask) != 0;
        if (deed == SET)
            written->words[word] |= mask;
        else if (deed == CLEAR && (written->words[word] & mask) != 0) /* or it would take memory */
            written->words[word] &= ~mask;
    }
    return any;
}

bool written_any(const struct written *written, uint64_t offset, uint64_t bytes)
{
    return over_range(written, offset, bytes, LOOK);
}

void written_set(struct written *written, uint64_t offset, uint64_t bytes)
{
    (void)over_range(written, offset, bytes, SET);
}

void written_clear(struct written *written, uint64_t offset, uint64_t bytes)
{
    (void)over_range(written, offset, bytes, CLEAR);
}
