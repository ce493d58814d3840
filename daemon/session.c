/* SPDX-License-Identifier: MIT */
#include "daemon/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/log.h"

static enum status grant_arena_bytes(const struct class *class, const struct hello *hello, uint64_t *bytes,
                                     struct result *result)
{
    *bytes = hello->arena_bytes == 0 ? class->arena_bytes : hello->arena_bytes;
    if (*bytes > class->arena_max_bytes)
        return result_refuse(result, STATUS_TOO_LARGE, "arena_bytes",
                             "%" PRIu64 " bytes; the policy allows %" PRIu64, *bytes, class->arena_max_bytes);
    *bytes = (*bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    return STATUS_OK;
}

static enum status grant_kind(const struct class *class, const struct peer *peer, const struct hello *hello,
                              enum arena_kind *kind, struct result *result)
{
    if (hello->write_mode == WRITE_DIRECT && !class->write_direct)
        return result_refuse(result, STATUS_REFUSED, "write_mode",
                             "the policy's class %s does not write directly; ask for through, or any",
                             class->name);
    if (hello->write_mode != WRITE_THROUGH && class->write_direct)
        *kind = ARENA_DIRECT;
    else if (peer->uid == 0 || peer->uid == geteuid())
        *kind = ARENA_SEALED;
    else
        *kind = ARENA_THROUGH;
    return STATUS_OK;
}

static uint64_t span_max_bytes(uint64_t arena_bytes, uint32_t granularity)
{
    uint64_t bytes = heap_span_max_bytes(arena_bytes, granularity);

    return bytes < SPAN_LIMIT_BYTES ? bytes : SPAN_LIMIT_BYTES;
}

/* What this kind of arena, the policy and the kernel can do of what the client wishes. */
static uint64_t grant_features(const struct class *class, enum arena_kind kind, uint64_t arena_bytes,
                               uint64_t wishes)
{
    uint64_t granted = kind == ARENA_THROUGH ? wishes & FEATURE_IMMEDIATE_RELEASE : 0;

    if ((wishes & FEATURE_LARGE_PAGES) != 0 && class->huge_pages && arena_bytes >= HUGE_PAGE_BYTES &&
        arena_can_be_huge())
        granted |= FEATURE_LARGE_PAGES;
    if (class->executor_max > 0)
        granted |= wishes & FEATURE_EXECUTORS;
    return granted;
}

struct session *session_new(uint64_t id, const struct class *class, const struct peer *peer,
                            struct account *account, const struct hello *hello, struct welcome *welcome,
                            struct result *result)
{
    struct session *session;
    enum arena_kind kind = ARENA_THROUGH;
    uint64_t arena_bytes;
    uint64_t features;
    int error;

    if (grant_kind(class, peer, hello, &kind, result) != STATUS_OK ||
        grant_arena_bytes(class, hello, &arena_bytes, result) != STATUS_OK)
        return NULL;

    session = calloc(1, sizeof *session);
    if (session == NULL)
        goto no_memory;
    session->id = id;
    session->refs = 1;
    session->class = class;
    session->began_ns = uv_hrtime();
    session->shape = (struct shape){
        .arena_bytes = arena_bytes,
        .span_max_bytes = span_max_bytes(arena_bytes, hello->granularity),
        .granularity = hello->granularity,
        .is_direct = kind == ARENA_DIRECT,
    };
    features = grant_features(class, kind, arena_bytes, hello->features);
    session->immediate_release = (features & FEATURE_IMMEDIATE_RELEASE) != 0;
    charge_init(&session->bytes, account, QUOTA_BYTES);
    charge_init(&session->spans, account, QUOTA_SPANS);
    error = arena_init(&session->arena, kind, arena_bytes, hello->fill_pattern,
                       (features & FEATURE_LARGE_PAGES) != 0);
    if (error != 0) {
        log_client(LOG_ERROR, "no arena for uid %u: %s", (unsigned)peer->uid, strerror(-error));
        free(session);
        goto no_memory;
    }
    error = heap_init(&session->heap, arena_bytes, hello->granularity);
    if (error == 0 && class->write_once)
        error = written_init(&session->written, arena_bytes, hello->granularity);
    if (error != 0) {
        log_client(LOG_ERROR, "no heap for uid %u: %s", (unsigned)peer->uid, strerror(-error));
        (void)session_unref(session);
        goto no_memory;
    }

