/* SPDX-License-Identifier: MIT */
#include "daemon/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/log.h"
#include "daemon/memfd.h"
#include "daemon/store.h"
#include "proto/heap_restore.h"

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

/* What the class grants, for who goes on with the session without it. */
static void note_grants(struct ledger_grants *grants, const struct class *class)
{
    memcpy(grants->class, class->name, sizeof grants->class);
    grants->bytes_max = class->bytes_max;
    grants->rate_bytes = class->rate_bytes;
    grants->session_max = class->session_max;
    grants->span_max = class->span_max;
    grants->executor_max = class->executor_max;
    grants->rate = class->rate;
    grants->forbid = class->forbid;
    grants->orphans_run = class->orphans_run;
    grants->write_once = class->write_once;
    grants->scan = (uint8_t) class->scan;
    grants->audit = (uint8_t) class->audit;
}

static int begin_ledger(struct session *session, const struct peer *peer, enum arena_kind kind,
                        uint64_t features)
{
    const struct shape *shape = &session->shape;
    struct ledger_page *page;
    int error =
        ledger_init(&session->ledger, shape->arena_bytes, shape->granularity, session->class->write_once);

    if (error != 0)
        return error;
    page = session->ledger.page;
    page->session = session->id;
    page->began_ns = session->began_ns;
    page->uid = peer->uid;
    page->kind = kind;
    page->features = features;
    page->fill_pattern = session->arena.fill_pattern;
    page->arena_inode = memfd_inode(session->arena.fd);
    note_grants(&page->grants, session->class);
    memcpy(page->unit, peer->unit, sizeof page->unit);
    return 0;
}

static int begin_heap(struct session *session)
{
    const struct shape *shape = &session->shape;

    if (session->class->write_once)
        session->written = (struct written){ledger_written(&session->ledger), shape->granularity};
    return heap_init(&session->heap, shape->arena_bytes, shape->granularity, ledger_units(&session->ledger));
}

/* One that has nothing yet but its account. */
static struct session *session_allocate(uint64_t id, const struct class *class, struct account *account,
                                        const struct shape *shape)
{
    struct session *session = calloc(1, sizeof *session);

    if (session == NULL)
        return NULL;
    session->id = id;
    session->refs = 1;
    session->class = class;
    session->began_ns = uv_hrtime();
    session->shape = *shape;
    session->arena.fd = -1;
    session->ledger.fd = -1;
    charge_init(&session->bytes, account, QUOTA_BYTES);
    charge_init(&session->spans, account, QUOTA_SPANS);
    return session;
}

struct session *session_new(uint64_t id, const struct class *class, const struct peer *peer,
                            struct account *account, const struct hello *hello, struct result *result)
{
    struct session *session;
    struct shape shape = {.granularity = hello->granularity};
    enum arena_kind kind = ARENA_THROUGH;
    uint64_t features;
    int error;

    if (grant_kind(class, peer, hello, &kind, result) != STATUS_OK ||
        grant_arena_bytes(class, hello, &shape.arena_bytes, result) != STATUS_OK)
        return NULL;
    shape.span_max_bytes = span_max_bytes(shape.arena_bytes, shape.granularity);
    shape.is_direct = kind == ARENA_DIRECT;
    features = grant_features(class, kind, shape.arena_bytes, hello->features);

    session = session_allocate(id, class, account, &shape);
    if (session == NULL)
        goto no_memory;
    session->immediate_release = (features & FEATURE_IMMEDIATE_RELEASE) != 0;
    error = arena_init(&session->arena, kind, shape.arena_bytes, hello->fill_pattern,
                       (features & FEATURE_LARGE_PAGES) != 0);
    if (error == 0)
        error = begin_ledger(session, peer, kind, features);
    if (error == 0)
        error = begin_heap(session);
    if (error != 0) {
        log_client(LOG_ERROR, "no session for uid %u: %s", (unsigned)peer->uid, strerror(-error));
        (void)session_unref(session);
        goto no_memory;
    }
    return session;

no_memory:
    (void)result_refuse(result, STATUS_NO_MEMORY, "",
                        "the daemon has no memory or descriptors for a session");
    return NULL;
}

