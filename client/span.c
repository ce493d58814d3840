/* SPDX-License-Identifier: MIT */
#include "client/span.h"

#include <stddef.h>
#include <string.h>

#include "client/call.h"
#include "client/failure.h"
#include "client/patience.h"

/* What every caller's struct has; the rest was added behind it. */
#define STATS_0_1_0_BYTES offsetof(jitc_stats, huge_bytes)

_Static_assert(JITC_SPAN_ICACHE_CLEAN == SPAN_ICACHE_CLEAN && JITC_SPAN_SEALED == SPAN_SEALED,
               "the protocol's flags are passed on as they are");
_Static_assert((int)JITC_RESET_SOFT == (int)RESET_SOFT && (int)JITC_RESET_HARD == (int)RESET_HARD,
               "the protocol's kinds are passed on as they are");

int span_from_result(const struct jitc_client *client, const struct result *result, jitc_span *span)
{
    const struct arena_map *map = &client->map;

    /* Whatever yields a result has refused a client that is NULL. */
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    if (!result->has_span || result->size == 0 || result->offset >= map->bytes ||
        result->size > map->bytes - result->offset)
        return failure_set(JITC_E_BAD_REPLY, "the broker's reply tells of no span within the arena");
    span_at(client, result->offset, result->size, result->flags, span);
    return JITC_OK;
}

int span_refuse_pointer(const struct jitc_client *client, const void *rx)
{
    return failure_set(JITC_E_FOREIGN_POINTER, "%p is not in the arena at %p to %p", rx,
                       (const void *)client->map.rx, (const void *)(client->map.rx + client->map.bytes));
}

int span_refuse_range(const struct jitc_client *client, const jitc_span *span, size_t at, size_t bytes)
{
    if (span->size > client->map.bytes - ((uintptr_t)span->rx - (uintptr_t)client->map.rx))
        return failure_set(JITC_E_OUT_OF_RANGE, "a span of %zu bytes at %p ends beyond the arena", span->size,
                           span->rx);
    return failure_set(JITC_E_OUT_OF_RANGE, "%zu bytes at %zu of a span of %zu", bytes, at, span->size);
}

int span_refuse_source(size_t bytes)
{
    return failure_set(JITC_E_INVALID, "src is NULL, for %zu bytes", bytes);
}

int span_refuse_policy(jitc_write_policy policy)
{
    return failure_set(JITC_E_INVALID, "%d is no write policy", (int)policy);
}

static int alloc_by_socket(struct jitc_client *client, jitc_span *span, size_t size)
{
    const struct request request = {.operation = OPERATION_ALLOC, .size = size};
    struct result result;
    int status = call_run(client, &request, &result);

    return status == JITC_OK ? span_from_result(client, &result, span) : status;
}

static int release(struct jitc_client *client, uint64_t offset)
{
    const struct request request = {.operation = OPERATION_RELEASE, .span = offset};
    struct result result;

    return call_run(client, &request, &result);
}

int span_shrink(struct jitc_client *client, jitc_span *span, size_t size)
{
    struct request request = {.operation = OPERATION_SHRINK, .size = size};
    struct result result;
    uint32_t flags = span->flags;
    int status = span_offset(client, span->rx, &request.span);

    if (status == JITC_OK && size == 0) {
        status = release(client, request.span);
        if (status == JITC_OK || status == JITC_E_TIMEOUT)
            *span = (jitc_span){0};
        return status;
    }
    if (status == JITC_OK)
        status = call_run(client, &request, &result);
    /* It will be done: what is cut off is to be written by nobody from here on. */
    if (status == JITC_E_TIMEOUT && span_round_up(client, size) < span->size)
        span->size = span_round_up(client, size);
    if (status == JITC_OK)
        status = span_from_result(client, &result, span);
    if (status == JITC_OK)
        span->flags |= flags & JITC_SPAN_ICACHE_CLEAN; /* the daemon knows it at the allocation only */
    return status;
}

/* ---- Public ------------------------------------------------------------------------- */

int jitc_alloc(jitc_client *client, jitc_span *span, size_t size)
{
    if (span == NULL)
        return failure_set(JITC_E_INVALID, "span is NULL");
    if (client != NULL && client->plane.memory != NULL)
        return lessee_alloc(client, span, size);
    patience_begin();
    return alloc_by_socket(client, span, size);
}

int jitc_release(jitc_client *client, const void *rx)
{
    uint64_t offset;
    int status = span_offset(client, rx, &offset);

    if (status != JITC_OK)
        return status;
    if (client->plane.memory != NULL)
        return lessee_release(client, offset);
    patience_begin();
    return release(client, offset);
}

/* What earlier calls have left behind on the socket. */
static int settle_socket(struct jitc_client *client)
{
    int status = call_begin(client);

    if (status != JITC_OK)
        return status;
    status = call_settle(client);
    if (status == JITC_OK)
        status = call_settle(client); /* what was owed is done */
    call_end(client);
    return status;
}

int jitc_flush(jitc_client *client)
{
    int status;

    patience_begin();
    status = settle_socket(client);
    if (status != JITC_OK || client->plane.memory == NULL)
        return status; /* by the socket, each call waits for its answer */
    status = lessee_settle(client);
    if (status == JITC_OK)
        status = plane_flush(client);
    return status == JITC_OK ? plane_tell_refusal(client) : status;
}

int jitc_shrink(jitc_client *client, jitc_span *span, size_t size)
{
    patience_begin();
    return span_shrink(client, span, size);
}

int jitc_query(jitc_client *client, jitc_span *span, const void *pointer)
{
    struct request request = {.operation = OPERATION_QUERY};
    struct result result;
    int status = client_check(client);

    patience_begin();
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

    patience_begin();
    if (status == JITC_OK)
        status = call_run(client, &request, &result);
    if (status == JITC_OK || status == JITC_E_TIMEOUT) { /* which will be done */
        span->flags |= JITC_SPAN_SEALED;
        span->rw = NULL;
    }
    return status;
}

int jitc_reset(jitc_client *client, enum jitc_reset_kind kind)
{
    const struct request request = {.operation = OPERATION_RESET, .kind = (uint32_t)kind};
    struct result result;

    patience_begin();
    return call_run(client, &request, &result);
}

int jitc_statistics(jitc_client *client, jitc_stats *stats)
{
    const struct request request = {.operation = OPERATION_STATISTICS};
    struct result result;
    jitc_stats all;
    int status = client_check_struct("jitc_stats", stats->struct_size, STATS_0_1_0_BYTES);

    patience_begin();
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
