/* SPDX-License-Identifier: MIT */
#include "daemon/exchange.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/executor.h"
#include "daemon/greeting.h"
#include "daemon/server.h"
#include "proto/record.h"

/* A reply to the largest batch always fits a record. */
_Static_assert(RESULT_MAX_BYTES < RECORD_MAX_BYTES / OPERATIONS_MAX, "a full reply fits a record");

/* A request of which a part is still to be done, and what it has been answered so far. */
struct unfinished {
    size_t next; /* operation */
    struct buffer out;
    size_t record_bytes;
    uint8_t bytes[]; /* the record, then room for the reply */
};

/* ---- Replies ------------------------------------------------------------------------ */

static void on_reply_timeout(uv_timer_t *timer)
{
    connection_end(timer->data, STATUS_OK, "it does not read its answers");
}

/* Whose answers the ledger has; an executor's requests change nothing, and may be answered twice. */
static struct ledger *ledger_of(const struct connection *connection)
{
    return connection->is_executor ? NULL : &connection->session->ledger;
}

void exchange_take_record(struct connection *connection)
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
    exchange_take_record(connection);
    if (ledger != NULL)
        ledger_end_answer(ledger);
}

static void send_reply(struct connection *connection, const struct buffer *out)
{
    struct ledger *ledger = ledger_of(connection);
    int error;

    if (ledger != NULL)
        ledger_mark_answer(ledger, LEDGER_READY, out->used);
    else
        connection_absolve(connection); /* before who asked can know that it is done */
    error = record_send(connection->fd, false, out->bytes, out->used, NULL, 0);
    LEDGER_STEP();
    if (error == 0) {
        end_answer(connection, out->used);
        if (connection_is_paced(connection))
            connection_read_on(connection);
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
    connection_wait_for(connection, UV_WRITABLE);
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
    connection_read_on(connection);
}

static struct buffer begin_in(uint8_t *bytes, uint64_t id)
{
    struct buffer out = {.bytes = bytes, .capacity = RECORD_MAX_BYTES};
    bool fits = codec_put_reply(&out, id);

    assert(fits);
    (void)fits;
    return out;
}

struct buffer exchange_begin_record(struct connection *connection, uint64_t id)
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
        *out = exchange_begin_record(connection, id);
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

/* ---- Operations --------------------------------------------------------------------- */

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

/* False: there is more of it to do. */
static bool run_operation(struct connection *connection, const struct request_record *record, size_t index,
                          struct result *result)
{
    uint64_t key = connection->session->ledger.page->progress | LEDGER_KEY_SOCKET;
    struct request request;

    result_init(result);
    if (codec_operation(record, index, &request, result) == STATUS_OK)
        return connection_run(connection, &request, key, result);
    connection_note_refusal(connection, "unknown", result);
    return true;
}

/* Whether it is this connection's turn; if it is not, it is asked again in the next one. */
static bool may_run(struct connection *connection)
{
    return account_may_run(connection->account, connection->server->turn, uv_hrtime(), &connection->round);
}

/* The most that a request may hold while it is put off. */
#define PUT_OFF_MAX_BYTES \
    (sizeof(struct unfinished) + RECORD_MAX_BYTES + (size_t)OPERATIONS_MAX * RESULT_MAX_BYTES)

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
    connection_blame(connection);
    good = decode(connection->server, unfinished->bytes, unfinished->record_bytes, &record);
    assert(good); /* as it was before */
    (void)good;
    if (!run_operations(connection, &record, &unfinished->next, &unfinished->out)) {
        connection_absolve(connection);
        return;
    }
    connection->unfinished = NULL;
    connection->account->put_off--;
    (void)charge_set(&connection->queued, 0, 0);
    (void)uv_idle_stop(&connection->next_turn);
    connection_wait_for(connection, UV_READABLE);
    plane_resume(&connection->plane);
    connection_pace_request(connection, record.operations_count);
    send_reply(connection, &unfinished->out);
    free(unfinished);
    connection_absolve(connection);
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
    connection_note_refusal(connection, "request", error);
    connection_pace_request(connection, 0);
    send_reply(connection, &out);
}

/* Runs its operations from `next` on, where those before have their results in `out`. */
static void run_request(struct connection *connection, const struct request_record *record,
                        size_t record_bytes, size_t next, struct buffer *out)
{
    if (run_operations(connection, record, &next, out)) {
        connection_pace_request(connection, record->operations_count);
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

/* ---- Records ------------------------------------------------------------------------ */

/* True: what it asks for has to be stored, and that has to wait; the record stays where it is. */
static bool waits_for_store(struct connection *connection)
{
    uint64_t wait_ns = store_wait_ns(&connection->server->store, connection->peer.uid, uv_hrtime());

    if (wait_ns > 0)
        connection_put_off_reading(connection, wait_ns);
    return wait_ns > 0;
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
    const struct ledger_page *page;
    struct result error;
    struct buffer out;
    size_t next;

    assert(connection->session != NULL); /* that is what it goes on with */
    page = connection->session->ledger.page;
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
    } else if (record->has_open_executor) {
        /* Opened once more. Its client, which may have had an answer to it, reads that, and then this one. */
        connection->repeated = true;
        handle_request(connection, record, record_bytes);
        connection->repeated = true;
    } else if (next > record->operations_count || check_request(record, &error) != STATUS_OK ||
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

static void serve_record(struct connection *connection)
{
    connection_blame(connection);
    read_record(connection);
    connection_absolve(connection);
}

void exchange_resume(struct connection *connection)
{
    struct ledger *ledger = &connection->session->ledger;

    connection->resumes = true;
    if (!connection->is_executor && ledger->done.kind != INTENT_NONE) {
        if ((ledger->done.key & LEDGER_KEY_SOCKET) != 0)
            serve_record(connection);
        else if (plane_is_there(&connection->plane))
            (void)plane_serve(&connection->plane);
        if (connection->session == NULL)
            return;
        ledger->done.kind = INTENT_NONE;
    }
    if (connection->unfinished == NULL && connection->pending == NULL)
        connection_read_on(connection);
}

void exchange_on_poll(uv_poll_t *handle, int status, int events)
{
    struct connection *connection = handle->data;

    /* libuv's error is that of the socket: the client closed with answers unread. */
    if (status < 0 || (events & (UV_READABLE | UV_WRITABLE)) == 0)
        connection_end(connection, STATUS_OK, "the client is gone");
    else if (connection->pending != NULL)
        send_pending(connection);
    else if (has_room(connection) && may_run(connection))
        serve_record(connection);
}
