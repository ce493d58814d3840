/* SPDX-License-Identifier: MIT */
#include "client/call.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "client/failure.h"
#include "client/patience.h"

/* Records that may lie between an error of the socket and the daemon's last word. */
#define LAST_WORDS_MAX 64
/* How far beyond its time a wait may go, so that the clock need not be asked twice. */
#define SLACK_MS 50u

#define NS_PER_S UINT64_C(1000000000)

/* ---- The turn ------------------------------------------------------------------------------ */

/* With the lock held. False: others have had it for too long. */
static bool take_turn(struct jitc_client *client)
{
    while (client->is_talking && patience_left_ms(client->timeout_ms) > 0) {
        const struct timespec until = {.tv_sec = (time_t)(patience_until_ns / NS_PER_S),
                                       .tv_nsec = (long)(patience_until_ns % NS_PER_S)};

        (void)pthread_cond_timedwait(&client->turn, &client->lock, &until);
    }
    if (client->is_talking)
        return false;
    client->is_talking = true;
    return true;
}

int call_begin(struct jitc_client *client)
{
    int status = client_check(client);
    int cancel_state;

    if (status != JITC_OK)
        return status;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    client_relock(client);
    if (client->is_lost)
        status = call_lost(client);
    else if (!take_turn(client))
        status = call_late(client);
    else
        client->cancel_state = cancel_state;
    client_unlock(client);
    if (status == JITC_OK && client->is_lost) { /* by who had the turn */
        status = call_lost(client);
        call_end(client);
    } else if (status != JITC_OK) {
        (void)pthread_setcancelstate(cancel_state, NULL);
    }
    return status;
}

void call_end(struct jitc_client *client)
{
    int cancel_state = client->cancel_state;

    client_relock(client);
    client->is_talking = false;
    (void)pthread_cond_signal(&client->turn);
    client_unlock(client);
    (void)pthread_setcancelstate(cancel_state, NULL);
}

struct buffer call_buffer(struct jitc_client *client)
{
    return (struct buffer){.bytes = client->records, .capacity = RECORD_MAX_BYTES};
}

static uint8_t *receive_buffer(struct jitc_client *client)
{
    return client->records + RECORD_MAX_BYTES;
}

/* ---- The end ------------------------------------------------------------------------------- */

