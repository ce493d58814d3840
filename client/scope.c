/* SPDX-License-Identifier: MIT */
/*
 * Many writes in few round trips. What goes through the daemon is encoded into the
 * scope's record at once, so the caller's bytes are its own again; a flush sends
 * that record. What is directly writable is written at once.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/failure.h"
#include "client/patience.h"
#include "client/span.h"

/* Writes of which the daemon is told while the next ones are staged. */
#define GATHERED 8u
/* Left free in the record for the request's id, which is appended last. */
#define ID_BYTES_MAX 16u

struct jitc_scope {
    struct jitc_client *client;
    jitc_write_policy policy;
    struct buffer record;
    size_t operations;
    struct pending {
        uint64_t span;
        uint64_t at;
        size_t bytes; /* to be flushed once they are written */
    } pending[OPERATIONS_MAX];
    struct failure failure; /* the first one since the last flush that was reported, if there was one */
    struct sink sink;       /* of what is in the ring, and ... */
    uint64_t last_number;   /* ... the last entry of it */
};

int jitc_scope_begin(jitc_client *client, jitc_scope **scope, jitc_write_policy policy)
{
    struct jitc_scope *new;
    int status = client_check_owner(client);

    if (status == JITC_OK)
        status = span_check_policy(policy);
    if (status != JITC_OK)
        return status;
    new = malloc(sizeof *new + (client->plane.memory != NULL ? 0 : RECORD_MAX_BYTES));
    if (new == NULL)
        return failure_set(JITC_E_SYSTEM, "memory for a scope: %m");
    new->client = client;
    sink_init(&new->sink, NULL);
    new->policy = policy;
    new->record = (struct buffer){.bytes = (uint8_t *)(new + 1), .capacity = RECORD_MAX_BYTES - ID_BYTES_MAX};
    new->operations = 0;
    new->failure.status = JITC_OK;
    *scope = new;
    return JITC_OK;
}

static void remember(jitc_scope *scope, int status)
{
    if (status != JITC_OK && scope->failure.status == JITC_OK)
        scope->failure = *failure_last();
}

static void flush_pending(jitc_scope *scope)
{
    for (size_t i = 0; i < scope->operations; i++)
        span_flush(scope->client->map.rx + scope->pending[i].span + scope->pending[i].at,
                   scope->pending[i].bytes, scope->policy);
    scope->operations = 0;
}

/* Waits for what is in the ring. */
static int exchange_by_plane(jitc_scope *scope)
{
    struct jitc_client *client = scope->client;
    int status = client_lock(client);

    if (status == JITC_OK) {
        plane_publish(&client->plane);
        client_unlock(client);
        status = plane_wait_done(client, scope->last_number, &scope->sink);
    }
    if (status == JITC_OK && scope->sink.failure.status != JITC_OK) {
        remember(scope, failure_tell(&scope->sink.failure));
        scope->sink.failure.status = JITC_OK;
    }
    flush_pending(scope);
    remember(scope, status);
    return status;
}

/* Sends what is pending and looks at every result. */
static int exchange_by_socket(jitc_scope *scope)
{
    struct jitc_client *client = scope->client;
    struct buffer record = scope->record;
    struct reply_record reply;
    struct result result;
    uint64_t id;
    int status;

    record.capacity = RECORD_MAX_BYTES;
    status = call_begin(client);
    if (status == JITC_OK) {
        status = call_settle(client);
        if (status == JITC_OK)
            status = call_send(client, &record, false, &id);
        if (status == JITC_OK)
            status = call_receive(client, id, &reply, 0, NULL);
        if (status == JITC_OK && reply.results_count != scope->operations)
            status = call_lose(client, "has not one result for each operation");
        for (size_t i = 0; status == JITC_OK && i < reply.results_count; i++) {
            codec_result(&reply, i, &result);
            remember(scope, call_status(&result));
        }
        call_end(client);
    }
    flush_pending(scope);
    remember(scope, status);
    scope->record.used = 0;
    return status;
}

/* Has done what is pending. JITC_OK, though some of it may have been refused, or why there is no answer. */
static int exchange(jitc_scope *scope)
{
    if (scope->operations == 0)
        return JITC_OK;
    return scope->client->plane.memory != NULL ? exchange_by_plane(scope) : exchange_by_socket(scope);
}

static void append_by_plane(jitc_scope *scope, const struct request *request)
{
    struct jitc_client *client = scope->client;
    int status = client_lock(client);

    if (status == JITC_OK) {
        status = plane_put_write(client, request, &scope->sink, &scope->last_number);
        plane_publish_lazily(&client->plane, GATHERED);
        client_unlock(client);
    }
    if (status != JITC_OK) {
        remember(scope, status);
        return;
    }
    scope->pending[scope->operations++] =
        (struct pending){.span = request->span, .at = request->at, .bytes = request->data_bytes};
}

/* The same where there is no room for more, which has as long again. */
static void make_room(jitc_scope *scope)
{
    if (exchange(scope) == JITC_OK)
        patience_begin();
}

static void append(jitc_scope *scope, const struct request *request)
{
    if (scope->operations == OPERATIONS_MAX)
        make_room(scope);
    if (scope->client->plane.memory != NULL) {
        append_by_plane(scope, request);
        return;
    }
    if (!codec_put_operation(&scope->record, request)) {
        make_room(scope);
        (void)codec_put_operation(&scope->record, request); /* an empty record has room for any */
    }
    scope->pending[scope->operations++] =
        (struct pending){.span = request->span, .at = request->at, .bytes = request->data_bytes};
}

