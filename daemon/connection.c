/* SPDX-License-Identifier: MIT */
#include "daemon/connection.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/executor.h"
#include "daemon/greeting.h"
#include "daemon/log.h"
#include "daemon/operation.h"
#include "daemon/server.h"
#include "proto/codec.h"
#include "proto/record.h"

/* A reply to the largest batch always fits a record. */
#define RESULT_MAX_BYTES (ERROR_TEXT_MAX_BYTES + 200u)
_Static_assert(RESULT_MAX_BYTES < RECORD_MAX_BYTES / OPERATIONS_MAX, "a full reply fits a record");

/* How far a client may run ahead of its rate before it is held back. */
#define RATE_BURST_NS UINT64_C(100000000)
#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
/* Bytes that are paced at once: as many nanoseconds at a byte a second fit 64 bits. */
#define PACED_MAX_BYTES (UINT64_C(1) << 34)
/* How often it is looked whether an ended client has read its answers. */
#define LINGER_MS 1000
/* A byte's digest takes about as long as moving so many. */
#define DIGEST_WEIGHT 8u
/* Refusals of one session that the log tells one by one. */
#define LOGGED_REFUSALS_MAX 8u

/* A request of which a part is still to be done, and what it has been answered so far. */
struct unfinished {
    size_t next; /* operation */
    struct buffer out;
    size_t record_bytes;
    uint8_t bytes[]; /* the record, then room for the reply */
};

/* ---- The end ---------------------------------------------------------------------- */

void connection_say_goodbye(int fd, enum status status, const char *reason)
{
    uint8_t bytes[ERROR_TEXT_MAX_BYTES + 64];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};
    struct result error;

    result_init(&error);
    (void)result_refuse(&error, status, "", "%s", reason);
    /* If it can't be said at once, the closed socket has to say it. */
    if (codec_put_reply(&out, 0) && codec_put_error(&out, &error))
        (void)record_send(fd, false, out.bytes, out.used, NULL, 0);
}

/* One of its handles is closed; with the last one it goes. */
static void release(struct connection *connection)
{
    if (--connection->handles == 0)
        free(connection);
}

static void on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void on_plane_closed(uv_handle_t *handle)
{
    struct plane *plane = handle->data;

    release(plane->connection);
}

struct log_subject connection_subject(const struct connection *connection)
{
    return (struct log_subject){
        .session = connection->session == NULL ? 0 : connection->session->id,
        .peer = &connection->peer,
        .class = connection->class == NULL ? NULL : connection->class->name,
    };
}

static void log_end(const struct connection *connection, const char *reason)
{
    const struct session *session = connection->session;
    struct log_subject subject = connection_subject(connection);

    if (session == NULL) {
        log_event(LOG_CONNECTION_ENDED, &subject, reason, "%s", "");
        return;
    }
    if (connection->is_executor) {
        log_event(LOG_EXECUTOR_ENDED, &subject, reason, "operations=%" PRIu64 " refusals=%" PRIu64,
                  connection->operations, connection->refusals);
        return;
    }
    log_event(LOG_SESSION_ENDED, &subject, reason,
              "operations=%" PRIu64 " refusals=%" PRIu64 " spans=%" PRIu32 " used=%" PRIu64
              " reserved=%" PRIu64 " findings=%" PRIu64,
              connection->operations, connection->refusals, session->heap.spans,
              heap_used_bytes(&session->heap), session->arena.grown_bytes, session->ledger.page->findings);
}

/* Lets go of what it holds as a peer of a user. */
static void disown(struct connection *connection)
{
    charge_deinit(&connection->queued);
    charge_deinit(&connection->fds);
    charge_deinit(&connection->charge);
    connection->account = account_unref(&connection->server->quota, connection->account);
    connection->policy = policy_unref(connection->policy);
    peer_deinit(&connection->peer);
}

