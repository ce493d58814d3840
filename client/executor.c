/* SPDX-License-Identifier: MIT */
/* Two roles of one session: its owner opens ends, and who holds one attaches as an executor. */
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/call.h"
#include "client/failure.h"
#include "client/patience.h"
#include "client/span.h"

static int receive_end(struct jitc_client *client, uint64_t id, int *fd)
{
    struct reply_record reply;
    struct record record;
    int status = call_receive(client, id, &reply, 1, &record);

    if (status != JITC_OK)
        return status;
    if (record.fds_count != 1)
        return call_lose(client, "brings no executor's socket");
    status = client_move_fd(&record.fds[0], client->fd_min);
    if (status == JITC_OK)
        *fd = record.fds[0];
    else
        (void)close(record.fds[0]);
    return status;
}

int jitc_open_executor(jitc_client *client, int *fd)
{
    struct buffer out;
    uint64_t id;
    int status = client_check_owner(client);

    patience_begin();
    if (status == JITC_OK && fd == NULL)
        status = failure_set(JITC_E_INVALID, "fd is NULL");
    if (status == JITC_OK)
        status = call_begin(client);
    if (status != JITC_OK)
        return status;
    status = call_settle(client);
    out = call_buffer(client);
    (void)codec_put_open_executor(&out); /* an empty record has room for it */
    if (status == JITC_OK)
        status = call_send(client, &out, false, &id);
    if (status == JITC_OK)
        status = receive_end(client, id, fd);
    call_end(client);
    return status;
}

int jitc_attach(jitc_client **client, int fd)
{
    jitc_options options;

    patience_begin();
    (void)client_options(NULL, &options);
    return client_new(client, fd, &options, true);
}

int jitc_sync(jitc_client *client, const jitc_span *span)
{
    uint64_t offset;
    int status = span_check_range(client, span, 0, span->size, &offset);

    if (status != JITC_OK)
        return status;
    span_flush(span->rx, span->size, JITC_WRITE_DEFAULT);
    if (!client->has_barrier ||
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) != 0)
        return failure_set(JITC_E_SYSTEM, "membarrier(2) with SYNC_CORE is not to be had here");
    return JITC_OK;
}