/* ---- Adopting ------------------------------------------------------------------------------ */

/* Whether its offset and bytes are a part of the arena. */
static bool changes_arena(uint32_t kind)
{
    return kind == INTENT_TAKE || kind == INTENT_CUT || kind == INTENT_LEASE || kind == INTENT_RETURN ||
           kind == INTENT_WRITE;
}

/*
 * Where code is written once its granules were fill before it came, and are again: whatever of it is there
 * was told to nobody, and who sends something else in its place, by the ring, is not to have changed it.
 */
static void undo_write(struct session *session, uint64_t offset, uint64_t bytes)
{
    uint64_t granularity = session->shape.granularity;
    uint64_t from = offset / granularity * granularity;
    uint64_t to = (offset + bytes + granularity - 1) / granularity * granularity;

    if (session->written.words == NULL || bytes == 0)
        return;
    if (session->arena.kind != ARENA_SEALED) /* that changes no more */
        arena_fill(&session->arena, from, to - from);
    ledger_order();
    written_clear(&session->written, from, to - from);
}

/* Puts back what the operation changed that was being done, so that it can be done. */
static bool undo_intent(struct session *session)
{
    struct ledger_page *page = session->ledger.page;
    const struct ledger_intent intent = page->intent;
    bool is_next = intent.key == page->head || intent.key == (page->progress | LEDGER_KEY_SOCKET);
    uint64_t grown = session->arena.grown_bytes;

    if (!is_next || intent.kind == INTENT_NONE)
        return true;
    /* What is done may have been cut off the arena since. */
    if (changes_arena(intent.kind) && (intent.offset > grown || intent.bytes > grown - intent.offset))
        return false;
    switch ((enum intent_kind)intent.kind) {
    case INTENT_TAKE:
        return heap_undo_take(&session->heap, intent.offset, intent.bytes);
    case INTENT_CUT:
        return heap_undo_cut(&session->heap, intent.offset, intent.bytes, intent.flag != 0);
    case INTENT_LEASE:
        return heap_undo_lease(&session->heap, intent.offset);
    case INTENT_RETURN:
        return heap_undo_return(&session->heap, intent.offset);
    case INTENT_CLEAR:
        if (!heap_redo_clear(&session->heap, grown))
            return false;
        written_clear(&session->written, 0, grown);
        page->gives_back = intent.flag != 0;
        page->unfilled_bytes = grown;
        return true;
    case INTENT_PATCH:
        if (intent.flag > sizeof(uint64_t) || intent.offset > grown || grown - intent.offset < intent.flag)
            return false;
        if (session->written.words == NULL)
            break;
        undo_write(session, intent.offset, intent.flag);
        return true;
    case INTENT_WRITE:
        undo_write(session, intent.offset, intent.bytes);
        return true;
    default:
        break;
    }
    session->ledger.done = intent; /* for the operation itself, when it comes again */
    return true;
}

static const char *adopt_heap(struct session *session)
{
    struct ledger_page *page = session->ledger.page;
    const char *flaw;

    page->grown_bytes = session->arena.grown_bytes;
    ledger_cut_units(&session->ledger, page->grown_bytes);
    if (ledger_reserve_units(&session->ledger, page->grown_bytes) != 0)
        return memfd_no_memory;
    if (page->unfilled_bytes > page->grown_bytes)
        page->unfilled_bytes = page->grown_bytes;
    if (begin_heap(session) != 0)
        return memfd_no_memory;
    if (!undo_intent(session))
        return "its intent is none that a daemon has";
    ledger_order();
    page->intent.kind = session->ledger.done.kind;
    flaw = heap_restore(&session->heap, page->grown_bytes);
    if (flaw != NULL)
        return flaw;
    if (page->unfilled_bytes > 0 && heap_end_bytes(&session->heap) > 0)
        return "what it was to fill holds spans";
    return session->heap.spans > session->class->span_max ? "it has more spans than it may" : NULL;
}