static void connection_close(struct connection *connection)
{
    struct server *server = connection->server;

    (void)uv_timer_stop(&connection->timer);
    (void)close(connection->fd);
    if (connection->prev != NULL)
        connection->prev->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next != NULL)
        connection->next->prev = connection->prev;
    server->connections_count--;
    admin_forget(&server->admin, connection);
    disown(connection);
    uv_close((uv_handle_t *)&connection->poll, on_closed);
    uv_close((uv_handle_t *)&connection->timer, on_closed);
    uv_close((uv_handle_t *)&connection->next_turn, on_closed);
    server_connection_ended(server);
}

static void on_linger(uv_timer_t *timer)
{
    struct connection *connection = timer->data;

    if (!record_is_unread(connection->fd))
        connection_close(connection);
}

/* The last one that has it leaves: no daemon is to find it again. */
static void end_session(struct server *server, struct session *session)
{
    char name[STORE_NAME_MAX_BYTES + 1];

    session->ledger.page->state = LEDGER_ENDED;
    ledger_order();
    session_store_name(session, name);
    if (session->is_stored)
        store_remove(&server->store, name);
    /* A charge that ends must leave no memory behind. */
    arena_revoke(&session->arena);
}

static void leave_session(struct connection *connection, enum status status)
{
    struct server *server = connection->server;
    struct session *session = connection->session;
    char name[STORE_NAME_MAX_BYTES + 1];

    if (session == NULL)
        return;
    /* Where only the daemon ends, mapped code runs on. */
    if (status != STATUS_STOPPING) {
        /* The store has its socket as well: its client is to see the end, and no other daemon to go on. */
        (void)shutdown(connection->fd, SHUT_RDWR);
        if (connection->is_executor) {
            executor_store_name(connection, name);
            if (connection->is_stored)
                store_remove(&server->store, name);
        } else {
            if (!connection->class->orphans_run)
                executor_end_all(connection);
            session->ledger.page->state = LEDGER_ORPHANED;
            ledger_order();
        }
        if (session->refs == 1)
            end_session(server, session);
    }
    connection->session = session_unref(session);
}

static void end_plane(struct connection *connection, enum status status, bool leaves)
{
    enum plane_end how = status != STATUS_STOPPING ? PLANE_REVOKE : leaves ? PLANE_LEAVE : PLANE_END;

    if (plane_is_there(&connection->plane))
        plane_end(&connection->plane, how, on_plane_closed);
}

/* Only the daemon ends; the connection is the next one's. */
static bool is_left(const struct connection *connection, enum status status)
{
    const struct session *session = connection->session;

    if (status != STATUS_STOPPING || !connection->server->leaves)
        return false;
    /* Who has no session yet finds the next daemon by itself. */
    return session == NULL || (connection->is_executor ? connection->is_stored : session->is_stored);
}

void connection_end(struct connection *connection, enum status status, const char *reason)
{
    bool leaves = is_left(connection, status);
    bool unread = !leaves && record_is_unread(connection->fd);

    if (connection->lingers) {
        connection_close(connection);
        return;
    }
    if (!leaves)
        log_end(connection, reason);
    if (status != STATUS_OK && !leaves)
        connection_say_goodbye(connection->fd, status, reason);
    (void)uv_poll_stop(&connection->poll);
    (void)uv_timer_stop(&connection->timer);
    (void)uv_idle_stop(&connection->next_turn);

    if (connection->audit.to != AUDIT_OFF)
        audit_end(connection->server->audit, &connection->audit);
    end_plane(connection, status, leaves);
    leave_session(connection, status);
    free(connection->pending);
    connection->pending = NULL;
    if (connection->unfinished != NULL)
        connection->account->put_off--;
    free(connection->unfinished);
    connection->unfinished = NULL;
    (void)charge_set(&connection->queued, 0, 0);
    if (!connection->has_hello || !unread || status == STATUS_STOPPING) {
        connection_close(connection);
        return;
    }
    connection->lingers = true;
    (void)shutdown(connection->fd, SHUT_RDWR);
    record_drop(connection->fd);
    (void)uv_timer_start(&connection->timer, on_linger, LINGER_MS, LINGER_MS);
}