/* For good; the first reason stays. */
static void note_loss(struct jitc_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void note_loss(struct jitc_client *client, const char *format, ...)
{
    int error = errno;
    va_list args;

    if (atomic_exchange(&client->is_losing, true))
        return;
    va_start(args, format);
    errno = error;
    (void)vsnprintf(client->lost, sizeof client->lost, format, args);
    va_end(args);
    client->is_lost = true;
}

int call_lost(const struct jitc_client *client)
{
    return failure_set(JITC_E_DISCONNECTED, "disconnected from the broker: %s",
                       client->is_lost ? client->lost : "it is gone");
}

int call_late(const struct jitc_client *client)
{
    return failure_set(JITC_E_TIMEOUT, "the broker gave no answer within %" PRIu32 " ms%s",
                       client->timeout_ms, client->fails_fast ? ", to this or to an earlier call" : "");
}

int call_lose(struct jitc_client *client, const char *what)
{
    note_loss(client, "its reply %s", what);
    return failure_set(JITC_E_BAD_REPLY, "the broker's reply %s", what);
}

/* The daemon has ended the session and said why, or has just gone. */
static int lose_to_daemon(struct jitc_client *client, const struct reply_record *goodbye)
{
    if (goodbye != NULL)
        note_loss(client, "%s", goodbye->error.text);
    else
        note_loss(client, "the daemon is gone (it closed the connection)");
    /* Before Welcome the reason is the answer to the connection; later it is a disconnection. */
    if (goodbye != NULL && client->welcome.version == 0)
        return failure_set((int)goodbye->error.status, "%s", goodbye->error.text);
    return call_lost(client);
}

/* After the socket failed, or (error 0) the ring ended: the daemon's last word may still lie in it. */
static int lose_after_error(struct jitc_client *client, int error)
{
    for (int i = 0; i < LAST_WORDS_MAX; i++) {
        struct reply_record reply;
        struct record record;
        int flaw = record_recv(client->socket, false, receive_buffer(client), RECORD_MAX_BYTES, 0, &record);

        if (flaw == -ECONNRESET)
            continue;
        if (flaw != RECORD_WHOLE && flaw != RECORD_E_FDS)
            break;
        if (flaw == RECORD_WHOLE &&
            codec_decode_reply(&client->pool, receive_buffer(client), record.bytes, &reply) &&
            reply.id == 0 && reply.has_error)
            return lose_to_daemon(client, &reply);
    }
    errno = error;
    if (error == 0)
        return lose_to_daemon(client, NULL);
    note_loss(client, "the daemon is gone (%m)");
    /* Trouble of ours: who connects need not try again. */
    if (client->welcome.version == 0 && error != EPIPE && error != ECONNRESET) {
        errno = error;
        return failure_set(JITC_E_SYSTEM, "talking to the broker: %m");
    }
    return call_lost(client);
}

/* ---- Sending ------------------------------------------------------------------------------- */

/* Whether the socket can be read, or written, before the call's time is over. */
static bool is_ready(const struct jitc_client *client, short events)
{
    uint32_t left_ms;

    while ((left_ms = patience_left_ms(client->timeout_ms)) > 0) {
        struct pollfd socket = {.fd = client->socket, .events = events};

        if (poll(&socket, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX) > 0)
            return true;
    }
    return false;
}

int call_send(struct jitc_client *client, struct buffer *out, bool brings_span, uint64_t *id)
{
    int error;

    *id = client->last_id + 1;
    if (!codec_put_request(out, *id))
        return failure_set(JITC_E_TOO_LARGE, "the request is larger than a record of %u bytes",
                           RECORD_MAX_BYTES);
    do {
        error = record_send(client->socket, false, out->bytes, out->used, NULL, 0);
    } while (error == -EAGAIN && is_ready(client, POLLOUT));
    if (error == -EAGAIN)
        return call_late(client);
    if (error != 0)
        return lose_after_error(client, -error);
    assert(client->asked_count < ASKED_MAX);
    client->last_id = *id;
    client->asked[client->asked_count++] = (struct asked){.id = *id, .brings_span = brings_span};
    return JITC_OK;
}

/* ---- Receiving ----------------------------------------------------------------------------- */

static void close_fds(struct record *record)
{
    while (record->fds_count > 0)
        (void)close(record->fds[--record->fds_count]);
}

/* As record_recv(): -EAGAIN where there is none, or with `wait` none in the call's time. */
static int receive_record(struct jitc_client *client, bool wait, unsigned fds_max, struct record *record)
{
    uint32_t left_ms = wait ? patience_left_ms(client->timeout_ms) : 0;
    int flaw;

    /* Mostly it has all its time left, which is the socket's own time-out: one system call. */
    if (left_ms > 0 && left_ms + SLACK_MS >= client->timeout_ms) {
        flaw = record_recv(client->socket, true, receive_buffer(client), RECORD_MAX_BYTES, fds_max, record);
        if (flaw != -EINTR)
            return flaw;
    }
    do {
        flaw = record_recv(client->socket, false, receive_buffer(client), RECORD_MAX_BYTES, fds_max, record);
    } while (flaw == -EAGAIN && wait && is_ready(client, POLLIN));
    return flaw;
}

/* The request that has this id is no longer asked. False: it was not. */
static bool take_asked(struct jitc_client *client, uint64_t id, struct asked *asked)
{
    for (unsigned i = 0; i < client->asked_count; i++) {
        if (client->asked[i].id == id) {
            *asked = client->asked[i];
            client->asked[i] = client->asked[--client->asked_count];
            return true;
        }
    }
    return false;
}

/*
 * The next reply to anything that is asked. JITC_OK; TIMEOUT, without its detail, where there is none
 * (without `wait`), or none in time; or why the connection is lost. *flaw is what was wrong with its
 * descriptors.
 */
static int hear(struct jitc_client *client, bool wait, unsigned fds_max, struct record *record,
                struct reply_record *reply, struct asked *asked, int *flaw)
{
    int status;

    for (;;) {
        *flaw = receive_record(client, wait, fds_max, record);
        if (*flaw == -EAGAIN)
            return JITC_E_TIMEOUT;
        if (*flaw < 0)
            return lose_after_error(client, -*flaw);
        if (*flaw == RECORD_E_END)
            return lose_to_daemon(client, NULL);
        if (*flaw == RECORD_E_OVERSIZED)
            status = call_lose(client, "is too large");
        else if (!codec_decode_reply(&client->pool, receive_buffer(client), record->bytes, reply))
            status = call_lose(client, "is no message of the protocol");
        else if (reply->id == 0 && reply->has_error)
            status = lose_to_daemon(client, reply);
        else if (reply->id == 0 || reply->id > client->last_id)
            status = call_lose(client, "answers what was never asked");
        else if (take_asked(client, reply->id, asked))
            return JITC_OK;
        else
            status = JITC_OK; /* answered already, by a daemon that did not live to know that */
        close_fds(record);
        if (status != JITC_OK)
            return status;
    }
}

/* What a reply brings that nobody waits for any more. */
static void give_back(struct jitc_client *client, const struct asked *asked, const struct reply_record *reply,
                      struct record *record)
{
    struct result result;

    close_fds(record);
    if (!asked->brings_span || reply->has_error || reply->results_count != 1)
        return;
    codec_result(reply, 0, &result);
    if (result.status != STATUS_OK || !result.has_span)
        return;
    client_relock(client);
    /* Without memory for that it stays the session's until its reset or end. */
    (void)owed_add(&client->owed, &(struct request){.operation = OPERATION_RELEASE, .span = result.offset});
    client_unlock(client);
}

int call_receive(struct jitc_client *client, uint64_t id, struct reply_record *reply, unsigned fds_max,
                 struct record *record)
{
    struct record own;
    struct asked asked = {.id = 0};
    int flaw = RECORD_WHOLE;
    int status;

    if (record == NULL)
        record = &own;
    while ((status = hear(client, true, fds_max, record, reply, &asked, &flaw)) == JITC_OK && asked.id < id)
        give_back(client, &asked, reply, record);
    if (status == JITC_E_TIMEOUT) {
        client->is_overdue = true;
        return call_late(client);
    }
    if (status != JITC_OK)
        return status;
    if (flaw == RECORD_E_NO_FDS)
        return failure_set(JITC_E_SYSTEM, "no descriptors are free here for what it sent");
    if (flaw != RECORD_WHOLE)
        return call_lose(client, "came with descriptors");
    if (reply->has_error) {
        close_fds(record);
        return call_status(&reply->error);
    }
    return JITC_OK;
}

/* ---- What earlier calls left -------------------------------------------------------------------- */

static int take_replies(struct jitc_client *client)
{
    struct reply_record reply;
    struct record record;
    struct asked asked;
    int flaw;

    while (client->asked_count > 0) {
        bool waits = !client->fails_fast || !client->is_overdue;
        int status = hear(client, waits, 0, &record, &reply, &asked, &flaw);

        if (status == JITC_E_TIMEOUT) {
            client->is_overdue = true;
            return call_late(client);
        }
        if (status != JITC_OK)
            return status;
        give_back(client, &asked, &reply, &record);
    }
    client->is_overdue = false;
    return JITC_OK;
}

/* In one record, as many as it holds. */
static int send_owed(struct jitc_client *client)
{
    struct buffer out = call_buffer(client);
    size_t count = 0;
    uint64_t id;
    int status;

    client_relock(client);
    for (; count < client->owed.count && count < OPERATIONS_MAX; count++)
        (void)codec_put_operation(&out, &client->owed.queue[count]); /* without data so many fit */
    client_unlock(client);
    status = call_send(client, &out, false, &id);
    if (status != JITC_OK)
        return status;
    client_relock(client);
    owed_drop(&client->owed, count); /* others only add to it */
    client_unlock(client);
    return JITC_OK;
}

static bool owes(struct jitc_client *client)
{
    bool does;

    if (client->plane.memory != NULL)
        return false; /* by the ring */
    client_relock(client);
    does = client->owed.count > 0;
    client_unlock(client);
    return does;
}

int call_settle(struct jitc_client *client)
{
    int status = take_replies(client);

    while (status == JITC_OK && owes(client)) {
        status = send_owed(client);
        if (status == JITC_OK && owes(client))
            status = take_replies(client);
    }
    return status;
}

/* ---- For the ring ---------------------------------------------------------------------------------- */

bool call_listen(struct jitc_client *client)
{
    struct reply_record reply;
    struct record record;
    struct asked asked;
    int cancel_state;
    bool is_mine;
    int flaw;

    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    client_relock(client);
    is_mine = !client->is_talking && !client->is_lost;
    if (is_mine)
        client->is_talking = true; /* else who has the turn hears it */
    client_unlock(client);
    if (is_mine) {
        client->cancel_state = cancel_state;
        while (hear(client, false, 0, &record, &reply, &asked, &flaw) == JITC_OK)
            give_back(client, &asked, &reply, &record);
        call_end(client);
    } else {
        (void)pthread_setcancelstate(cancel_state, NULL);
    }
    return !client->is_lost;
}

int call_lose_session(struct jitc_client *client)
{
    int status = call_begin(client);

    if (status == JITC_OK) {
        status = lose_after_error(client, 0);
        call_end(client);
    }
    return status;
}

/* ---- Operations -------------------------------------------------------------------------------------- */

int call_status(const struct result *result)
{
    struct failure failure;

    if (result->status == STATUS_OK)
        return JITC_OK;
    failure_note(&failure, result);
    return failure_tell(&failure);
}

/* With the turn taken. TIMEOUT with *is_asked false: the daemon has not been told. */
static int exchange(struct jitc_client *client, const struct request *request, struct result *result,
                    bool *is_asked)
{
    struct reply_record reply = {.results_count = 0};
    struct buffer out;
    uint64_t id = 0;
    int status = call_settle(client);

    if (status != JITC_OK)
        return status;
    out = call_buffer(client);
    if (!codec_put_operation(&out, request))
        return failure_set(JITC_E_TOO_LARGE, "the request is larger than a record of %u bytes",
                           RECORD_MAX_BYTES);
    status = call_send(client, &out, request->operation == OPERATION_ALLOC, &id);
    *is_asked = status == JITC_OK;
    if (status == JITC_OK)
        status = call_receive(client, id, &reply, 0, NULL);
    if (status == JITC_OK && reply.results_count != 1)
        status = call_lose(client, "has not one result");
    if (status != JITC_OK)
        return status;
    codec_result(&reply, 0, result);
    status = call_status(result);
    result->field = ""; /* lived in the record */
    return status;
}

static int run_by_socket(struct jitc_client *client, const struct request *request, struct result *result)
{
    bool is_asked = false;
    int status = operation_only_reads(request->operation) ? JITC_OK : client_check_owner(client);

    if (status == JITC_OK)
        status = call_begin(client);
    if (status == JITC_OK) {
        status = exchange(client, request, result, &is_asked);
        call_end(client);
    }
    if (status != JITC_E_TIMEOUT || is_asked || !owed_is_promised(request->operation))
        return status;
    client_relock(client);
    status = client_owe(client, request);
    client_unlock(client);
    return status;
}

int call_run(struct jitc_client *client, const struct request *request, struct result *result)
{
    if (client != NULL && client->plane.memory != NULL)
        return lessee_run(client, request, result);
    return run_by_socket(client, request, result);
}
