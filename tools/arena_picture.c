/* SPDX-License-Identifier: MIT */
#include "tools/arena_picture.h"

#include <stdlib.h>

#include "proto/limits.h"

/* A cell is not smaller: nothing that is allocated is. */
#define CELL_MIN_BYTES 1024u

static void paint(struct arena_picture *picture, const Admin__Span *span)
{
    uint64_t at = span->offset;
    uint64_t end = span->offset + span->size;

    while (at < end && at / picture->cell_bytes < picture->cells_count) {
        struct picture_cell *cell = &picture->cells[at / picture->cell_bytes];
        uint64_t next = (at / picture->cell_bytes + 1) * picture->cell_bytes;
        uint64_t bytes = (next < end ? next : end) - at;

        cell->used_bytes += bytes;
        if (span->sealed)
            cell->sealed_bytes += bytes;
        at += bytes;
    }
}

static void paint_lease(struct arena_picture *picture, const Admin__Lease *lease)
{
    for (uint64_t at = lease->offset; at < lease->offset + lease->size; at += picture->cell_bytes) {
        if (at / picture->cell_bytes < picture->cells_count)
            picture->cells[at / picture->cell_bytes].is_leased = true;
    }
}

/* [from, to) is in no span: of each block that it touches the first granule is no one's. */
static void add_free(struct arena_picture *picture, uint64_t from, uint64_t to)
{
    uint64_t trap_bytes = picture->end->usage->granularity;

    if (from % BLOCK_BYTES == 0)
        from += trap_bytes;
    if (from >= to)
        return;
    picture->free_runs++;
    picture->free_bytes += to - from;
    if (to - from > picture->largest_free_bytes)
        picture->largest_free_bytes = to - from;
}

static void choose_cells(struct arena_picture *picture, uint64_t bytes)
{
    picture->cell_bytes = CELL_MIN_BYTES;
    while (bytes / picture->cell_bytes > PICTURE_CELLS_MAX)
        picture->cell_bytes *= 2;
    picture->cells_count = (size_t)((bytes + picture->cell_bytes - 1) / picture->cell_bytes);
}

static void paint_all(struct arena_picture *picture, const struct answer *answer)
{
    uint64_t from = 0;

    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_leases; j++)
            paint_lease(picture, answer->parts[i]->leases[j]);
        for (size_t j = 0; j < answer->parts[i]->n_spans; j++) {
            const Admin__Span *span = answer->parts[i]->spans[j];

            paint(picture, span);
            add_free(picture, from, span->offset);
            from = span->offset + span->size;
        }
    }
    add_free(picture, from, picture->end->usage->reserved_bytes);
}

bool arena_picture_init(struct arena_picture *picture, const struct answer *answer)
{
    *picture = (struct arena_picture){.cells = NULL};
    for (size_t i = 0; i < answer->count && picture->end == NULL; i++) {
        if (answer->parts[i]->n_ends > 0 && answer->parts[i]->ends[0]->usage != NULL)
            picture->end = answer->parts[i]->ends[0];
    }
    if (picture->end == NULL)
        return false;
    choose_cells(picture, picture->end->usage->reserved_bytes);
    picture->cells = calloc(picture->cells_count + 1, sizeof *picture->cells);
    if (picture->cells == NULL)
        return false;
    paint_all(picture, answer);
    return true;
}

void arena_picture_deinit(struct arena_picture *picture)
{
    free(picture->cells);
    *picture = (struct arena_picture){.cells = NULL};
}

unsigned arena_picture_fragmentation(const struct arena_picture *picture)
{
    if (picture->free_bytes == 0)
        return 0;
    return (unsigned)(100 - 100 * picture->largest_free_bytes / picture->free_bytes);
}