static void on_poll(uv_poll_t *handle, int status, int events);

/* ---- Replies ------------------------------------------------------------------------ */

static void wait_for(struct connection *connection, int events)
{
    int error = uv_poll_start(&connection->poll, events, on_poll);

    assert(error == 0);
    (void)error;
}

static void on_throttle_over(uv_timer_t *timer)
{
    struct connection *connection = timer->data;

    wait_for(connection, UV_READABLE);
    plane_resume(&connection->plane);
}

/* Reads on, at once or when the client's rate permits it. */
static void resume(struct connection *connection)
{
    uint64_t due_ns =
        connection->due_ns > connection->due_bytes_ns ? connection->due_ns : connection->due_bytes_ns;
    uint64_t now = due_ns == 0 ? 0 : uv_hrtime();

    if (due_ns > now + RATE_BURST_NS) {
        uint64_t wait_ns = due_ns - now - RATE_BURST_NS;

        wait_for(connection, UV_DISCONNECT);
        plane_pause(&connection->plane);
        (void)uv_timer_start(&connection->timer, on_throttle_over, wait_ns / NS_PER_MS + 1, 0);
        return;
    }
    wait_for(connection, UV_READABLE);
    plane_resume(&connection->plane);
}

static void put_due(uint64_t *due_ns, uint64_t now, uint64_t amount, uint64_t rate)
{
    if (rate == 0)
        return;
    if (*due_ns < now)
        *due_ns = now;
    *due_ns += amount * NS_PER_S / rate;
}

/* Charges the client's rate for what it had done; no operations: a step of one, of which only the bytes
 * count. */
static void pace(struct connection *connection, size_t operations)
{
    const struct class *class = connection->class;
    uint64_t moved_bytes;
    uint64_t bytes;
    uint64_t now;

    if (class->rate == 0 && class->rate_bytes == 0)
        return;
    now = uv_hrtime();
    moved_bytes = connection->session->arena.moved_bytes;
    bytes = connection->is_executor ? 0 : moved_bytes - connection->paced_bytes; /* its owner moved them */
    connection->paced_bytes = moved_bytes;
    put_due(&connection->due_ns, now, operations, class->rate);
    put_due(&connection->due_bytes_ns, now, bytes < PACED_MAX_BYTES ? bytes : PACED_MAX_BYTES,
            class->rate_bytes);
}

static bool is_paced(const struct connection *connection)
{
    return connection->due_ns != 0 || connection->due_bytes_ns != 0;
}

/* A request without any is as much work as one. */
static void pace_request(struct connection *connection, size_t operations)
{
    connection->operations += operations;
    pace(connection, operations == 0 ? 1 : operations);
}

void connection_pace(struct connection *connection, size_t operations)
{
    connection->operations += operations;
    pace(connection, operations);
    if (is_paced(connection))
        resume(connection);
}

void connection_end_by_errno(struct connection *connection, int error)
{
    if (error == -EPIPE || error == -ECONNRESET)
        connection_end(connection, STATUS_OK, "the client is gone");
    else
        connection_end(connection, STATUS_NO_MEMORY, strerror(-error)); /* ours, not the client's doing */
}

static void on_reply_timeout(uv_timer_t *timer)
{
    connection_end(timer->data, STATUS_OK, "it does not read its answers");
}

/* Whose answers the ledger has; an executor's requests change nothing, and may be answered twice. */
static struct ledger *ledger_of(const struct connection *connection)
{
    return connection->is_executor ? NULL : &connection->session->ledger;
}

void connection_take_record(struct connection *connection)
{
    if (store_is_there(&connection->server->store))
        record_take(connection->fd);
    LEDGER_STEP();
}

