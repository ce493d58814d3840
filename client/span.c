/* SPDX-License-Identifier: MIT */
#include "client/span.h"

#include <stddef.h>
#include <string.h>

#include "client/call.h"
#include "client/failure.h"

/* What every caller's struct has; the rest was added behind it. */
#define STATS_0_1_0_BYTES offsetof(jitc_stats, huge_bytes)

_Static_assert(JITC_SPAN_ICACHE_CLEAN == SPAN_ICACHE_CLEAN && JITC_SPAN_SEALED == SPAN_SEALED,
               "the protocol's flags are passed on as they are");
_Static_assert((int)JITC_RESET_SOFT == (int)RESET_SOFT && (int)JITC_RESET_HARD == (int)RESET_HARD,
               "the protocol's kinds are passed on as they are");

int span_from_result(const struct jitc_client *client, const struct result *result, jitc_span *span)
{
    const struct arena_map *map = &client->map;

    if (!result->has_span || result->size == 0 || result->offset >= map->bytes ||
        result->size > map->bytes - result->offset)
        return failure_set(JITC_E_BAD_REPLY, "the broker's reply tells of no span within the arena");
    *span = (jitc_span){
        .rx = map->rx + result->offset,
        .rw = map->rw != NULL && (result->flags & SPAN_SEALED) == 0 ? map->rw + result->offset : NULL,
        .size = (size_t)result->size,
        .block = map->rx,
        .flags = result->flags,
    };
    return JITC_OK;
}

int span_offset(const struct jitc_client *client, const void *rx, uint64_t *offset)
{
    int status = client_check(client);

    if (status != JITC_OK)
        return status;
    *offset = (uintptr_t)rx - (uintptr_t)client->map.rx;
    if (*offset >= client->map.bytes)
        return failure_set(JITC_E_FOREIGN_POINTER, "%p is not in the arena at %p to %p", rx,
                           (const void *)client->map.rx, (const void *)(client->map.rx + client->map.bytes));
    return JITC_OK;
}

int span_check_range(const struct jitc_client *client, const jitc_span *span, size_t at, size_t bytes,
                     uint64_t *offset)
{
    int status = span_offset(client, span->rx, offset);

    if (status != JITC_OK)
        return status;
    if (span->size > client->map.bytes - *offset)
        return failure_set(JITC_E_OUT_OF_RANGE, "a span of %zu bytes at %p ends beyond the arena", span->size,
                           span->rx);
    if (at > span->size || bytes > span->size - at)
        return failure_set(JITC_E_OUT_OF_RANGE, "%zu bytes at %zu of a span of %zu", bytes, at, span->size);
    return JITC_OK;
}

int span_check_write(const struct jitc_client *client, const jitc_span *span, size_t at, const void *src,
                     size_t bytes, uint64_t *offset)
{
    if (src == NULL && bytes > 0)
        return failure_set(JITC_E_INVALID, "src is NULL, for %zu bytes", bytes);
    return span_check_range(client, span, at, bytes, offset);
}

int span_check_policy(jitc_write_policy policy)
{
    if (policy != JITC_WRITE_DEFAULT && policy != JITC_WRITE_NEVER_FLUSH)
        return failure_set(JITC_E_INVALID, "%d is no write policy", (int)policy);
    return JITC_OK;
}

size_t span_round_up(const struct jitc_client *client, size_t size)
{
    size_t granularity = client->welcome.granularity;

    return (size + granularity - 1) / granularity * granularity;
}

void span_flush(const void *rx, size_t bytes, jitc_write_policy policy)
{
    char *start = (char *)(uintptr_t)rx;

    if (policy != JITC_WRITE_NEVER_FLUSH)
        __builtin___clear_cache(start, start + bytes);
}

/* ---- Public ------------------------------------------------------------------------- */

int jitc_alloc(jitc_client *client, jitc_span *span, size_t size)
{
    const struct request request = {.operation = OPERATION_ALLOC, .size = size};
    struct result result;
    int status;

    if (span == NULL)
        return failure_set(JITC_E_INVALID, "span is NULL");
    status = call_run(client, &request, &result);
    return status == JITC_OK ? span_from_result(client, &result, span) : status;
}

