/* SPDX-License-Identifier: MIT */
#include "client/lessee.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "client/call.h"
#include "client/client.h"
#include "client/failure.h"
#include "client/plane.h"
#include "client/span.h"
#include "proto/prefetch.h"

int lessee_init(struct lessee *lessee, uint64_t arena_bytes, uint32_t granularity, bool keeps_nothing)
{
    *lessee = (struct lessee){.keeps_nothing = keeps_nothing};
    if (heap_init(&lessee->heap, arena_bytes, granularity, NULL) != 0)
        return failure_set(JITC_E_SYSTEM, "memory for the spans of an arena: %m");
    heap_become_lessee(&lessee->heap);
    for (unsigned i = 0; i < RECENTS; i++)
        (void)pthread_mutex_init(&lessee->recents[i].lock, NULL);
    return JITC_OK;
}

void lessee_deinit(struct lessee *lessee)
{
    heap_deinit(&lessee->heap);
}

static _Atomic unsigned threads; /* that have asked for a span, or released one */

bool lessee_is_shared(void)
{
    return atomic_load_explicit(&threads, memory_order_relaxed) > 1;
}

/* This thread's. */
static struct recent *my_recent(struct lessee *lessee)
{
    static _Thread_local unsigned mine __attribute__((tls_model("initial-exec")));

