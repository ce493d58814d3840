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

#include "daemon/exchange.h"
#include "daemon/executor.h"
#include "daemon/log.h"
#include "daemon/operation.h"
#include "daemon/server.h"
#include "proto/codec.h"
#include "proto/record.h"

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

void connection_end_session(struct server *server, struct session *session)
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

void connection_blame(const struct connection *connection)
{
    if (connection->session == NULL)
        return;
    if (connection->is_executor)
        ledger_blame_executor(&connection->session->ledger, connection->number);
    else
        ledger_blame(&connection->session->ledger);
}

void connection_absolve(const struct connection *connection)
{
    if (connection->session == NULL)
        return;
    if (connection->is_executor)
        ledger_absolve_executor(&connection->session->ledger, connection->number);
    else
        ledger_absolve(&connection->session->ledger);
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
            connection_end_session(server, session);
    }
    connection_absolve(connection);
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

/* ---- Replies ------------------------------------------------------------------------ */

void connection_wait_for(struct connection *connection, int events)
{
    int error = uv_poll_start(&connection->poll, events, exchange_on_poll);

    assert(error == 0);
    (void)error;
}

static void on_throttle_over(uv_timer_t *timer)
{
    struct connection *connection = timer->data;

    connection_wait_for(connection, UV_READABLE);
    plane_resume(&connection->plane);
}

void connection_put_off_reading(struct connection *connection, uint64_t wait_ns)
{
    connection_wait_for(connection, UV_DISCONNECT);
    (void)uv_timer_start(&connection->timer, on_throttle_over, wait_ns / NS_PER_MS + 1, 0);
}

/* Reads on, at once or when the client's rate permits it. */
void connection_read_on(struct connection *connection)
{
    uint64_t due_ns =
        connection->due_ns > connection->due_bytes_ns ? connection->due_ns : connection->due_bytes_ns;
    uint64_t now = due_ns == 0 ? 0 : uv_hrtime();

    if (due_ns > now + RATE_BURST_NS) {
        plane_pause(&connection->plane);
        connection_put_off_reading(connection, due_ns - now - RATE_BURST_NS);
        return;
    }
    connection_wait_for(connection, UV_READABLE);
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
    if (!connection->is_executor) {
        connection->session->ledger.page->due_ns = connection->due_ns;
        connection->session->ledger.page->due_bytes_ns = connection->due_bytes_ns;
    }
}

bool connection_is_paced(const struct connection *connection)
{
    return connection->due_ns != 0 || connection->due_bytes_ns != 0;
}

static void count_operations(struct connection *connection, size_t operations)
{
    connection->operations += operations;
    if (!connection->is_executor)
        connection->session->ledger.page->operations = connection->operations;
}

void connection_pace_request(struct connection *connection, size_t operations)
{
    count_operations(connection, operations);
    pace(connection, operations == 0 ? 1 : operations);
}

void connection_pace(struct connection *connection, size_t operations)
{
    count_operations(connection, operations);
    pace(connection, operations);
    if (connection_is_paced(connection))
        connection_read_on(connection);
}

void connection_end_by_errno(struct connection *connection, int error)
{
    if (error == -EPIPE || error == -ECONNRESET)
        connection_end(connection, STATUS_OK, "the client is gone");
    else
        connection_end(connection, STATUS_NO_MEMORY, strerror(-error)); /* ours, not the client's doing */
}

void connection_note_refusal(struct connection *connection, const char *what, const struct result *result)
{
    struct log_subject subject = connection_subject(connection);
    bool is_first = connection->refusals < LOGGED_REFUSALS_MAX;

    connection->refusals++;
    if (!connection->is_executor)
        connection->session->ledger.page->refusals = connection->refusals;
    log_event(is_first ? LOG_OPERATION_REFUSED : LOG_OPERATION_REFUSED_AGAIN, &subject, result->text,
              "operation=%s", what);
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
        connection_note_refusal(connection, operation_name(request->operation), result);
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
    connection_wait_for(connection, UV_READABLE);
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