int jitc_release(jitc_client *client, const void *rx)
{
    struct request request = {.operation = OPERATION_RELEASE};
    struct result result;
    int status = span_offset(client, rx, &request.span);

    return status == JITC_OK ? call_run(client, &request, &result) : status;
}

int jitc_flush(jitc_client *client)
{
    int status = client_check(client);

    if (status != JITC_OK || client->plane.memory == NULL)
        return status; /* by the socket, each call waits for its answer */
    status = plane_flush(client);
    if (status != JITC_OK || (status = client_lock(client)) != JITC_OK)
        return status;
    status = plane_take_refusal(&client->plane);
    client_unlock(client);
    return status;
}

int jitc_shrink(jitc_client *client, jitc_span *span, size_t size)
{
    struct request request = {.operation = OPERATION_SHRINK, .size = size};
    struct result result;
    uint32_t flags = span->flags;
    int status;

    if (size == 0) {
        status = jitc_release(client, span->rx);
        if (status == JITC_OK)
            *span = (jitc_span){0};
        return status;
    }
    status = span_offset(client, span->rx, &request.span);
    if (status == JITC_OK)
        status = call_run(client, &request, &result);
    if (status == JITC_OK)
        status = span_from_result(client, &result, span);
    if (status == JITC_OK)
        span->flags |= flags & JITC_SPAN_ICACHE_CLEAN; /* the daemon knows it at the allocation only */
    return status;
}

int jitc_query(jitc_client *client, jitc_span *span, const void *pointer)
{
    struct request request = {.operation = OPERATION_QUERY};
    struct result result;
    int status = client_check(client);

    if (status == JITC_OK && span == NULL)
        status = failure_set(JITC_E_INVALID, "span is NULL");
    if (status != JITC_OK)
        return status;
    if (!arena_map_offset(&client->map, pointer, &request.span))
        return failure_set(JITC_E_FOREIGN_POINTER, "%p is not in the arena", pointer);
    status = call_run(client, &request, &result);
    return status == JITC_OK ? span_from_result(client, &result, span) : status;
}

int jitc_seal(jitc_client *client, jitc_span *span)
{
    struct request request = {.operation = OPERATION_SEAL};
    struct result result;
    int status = span_offset(client, span->rx, &request.span);

    if (status == JITC_OK)
        status = call_run(client, &request, &result);
    if (status == JITC_OK) {
        span->flags |= JITC_SPAN_SEALED;
        span->rw = NULL;
    }
    return status;
}

int jitc_reset(jitc_client *client, enum jitc_reset_kind kind)
{
    const struct request request = {.operation = OPERATION_RESET, .kind = (uint32_t)kind};
    struct result result;

    return call_run(client, &request, &result);
}

int jitc_statistics(jitc_client *client, jitc_stats *stats)
{
    const struct request request = {.operation = OPERATION_STATISTICS};
    struct result result;
    jitc_stats all;
    int status = client_check_struct("jitc_stats", stats->struct_size, STATS_0_1_0_BYTES);

    if (status == JITC_OK)
        status = call_run(client, &request, &result);
    if (status != JITC_OK)
        return status;
    if (!result.has_usage)
        return failure_set(JITC_E_BAD_REPLY, "the broker's reply has no statistics");
    all = (jitc_stats){
        .struct_size = stats->struct_size,
        .block_count = result.usage.blocks,
        .allocation_count = result.usage.spans,
        .used_bytes = result.usage.used_bytes,
        .reserved_bytes = result.usage.reserved_bytes,
        .overhead_bytes = result.usage.overhead_bytes,
        .reserved_peak_bytes = result.usage.reserved_peak_bytes,
        .huge_bytes = result.usage.huge_bytes,
        .leased_bytes = result.usage.leased_bytes,
        .largest_free_bytes = lessee_largest_free_bytes(client, result.usage.largest_free_bytes),
        .free_runs = result.usage.free_runs,
    };
    memcpy(stats, &all, all.struct_size < sizeof all ? all.struct_size : sizeof all);
    return JITC_OK;
}