struct session *session_adopt(struct ledger *ledger, int arena_fd, const struct class *class,
                              struct account *account, const char **flaw)
{
    struct ledger_page *page = ledger->page;
    const struct shape shape = {
        .arena_bytes = page->arena_bytes,
        .span_max_bytes = span_max_bytes(page->arena_bytes, page->granularity),
        .granularity = page->granularity,
        .is_direct = page->kind == ARENA_DIRECT,
    };
    struct session *session = session_allocate(page->session, class, account, &shape);
    int fd = arena_fd;

    *flaw = session == NULL ? memfd_no_memory : NULL;
    /* First, as it may be cut to its length. */
    if (*flaw == NULL && memfd_inode(fd) != page->arena_inode)
        *flaw = "its arena is another's";
    if (*flaw == NULL)
        *flaw =
            arena_adopt(&session->arena, fd, (enum arena_kind)page->kind, shape.arena_bytes,
                        page->grown_bytes, page->fill_pattern, (page->features & FEATURE_LARGE_PAGES) != 0);
    if (*flaw == NULL)
        fd = -1;
    if (fd >= 0)
        (void)close(fd);
    if (session == NULL)
        return NULL;
    session->ledger = *ledger;
    *ledger = (struct ledger){.fd = -1};
    if (*flaw == NULL)
        *flaw = adopt_heap(session);
    if (*flaw != NULL) {
        *ledger = session->ledger;
        session->ledger = (struct ledger){.fd = -1};
        return session_unref(session);
    }
    session->immediate_release = (page->features & FEATURE_IMMEDIATE_RELEASE) != 0;
    session->is_frozen = page->kind == ARENA_SEALED;
    if (page->began_ns != 0 && page->began_ns < session->began_ns)
        session->began_ns = page->began_ns;
    charge_restore(&session->bytes, page->grown_bytes);
    charge_restore(&session->spans, session->heap.spans);
    return session;
}

void session_describe(const struct session *session, struct welcome *welcome)
{
    *welcome = (struct welcome){
        .version = PROTOCOL_VERSION,
        .features = session->ledger.page->features,
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

void session_store_name(const struct session *session, char *name)
{
    (void)snprintf(name, STORE_NAME_MAX_BYTES, "session-%" PRIu64, session->id);
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
    heap_deinit(&session->heap);
    arena_deinit(&session->arena);
    ledger_deinit(&session->ledger);
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
    struct ledger_page *page = session->ledger.page;
    uint64_t before = session->bytes.amount;
    int error;

    if (bytes <= session->arena.grown_bytes)
        return STATUS_OK;
    if (!charge_set(&session->bytes, bytes, session->class->bytes_max))
        return refuse_bytes(session, bytes, result);
    error = ledger_reserve_units(&session->ledger, bytes);
    if (error == 0)
        error = arena_grow(&session->arena, bytes);
    if (error != 0) {
        (void)charge_set(&session->bytes, before, session->class->bytes_max);
        log_client(LOG_ERROR, "session %" PRIu64 ": the arena can't grow to %" PRIu64 " bytes: %s",
                   session->id, bytes, strerror(-error));
        return result_refuse(result, STATUS_NO_MEMORY, "size",
                             "the daemon could not get %" PRIu64 " bytes more", bytes - before);
    }
    heap_set_grown(&session->heap, bytes);
    page->grown_bytes = bytes;
    if (bytes > page->reserved_peak_bytes)
        page->reserved_peak_bytes = bytes;
    ledger_order();
    return STATUS_OK;
}

void session_trim(struct session *session, uint64_t keep_bytes)
{
    uint64_t bytes = heap_end_bytes(&session->heap) + keep_bytes;

    if (bytes >= session->arena.grown_bytes || !arena_trim(&session->arena, bytes))
        return;
    ledger_order();
    bytes = session->arena.grown_bytes; /* more, where a huge page was not cut */
    heap_set_grown(&session->heap, bytes);
    session->ledger.page->grown_bytes = bytes;
    (void)charge_set(&session->bytes, bytes, session->class->bytes_max);
}