/* The reply to its record was sent. */
static void end_answer(struct connection *connection, size_t used)
{
    struct ledger *ledger = ledger_of(connection);

    if (ledger != NULL)
        ledger_mark_answer(ledger, LEDGER_SENT, used);
    connection_take_record(connection);
    if (ledger != NULL)
        ledger_end_answer(ledger);
}

static void send_reply(struct connection *connection, const struct buffer *out)
{
    struct ledger *ledger = ledger_of(connection);
    int error;

    if (ledger != NULL)
        ledger_mark_answer(ledger, LEDGER_READY, out->used);
    error = record_send(connection->fd, false, out->bytes, out->used, NULL, 0);
    LEDGER_STEP();
    if (error == 0) {
        end_answer(connection, out->used);
        if (is_paced(connection))
            resume(connection);
        return;
    }
    if (error != -EAGAIN) {
        connection_end_by_errno(connection, error);
        return;
    }
    if (charge_set(&connection->queued, out->used, UINT64_MAX))
        connection->pending = malloc(out->used);
    if (connection->pending == NULL) {
        connection_end(connection, STATUS_NO_MEMORY, "the daemon has no room for a reply that waits");
        return;
    }
    memcpy(connection->pending, out->bytes, out->used);
    connection->pending_bytes = out->used;
    plane_pause(&connection->plane);
    wait_for(connection, UV_WRITABLE);
    (void)uv_timer_start(&connection->timer, on_reply_timeout, connection->policy->reply_timeout_ms, 0);
}

static void send_pending(struct connection *connection)
{
    int error = record_send(connection->fd, false, connection->pending, connection->pending_bytes, NULL, 0);

    if (error == -EAGAIN)
        return;
    if (error != 0) {
        connection_end_by_errno(connection, error);
        return;
    }
    end_answer(connection, connection->pending_bytes);
    free(connection->pending);
    connection->pending = NULL;
    (void)charge_set(&connection->queued, 0, 0);
    (void)uv_timer_stop(&connection->timer);
    resume(connection);
}

static void note_refusal(struct connection *connection, const char *what, const struct result *result)
{
    struct log_subject subject = connection_subject(connection);

    connection->refusals++;
    if (connection->refusals <= LOGGED_REFUSALS_MAX)
        log_event(LOG_OPERATION_REFUSED, &subject, result->text, "operation=%s", what);
}

/* ---- Requests ------------------------------------------------------------------------- */

static struct buffer begin_in(uint8_t *bytes, uint64_t id)
{
    struct buffer out = {.bytes = bytes, .capacity = RECORD_MAX_BYTES};
    bool fits = codec_put_reply(&out, id);

    assert(fits);
    (void)fits;
    return out;
}

struct buffer connection_begin_record(struct connection *connection, uint64_t id)
{
    return begin_in(connection->server->out, id);
}

/*
 * An empty reply with room for `results`: of an owner's in the ledger, so that it is kept. False: there is no
 * memory, and the connection has ended.
 */
static bool begin_reply(struct connection *connection, uint64_t id, size_t results, struct buffer *out)
{
    struct ledger *ledger = ledger_of(connection);

    if (ledger == NULL) {
        *out = connection_begin_record(connection, id);
        return true;
    }
    if (ledger_reserve_answer(ledger, (results + 1) * RESULT_MAX_BYTES) != 0) {
        connection_end(connection, STATUS_NO_MEMORY, "the daemon has no room for a reply");
        return false;
    }
    *out = begin_in(ledger_answer(ledger), id);
    ledger_begin_answer(ledger, id, out->used);
    return true;
}

