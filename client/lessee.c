/* SPDX-License-Identifier: MIT */
#include "client/lessee.h"

#include <inttypes.h>

#include "client/call.h"
#include "client/client.h"
#include "client/failure.h"
#include "client/plane.h"

int lessee_init(struct lessee *lessee, uint64_t arena_bytes, uint32_t granularity, bool keeps_nothing)
{
    *lessee = (struct lessee){.keeps_nothing = keeps_nothing};
    if (heap_init(&lessee->heap, arena_bytes, granularity) != 0)
        return failure_set(JITC_E_SYSTEM, "memory for the spans of an arena: %m");
    heap_become_lessee(&lessee->heap);
    return JITC_OK;
}

void lessee_deinit(struct lessee *lessee)
{
    heap_deinit(&lessee->heap);
}

uint64_t lessee_largest_free_bytes(struct jitc_client *client, uint64_t others)
{
    uint64_t ours = 0;

    client_relock(client);
    if (client->plane.memory != NULL)
        ours = heap_largest_free_bytes(&client->lessee.heap);
    client_unlock(client);
    return ours > others ? ours : others;
}

static uint64_t block_of(uint64_t offset)
{
    return offset / BLOCK_BYTES * BLOCK_BYTES;
}

static bool is_direct(const struct jitc_client *client)
{
    return client->map.rw != NULL;
}

static void tell_span(const struct heap_span *span, struct result *result)
{
    result_init(result);
    result->has_span = true;
    result->offset = span->offset;
    result->size = span->bytes;
    result->flags = (span->clean ? SPAN_ICACHE_CLEAN : 0) | (span->sealed ? SPAN_SEALED : 0);
}

/* Runs it at the daemon, with the lock let go while it is waited for. There is room for it. */
static int put_and_wait(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct sink sink = {.result = result};
    uint64_t number = plane_put(client, request, &sink);
    int status;

    plane_publish(&client->plane);
    client_unlock(client);
    status = plane_wait(client, number);
    client_relock(client);
    if (status == JITC_OK && sink.status != JITC_OK)
        status = failure_set(sink.status, "%s", sink.detail);
    return status;
}

/*
 * The same after making room. *resets (unless it is NULL) tells after how many resets the daemon does it: if
 * there were more in the end, what it yields is gone again.
 */
static int run_there(struct jitc_client *client, const struct request *request, struct result *result,
                     uint64_t *resets)
{
    int status = plane_reserve(client, 1, 0);

    if (status != JITC_OK)
        return status;
    if (resets != NULL)
        *resets = client->lessee.resets;
    return put_and_wait(client, request, result);
}

/* ---- Alloc ----------------------------------------------------------------------------- */

static bool makes_sense(const struct lessee *lessee, const struct result *result, uint64_t arena_bytes)
{
    return result->has_span && result->offset < arena_bytes && result->size > 0 &&
           result->size < BLOCK_BYTES && result->offset % lessee->heap.granularity == 0 &&
           result->size == BLOCK_BYTES - result->offset % BLOCK_BYTES &&
           !heap_has(&lessee->heap, result->offset);
}

/* One more block to carve from. JITC_OK, or what the daemon says. */
static int lease(struct jitc_client *client, uint64_t size)
{
    const struct request request = {.operation = OPERATION_LEASE, .size = size};
    struct lessee *lessee = &client->lessee;
    struct result result;
    uint64_t resets;
    int status = run_there(client, &request, &result, &resets);

    if (status != JITC_OK || resets != lessee->resets)
        return status;
    if (!makes_sense(lessee, &result, client->welcome.arena_bytes))
        return call_lose(client, "leases what is no free run of a block");
    heap_adopt(&lessee->heap, &(struct lease){.offset = result.offset,
                                              .bytes = result.size,
                                              .clean = (result.flags & SPAN_ICACHE_CLEAN) != 0});
    return JITC_OK;
}

static void give_vacant(struct jitc_client *client)
{
    uint64_t block = client->lessee.vacant - 1;

    client->lessee.vacant = 0;
    heap_disown(&client->lessee.heap, block);
    (void)plane_put(client, &(struct request){.operation = OPERATION_RETURN, .span = block}, NULL);
}

/* Large, or nothing to be leased: the daemon knows a place, or says why there is none. */
static int alloc_foreign(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct lessee *lessee = &client->lessee;
    uint64_t resets;
    int status = run_there(client, request, result, &resets);

    /* The block that we keep in reserve may be what is missing. */
    if ((status == JITC_E_ARENA_FULL || status == JITC_E_QUOTA_BYTES) && lessee->vacant != 0) {
        status = plane_reserve(client, 1, 0);
        if (status == JITC_OK && lessee->vacant != 0)
            give_vacant(client);
        if (status == JITC_OK)
            status = run_there(client, request, result, &resets);
    }
    if (status == JITC_OK && resets == lessee->resets)
        lessee->foreign++;
    return status;
}

