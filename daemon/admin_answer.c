/* SPDX-License-Identifier: MIT */
#include "daemon/admin_answer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/server.h"

#define NS_PER_MS UINT64_C(1000000)
/* How much code goes into one step: the daemon copies it twice. */
#define CODE_STEP_BYTES 8192u

/* protobuf-c's messages only point to what they have; in one that is encoded it stays as it is. */
static char *text(const char *from)
{
    return (char *)(uintptr_t)from;
}

void admin_put_error(struct buffer *out, Admin__Code code, const char *reason)
{
    Admin__Reply part = ADMIN__REPLY__INIT;
    Admin__Error error = ADMIN__ERROR__INIT;
    char cut[ADMIN_ERROR_MAX_BYTES];
    bool fits;

    (void)snprintf(cut, sizeof cut, "%s", reason);
    error.code = code;
    error.text = cut;
    part.error = &error;
    out->capacity += sizeof cut + 16; /* of that room */
    fits = admin_put(out, &part);
    assert(fits);
    (void)fits;
}

static enum admin_step fail(struct buffer *out, Admin__Code code, const char *reason)
{
    admin_put_error(out, code, reason);
    return ADMIN_STEP_DONE;
}

static void note_change(const struct admin_answer *answer, const char *what)
{
    log_event(LOG_ADMIN_DONE, &(struct log_subject){.session = answer->session, .peer = answer->peer}, NULL,
              "verb=%s%s", answer->verb->name, what);
}

/* ---- Figures ---------------------------------------------------------------------------- */

static void put_status(const struct admin_answer *answer, struct buffer *out)
{
    const struct admin *admin = answer->admin;
    const struct server *server = admin->server;
    const struct pool *pools = server->quota.pools;
    Admin__Event events[LOG_EVENT_COUNT];
    Admin__Event *all_events[LOG_EVENT_COUNT];
    Admin__Status status = ADMIN__STATUS__INIT;
    Admin__Reply part = ADMIN__REPLY__INIT;
    bool fits;

    for (int i = 0; i < LOG_EVENT_COUNT; i++) {
        events[i] = (Admin__Event)ADMIN__EVENT__INIT;
        events[i].name = text(log_event_name((enum log_event)i));
        events[i].count = log_count((enum log_event)i);
        all_events[i] = &events[i];
    }
    status.version = text(JITBROKER_VERSION);
    status.pid = getpid();
    status.uptime_ms = (uv_hrtime() - admin->started_ns) / NS_PER_MS;
    status.started_s = admin->started_s;
    status.sessions = answer->tally.sessions;
    status.executors = answer->tally.executors;
    status.used_bytes = answer->tally.used_bytes;
    status.connections = pools[QUOTA_SESSIONS].held;
    status.connections_max = pools[QUOTA_SESSIONS].total;
    status.sessions_started = server->sessions_started;
    status.sessions_adopted = server->sessions_adopted;
    status.has_store = store_is_there(&server->store);
    status.supervisor = server->supervisor;
    status.users = server->quota.accounts_count;
    status.spans = pools[QUOTA_SPANS].held;
    status.reserved_bytes = pools[QUOTA_BYTES].held;
    status.bytes_max = pools[QUOTA_BYTES].total;
    status.queued_bytes = pools[QUOTA_QUEUED].held;
    status.n_policy_files = server->policy->files_count;
    status.policy_files = (char **)(uintptr_t)server->policy->files;
    status.classes = server->policy->classes_count;
    status.policy_mistake = text(server->policy_mistake);
    status.log_level = log_level();
    status.n_events = LOG_EVENT_COUNT;
    status.events = all_events;
    part.status = &status;
    fits = admin_put(out, &part);
    if (!fits) { /* of many files with long names the count has to do */
        status.n_policy_files = 0;
        fits = admin_put(out, &part);
    }
    assert(fits);
    (void)fits;
}

/* The next of the connections, from the first on. */
static const struct connection *next_connection(struct admin_answer *answer)
{
    if (!answer->is_begun)
        answer->at = answer->admin->server->connections;
    answer->is_begun = true;
    return answer->at;
}

static enum admin_step step_status(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    for (const struct connection *at; (at = next_connection(answer)) != NULL; answer->at = at->next) {
        if (uv_hrtime() > end_ns)
            return ADMIN_STEP_LATER;
        if (at->session == NULL)
            continue;
        if (at->is_executor) {
            answer->tally.executors++;
            continue;
        }
        answer->tally.sessions++;
        answer->tally.used_bytes += heap_used_bytes(&at->session->heap);
    }
    put_status(answer, out);
    return ADMIN_STEP_DONE;
}