    session_describe(session, welcome);
    welcome->features = features;
    return session;

no_memory:
    (void)result_refuse(result, STATUS_NO_MEMORY, "",
                        "the daemon has no memory or descriptors for a session");
    return NULL;
}

void session_describe(const struct session *session, struct welcome *welcome)
{
    *welcome = (struct welcome){
        .version = PROTOCOL_VERSION,
        .session = session->id,
        .write_mode = session->shape.is_direct ? WRITE_DIRECT : WRITE_THROUGH,
        .arena_bytes = session->shape.arena_bytes,
        .granularity = session->shape.granularity,
        .fill_pattern = session->arena.fill_pattern,
        .sealed = session->arena.kind == ARENA_SEALED,
        .span_max_bytes = session->shape.span_max_bytes,
        .spans_max = session->class->span_max,
        .record_max_bytes = RECORD_MAX_BYTES,
        .write_max_bytes = WRITE_MAX_BYTES,
        .operations_max = OPERATIONS_MAX,
    };
    (void)snprintf(welcome->daemon, sizeof welcome->daemon, "jitbrokerd " JITBROKER_VERSION);
}

struct session *session_ref(struct session *session)
{
    session->refs++;
    return session;
}

struct session *session_unref(struct session *session)
{
    if (session == NULL || --session->refs > 0)
        return NULL;
    written_deinit(&session->written);
    heap_deinit(&session->heap);
    arena_deinit(&session->arena);
    charge_deinit(&session->spans);
    charge_deinit(&session->bytes);
    free(session);
    return NULL;
}

static enum status refuse_bytes(const struct session *session, uint64_t bytes, struct result *result)
{
    unsigned uid = (unsigned)session->bytes.account->uid;

    if (charge_exceeds_share(&session->bytes, bytes, session->class->bytes_max))
        return result_refuse(result, STATUS_QUOTA_BYTES, "size",
                             "uid %u would hold more than its share of the code memory that the daemon has",
                             uid);
    return result_refuse(result, STATUS_QUOTA_BYTES, "size",
                         "uid %u would hold more than its %" PRIu64 " bytes of code memory", uid,
                         session->class->bytes_max);
}

enum status session_grow(struct session *session, uint64_t bytes, struct result *result)
{
    uint64_t before = session->bytes.amount;
    int error;

    if (bytes <= session->arena.grown_bytes)
        return STATUS_OK;
    if (!charge_set(&session->bytes, bytes, session->class->bytes_max))
        return refuse_bytes(session, bytes, result);
    error = arena_grow(&session->arena, bytes);
    if (error != 0) {
        (void)charge_set(&session->bytes, before, session->class->bytes_max);
        log_client(LOG_ERROR, "session %" PRIu64 ": the arena can't grow to %" PRIu64 " bytes: %s",
                   session->id, bytes, strerror(-error));
        return result_refuse(result, STATUS_NO_MEMORY, "size",
                             "the daemon could not get %" PRIu64 " bytes more", bytes - before);
    }
    heap_set_grown(&session->heap, bytes);
    if (bytes > session->reserved_peak_bytes)
        session->reserved_peak_bytes = bytes;
    return STATUS_OK;
}

void session_trim(struct session *session, uint64_t keep_bytes)
{
    uint64_t bytes = heap_end_bytes(&session->heap) + keep_bytes;

    if (bytes >= session->arena.grown_bytes || !arena_trim(&session->arena, bytes))
        return;
    bytes = session->arena.grown_bytes; /* more, where a huge page was not cut */
    heap_set_grown(&session->heap, bytes);
    (void)charge_set(&session->bytes, bytes, session->class->bytes_max);
}