static void append_write(jitc_scope *scope, uint64_t span, size_t at, const uint8_t *data, size_t bytes)
{
    size_t most = scope->client->plane.memory != NULL ? bytes : WRITE_MAX_BYTES;

    do {
        size_t chunk = bytes < most ? bytes : most;
        const struct request request = {
            .operation = OPERATION_WRITE, .span = span, .at = at, .data = data, .data_bytes = chunk};

        append(scope, &request);
        at += chunk;
        data += chunk;
        bytes -= chunk;
    } while (bytes > 0);
}

int jitc_scope_write(jitc_scope *scope, jitc_span *span, size_t offset, const void *src, size_t size)
{
    uint64_t start = 0;
    int status = client_check(scope->client);

    patience_begin();
    if (status == JITC_OK)
        status = span_check_write(scope->client, span, offset, src, size, &start);
    if (status != JITC_OK)
        return status;
    if (span->rw == NULL) {
        append_write(scope, start, offset, src, size);
    } else if (size > 0) {
        memcpy((uint8_t *)span->rw + offset, src, size);
        span_flush((uint8_t *)span->rx + offset, size, scope->policy);
    }
    span->flags &= ~JITC_SPAN_ICACHE_CLEAN;
    return JITC_OK;
}

static bool is_pending(const jitc_scope *scope, uint64_t span)
{
    for (size_t i = 0; i < scope->operations; i++) {
        if (scope->pending[i].span == span)
            return true;
    }
    return false;
}

/* The callback's wish, made true: the tail goes, and *span has its new size. */
static int shrink_after(jitc_scope *scope, jitc_span *span, uint64_t start, size_t wanted)
{
    size_t size = span_round_up(scope->client, wanted);
    const struct request request = {.operation = OPERATION_SHRINK, .span = start, .size = size};

    if (size >= span->size)
        return JITC_OK;
    if (size == 0 || scope->client->plane.memory != NULL) {
        /* What is pending for the span must not meet the next one there; the ring keeps the order itself. */
        if (scope->client->plane.memory == NULL)
            (void)exchange(scope);
        return span_shrink(scope->client, span, size);
    }
    append(scope, &request);
    span->size = size;
    return JITC_OK;
}

static int write_fn(jitc_scope *scope, jitc_span *span, jitc_write_callback callback, void *user)
{
    jitc_span copy = *span;
    uint8_t *staging = NULL;
    uint64_t start = 0;
    int status = client_check(scope->client);

    if (status == JITC_OK && callback == NULL)
        status = failure_set(JITC_E_INVALID, "callback is NULL");
    if (status == JITC_OK)
        status = span_check_range(scope->client, span, 0, span->size, &start);
    if (status != JITC_OK)
        return status;
    if (span->rw == NULL) {
        staging = malloc(span->size);
        if (staging == NULL)
            return failure_set(JITC_E_SYSTEM, "memory to stage %zu bytes: %m", span->size);
        /* The present content includes what this scope was told to write. */
        if (scope->client->plane.memory != NULL)
            status = plane_flush(scope->client);
        else if (is_pending(scope, start))
            status = exchange(scope);
        if (status != JITC_OK) {
            free(staging);
            return status;
        }
        if (!arena_map_read(&scope->client->map, start, staging, span->size)) {
            free(staging);
            return failure_set(JITC_E_NO_SPAN,
                               "nothing is at %p any more: released, or the session has ended", span->rx);
        }
        copy.rw = staging;
    }
    if (callback(&copy, user) != 0)
        status = failure_set(JITC_E_CALLBACK, "the write callback gave up");
    if (copy.size > span->size)
        copy.size = span->size;
    if (status == JITC_OK && staging != NULL && copy.size > 0)
        append_write(scope, start, 0, staging, copy.size);
    if (status == JITC_OK) {
        if (staging == NULL)
            span_flush(span->rx, copy.size, scope->policy);
        span->flags &= ~JITC_SPAN_ICACHE_CLEAN;
        status = shrink_after(scope, span, start, copy.size);
    }
    free(staging);
    return status;
}

/* What operations that were not waited for ran into. Who writes directly waits for nothing, so not for them
 * either. */
static int tell_others(struct jitc_client *client)
{
    int status = client->map.rw == NULL ? plane_flush(client) : JITC_OK;

    return status == JITC_OK ? plane_tell_refusal(client) : status;
}

static int flush(jitc_scope *scope)
{
    int status = client_check(scope->client);

    if (status != JITC_OK)
        return status;
    (void)exchange(scope);
    if (scope->failure.status != JITC_OK) {
        status = failure_tell(&scope->failure);
        scope->failure.status = JITC_OK;
        return status;
    }
    return scope->client->plane.memory == NULL ? JITC_OK : tell_others(scope->client);
}

static int end(jitc_scope *scope)
{
    int status = flush(scope);

    free(scope);
    return status;
}

/* ---- Public ------------------------------------------------------------------------------- */

int jitc_scope_write_fn(jitc_scope *scope, jitc_span *span, jitc_write_callback callback, void *user)
{
    patience_begin();
    return write_fn(scope, span, callback, user);
}

int jitc_scope_flush(jitc_scope *scope)
{
    patience_begin();
    return flush(scope);
}

int jitc_scope_end(jitc_scope *scope)
{
    patience_begin();
    return scope == NULL ? JITC_OK : end(scope);
}

int jitc_write_fn(jitc_client *client, jitc_span *span, jitc_write_callback callback, void *user,
                  jitc_write_policy policy)
{
    jitc_scope *scope;
    int status = jitc_scope_begin(client, &scope, policy);
    int end_status;

    if (status != JITC_OK)
        return status;
    patience_begin();
    status = write_fn(scope, span, callback, user);
    end_status = end(scope);
    return status != JITC_OK ? status : end_status;
}