static int alloc(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct lessee *lessee = &client->lessee;
    struct placement placement;
    struct heap_span span;
    int status;

    if (request->size == 0 || request->size > BLOCK_BYTES - lessee->heap.granularity)
        return alloc_foreign(client, request, result);
    for (;;) {
        status = plane_reserve(client, 1, 0);
        if (status != JITC_OK)
            return status;
        if (lessee->heap.spans + lessee->foreign >= (int64_t)client->welcome.spans_max)
            return failure_set(JITC_E_QUOTA_SPANS, "the session holds its %" PRIu32 " spans",
                               client->welcome.spans_max);
        if (heap_place(&lessee->heap, request->size, &placement))
            break;
        if (lease(client, request->size) != JITC_OK)
            return client->is_lost ? call_lost(client) : alloc_foreign(client, request, result);
    }
    span = heap_take(&lessee->heap, &placement);
    if (lessee->vacant == block_of(span.offset) + 1)
        lessee->vacant = 0;
    (void)plane_put(client,
                    &(struct request){.operation = OPERATION_CARVE, .span = span.offset, .size = span.bytes},
                    NULL);
    plane_publish_lazily(&client->plane);
    tell_span(&span, result);
    return JITC_OK;
}

/* ---- Release and shrink ------------------------------------------------------------------- */

/* Returns the block at `block`, which has become vacant, or another one instead, or keeps it. */
static void vacate(struct jitc_client *client, uint64_t block)
{
    struct lessee *lessee = &client->lessee;
    uint64_t kept = lessee->vacant;

    /* The lower one is kept: the arena's end is to become free. */
    if (kept == 0 || block + 1 > kept)
        lessee->vacant = block + 1;
    if (kept == 0 && !lessee->keeps_nothing)
        return;
    give_vacant(client);
    lessee->vacant = block + 1 > kept ? kept : block + 1;
}

/* Gives the span's bytes from `keep` on back. There is room for two entries. */
static void cut(struct jitc_client *client, const struct heap_span *span, uint64_t keep)
{
    struct request request = {
        .operation = keep == 0 ? OPERATION_RELEASE : OPERATION_SHRINK,
        .span = span->offset,
        .size = keep,
        .filled = is_direct(client),
    };

    if (request.filled)
        fill_pattern_spread(client->map.rw + span->offset + keep, span->bytes - keep,
                            client->welcome.fill_pattern);
    heap_cut(&client->lessee.heap, span, keep);
    if (keep > 0 || !plane_take_back(&client->plane, span->offset))
        (void)plane_put(client, &request, NULL);
    if (keep == 0 && heap_is_vacant(&client->lessee.heap, span->offset))
        vacate(client, block_of(span->offset));
    /* What is not filled yet is to be so soon; else there is no hurry. */
    if (request.filled)
        plane_publish_lazily(&client->plane);
    else
        plane_publish(&client->plane);
}

static int release(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct lessee *lessee = &client->lessee;
    uint64_t resets;
    struct heap_span span;
    int status = plane_reserve(client, 2, 0);

    if (status != JITC_OK)
        return status;
    if (heap_find(&lessee->heap, request->span, &span)) {
        cut(client, &span, 0);
        return JITC_OK;
    }
    status = run_there(client, request, result, &resets);
    if (status == JITC_OK && resets == lessee->resets)
        lessee->foreign--;
    return status;
}

static int shrink(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct heap *heap = &client->lessee.heap;
    uint64_t keep = (request->size + heap->granularity - 1) / heap->granularity * heap->granularity;
    struct heap_span span;
    int status = plane_reserve(client, 2, 0);

    if (status != JITC_OK)
        return status;
    if (request->size == 0 || !heap_find(heap, request->span, &span) || span.sealed ||
        request->size > span.bytes)
        return run_there(client, request, result, NULL); /* which has an error to tell, or a foreign span */
    if (keep < span.bytes)
        cut(client, &span, keep);
    span.bytes = keep;
    tell_span(&span, result);
    return JITC_OK;
}

/* ---- The rest --------------------------------------------------------------------------------- */

static int query(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct heap_span span;

    if (!heap_find_around(&client->lessee.heap, request->span, &span))
        return run_there(client, request, result, NULL);
    tell_span(&span, result);
    return JITC_OK;
}

static int seal(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct heap_span span;
    int status = run_there(client, request, result, NULL);

    if (status == JITC_OK && heap_find(&client->lessee.heap, request->span, &span))
        heap_seal(&client->lessee.heap, &span);
    return status;
}

/* Forgets all spans and leases together with the request, so that what is put later meets none of them. */
static int reset(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct lessee *lessee = &client->lessee;
    int status = plane_reserve(client, 1, 0);

    if (status != JITC_OK)
        return status;
    if (request->kind == RESET_SOFT || request->kind == RESET_HARD) {
        heap_clear(&lessee->heap);
        lessee->foreign = 0;
        lessee->vacant = 0;
        lessee->resets++;
    }
    return put_and_wait(client, request, result);
}

int lessee_run(struct jitc_client *client, const struct request *request, struct result *result)
{
    static int (*const run[OPERATION_COUNT])(struct jitc_client *, const struct request *,
                                             struct result *) = {
        [OPERATION_ALLOC] = alloc, [OPERATION_RELEASE] = release, [OPERATION_SHRINK] = shrink,
        [OPERATION_QUERY] = query, [OPERATION_SEAL] = seal,       [OPERATION_RESET] = reset,
    };
    int status;

    if (run[request->operation] == NULL)
        return plane_run(client, request, result);
    status = client_lock(client);
    if (status != JITC_OK)
        return status;
    status = run[request->operation](client, request, result);
    client_unlock(client);
    return status;
}