static void tell_usage(const struct session *session, Admin__Usage *usage)
{
    usage->direct = session->shape.is_direct;
    usage->sealed = session->arena.kind == ARENA_SEALED;
    usage->large = session->arena.is_huge;
    usage->write_once = session->class->write_once;
    usage->granularity = session->shape.granularity;
    usage->spans = session->heap.spans;
    usage->spans_max = session->class->span_max;
    usage->used_bytes = heap_used_bytes(&session->heap);
    usage->leased_bytes = heap_leased_bytes(&session->heap);
    usage->reserved_bytes = session->arena.grown_bytes;
    usage->reserved_peak_bytes = session->ledger.page->reserved_peak_bytes;
    usage->arena_bytes = session->shape.arena_bytes;
    usage->blocks = session->heap.blocks;
    usage->free_runs = session->heap.free_runs;
    usage->findings = session->ledger.page->findings;
    usage->age_ms = (uv_hrtime() - session->began_ns) / NS_PER_MS;
}

static bool put_end(const struct connection *of, struct buffer *out)
{
    Admin__Usage usage = ADMIN__USAGE__INIT;
    Admin__End end = ADMIN__END__INIT;
    Admin__End *ends = &end;
    Admin__Reply part = ADMIN__REPLY__INIT;

    tell_usage(of->session, &usage);
    usage.ring = !of->is_executor && plane_is_there(&of->plane);
    end.session = of->session->id;
    end.executor = of->is_executor;
    end.uid = of->peer.uid;
    end.pid = of->peer.pid;
    end.unit = text(of->peer.unit);
    end.class_ = text(of->class->name);
    end.operations = of->operations;
    end.refusals = of->refusals;
    end.usage = &usage;
    part.n_ends = 1;
    part.ends = &ends;
    return admin_put(out, &part);
}

static enum admin_step step_sessions(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    for (const struct connection *at; (at = next_connection(answer)) != NULL; answer->at = at->next) {
        if (uv_hrtime() > end_ns)
            return ADMIN_STEP_LATER;
        if (at->session != NULL && !put_end(at, out))
            return ADMIN_STEP_FULL;
    }
    return ADMIN_STEP_DONE;
}

static enum admin_step step_operations(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    const struct latency *latency = &answer->admin->server->latency;

    (void)end_ns;
    for (; answer->offset < OPERATION_COUNT; answer->offset++) {
        const struct latency_operation *from = &latency->operations[answer->offset];
        Admin__Operation operation = ADMIN__OPERATION__INIT;
        Admin__Operation *operations = &operation;
        Admin__Reply part = ADMIN__REPLY__INIT;

        operation.name = text(operation_name((enum operation)answer->offset));
        operation.done = from->done;
        operation.refused = from->refused;
        operation.sum_ns = from->sum_ns;
        operation.n_buckets = BUCKETS_COUNT;
        operation.buckets = (uint64_t *)(uintptr_t)from->buckets;
        part.n_operations = 1;
        part.operations = &operations;
        if (!admin_put(out, &part))
            return ADMIN_STEP_FULL;
    }
    return ADMIN_STEP_DONE;
}

/* ---- One session ------------------------------------------------------------------------- */

/* It, by one of its ends; NULL: there is none. */
static const struct session *find_session(struct admin_answer *answer)
{
    const struct connection *at = answer->at;

    if (at == NULL || at->session == NULL || at->session->id != answer->session) {
        for (at = answer->admin->server->connections; at != NULL; at = at->next) {
            if (at->session != NULL && at->session->id == answer->session)
                break;
        }
        answer->at = at;
    }
    return at != NULL ? at->session : NULL;
}

static enum admin_step fail_without_session(const struct admin_answer *answer, struct buffer *out)
{
    char reason[64];

    (void)snprintf(reason, sizeof reason,
                   answer->is_begun ? "session %" PRIu64 " has ended" : "no session %" PRIu64,
                   answer->session);
    return fail(out, ADMIN__CODE__NO_SESSION, reason);
}

static bool put_span(const struct heap_span *from, struct buffer *out)
{
    Admin__Span span = ADMIN__SPAN__INIT;
    Admin__Span *spans = &span;
    Admin__Reply part = ADMIN__REPLY__INIT;

    span.offset = from->offset;
    span.size = from->bytes;
    span.sealed = from->sealed;
    part.n_spans = 1;
    part.spans = &spans;
    return admin_put(out, &part);
}

static bool put_lease(uint64_t offset, struct buffer *out)
{
    Admin__Lease lease = ADMIN__LEASE__INIT;
    Admin__Lease *leases = &lease;
    Admin__Reply part = ADMIN__REPLY__INIT;

    lease.offset = offset;
    lease.size = BLOCK_BYTES;
    part.n_leases = 1;
    part.leases = &leases;
    return admin_put(out, &part);
}

/*
 * First what the session has, then its leases, then its spans, each by their offsets. What changes meanwhile
 * is told as it is when its turn comes. It goes by blocks, since between two spans there may be more of them
 * than one step has time for; and each step gets on, however late it is.
 */
