/* SPDX-License-Identifier: MIT */
/* Writing to one span: through the daemon, or directly where it is granted. */
#include <linux/membarrier.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/call.h"
#include "client/failure.h"
#include "client/span.h"

/* Records of a large write that are on their way at once; few enough that their replies always find room. */
#define WINDOW 4u

/* ---- Through the daemon ---------------------------------------------------------------- */

static int send_chunk(struct jitc_client *client, uint64_t span, uint64_t at, const uint8_t *data,
                      size_t bytes, uint64_t *id)
{
    const struct request request = {
        .operation = OPERATION_WRITE, .span = span, .at = at, .data = data, .data_bytes = bytes};
    struct buffer out = call_buffer(client);

    (void)codec_put_operation(&out, &request); /* WRITE_MAX_BYTES fit */
    return call_send(client, &out, id);
}

static int receive_chunk(struct jitc_client *client, uint64_t id)
{
    struct reply_record reply;
    struct result result;
    int status = call_receive(client, id, &reply, 0, NULL);

    if (status != JITC_OK)
        return status;
    if (reply.results_count != 1)
        return call_lose(client, "has not one result");
    codec_result(&reply, 0, &result);
    return call_status(&result);
}

static int write_by_plane(struct jitc_client *client, const struct request *request)
{
    struct sink sink;
    uint64_t number = 0;
    int status = client_lock(client);

    if (status != JITC_OK)
        return status;
    sink_init(&sink, NULL);
    status = plane_put_write(client, request, &sink, &number);
    plane_publish(&client->plane);
    client_unlock(client);
    if (status == JITC_OK)
        status = plane_wait_done(client, number);
    if (status == JITC_OK && sink.failure.status != JITC_OK)
        status = failure_tell(&sink.failure);
    return status;
}

/* At least one record, so that a write of no bytes is checked as well. */
static int write_by_socket(struct jitc_client *client, uint64_t span, size_t at, const void *src,
                           size_t bytes)
{
    size_t done = 0; /* bytes that were sent */
    size_t sent = 0;
    size_t received = 0;
    bool ends = false; /* nothing more is sent */
    uint64_t first_id = 0;
    int first = JITC_OK;
    int status = client_check_owner(client);

    if (status == JITC_OK)
        status = call_begin(client);
    if (status != JITC_OK)
        return status;
    while (!ends || received < sent) {
        if (!ends && sent - received < WINDOW) {
            size_t part = span_part_bytes(client, at + done, bytes - done, WRITE_MAX_BYTES);
            uint64_t id;

            status = send_chunk(client, span, at + done, (const uint8_t *)src + done, part, &id);
            if (sent == 0)
                first_id = id;
            sent++;
            done += part;
            ends = done == bytes;
        } else {
            status = receive_chunk(client, first_id + received);
            received++;
        }
        if (client->is_lost) {
            first = status;
            break;
        }
        if (status != JITC_OK && first == JITC_OK) {
            first = status;
            ends = true; /* what is on its way is still waited for */
        }
    }
    call_end(client);
    return first;
}

static int write_through(struct jitc_client *client, uint64_t span, size_t at, const void *src, size_t bytes)
{
    if (client->plane.memory != NULL)
        return write_by_plane(
            client,
            &(struct request){
                .operation = OPERATION_WRITE, .span = span, .at = at, .data = src, .data_bytes = bytes});
    return write_by_socket(client, span, at, src, bytes);
}

/* ---- Public ------------------------------------------------------------------------------- */

int jitc_write(jitc_client *client, jitc_span *span, size_t offset, const void *src, size_t size,
               jitc_write_policy policy)
{
    uint64_t start = 0;
    int status = span_check_policy(policy);

    if (status == JITC_OK)
        status = span_check_write(client, span, offset, src, size, &start);
    if (status != JITC_OK)
        return status;
    if (span->rw == NULL)
        status = write_through(client, start, offset, src, size);
    else if (size > 0)
        memcpy((uint8_t *)span->rw + offset, src, size);
    if (status != JITC_OK)
        return status;
    span_flush((uint8_t *)span->rx + offset, size, policy);
    span->flags &= ~JITC_SPAN_ICACHE_CLEAN;
    return JITC_OK;
}

int jitc_write_fn(jitc_client *client, jitc_span *span, jitc_write_callback callback, void *user,
                  jitc_write_policy policy)
{
    jitc_scope *scope;
    int status = jitc_scope_begin(client, &scope, policy);
    int end;

    if (status != JITC_OK)
        return status;
    status = jitc_scope_write_fn(scope, span, callback, user);
    end = jitc_scope_end(scope);
    return status != JITC_OK ? status : end;
}

int jitc_patch(jitc_client *client, jitc_span *span, size_t offset, unsigned width, uint64_t expected,
               uint64_t desired, uint64_t *found)
{
    struct request request = {
        .operation = OPERATION_PATCH, .at = offset, .width = width, .expected = expected, .desired = desired};
    struct result result;
    int status = span_check_range(client, span, offset, 0, &request.span);

    if (status != JITC_OK)
        return status;
    if (!client->has_barrier)
        return failure_set(JITC_E_SYSTEM,
                           "patching needs membarrier(2) with SYNC_CORE, which is not to be had here");
    result_init(&result);
    /* Also in direct mode: the daemon's compare-and-swap is the only one, so that it may refuse. */
    status = call_run(client, &request, &result);
    if (found != NULL && (status == JITC_OK || status == JITC_E_MISMATCH))
        *found = result.found;
    if (status != JITC_OK)
        return status;
    span_flush((uint8_t *)span->rx + offset, width, JITC_WRITE_DEFAULT);
    span->flags &= ~JITC_SPAN_ICACHE_CLEAN;
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) != 0)
        return failure_set(JITC_E_SYSTEM,
                           "patched, but other threads may run the old code for a moment: membarrier: %m");
    return JITC_OK;
}
