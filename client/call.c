/* SPDX-License-Identifier: MIT */
#include "client/call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "client/failure.h"

/* Records that may lie between an error of the socket and the daemon's last word. */
#define LAST_WORDS_MAX 64

int call_begin(struct jitc_client *client)
{
    int status = client_check(client);
    int cancel_state;

    if (status != JITC_OK)
        return status;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): client_check() has refused NULL */
    (void)pthread_mutex_lock(&client->lock);
    client->cancel_state = cancel_state;
    if (!client->is_lost)
        return JITC_OK;
    status = call_lost(client);
    call_end(client);
    return status;
}

int call_lost(struct jitc_client *client)
{
    return failure_set(JITC_E_DISCONNECTED, "disconnected from the broker: %s", client->lost);
}

void call_end(struct jitc_client *client)
{
    int cancel_state = client->cancel_state;

    (void)pthread_mutex_unlock(&client->lock);
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

/* The daemon has ended the session and said why, or has just gone. */
static int lose_to_daemon(struct jitc_client *client, const struct reply_record *goodbye, const char *what)
{
    if (goodbye != NULL)
        (void)snprintf(client->lost, sizeof client->lost, "%s", goodbye->error.text);
    else
        (void)snprintf(client->lost, sizeof client->lost, "the daemon is gone (%s)", what);
    client->is_lost = true;
    /* Before Welcome the reason is the answer to the connection; later it is a disconnection. */
    if (goodbye != NULL && client->welcome.version == 0)
        return failure_set((int)goodbye->error.status, "%s", client->lost);
    return failure_set(JITC_E_DISCONNECTED, "disconnected from the broker: %s", client->lost);
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
            return lose_to_daemon(client, &reply, "");
    }
    errno = error;
    if (error == 0)
        (void)snprintf(client->lost, sizeof client->lost, "the daemon is gone (it closed the connection)");
    else
        (void)snprintf(client->lost, sizeof client->lost, "the daemon is gone (%m)");
    client->is_lost = true;
    return call_lost(client);
}

static int lose_to_time(struct jitc_client *client)
{
    (void)snprintf(client->lost, sizeof client->lost, "no answer within %" PRIu32 " ms", client->timeout_ms);
    client->is_lost = true;
    return failure_set(JITC_E_TIMEOUT, "the broker gave %s", client->lost);
}

int call_lose_session(struct jitc_client *client, bool is_late)
{
    int cancel_state;
    int status;

    if (is_late)
        return lose_to_time(client);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    status = lose_after_error(client, 0);
    (void)pthread_setcancelstate(cancel_state, NULL);
    return status;
}

int call_lose(struct jitc_client *client, const char *what)
{
    (void)snprintf(client->lost, sizeof client->lost, "its reply %s", what);
    client->is_lost = true;
    return failure_set(JITC_E_BAD_REPLY, "the broker's reply %s", what);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * The socket's own timeouts bound each wait; a signal starts it anew, so from
 * the first one on the clock is read as well. Returns whether to go on waiting.
 */
static bool interrupted(const struct jitc_client *client, uint64_t *deadline_ms)
{
    uint64_t now = now_ms();

    if (*deadline_ms == 0)
        *deadline_ms = now + client->timeout_ms;
    return now < *deadline_ms;
}

int call_send(struct jitc_client *client, struct buffer *out, uint64_t *id)
{
    uint64_t deadline_ms = 0;
    int error;

    *id = ++client->last_id;
    if (!codec_put_request(out, *id))
        return failure_set(JITC_E_TOO_LARGE, "the request is larger than a record of %u bytes",
                           RECORD_MAX_BYTES);
    do {
        error = record_send(client->socket, true, out->bytes, out->used, NULL, 0);
    } while (error == -EINTR && interrupted(client, &deadline_ms));
    if (error == -EAGAIN || error == -EINTR)
        return lose_to_time(client);
    if (error != 0)
        return lose_after_error(client, -error);
    return JITC_OK;
}

int call_receive(struct jitc_client *client, uint64_t id, struct reply_record *reply, unsigned fds_max,
                 struct record *record)
{
    struct record own;
    uint64_t deadline_ms = 0;
    int flaw;

    if (record == NULL)
        record = &own;
    do {
        flaw = record_recv(client->socket, true, receive_buffer(client), RECORD_MAX_BYTES, fds_max, record);
    } while (flaw == -EINTR && interrupted(client, &deadline_ms));
    if (flaw == -EAGAIN || flaw == -EINTR)
        return lose_to_time(client);
    if (flaw < 0)
        return lose_after_error(client, -flaw);
    if (flaw == RECORD_E_END)
        return lose_to_daemon(client, NULL, "it closed the connection");
    if (flaw == RECORD_E_NO_FDS)
        return failure_set(JITC_E_SYSTEM, "no descriptors are free here for what it sent");
    if (flaw != RECORD_WHOLE)
        return call_lose(client, "is too large, or came with descriptors");
    if (!codec_decode_reply(&client->pool, receive_buffer(client), record->bytes, reply))
        flaw = call_lose(client, "is no message of the protocol");
    else if (reply->id == 0 && reply->has_error)
        flaw = lose_to_daemon(client, reply, "");
    else if (reply->id != id)
        flaw = call_lose(client, "answers another request");
    else if (reply->has_error)
        flaw = call_status(&reply->error);
    if (flaw != JITC_OK) {
        while (record->fds_count > 0)
            (void)close(record->fds[--record->fds_count]);
    }
    return flaw;
}

int call_status(const struct result *result)
{
    struct failure failure;

    if (result->status == STATUS_OK)
        return JITC_OK;
    failure_note(&failure, result);
    return failure_tell(&failure);
}

static int run_by_socket(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct reply_record reply = {.results_count = 0};
    struct buffer out;
    uint64_t id = 0;
    int status = operation_only_reads(request->operation) ? JITC_OK : client_check_owner(client);

    if (status == JITC_OK)
        status = call_begin(client);
    if (status != JITC_OK)
        return status;
    out = call_buffer(client);
    if (!codec_put_operation(&out, request))
        status = failure_set(JITC_E_TOO_LARGE, "the request is larger than a record of %u bytes",
                             RECORD_MAX_BYTES);
    else
        status = call_send(client, &out, &id);
    if (status == JITC_OK)
        status = call_receive(client, id, &reply, 0, NULL);
    if (status == JITC_OK && reply.results_count != 1)
        status = call_lose(client, "has not one result");
    if (status == JITC_OK) {
        codec_result(&reply, 0, result);
        status = call_status(result);
        result->field = ""; /* lived in the record */
    }
    call_end(client);
    return status;
}

int call_run(struct jitc_client *client, const struct request *request, struct result *result)
{
    if (client != NULL && client->plane.memory != NULL)
        return lessee_run(client, request, result);
    return run_by_socket(client, request, result);
}
