/* SPDX-License-Identifier: MIT */
#include "preload/descriptors.h"

#include <fcntl.h>
#include <stdatomic.h>

#include "preload/system.h"

#define FDS_MAX 128u

static _Atomic int fds[FDS_MAX]; /* 1 more than the descriptor; 0: none */
static atomic_uint fds_end;      /* those behind are none */

void descriptors_add(int fd)
{
    for (unsigned i = 0; i < FDS_MAX; i++) {
        if (atomic_load(&fds[i]) != 0)
            continue;
        atomic_store(&fds[i], fd + 1);
        if (i >= atomic_load(&fds_end))
            atomic_store(&fds_end, i + 1);
        return;
    }
}

void descriptors_remove(int fd)
{
    for (unsigned i = 0; i < atomic_load(&fds_end); i++) {
        if (atomic_load(&fds[i]) == fd + 1)
            atomic_store(&fds[i], 0);
    }
}

bool descriptors_have(int fd)
{
    for (unsigned i = 0; i < atomic_load(&fds_end); i++) {
        if (atomic_load(&fds[i]) == fd + 1)
            return fd >= 0;
    }
    return false;
}

int descriptors_next(int from)
{
    int next = -1;

    for (unsigned i = 0; i < atomic_load(&fds_end); i++) {
        int fd = atomic_load(&fds[i]) - 1;

        if (fd >= from && (next < 0 || fd < next))
            next = fd;
    }
    return next;
}

void descriptors_move_up(int *fd)
{
    long moved = system_call(SYS_fcntl, *fd, F_DUPFD_CLOEXEC, DESCRIPTORS_FIRST, 0, 0, 0);

    if (system_failed(moved))
        return;
    (void)system_call(SYS_close, *fd, 0, 0, 0, 0, 0);
    *fd = (int)moved;
}
