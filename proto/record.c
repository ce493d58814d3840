/* SPDX-License-Identifier: MIT */
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(sizeof(int) * RECORD_FDS_MAX)];
    struct cmsghdr align;
};

/* Returns whether there were more than the record has room for, which are closed: CMSG_SPACE pads. */
static bool collect_fds(struct msghdr *message, struct record *record)
{
    bool too_many = false;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        size_t count;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (record->fds_count < RECORD_FDS_MAX)
                record->fds[record->fds_count++] = fd;
            else
                (void)close(fd);
            too_many = too_many || i >= RECORD_FDS_MAX;
        }
    }
    return too_many;
}

static int receive(int socket, int flags, void *buffer, size_t buffer_bytes, unsigned fds_max,
                   struct record *record)
{
    union control control;
    struct iovec data = {.iov_base = buffer, .iov_len = buffer_bytes};
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = fds_max > 0 ? control.bytes : NULL,
        .msg_controllen = fds_max > 0 ? CMSG_SPACE(sizeof(int) * fds_max) : 0,
    };
    bool too_many;
    ssize_t got;
    int flaw = RECORD_WHOLE;

    assert(fds_max <= RECORD_FDS_MAX);
    record->fds_count = 0;
    do {
        got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR && (flags & MSG_DONTWAIT) != 0);
    if (got < 0)
        return -errno;

    too_many = collect_fds(&message, record);
    record->bytes = (size_t)got;
    if ((message.msg_flags & MSG_CTRUNC) != 0 && record->fds_count < fds_max)
        flaw = RECORD_E_NO_FDS;
    else if ((message.msg_flags & MSG_CTRUNC) != 0 || record->fds_count > fds_max || too_many)
        flaw = RECORD_E_FDS;
    else if ((message.msg_flags & MSG_TRUNC) != 0)
        flaw = RECORD_E_OVERSIZED;
    else if (got == 0)
        flaw = RECORD_E_END;
    if (flaw != RECORD_WHOLE) {
        while (record->fds_count > 0)
            (void)close(record->fds[--record->fds_count]);
    }
    return flaw;
}

int record_recv(int socket, bool wait, void *buffer, size_t buffer_bytes, unsigned fds_max,
                struct record *record)
{
    return receive(socket, wait ? 0 : MSG_DONTWAIT, buffer, buffer_bytes, fds_max, record);
}

int record_peek(int socket, void *buffer, size_t buffer_bytes, unsigned fds_max, struct record *record)
{
    return receive(socket, MSG_DONTWAIT | MSG_PEEK, buffer, buffer_bytes, fds_max, record);
}

void record_take(int socket)
{
    struct msghdr nothing = {.msg_iov = NULL};

    while (recvmsg(socket, &nothing, MSG_DONTWAIT) < 0 && errno == EINTR)
        continue;
}

bool record_is_unread(int socket)
{
    int unread = 0;

    return ioctl(socket, SIOCOUTQ, &unread) == 0 && unread > 0;
}

void record_drop(int socket)
{
    const int on = 1;
    struct record record;
    uint8_t byte;

    /* Asked for credentials, which there is no room for, the kernel tells a record, one of no bytes too, from
     * the end. */
    if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        return;
    while (record_recv(socket, false, &byte, sizeof byte, 0, &record) == RECORD_E_FDS)
        continue;
}

/* The common case, without the price of a message header. */
static int send_plain(int socket, bool wait, const void *data, size_t bytes)
{
    ssize_t sent;

    do {
        sent = send(socket, data, bytes, (wait ? 0 : MSG_DONTWAIT) | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR && !wait);
    return sent < 0 ? -errno : 0;
}

static int send_with_fds(int socket, bool wait, const void *data, size_t bytes, const int *fds,
                         unsigned fds_count)
{
    union control control = {.bytes = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(sizeof(int) * fds_count),
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    ssize_t sent;

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * fds_count);
    do {
        sent = sendmsg(socket, &message, (wait ? 0 : MSG_DONTWAIT) | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR && !wait);
    return sent < 0 ? -errno : 0;
}

int record_send(int socket, bool wait, const void *data, size_t bytes, const int *fds, unsigned fds_count)
{
    assert(fds_count <= RECORD_FDS_MAX);
    if (fds_count == 0)
        return send_plain(socket, wait, data, bytes);
    return send_with_fds(socket, wait, data, bytes, fds, fds_count);
}