    if (mine == 0)
        mine = atomic_fetch_add(&threads, 1) % RECENTS + 1;
    return &lessee->recents[mine - 1];
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

/* Through the daemon all is done under the client's lock: there is nothing to keep apart. */
static void recent_lock(const struct jitc_client *client, struct recent *recent)
{
    if (is_direct(client))
        (void)pthread_mutex_lock(&recent->lock);
}

static void recent_unlock(const struct jitc_client *client, struct recent *recent)
{
    if (is_direct(client))
        (void)pthread_mutex_unlock(&recent->lock);
}

static void tell_span(const struct heap_span *span, struct result *result)
{
    result_init(result);
    result->has_span = true;
    result->offset = span->offset;
    result->size = span->bytes;
    result->flags = (span->clean ? SPAN_ICACHE_CLEAN : 0) | (span->sealed ? SPAN_SEALED : 0);
}

/* ---- Giving back ---------------------------------------------------------------------- */

/* The offset where a recent is of none: no span starts there. */
#define NO_SPAN 0u
/* What drop() may have to put. */
#define DROP_ENTRIES 2u
/* Entries of which it is worth to tell an awake daemon, where nobody waits for them. */
#define GATHERED 32u

static void put(struct jitc_client *client, enum operation operation, uint64_t offset, uint64_t size)
{
    (void)plane_put(client,
                    &(struct request){.operation = operation,
                                      .span = offset,
                                      .size = size,
                                      .filled = is_direct(client) && (operation == OPERATION_RELEASE ||
                                                                      operation == OPERATION_SHRINK)},
                    NULL);
}

static void fill(struct jitc_client *client, uint64_t offset, uint64_t bytes)
{
    fill_pattern_spread(client->map.rw + offset, bytes, client->welcome.fill_pattern);
}

/* What is not filled yet is to be so soon; what the client has filled itself is no hurry. */
static void publish(struct jitc_client *client)
{
    if (is_direct(client))
        plane_publish_lazily(&client->plane, GATHERED);
    else
        plane_publish(&client->plane);
}

static void give_vacant(struct jitc_client *client)
{
    uint64_t block = client->lessee.vacant - 1;

    client->lessee.vacant = 0;
    heap_disown(&client->lessee.heap, block);
    put(client, OPERATION_RETURN, block, 0);
}

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

/* The span leaves the heap, and its block perhaps the lease. */
static void cut_whole(struct jitc_client *client, const struct heap_span *span)
{
    heap_cut(&client->lessee.heap, span, 0);
    if (heap_is_vacant(&client->lessee.heap, span->offset))
        vacate(client, block_of(span->offset));
}

/* So that the heap, and in its order the ring, say what is so. There is room for DROP_ENTRIES. */
static void drop(struct jitc_client *client, struct recent *recent)
{
    recent_lock(client, recent);
    if (recent->state == RECENT_KEPT) {
        if (is_direct(client) && !plane_take_back(&client->plane, recent->offset))
            put(client, OPERATION_RELEASE, recent->offset, 0);
        cut_whole(client, &(struct heap_span){.offset = recent->offset, .bytes = recent->bytes});
    }
    recent->state = RECENT_NONE;
    recent->offset = NO_SPAN;
    recent_unlock(client, recent);
}

static void drop_all(struct jitc_client *client)
{
    for (unsigned i = 0; i < RECENTS; i++)
        drop(client, &client->lessee.recents[i]);
}

static void set_recent(struct jitc_client *client, struct recent *recent, enum recent_state state,
                       uint64_t offset, uint64_t bytes)
{
    recent_lock(client, recent);
    recent->state = state;
    recent->offset = offset;
    recent->bytes = bytes;
    recent_unlock(client, recent);
}

/*
 * The span is nobody's from here on; the thread's next alloc of its size gets it. It was LIVE here, or in no
 * recent. There is room for one entry and DROP_ENTRIES.
 */
static void keep(struct jitc_client *client, uint64_t offset, uint64_t bytes)
{
    struct recent *recent = my_recent(&client->lessee);

    if (is_direct(client))
        fill(client, offset, bytes); /* and the daemon is told when it is dropped */
    else if (!plane_take_back(&client->plane, offset))
        put(client, OPERATION_RELEASE, offset, 0);
    set_recent(client, recent, RECENT_KEPT, offset, bytes);
    if (client->lessee.keeps_nothing)
        drop(client, recent);
    publish(client);
}

/* Makes room for so many entries, and for those of drop_all(). */
static int reserve(struct jitc_client *client, unsigned entries)
{
    return plane_reserve_entries(client, &client->plane, entries + RECENTS * DROP_ENTRIES);
}

/*
 * Runs it at the daemon, with the lock let go while it is waited for. *resets tells after how many resets
 * that is done: if there were more in the end, what it yielded is gone again.
 */
static int run_after(struct jitc_client *client, const struct request *request, struct result *result,
                     uint64_t *resets)
{
    int status = plane_reserve(client, 1 + RECENTS * DROP_ENTRIES,
                               request->operation == OPERATION_PATCH ? RING_PATCH_BYTES : 0);

    if (status != JITC_OK)
        return status;
    drop_all(client);
    *resets = client->lessee.resets;
    return plane_run(client, request, result);
}

static int run_there(struct jitc_client *client, const struct request *request, struct result *result)
{
    uint64_t resets;

    return run_after(client, request, result, &resets);
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
    int status = run_after(client, &request, &result, &resets);

    if (status != JITC_OK || resets != lessee->resets)
        return status;
    if (!makes_sense(lessee, &result, client->welcome.arena_bytes))
        return call_lose(client, "leases what is no free run of a block");
    heap_adopt(&lessee->heap, &(struct lease){.offset = result.offset,
                                              .bytes = result.size,
                                              .clean = (result.flags & SPAN_ICACHE_CLEAN) != 0});
    return JITC_OK;
}

/* Large, or nothing to be leased: the daemon knows a place, or says why there is none. */
static int alloc_foreign(struct jitc_client *client, jitc_span *span, size_t size)
{
    const struct request request = {.operation = OPERATION_ALLOC, .size = size};
    struct lessee *lessee = &client->lessee;
    struct result result;
    uint64_t resets;
    int status = run_after(client, &request, &result, &resets);

    /* The block that we keep in reserve may be what is missing. */
    if ((status == JITC_E_ARENA_FULL || status == JITC_E_QUOTA_BYTES) && lessee->vacant != 0) {
        status = plane_reserve_entries(client, &client->plane, 1);
        if (status == JITC_OK && lessee->vacant != 0)
            give_vacant(client);
        if (status == JITC_OK)
            status = run_after(client, &request, &result, &resets);
    }
    if (status != JITC_OK)
        return status;
    if (resets == lessee->resets)
        lessee->foreign++;
    return span_from_result(client, &result, span);
}

/* The session holds as many spans as it may, those included that are kept. */
static bool is_full(const struct jitc_client *client)
{
    return client->lessee.heap.spans + client->lessee.foreign >= (int64_t)client->welcome.spans_max;
}

/* Carves the span, with the lock held. */
static int carve(struct jitc_client *client, jitc_span *span, size_t size)
{
    struct lessee *lessee = &client->lessee;
    struct placement placement;
    struct heap_span carved;

    for (;;) {
        int status = reserve(client, 1);

        if (status != JITC_OK)
            return status;
        drop(client, my_recent(lessee));
        if (is_full(client))
            drop_all(client);
        if (is_full(client))
            return failure_set(JITC_E_QUOTA_SPANS, "the session holds its %" PRIu32 " spans",
                               client->welcome.spans_max);
        if (heap_place(&lessee->heap, size, &placement))
            break;
        if (lease(client, size) != JITC_OK)
            return client->is_lost ? call_lost(client) : alloc_foreign(client, span, size);
    }
    carved = heap_take(&lessee->heap, &placement);
    if (lessee->vacant == block_of(carved.offset) + 1)
        lessee->vacant = 0;
    set_recent(client, my_recent(lessee), RECENT_LIVE, carved.offset, carved.bytes);
    if (is_direct(client))
        prefetch_to_write(client->map.rw + carved.offset);
    put(client, OPERATION_CARVE, carved.offset, carved.bytes);
    plane_publish_lazily(&client->plane, GATHERED);
    span_at(client, carved.offset, carved.bytes, carved.clean ? SPAN_ICACHE_CLEAN : 0, span);
    return JITC_OK;
}

/* The span that this thread released last, if it will do. */
static bool take_recent(struct jitc_client *client, jitc_span *span, size_t size)
{
    struct recent *recent = my_recent(&client->lessee);
    bool does;

    recent_lock(client, recent);
    does = recent->state == RECENT_KEPT && span_round_up(client, size) == recent->bytes;
    if (does) {
        recent->state = RECENT_LIVE;
        span_at(client, recent->offset, recent->bytes, 0, span);
    }
    recent_unlock(client, recent);
    return does;
}

static int alloc(struct jitc_client *client, jitc_span *span, size_t size)
{
    int status;

    if (size == 0 || size > BLOCK_BYTES - client->lessee.heap.granularity)
        return alloc_foreign(client, span, size);
    status = reserve(client, 1);
    if (status != JITC_OK)
        return status;
    if (is_direct(client) || !take_recent(client, span, size))
        return carve(client, span, size);
    put(client, OPERATION_CARVE, (uint64_t)((uint8_t *)span->rx - client->map.rx), span->size);
    return JITC_OK;
}

int lessee_alloc(struct jitc_client *client, jitc_span *span, size_t size)
{
    int status;

    /* There the daemon believes that it lives: nobody has to be told. */
    if (is_direct(client) && fork_guard_is_ours(client->mark) && !client->is_lost &&
        take_recent(client, span, size))
        return JITC_OK;
    status = client_lock(client);
    if (status != JITC_OK)
        return status;
    status = alloc(client, span, size);
    client_unlock(client);
    return status;
}

/* ---- Release and shrink ------------------------------------------------------------------- */

static int release_foreign(struct jitc_client *client, uint64_t offset)
{
    const struct request request = {.operation = OPERATION_RELEASE, .span = offset};
    struct result result;
    uint64_t resets;
    int status = run_after(client, &request, &result, &resets);

    if (status == JITC_OK && resets == client->lessee.resets)
        client->lessee.foreign--;
    return status;
}

/* In whose recent the span is, if in anyone's: in one at most. With the client's lock held, so that none
 * changes its span. */
static struct recent *find_recent(struct lessee *lessee, uint64_t offset)
{
    for (unsigned i = 0; i < RECENTS; i++) {
        if (lessee->recents[i].offset == offset)
            return &lessee->recents[i];
    }
    return NULL;
}

static bool is_live_here(struct jitc_client *client, struct recent *recent, uint64_t offset, uint64_t *bytes)
{
    bool is;

    recent_lock(client, recent);
    is = recent->state == RECENT_LIVE && recent->offset == offset;
    *bytes = recent->bytes;
    recent_unlock(client, recent);
    return is;
}

static int release(struct jitc_client *client, uint64_t offset)
{
    struct lessee *lessee = &client->lessee;
    struct recent *other;
    struct heap_span span;
    int status = reserve(client, 1 + DROP_ENTRIES);

    if (status != JITC_OK)
        return status;
    if (is_live_here(client, my_recent(lessee), offset, &span.bytes)) {
        keep(client, offset, span.bytes);
        return JITC_OK;
    }
    other = find_recent(lessee, offset);
    if (other != NULL)
        drop(client, other); /* if it was released there, the heap knows it no more */
    drop(client, my_recent(lessee));
    if (!heap_find(&lessee->heap, offset, &span))
        return release_foreign(client, offset);
    keep(client, offset, span.bytes);
    if (span.sealed)
        drop(client, my_recent(lessee)); /* the next one there is not */
    return JITC_OK;
}

/* In a direct session: what this thread was handed last is filled, and kept for it. */
static bool keep_recent(struct jitc_client *client, uint64_t offset)
{
    struct recent *recent = my_recent(&client->lessee);
    bool does;

    recent_lock(client, recent);
    does = recent->state == RECENT_LIVE && recent->offset == offset;
    if (does) {
        fill(client, offset, recent->bytes);
        recent->state = RECENT_KEPT;
    }
    recent_unlock(client, recent);
    return does;
}

int lessee_release(struct jitc_client *client, uint64_t offset)
{
    int status;

    if (is_direct(client)) {
        if (!client->is_lost && keep_recent(client, offset))
            return JITC_OK;
        prefetch_to_write(client->map.rw + offset);
    }
    /* Where nothing is in a cache, it comes while the rest is done. */
    heap_prefetch(&client->lessee.heap, offset);
    status = client_lock(client);
    if (status != JITC_OK)
        return status;
    status = release(client, offset);
    client_unlock(client);
    return status;
}

static int shrink(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct heap *heap = &client->lessee.heap;
    uint64_t size = span_round_up(client, request->size);
    struct heap_span span;
    int status = reserve(client, 1);

    if (status != JITC_OK)
        return status;
    drop_all(client);
    if (request->size == 0 || !heap_find(heap, request->span, &span) || span.sealed ||
        request->size > span.bytes)
        return run_there(client, request, result); /* which has an error to tell, or a foreign span */
    if (size < span.bytes) {
        if (is_direct(client))
            fill(client, span.offset + size, span.bytes - size);
        heap_cut(heap, &span, size);
        put(client, OPERATION_SHRINK, span.offset, size);
        publish(client);
    }
    span.bytes = size;
    tell_span(&span, result);
    return JITC_OK;
}

/* ---- The rest --------------------------------------------------------------------------------- */

static int query(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct heap_span span;
    int status = reserve(client, 0);

    if (status != JITC_OK)
        return status;
    drop_all(client);
    if (!heap_find_around(&client->lessee.heap, request->span, &span))
        return run_there(client, request, result);
    tell_span(&span, result);
    return JITC_OK;
}

static int seal(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct heap_span span;
    int status = run_there(client, request, result);

    if (status == JITC_OK && heap_find(&client->lessee.heap, request->span, &span))
        heap_seal(&client->lessee.heap, &span);
    return status;
}

/* Forgets all spans and leases together with the request, so that what is put later meets none of them. */
static int reset(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct lessee *lessee = &client->lessee;
    int status = plane_reserve_entries(client, &client->plane, 1); /* so that nothing comes in between */

    if (status != JITC_OK)
        return status;
    if (request->kind == RESET_SOFT || request->kind == RESET_HARD) {
        heap_clear(&lessee->heap);
        for (unsigned i = 0; i < RECENTS; i++)
            set_recent(client, &lessee->recents[i], RECENT_NONE, NO_SPAN, 0);
        lessee->foreign = 0;
        lessee->vacant = 0;
        lessee->resets++;
    }
    return plane_run(client, request, result);
}

int lessee_run(struct jitc_client *client, const struct request *request, struct result *result)
{
    static int (*const run[OPERATION_COUNT])(struct jitc_client *, const struct request *,
                                             struct result *) = {
        [OPERATION_SHRINK] = shrink,
        [OPERATION_QUERY] = query,
        [OPERATION_SEAL] = seal,
        [OPERATION_RESET] = reset,
    };
    int status = client_lock(client);

    if (status != JITC_OK)
        return status;
    status = (run[request->operation] != NULL ? run[request->operation] : run_there)(client, request, result);
    client_unlock(client);
    return status;
}

int lessee_settle(struct jitc_client *client)
{
    int status = client_lock(client);

    if (status != JITC_OK)
        return status;
    status = reserve(client, 0);
    if (status == JITC_OK)
        drop_all(client);
    client_unlock(client);
    return status;
}
