/* SPDX-License-Identifier: MIT */
#include "daemon/connection.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/executor.h"
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

static void say_goodbye(int fd, enum status status, const char *reason)
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

static void log_end(const struct connection *connection, const char *reason)
{
    const struct session *session = connection->session;

    if (session == NULL) {
        log_client(LOG_NOTICE, "connection ended: uid=%u pid=%d reason=\"%s\"",
                   (unsigned)connection->peer.uid, (int)connection->peer.pid, reason);
        return;
    }
    if (connection->is_executor) {
        log_client(LOG_INFO,
                   "session %" PRIu64 ": an executor ended: reason=\"%s\" operations=%" PRIu64
                   " refusals=%" PRIu64,
                   session->id, reason, connection->operations, connection->refusals);
        return;
    }
    log_client(LOG_INFO,
               "session %" PRIu64 " ended: uid=%u pid=%d reason=\"%s\" operations=%" PRIu64
               " refusals=%" PRIu64 " spans=%" PRIu32 " used=%" PRIu64 " reserved=%" PRIu64
               " findings=%" PRIu64,
               session->id, (unsigned)connection->peer.uid, (int)connection->peer.pid, reason,
               connection->operations, connection->refusals, session->heap.spans,
               heap_used_bytes(&session->heap), session->arena.grown_bytes, session->findings);
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

static void leave_session(struct connection *connection, enum status status)
{
    struct session *session = connection->session;

    if (session == NULL)
        return;
    if (!connection->is_executor && !connection->class->orphans_run && status != STATUS_STOPPING)
        executor_end_all(connection);
    /* A charge that ends must leave no memory behind; where only the daemon ends, mapped code runs on. */
    if (session->refs == 1 && status != STATUS_STOPPING)
        arena_revoke(&session->arena);
    connection->session = session_unref(session);
}

void connection_end(struct connection *connection, enum status status, const char *reason)
{
    bool unread = record_is_unread(connection->fd);

    if (connection->lingers) {
        connection_close(connection);
        return;
    }
    log_end(connection, reason);
    if (status != STATUS_OK)
        say_goodbye(connection->fd, status, reason);
    (void)uv_poll_stop(&connection->poll);
    (void)uv_timer_stop(&connection->timer);
    (void)uv_idle_stop(&connection->next_turn);

    if (connection->audit.to != AUDIT_OFF)
        audit_end(connection->server->audit, &connection->audit);
    leave_session(connection, status);
    free(connection->pending);
    connection->pending = NULL;
    if (connection->unfinished != NULL)
        connection->account->put_off--;
    free(connection->unfinished);
    connection->unfinished = NULL;
    (void)charge_set(&connection->queued, 0, 0);
    if (plane_is_there(&connection->plane))
        plane_end(&connection->plane, status != STATUS_STOPPING, on_plane_closed);
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

static void end_by_errno(struct connection *connection, int error)
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

static void send_reply(struct connection *connection, const struct buffer *out)
{
    int error = record_send(connection->fd, false, out->bytes, out->used, NULL, 0);

    if (error == 0) {
        if (is_paced(connection))
            resume(connection);
        return;
    }
    if (error != -EAGAIN) {
        end_by_errno(connection, error);
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
        end_by_errno(connection, error);
        return;
    }
    free(connection->pending);
    connection->pending = NULL;
    (void)charge_set(&connection->queued, 0, 0);
    (void)uv_timer_stop(&connection->timer);
    resume(connection);
}

static void note_refusal(struct connection *connection, const char *what, const struct result *result)
{
    connection->refusals++;
    if (connection->refusals <= LOGGED_REFUSALS_MAX)
        log_client(LOG_INFO, "session %" PRIu64 ": refused %s: %s", connection->session->id, what,
                   result->text);
}

/* ---- Requests ------------------------------------------------------------------------- */

static struct buffer begin_reply(struct connection *connection, uint64_t id)
{
    struct buffer out = {.bytes = connection->server->out, .capacity = sizeof connection->server->out};
    bool fits = codec_put_reply(&out, id);

    assert(fits);
    (void)fits;
    return out;
}

static void refuse_hello(struct connection *connection, uint64_t id, const struct result *error)
{
    struct buffer out = begin_reply(connection, id);

    if (codec_put_error(&out, error))
        (void)record_send(connection->fd, false, out.bytes, out.used, NULL, 0);
    connection_end(connection, STATUS_OK, error->text);
}

/* The ring that the client wishes for, if it can be had: without one the socket does everything. */
static void grant_ring(struct connection *connection, const struct hello *hello, struct welcome *welcome)
{
    int error;

    if ((hello->features & FEATURE_RING) == 0 || !connection->class->ring)
        return;
    error = plane_init(&connection->plane, connection);
    if (error != 0) {
        log_client(LOG_WARNING, "session %" PRIu64 ": no ring: %s", welcome->session, strerror(-error));
        return;
    }
    connection->handles++;
    welcome->features |= FEATURE_RING;
    welcome->ring_bytes = RING_BYTES;
}

static int send_welcome(struct connection *connection, uint64_t id, const struct welcome *welcome)
{
    struct buffer out = begin_reply(connection, id);
    const struct arena *arena = &connection->session->arena;
    int fds[RECORD_FDS_MAX] = {arena_open_read_only(arena)};
    unsigned fds_count = 1;
    bool fits = codec_put_welcome(&out, welcome);
    int error;

    assert(fits);
    (void)fits;
    if (fds[0] < 0)
        return fds[0];
    if (welcome->write_mode == WRITE_DIRECT)
        fds[fds_count++] = arena->fd_direct;
    if (welcome->ring_bytes != 0) {
        fds[fds_count++] = connection->plane.memory_fd;
        fds[fds_count++] = connection->plane.bell;
    }
    error = record_send(connection->fd, false, out.bytes, out.used, fds, fds_count);
    (void)close(fds[0]);
    plane_forget_memory_fd(&connection->plane);
    return error;
}

static void start_audit(struct connection *connection)
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

static enum status begin_session(struct connection *connection, struct hello *hello, struct welcome *welcome,
                                 struct result *error)
{
    struct server *server = connection->server;

    if (hello_validate(hello, error) != STATUS_OK)
        return error->status;
    connection->session = session_new(server->sessions_started + 1, connection->class, &connection->peer,
                                      connection->account, hello, welcome, error);
    if (connection->session == NULL)
        return error->status;
    server->sessions_started++;
    start_audit(connection);
    (void)uv_timer_stop(&connection->timer);
    grant_ring(connection, hello, welcome);
    log_client(LOG_INFO,
               "session %" PRIu64 " started: uid=%u pid=%d%s%s class=%s write=%s arena=%" PRIu64
               " granularity=%" PRIu32 "%s%s",
               welcome->session, (unsigned)connection->peer.uid, (int)connection->peer.pid,
               connection->peer.unit[0] != '\0' ? " unit=" : "", connection->peer.unit,
               connection->class->name, welcome->write_mode == WRITE_DIRECT ? "direct" : "through",
               welcome->arena_bytes, welcome->granularity, welcome->sealed ? " sealed" : "",
               welcome->ring_bytes != 0 ? " ring" : "");
    return STATUS_OK;
}

static void handle_hello(struct connection *connection, struct request_record *record)
{
    struct welcome welcome = {0};
    struct result error;
    int sent;

    result_init(&error);
    if (!record->has_hello || record->operations_count != 0 || record->has_open_executor) {
        connection_end(connection, STATUS_PROTOCOL, "the first request is Hello, and nothing else");
        return;
    }
    if ((connection->is_executor
             ? executor_welcome(connection, &record->hello, &welcome, &error)
             : begin_session(connection, &record->hello, &welcome, &error)) != STATUS_OK) {
        refuse_hello(connection, record->id, &error);
        return;
    }
    connection->has_hello = true;
    sent = send_welcome(connection, record->id, &welcome);
    if (sent == -EPIPE || sent == -ECONNRESET) {
        end_by_errno(connection, sent);
    } else if (sent != 0) {
        (void)result_refuse(&error, STATUS_NO_MEMORY, "", "the arena can't be handed over: %s",
                            strerror(-sent));
        refuse_hello(connection, record->id, &error);
    }
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

static bool run_step(struct connection *connection, const struct request *request, struct result *result)
{
    uint64_t findings = connection->session->findings;

    if (connection->is_executor && !operation_only_reads(request->operation)) {
        result_init(result);
        (void)executor_refuse(result, operation_name(request->operation));
    } else if (!operation_run(connection->session, request, OPERATION_STEP_BYTES, result)) {
        return false;
    }
    if (connection->audit.to != AUDIT_OFF)
        audit(connection, request, connection->session->findings != findings, result->status);
    /* A patch that finds other bytes is an answer, not an offence. */
    if (result->status != STATUS_OK && result->status != STATUS_MISMATCH)
        note_refusal(connection, operation_name(request->operation), result);
    return true;
}

bool connection_run(struct connection *connection, const struct request *request, struct result *result)
{
    struct latency *latency = &connection->server->latency;
    uint64_t step_ns = latency_begin(latency, request->operation, connection->operation_began_ns);
    bool is_done = run_step(connection, request, result);

    latency_end(latency, request, step_ns, &connection->operation_began_ns, result, is_done);
    return is_done;
}

/* False: there is more of it to do. */
static bool run_operation(struct connection *connection, const struct request_record *record, size_t index,
                          struct result *result)
{
    struct request request;

    result_init(result);
    if (codec_operation(record, index, &request, result) == STATUS_OK)
        return connection_run(connection, &request, result);
    note_refusal(connection, "an operation", result);
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
    size_t reply_bytes = out->used + (record->operations_count - next) * RESULT_MAX_BYTES;
    size_t bytes = sizeof(struct unfinished) + record_bytes + reply_bytes;
    struct unfinished *unfinished = NULL;

    if (charge_set(&connection->queued, bytes, UINT64_MAX))
        unfinished = malloc(bytes);
    if (unfinished == NULL) {
        connection_end(connection, STATUS_NO_MEMORY, "the daemon has no room for a request of many parts");
        return;
    }
    unfinished->next = next;
    unfinished->record_bytes = record_bytes;
    unfinished->out = (struct buffer){
        .bytes = unfinished->bytes + record_bytes, .capacity = reply_bytes, .used = out->used};
    memcpy(unfinished->bytes, connection->server->in, record_bytes);
    memcpy(unfinished->out.bytes, out->bytes, out->used);
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
    struct buffer out = begin_reply(connection, id);
    bool fits = codec_put_error(&out, error);

    assert(fits);
    (void)fits;
    note_refusal(connection, "a request", error);
    pace_request(connection, 0);
    send_reply(connection, &out);
}

static void handle_request(struct connection *connection, const struct request_record *record,
                           size_t record_bytes)
{
    struct buffer out;
    struct result error;
    size_t next = 0;

    result_init(&error);
    if (check_request(record, &error) != STATUS_OK) {
        refuse_request(connection, record->id, &error);
        return;
    }
    out = begin_reply(connection, record->id);
    if (record->has_open_executor) {
        if (executor_open(connection, &out, &error) != STATUS_OK)
            refuse_request(connection, record->id, &error);
        else
            connection_pace(connection, 1);
    } else if (run_operations(connection, record, &next, &out)) {
        pace_request(connection, record->operations_count);
        send_reply(connection, &out);
    } else {
        put_off(connection, record, record_bytes, next, &out);
    }
}

static void read_record(struct connection *connection)
{
    struct server *server = connection->server;
    struct request_record request;
    struct record record;
    int flaw = record_recv(connection->fd, false, server->in, sizeof server->in, 0, &record);

    if (flaw == -EAGAIN)
        return;
    if (flaw < 0) {
        end_by_errno(connection, flaw);
        return;
    }
    if (flaw == RECORD_E_END) {
        connection_end(connection, STATUS_OK, "closed by the client");
        return;
    }
    if (flaw == RECORD_E_OVERSIZED) {
        connection_end(connection, STATUS_MALFORMED, "the record is larger than the protocol allows");
        return;
    }
    if (flaw == RECORD_E_FDS) {
        connection_end(connection, STATUS_PROTOCOL, "the record came with descriptors that nobody asked for");
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
    if (!connection->has_hello)
        handle_hello(connection, &request);
    else
        handle_request(connection, &request, record.bytes);
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

/* Says which of two bounds the user has met. */
static enum status refuse_session(const struct connection *connection, struct result *refusal)
{
    const struct pool *pools = connection->server->quota.pools;
    unsigned uid = (unsigned)connection->peer.uid;

    if (connection->charge.amount != 0)
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "",
                             "uid %u would hold more than its share of the daemon's %" PRIu64
                             " descriptors: raise its LimitNOFILE=",
                             uid, pools[QUOTA_FDS].total);
    if (!charge_exceeds_share(&connection->charge, 1, connection->class->session_max))
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "", "uid %u holds its %" PRIu32 " sessions", uid,
                             connection->class->session_max);
    if (pools[QUOTA_SESSIONS].held >= pools[QUOTA_SESSIONS].total)
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "", "the daemon serves its %" PRIu64 " sessions",
                             pools[QUOTA_SESSIONS].total);
    return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "",
                         "uid %u would hold more than its share of the daemon's %" PRIu64 " sessions", uid,
                         pools[QUOTA_SESSIONS].total);
}

enum status connection_charge(struct connection *connection, struct result *refusal)
{
    connection->account = quota_account(&connection->server->quota, connection->peer.uid);
    if (connection->account == NULL)
        return result_refuse(refusal, STATUS_NO_MEMORY, "", "the daemon has no memory for a session");
    charge_init(&connection->charge, connection->account, QUOTA_SESSIONS);
    charge_init(&connection->fds, connection->account, QUOTA_FDS);
    charge_init(&connection->queued, connection->account, QUOTA_QUEUED);
    if (!charge_set(&connection->charge, 1, connection->class->session_max) ||
        !charge_set(&connection->fds, connection->is_executor ? EXECUTOR_FDS : CONNECTION_FDS, UINT64_MAX))
        return refuse_session(connection, refusal);
    return STATUS_OK;
}

/* STATUS_OK if the policy serves this peer; then that is charged to it. */
static enum status admit(struct connection *connection, struct result *refusal)
{
    connection->policy = policy_ref(connection->server->policy);
    connection->class = policy_match(connection->policy, &connection->peer);
    if (connection->class == NULL)
        return result_refuse(refusal, STATUS_REFUSED, "",
                             "uid %u%s%s is in no class of the policy, see jitbrokerd.conf(5)",
                             (unsigned)connection->peer.uid, connection->peer.unit[0] != '\0' ? " in " : "",
                             connection->peer.unit);
    if (!connection->class->write_through)
        return result_refuse(refusal, STATUS_REFUSED, "", "the policy's class %s gets no code memory",
                             connection->class->name);
    return connection_charge(connection, refusal);
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
    if (!connection->is_executor)
        (void)uv_timer_start(&connection->timer, on_hello_timeout, connection->policy->hello_timeout_ms, 0);
    return 0;
}

struct connection *connection_discard(struct connection *connection)
{
    disown(connection);
    free(connection);
    return NULL;
}

void connection_accept(struct server *server, int fd)
{
    struct connection *connection = calloc(1, sizeof *connection);
    struct result refusal;
    int error;

    result_init(&refusal);
    if (connection == NULL) {
        (void)result_refuse(&refusal, STATUS_NO_MEMORY, "", "the daemon has no memory for a session");
        goto refuse;
    }
    connection->server = server;
    connection->fd = fd;
    connection->peer.pidfd = -1;
    error = peer_init(&connection->peer, fd, server->policy->facts);
    if (error != 0) {
        (void)result_refuse(&refusal, STATUS_REFUSED, "", "nobody knows who the peer is: %s",
                            strerror(-error));
        goto refuse;
    }
    if (admit(connection, &refusal) != STATUS_OK)
        goto refuse;
    error = connection_start(connection);
    if (error == 0)
        return;
    (void)result_refuse(&refusal, STATUS_NO_MEMORY, "", "the daemon can't watch the socket: %s",
                        uv_strerror(error));

refuse:
    say_goodbye(fd, refusal.status, refusal.text);
    (void)close(fd);
    if (connection != NULL) {
        log_client(LOG_NOTICE, "connection refused: uid=%u pid=%d reason=\"%s\"",
                   (unsigned)connection->peer.uid, (int)connection->peer.pid, refusal.text);
        (void)connection_discard(connection);
    }
}