/* STATUS_OK if the request as a whole can be done; what its operations say comes later. */
static enum status check_request(const struct request_record *record, struct result *error)
{
    if (record->has_hello)
        return result_refuse(error, STATUS_PROTOCOL, "hello", "there was a Hello already");
    if (record->has_unknown_fields)
        return result_refuse(error, STATUS_UNKNOWN_FIELD, "",
                             "this daemon does not know a field of the request");
    if (record->operations_count > OPERATIONS_MAX)
        return result_refuse(error, STATUS_INVALID, "operations", "%zu operations in one request; at most %u",
                             record->operations_count, OPERATIONS_MAX);
    if (record->has_open_executor && record->operations_count != 0)
        return result_refuse(error, STATUS_INVALID, "open_executor", "it stands alone in its request");
    return STATUS_OK;
}

void connection_start_audit(struct connection *connection)
{
    connection->audit = (struct audit_source){
        .to = connection->class->audit,
        .session = connection->session->id,
        .uid = connection->peer.uid,
        .unit = connection->peer.unit,
    };
    if (connection->audit.to != AUDIT_OFF)
        audit_begin(connection->server->audit, &connection->audit);
}

/* What was written is digested where it is now: what it came from may be the client's to change. */
static void audit(struct connection *connection, const struct request *request, bool has_finding,
                  enum status status)
{
    struct arena *arena = &connection->session->arena;
    const uint8_t *written = NULL;

    if (request->operation != OPERATION_WRITE && request->operation != OPERATION_PATCH)
        return;
    if (status == STATUS_OK)
        written = arena->bytes + request->span + request->at;
    arena->moved_bytes +=
        DIGEST_WEIGHT * audit_note(connection->server->audit, &connection->audit, request,
                                   has_finding && status == STATUS_OK ? "reported" : audit_verdict(status),
                                   written);
}

static bool run_step(struct connection *connection, const struct request *request, uint64_t key,
                     struct result *result)
{
    struct ledger *ledger = &connection->session->ledger;
    uint64_t findings = ledger->page->findings;

    ledger->key = key;

    if (connection->is_executor && !operation_only_reads(request->operation)) {
        result_init(result);
        (void)executor_refuse(result, operation_name(request->operation));
    } else if (!operation_run(connection->session, request, OPERATION_STEP_BYTES, result)) {
        return false;
    }
    if (connection->audit.to != AUDIT_OFF)
        audit(connection, request, ledger->page->findings != findings, result->status);
    /* A patch that finds other bytes is an answer, not an offence. */
    if (result->status != STATUS_OK && result->status != STATUS_MISMATCH)
        note_refusal(connection, operation_name(request->operation), result);
    return true;
}

bool connection_run(struct connection *connection, const struct request *request, uint64_t key,
                    struct result *result)
{
    struct latency *latency = &connection->server->latency;
    uint64_t step_ns = latency_begin(latency, request->operation, connection->operation_began_ns);
    bool is_done = run_step(connection, request, key, result);

    latency_end(latency, request, step_ns, &connection->operation_began_ns, result, is_done);
    return is_done;
}

/* False: there is more of it to do. */
static bool run_operation(struct connection *connection, const struct request_record *record, size_t index,
                          struct result *result)
{
    uint64_t key = connection->session->ledger.page->progress | LEDGER_KEY_SOCKET;
    struct request request;

    result_init(result);
    if (codec_operation(record, index, &request, result) == STATUS_OK)
        return connection_run(connection, &request, key, result);
    note_refusal(connection, "unknown", result);
    return true;
}

/* Whether it is this connection's turn; if it is not, it is asked again in the next one. */
static bool may_run(struct connection *connection)
{
    return account_may_run(connection->account, connection->server->turn, uv_hrtime(), &connection->round);
}

/* The most that a request may hold while it is put off. */
#define PUT_OFF_MAX_BYTES (sizeof(struct unfinished) + RECORD_MAX_BYTES + OPERATIONS_MAX * RESULT_MAX_BYTES)

/*
 * Whether its next request could be put off. Where those of its user that are hold all the room it is not
 * read before some of them are done; what holds unread answers only may never end, and is not waited for.
 */