static enum admin_step step_spans(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    const struct session *session = find_session(answer);
    struct heap_span span;

    if (session == NULL)
        return fail_without_session(answer, out);
    if (!answer->is_begun && !put_end(answer->at, out))
        return ADMIN_STEP_FULL;
    answer->is_begun = true;
    while (answer->start < heap_grown_bytes(&session->heap)) {
        if (heap_is_leased(&session->heap, answer->start) && !put_lease(answer->start, out))
            return ADMIN_STEP_FULL;
        answer->start = heap_next_block(&session->heap, answer->start + BLOCK_BYTES);
        if (uv_hrtime() > end_ns)
            return ADMIN_STEP_LATER;
    }
    while (answer->offset < heap_grown_bytes(&session->heap)) {
        uint64_t block_end = (answer->offset / BLOCK_BYTES + 1) * BLOCK_BYTES;

        if (!heap_next(&session->heap, answer->offset, block_end, &span))
            answer->offset = heap_next_block(&session->heap, block_end);
        else if (put_span(&span, out))
            answer->offset = span.offset + span.bytes;
        else
            return ADMIN_STEP_FULL;
        if (uv_hrtime() > end_ns)
            return ADMIN_STEP_LATER;
    }
    return ADMIN_STEP_DONE;
}

/* The span's bytes as they are when their turn comes. */
static enum admin_step step_code(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    const struct session *session = find_session(answer);
    Admin__Reply part = ADMIN__REPLY__INIT;
    struct heap_span span;
    uint64_t bytes;

    (void)end_ns;
    if (session == NULL)
        return fail_without_session(answer, out);
    if (!heap_find_around(&session->heap, answer->offset, &span))
        return fail(out, ADMIN__CODE__NO_SPAN,
                    answer->is_begun ? "the span was released meanwhile" : "that lies in no live span");
    if (!answer->is_begun) {
        (void)put_span(&span, out); /* the first of its record */
        answer->is_begun = true;
        answer->start = span.offset;
        answer->offset = span.offset;
        answer->end = span.offset + span.bytes;
    }
    if (span.offset != answer->start || span.offset + span.bytes != answer->end)
        return fail(out, ADMIN__CODE__NO_SPAN, "the span was released, or shrunk, meanwhile");
    bytes = answer->end - answer->offset;
    if (bytes > CODE_STEP_BYTES)
        bytes = CODE_STEP_BYTES;
    part.code.data = session->arena.bytes + answer->offset;
    part.code.len = bytes;
    (void)admin_put(out, &part);
    answer->offset += bytes;
    return answer->offset == answer->end ? ADMIN_STEP_DONE : ADMIN_STEP_FULL;
}

/* ---- Changes ------------------------------------------------------------------------------ */

#define REVOKED "revoked by the operator"

/* Executors first, whatever the policy says of orphans; then its owner, if it is there. */
static enum admin_step step_revoke(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    const struct session *session = find_session(answer);
    struct connection *owner = NULL;
    struct connection *next;

    (void)end_ns;
    if (session == NULL)
        return fail_without_session(answer, out);
    for (struct connection *at = answer->admin->server->connections; at != NULL; at = next) {
        next = at->next;
        if (at->session == NULL || at->session->id != answer->session)
            continue;
        if (at->is_executor)
            connection_end(at, STATUS_REFUSED, REVOKED);
        else
            owner = at;
    }
    if (owner != NULL)
        connection_end(owner, STATUS_REFUSED, REVOKED);
    note_change(answer, "");
    return ADMIN_STEP_DONE;
}

static enum admin_step step_reload(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    struct server *server = answer->admin->server;

    (void)end_ns;
    note_change(answer, "");
    server->on_reload(server);
    if (server->policy_mistake[0] != '\0')
        return fail(out, ADMIN__CODE__BAD_POLICY, server->policy_mistake);
    return ADMIN_STEP_DONE;
}

static enum admin_step step_log_level(struct admin_answer *answer, struct buffer *out, uint64_t end_ns)
{
    char what[32];

    (void)out, (void)end_ns;
    (void)snprintf(what, sizeof what, " level=%s", admin_level_name(answer->level));
    log_set_level((enum log_priority)answer->level);
    note_change(answer, what);
    return ADMIN_STEP_DONE;
}

static const struct admin_verb verbs[] = {
    [ADMIN__VERB__STATUS] = {"status", ADMIN_MAY_READ, step_status},
    [ADMIN__VERB__SESSIONS] = {"sessions", ADMIN_MAY_READ, step_sessions},
    [ADMIN__VERB__OPERATIONS] = {"operations", ADMIN_MAY_READ, step_operations},
    [ADMIN__VERB__SPANS] = {"spans", ADMIN_MAY_READ, step_spans},
    [ADMIN__VERB__CODE] = {"code", ADMIN_MAY_READ, step_code},
    [ADMIN__VERB__REVOKE] = {"revoke", ADMIN_MAY_CHANGE, step_revoke},
    [ADMIN__VERB__RELOAD] = {"reload", ADMIN_MAY_CHANGE, step_reload},
    [ADMIN__VERB__LOG_LEVEL] = {"log-level", ADMIN_MAY_CHANGE, step_log_level},
};

const struct admin_verb *admin_verb(uint32_t verb)
{
    assert(verb != ADMIN__VERB__NO_VERB && verb < sizeof verbs / sizeof verbs[0]);
    return &verbs[verb];
}
