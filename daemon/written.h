/* SPDX-License-Identifier: MIT */
/*
 * Of a write-once session: which granules were written since their span was taken. A granule
 * takes one write; it takes another when it has been given back, trap-filled.
 */
#ifndef DAEMON_WRITTEN_H
#define DAEMON_WRITTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct written {
    uint64_t
        *words; /* the ledger's, a bit a granule; NULL: nothing is noted, and everything may be written */
    uint32_t granularity;
};

/* Of the granules that [offset, offset + bytes) touches: whether any was written. */
bool written_any(const struct written *written, uint64_t offset, uint64_t bytes);
void written_set(struct written *written, uint64_t offset, uint64_t bytes);
/* The range begins and ends with a granule. */
void written_clear(struct written *written, uint64_t offset, uint64_t bytes);

#endif