static bool has_room(struct connection *connection)
{
    bool has = charge_set(&connection->queued, PUT_OFF_MAX_BYTES, UINT64_MAX);

    (void)charge_set(&connection->queued, 0, 0);
    return has || connection->account->put_off == 0;
}

static void on_next_turn(uv_idle_t *idle);

/* Puts the rest of the request in server->in off until the others had their turn. */
static void put_off(struct connection *connection, const struct request_record *record, size_t record_bytes,
                    size_t next, const struct buffer *out)
{
    /* An owner's reply stays where it is. */
    bool moves = connection->is_executor;
    size_t reply_bytes = moves ? out->used + (record->operations_count - next) * RESULT_MAX_BYTES : 0;
    size_t bytes = sizeof(struct unfinished) + record_bytes + reply_bytes;
    struct unfinished *unfinished = NULL;
    struct log_subject subject = connection_subject(connection);

    log_event(LOG_REQUEST_PUT_OFF, &subject, NULL, "operations=%zu done=%zu", record->operations_count, next);

    if (charge_set(&connection->queued, bytes, UINT64_MAX))
        unfinished = malloc(bytes);
    if (unfinished == NULL) {
        connection_end(connection, STATUS_NO_MEMORY, "the daemon has no room for a request of many parts");
        return;
    }
    unfinished->next = next;
    unfinished->record_bytes = record_bytes;
    unfinished->out = *out;
    memcpy(unfinished->bytes, connection->server->in, record_bytes);
    if (moves) {
        unfinished->out.bytes = unfinished->bytes + record_bytes;
        unfinished->out.capacity = reply_bytes;
        memcpy(unfinished->out.bytes, out->bytes, out->used);
    }
    connection->unfinished = unfinished;
    connection->account->put_off++;
    plane_pause(&connection->plane);
    (void)uv_poll_stop(&connection->poll);
    (void)uv_idle_start(&connection->next_turn, on_next_turn);
}

/*
 * Runs the operations of the record from *next on, and appends their results to `out`. False if the time is
 * over before they are done.
 */
static bool run_operations(struct connection *connection, const struct request_record *record, size_t *next,
                           struct buffer *out)
{
    struct ledger *ledger = ledger_of(connection);
    uint64_t end = connection->account->turn_end_ns;

    for (bool is_first = true; *next < record->operations_count; ++*next) {
        struct result result;
        bool fits;

        do {
            if (!is_first && uv_hrtime() > end)
                return false;
            is_first = false;
        } while (!run_operation(connection, record, *next, &result));
        fits = codec_put_result(out, &result);
        assert(fits); /* by RESULT_MAX_BYTES */
        (void)fits;
        if (ledger != NULL)
            ledger_commit_answer(ledger, *next + 1, out->used);
    }
    return true;
}

static bool decode(struct server *server, const uint8_t *bytes, size_t count, struct request_record *record)
{
    struct codec_pool pool = {.bytes = server->pool, .capacity = sizeof server->pool};

    return codec_decode_request(&pool, bytes, count, record);
}

static void on_next_turn(uv_idle_t *idle)
{
    struct connection *connection = idle->data;
    struct unfinished *unfinished = connection->unfinished;
    struct request_record record;
    bool good;

    if (!may_run(connection))
        return;
    good = decode(connection->server, unfinished->bytes, unfinished->record_bytes, &record);
    assert(good); /* as it was before */
    (void)good;
    if (!run_operations(connection, &record, &unfinished->next, &unfinished->out))
        return;
    connection->unfinished = NULL;
    connection->account->put_off--;
    (void)charge_set(&connection->queued, 0, 0);
    (void)uv_idle_stop(&connection->next_turn);
    wait_for(connection, UV_READABLE);
    plane_resume(&connection->plane);
    pace_request(connection, record.operations_count);
    send_reply(connection, &unfinished->out);
    free(unfinished);
}

