/* SPDX-License-Identifier: MIT */
#include "daemon/greeting.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "daemon/adoption.h"
#include "daemon/exchange.h"
#include "daemon/executor.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "proto/record.h"

static void refuse_hello(struct connection *connection, uint64_t id, const struct result *error)
{
    struct buffer out = exchange_begin_record(connection, id);

    if (codec_put_error(&out, error))
        (void)record_send(connection->fd, false, out.bytes, out.used, NULL, 0);
    connection_end(connection, STATUS_OK, error->text);
}

/* The ring that the client wishes for, if it can be had: without one the socket does everything. */
static void grant_ring(struct connection *connection, const struct hello *hello)
{
    int error;

    if ((hello->features & FEATURE_RING) == 0 || !connection->class->ring)
        return;
    error = plane_init(&connection->plane, connection);
    if (error != 0) {
        log_client(LOG_WARNING, "session %" PRIu64 ": no ring: %s", connection->session->id,
                   strerror(-error));
        return;
    }
    connection->handles++;
    connection->session->ledger.page->features |= FEATURE_RING;
}

static int send_welcome(struct connection *connection, uint64_t id, const struct welcome *welcome)
{
    struct buffer out = exchange_begin_record(connection, id);
    const struct arena *arena = &connection->session->arena;
    int fds[RECORD_FDS_MAX] = {arena_open_read_only(arena)};
    unsigned ours = 1; /* to be closed here */
    unsigned count;
    bool fits = codec_put_welcome(&out, welcome);
    int error;

    assert(fits);
    (void)fits;
    if (welcome->write_mode == WRITE_DIRECT)
        fds[ours++] = arena_open_writable(arena);
    count = ours;
    if (welcome->ring_bytes != 0) {
        fds[count++] = connection->plane.memory_fd;
        fds[count++] = connection->plane.bell;
    }
    error = fds[0] < 0 ? fds[0] : fds[ours - 1] < 0 ? fds[ours - 1] : 0;
    if (error == 0)
        error = record_send(connection->fd, false, out.bytes, out.used, fds, count);
    while (ours > 0) {
        if (fds[--ours] >= 0)
            (void)close(fds[ours]);
    }
    return error;
}

/* From here on the session outlives this process, if it has where to. */
static int store_session(struct connection *connection, uint64_t hello_id)
{
    struct store *store = &connection->server->store;
    struct session *session = connection->session;
    struct ledger_page *page = session->ledger.page;
    const struct plane *plane = &connection->plane;
    const int fds[PARTS] = {
        [PART_LEDGER] = session->ledger.fd, [PART_ARENA] = session->arena.fd, [PART_SOCKET] = connection->fd,
        [PART_RING] = plane->memory_fd,     [PART_BELL] = plane->bell,
    };
    char name[STORE_NAME_MAX_BYTES + 1];
    int error;

    page->hello_id = hello_id;
    ledger_order();
    page->state = LEDGER_LIVE;
    ledger_order();
    session_store_name(session, name);
    store_pace(store, connection->peer.uid, uv_hrtime());
    error = store_add(store, name, fds, plane_is_there(plane) ? PARTS : PARTS_WITHOUT_RING);
    LEDGER_STEP();
    session->is_stored = error == 0;
    return error;
}

static enum status begin_session(struct connection *connection, uint64_t id, struct hello *hello,
                                 struct result *error)
{
    struct server *server = connection->server;
    int stored;

    if (hello_validate(hello, error) != STATUS_OK)
        return error->status;
    connection->session = session_new(server->sessions_started + 1, connection->class, &connection->peer,
                                      connection->account, hello, error);
    if (connection->session == NULL)
        return error->status;
    server->sessions_started++;
    connection_start_audit(connection);
    (void)uv_timer_stop(&connection->timer);
    grant_ring(connection, hello);
    stored = store_session(connection, id);
    /* To serve it for as long as this process lives is better than not at all. */
    if (stored != 0)
        log_client(LOG_WARNING, "session %" PRIu64 ": the service manager does not keep it: %s",
                   connection->session->id, strerror(-stored));
    return STATUS_OK;
}

/* What a client is told of its own session. */
static void describe(const struct connection *connection, struct welcome *welcome)
{
    session_describe(connection->session, welcome);
    welcome->ring_bytes = plane_is_there(&connection->plane) ? RING_BYTES : 0;
}

static void log_session(const struct connection *connection, const struct welcome *welcome)
{
    struct log_subject subject = connection_subject(connection);

    log_event(LOG_SESSION_STARTED, &subject, NULL,
              "write=%s arena=%" PRIu64 " granularity=%" PRIu32 " sealed=%s ring=%s",
              welcome->write_mode == WRITE_DIRECT ? "direct" : "through", welcome->arena_bytes,
              welcome->granularity, welcome->sealed ? "yes" : "no", welcome->ring_bytes != 0 ? "yes" : "no");
}

static enum status begin(struct connection *connection, struct request_record *record,
                         struct welcome *welcome, struct result *error)
{
    bool is_new = connection->session == NULL;

    if (connection->is_executor)
        return executor_welcome(connection, &record->hello, welcome, error);
    if (is_new && begin_session(connection, record->id, &record->hello, error) != STATUS_OK)
        return error->status;
    describe(connection, welcome);
    if (is_new)
        log_session(connection, welcome);
    return STATUS_OK;
}

void greeting_answer(struct connection *connection, struct request_record *record)
{
    struct welcome welcome = {0};
    struct result error;
    int sent;

    result_init(&error);
    if (!record->has_hello || record->operations_count != 0 || record->has_open_executor) {
        connection_end(connection, STATUS_PROTOCOL, "the first request is Hello, and nothing else");
        return;
    }
    if (begin(connection, record, &welcome, &error) != STATUS_OK) {
        refuse_hello(connection, record->id, &error);
        return;
    }
    connection->has_hello = true;
    sent = send_welcome(connection, record->id, &welcome);
    LEDGER_STEP();
    if (sent == 0) {
        exchange_take_record(connection);
    } else if (sent == -EPIPE || sent == -ECONNRESET) {
        connection_end_by_errno(connection, sent);
    } else {
        (void)result_refuse(&error, STATUS_NO_MEMORY, "", "the arena can't be handed over: %s",
                            strerror(-sent));
        refuse_hello(connection, record->id, &error);
    }
}
