/* SPDX-License-Identifier: MIT */
/* What the daemon stores of a session, see daemon/store.h: made and opened by hand. */
#ifndef TESTS_PARCEL_H
#define TESTS_PARCEL_H

#include <sys/socket.h>
#include <unistd.h>

#include "proto/record.h"

/* A socket with one record of `bytes` in it that brings those descriptors; or -1. */
static inline int parcel_of(size_t bytes, const int *fds, unsigned count)
{
    static const char record[16];
    int ends[2];
    int error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    error = record_send(ends[0], false, record, bytes, fds, count);
    (void)close(ends[0]);
    if (error == 0)
        return ends[1];
    (void)close(ends[1]);
    return -1;
}

static inline int parcel_new(const int *fds, unsigned count)
{
    return parcel_of(1, fds, count);
}

#endif