static void refuse_request(struct connection *connection, uint64_t id, const struct result *error)
{
    struct buffer out;
    bool fits;

    if (!begin_reply(connection, id, 0, &out))
        return;
    fits = codec_put_error(&out, error);
    assert(fits);
    (void)fits;
    note_refusal(connection, "request", error);
    pace_request(connection, 0);
    send_reply(connection, &out);
}

/* Runs its operations from `next` on, where those before have their results in `out`. */
static void run_request(struct connection *connection, const struct request_record *record,
                        size_t record_bytes, size_t next, struct buffer *out)
{
    if (run_operations(connection, record, &next, out)) {
        pace_request(connection, record->operations_count);
        send_reply(connection, out);
    } else {
        put_off(connection, record, record_bytes, next, out);
    }
}

static void open_executor(struct connection *connection, uint64_t id, const struct buffer *out)
{
    struct result error;

    result_init(&error);
    if (executor_open(connection, out, &error) != STATUS_OK) {
        refuse_request(connection, id, &error);
        return;
    }
    end_answer(connection, out->used);
    connection_pace(connection, 1);
}

/* True: what it asks for has to be stored, and that has to wait; the record stays where it is. */
static bool waits_for_store(struct connection *connection)
{
    uint64_t wait_ns = store_wait_ns(&connection->server->store, connection->peer.uid, uv_hrtime());

    if (wait_ns == 0)
        return false;
    wait_for(connection, UV_DISCONNECT);
    (void)uv_timer_start(&connection->timer, on_throttle_over, wait_ns / NS_PER_MS + 1, 0);
    return true;
}

static void handle_request(struct connection *connection, const struct request_record *record,
                           size_t record_bytes)
{
    struct buffer out;
    struct result error;

    result_init(&error);
    if (record->has_open_executor && waits_for_store(connection))
        return;
    if (check_request(record, &error) != STATUS_OK)
        refuse_request(connection, record->id, &error);
    else if (!begin_reply(connection, record->id, record->operations_count, &out))
        return;
    else if (record->has_open_executor)
        open_executor(connection, record->id, &out);
    else
        run_request(connection, record, record_bytes, 0, &out);
}

/*
 * The first record after another daemon's end, which that may have been answering. True: there is nothing
 * more to be done for it.
 */
static bool resume_request(struct connection *connection, struct request_record *record, size_t record_bytes)
{
    struct ledger *ledger = ledger_of(connection);
    const struct ledger_page *page = connection->session->ledger.page;
    struct result error;
    struct buffer out;
    size_t next;

    result_init(&error);
    if (ledger == NULL || page->answer_id == 0 || page->answer_id != record->id) {
        bool is_hello = record->has_hello && (ledger == NULL || record->id == page->hello_id);

        connection->repeated = is_hello;
        if (is_hello)
            greeting_answer(connection, record);
        return is_hello;
    }
    out = (struct buffer){
        .bytes = ledger_answer(ledger), .capacity = RECORD_MAX_BYTES, .used = (uint32_t)page->progress};
    next = (size_t)(page->progress >> 32);
    if ((page->progress & LEDGER_SENT) != 0)
        end_answer(connection, out.used);
    else if ((page->progress & LEDGER_READY) != 0) {
        connection->repeated = true;
        send_reply(connection, &out);
    } else if (next > record->operations_count || record->has_open_executor ||
               check_request(record, &error) != STATUS_OK ||
               ledger_reserve_answer(ledger, (record->operations_count + 1) * RESULT_MAX_BYTES) != 0)
        return false; /* from its beginning: nothing of it was done */
    else
        run_request(connection, record, record_bytes, next, &out);
    return true;
}

/* Says what is wrong with the record, if anything is. */
static enum status check_record(int flaw, const char **reason)
{
    switch (flaw) {
    case RECORD_E_OVERSIZED:
        *reason = "the record is larger than the protocol allows";
        return STATUS_MALFORMED;
    case RECORD_E_FDS:
        *reason = "the record came with descriptors that nobody asked for";
        return STATUS_PROTOCOL;
    default:
        return STATUS_OK;
    }
}

