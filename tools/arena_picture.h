/* SPDX-License-Identifier: MIT */
/*
 * An arena cut into cells of the same size, and what each of them holds: what a picture of it is made from,
 * be it of characters or of rectangles.
 */
#ifndef TOOLS_ARENA_PICTURE_H
#define TOOLS_ARENA_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/ask.h"

#define PICTURE_COLUMNS 64u
#define PICTURE_CELLS_MAX (UINT64_C(32) * PICTURE_COLUMNS)

struct picture_cell {
    uint64_t used_bytes;   /* by spans ... */
    uint64_t sealed_bytes; /* ... of which so many are of sealed ones */
    bool is_leased;        /* in part at least: what is free there is a client's to carve */
};

struct arena_picture {
    const Admin__End *end;
    struct picture_cell *cells;
    size_t cells_count;
    uint64_t cell_bytes;
    uint64_t free_runs; /* in the memory that is reserved, trap granules between blocks not counted */
    uint64_t largest_free_bytes;
    uint64_t free_bytes;
};

/* Of the answer to ADMIN__VERB__SPANS, which must outlive it. False without memory, or where it says nothing.
 */
bool arena_picture_init(struct arena_picture *picture, const struct answer *answer);
void arena_picture_deinit(struct arena_picture *picture);

/* How fragmented what is free is, in percent: none of it where all is one run. */
unsigned arena_picture_fragmentation(const struct arena_picture *picture);

#endif
