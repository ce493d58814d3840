/* SPDX-License-Identifier: MIT */
/* Between the daemon's offsets and this process's spans. */
#ifndef CLIENT_SPAN_H
#define CLIENT_SPAN_H

#include "client/client.h"
#include "client/fork_guard.h"
#include "proto/result.h"

/* Fills in *span from a result that tells one. JITC_OK, or BAD_REPLY where it can't be. */
int span_from_result(const struct jitc_client *client, const struct result *result, jitc_span *span);

/* As jitc_shrink(), in a call that may have waited before. */
int span_shrink(struct jitc_client *client, jitc_span *span, size_t size);

/* Fills in *span for one that is known to lie in the arena. */
static inline void span_at(const struct jitc_client *client, uint64_t offset, uint64_t bytes, uint32_t flags,
                           jitc_span *span)
{
    const struct arena_map *map = &client->map;

    *span = (jitc_span){
        .rx = map->rx + offset,
        .rw = map->rw != NULL && (flags & SPAN_SEALED) == 0 ? map->rw + offset : NULL,
        .size = (size_t)bytes,
        .block = map->rx,
        .flags = flags,
    };
}

/*
 * The checks that every call begins with, inline where they pass. Those that refuse find out why, and return
 * the status with its detail set.
 */
int span_refuse_pointer(const struct jitc_client *client, const void *rx);
int span_refuse_range(const struct jitc_client *client, const jitc_span *span, size_t at, size_t bytes);
int span_refuse_source(size_t bytes);
int span_refuse_policy(jitc_write_policy policy);

/* The offset of the span's first byte. JITC_OK, or FOREIGN_POINTER. */
static inline int span_offset(const struct jitc_client *client, const void *rx, uint64_t *offset)
{
    *offset = 0;
    if (client == NULL || !fork_guard_is_ours(client->mark))
        return client_check(client);
    *offset = (uintptr_t)rx - (uintptr_t)client->map.rx;
    return *offset < client->map.bytes ? JITC_OK : span_refuse_pointer(client, rx);
}

/* The same for a span of which [at, at + bytes) is to be written; OUT_OF_RANGE where that is not within it.
 */
static inline int span_check_range(const struct jitc_client *client, const jitc_span *span, size_t at,
                                   size_t bytes, uint64_t *offset)
{
    int status = span_offset(client, span->rx, offset);

    if (status != JITC_OK)
        return status;
    if (span->size > client->map.bytes - *offset || at > span->size || bytes > span->size - at)
        return span_refuse_range(client, span, at, bytes);
    return JITC_OK;
}

/* The same for a copy from `src`, which is not NULL unless bytes is 0. */
static inline int span_check_write(const struct jitc_client *client, const jitc_span *span, size_t at,
                                   const void *src, size_t bytes, uint64_t *offset)
{
    if (src == NULL && bytes > 0)
        return span_refuse_source(bytes);
    return span_check_range(client, span, at, bytes, offset);
}

static inline int span_check_policy(jitc_write_policy policy)
{
    if (policy != JITC_WRITE_DEFAULT && policy != JITC_WRITE_NEVER_FLUSH)
        return span_refuse_policy(policy);
    return JITC_OK;
}

/* `size` rounded up to the granularity, which is a power of two. */
static inline size_t span_round_up(const struct jitc_client *client, size_t size)
{
    size_t granularity = client->welcome.granularity;

    return (size + granularity - 1) & ~(granularity - 1);
}

/*
 * How many bytes of a write at `at`, of which `left` are still to come, go into one part of at most `limit`,
 * a multiple of every granularity: the next part begins with a granule, since where code is written once a
 * granule takes one write.
 */
static inline size_t span_part_bytes(const struct jitc_client *client, uint64_t at, size_t left, size_t limit)
{
    size_t most = limit - (size_t)(at & (client->welcome.granularity - 1));

    return left < most ? left : most;
}

/*
 * Makes the bytes at rx, written already, fit to run: nothing on x86. Also where the memory
 * was never handed out before: the data has to leave the data cache all the same.
 */
static inline void span_flush(const void *rx, size_t bytes, jitc_write_policy policy)
{
    char *start = (char *)(uintptr_t)rx;

    if (policy != JITC_WRITE_NEVER_FLUSH)
        __builtin___clear_cache(start, start + bytes);
}

#endif