static int receive(struct connection *connection, struct record *record)
{
    struct server *server = connection->server;

    if (store_is_there(&server->store))
        return record_peek(connection->fd, server->in, sizeof server->in, 0, record);
    return record_recv(connection->fd, false, server->in, sizeof server->in, 0, record);
}

static void read_record(struct connection *connection)
{
    struct server *server = connection->server;
    struct request_record request;
    struct record record;
    const char *reason = NULL;
    enum status status;
    bool resumes = connection->resumes;
    int flaw;

    if (connection->session == NULL && waits_for_store(connection))
        return;
    flaw = receive(connection, &record);
    if (flaw == -EAGAIN)
        return;
    if (flaw < 0) {
        connection_end_by_errno(connection, flaw);
        return;
    }
    if (flaw == RECORD_E_END) {
        connection_end(connection, STATUS_OK, "closed by the client");
        return;
    }
    status = check_record(flaw, &reason);
    if (status != STATUS_OK) {
        connection_end(connection, status, reason);
        return;
    }
    if (!decode(server, server->in, record.bytes, &request)) {
        connection_end(connection, STATUS_MALFORMED, "the record is no request, or has too many parts");
        return;
    }
    if (request.id == 0) {
        connection_end(connection, STATUS_PROTOCOL, "request id 0 is the daemon's own");
        return;
    }
    connection->resumes = false;
    if (resumes && resume_request(connection, &request, record.bytes))
        return;
    if (!connection->has_hello)
        greeting_answer(connection, &request);
    else
        handle_request(connection, &request, record.bytes);
}

void connection_resume(struct connection *connection)
{
    struct ledger *ledger = &connection->session->ledger;

    connection->resumes = true;
    if (!connection->is_executor && ledger->done.kind != INTENT_NONE) {
        if ((ledger->done.key & LEDGER_KEY_SOCKET) != 0)
            read_record(connection);
        else if (plane_is_there(&connection->plane))
            (void)plane_serve(&connection->plane);
        if (connection->session == NULL)
            return;
        ledger->done.kind = INTENT_NONE;
    }
    if (connection->unfinished == NULL && connection->pending == NULL)
        plane_resume(&connection->plane);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct connection *connection = handle->data;

    /* libuv's error is that of the socket: the client closed with answers unread. */
    if (status < 0 || (events & (UV_READABLE | UV_WRITABLE)) == 0)
        connection_end(connection, STATUS_OK, "the client is gone");
    else if (connection->pending != NULL)
        send_pending(connection);
    else if (has_room(connection) && may_run(connection))
        read_record(connection);
}

/* ---- The beginning ---------------------------------------------------------------------- */

static void on_hello_timeout(uv_timer_t *timer)
{
    connection_end(timer->data, STATUS_HELLO_TIMEOUT, "no Hello in time");
}

int connection_start(struct connection *connection)
{
    struct server *server = connection->server;
    int error = uv_poll_init(&server->loop, &connection->poll, connection->fd);

    if (error != 0)
        return error;
    (void)uv_timer_init(&server->loop, &connection->timer);
    (void)uv_idle_init(&server->loop, &connection->next_turn);
    connection->handles = 3;
    connection->poll.data = connection;
    connection->timer.data = connection;
    connection->next_turn.data = connection;
    connection->next = server->connections;
    if (connection->next != NULL)
        connection->next->prev = connection;
    server->connections = connection;
    server->connections_count++;
    wait_for(connection, UV_READABLE);
    if (!connection->is_executor && connection->session == NULL)
        (void)uv_timer_start(&connection->timer, on_hello_timeout, connection->policy->hello_timeout_ms, 0);
    return 0;
}

struct connection *connection_discard(struct connection *connection)
{
    disown(connection);
    free(connection);
    return NULL;
}
