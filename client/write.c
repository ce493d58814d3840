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
#include "client/patience.h"
#include "client/span.h"

/* Records of a large write that are on their way at once; few enough that their replies always find room. */
#define WINDOW 4u
_Static_assert(WINDOW < ASKED_MAX, "all of them are asked, with what is owed");

/* ---- Through the daemon ---------------------------------------------------------------- */

static int send_chunk(struct jitc_client *client, uint64_t span, uint64_t at, const uint8_t *data,
                      size_t bytes, uint64_t *id)
{
    const struct request request = {
        .operation = OPERATION_WRITE, .span = span, .at = at, .data = data, .data_bytes = bytes};
    struct buffer out = call_buffer(client);

    (void)codec_put_operation(&out, &request); /* WRITE_MAX_BYTES fit */
    return call_send(client, &out, false, id);
}

/* Any of those that were sent as `id` and later. */
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
    patience_begin();
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
    status = plane_settle(client, &client->plane);
    if (status == JITC_OK)
        status = plane_put_write(client, request, &sink, &number);
    plane_publish(&client->plane);
    client_unlock(client);
    if (status == JITC_OK)
        status = plane_wait_done(client, number, &sink);
    if (status == JITC_OK && sink.failure.status != JITC_OK)
        status = failure_tell(&sink.failure);
    return status;
}

/* With the turn taken. At least one record, so that a write of no bytes is checked as well. */
static int send_all(struct jitc_client *client, uint64_t span, size_t at, const uint8_t *src, size_t bytes)
{
    uint64_t first_id = client->last_id + 1;
    size_t done = 0; /* bytes that were sent */
    size_t sent = 0;
    size_t received = 0;
    bool ends = false; /* nothing more is sent */
    int first = JITC_OK;

    while (!ends || received < sent) {
        int status;

        if (!ends && sent - received < WINDOW) {
            size_t part = span_part_bytes(client, at + done, bytes - done, WRITE_MAX_BYTES);
            uint64_t id;

            status = send_chunk(client, span, at + done, src + done, part, &id);
            sent++;
            done += part;
            ends = done == bytes;
        } else {
            status = receive_chunk(client, first_id);
            received++;
        }
        if (client->is_lost || status == JITC_E_TIMEOUT)
            return status;
        if (status != JITC_OK && first == JITC_OK) {
            first = status;
            ends = true; /* what is on its way is still waited for */
        }
    }
    return first;
}

static int write_by_socket(struct jitc_client *client, uint64_t span, size_t at, const void *src,
                           size_t bytes)
{
    int status = client_check_owner(client);

    if (status == JITC_OK)
        status = call_begin(client);
    if (status != JITC_OK)
        return status;
    status = call_settle(client);
    if (status == JITC_OK)
        status = send_all(client, span, at, src, bytes);
    call_end(client);
    return status;
}

static int write_through(struct jitc_client *client, uint64_t span, size_t at, const void *src, size_t bytes)
{
    patience_begin();
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

int jitc_patch(jitc_client *client, jitc_span *span, size_t offset, unsigned width, uint64_t expected,
               uint64_t desired, uint64_t *found)
{
    struct request request = {
        .operation = OPERATION_PATCH, .at = offset, .width = width, .expected = expected, .desired = desired};
    struct result result;
    int status = span_check_range(client, span, offset, 0, &request.span);

    patience_begin();
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
