/* SPDX-License-Identifier: MIT */
/*
 * Calls that fail because a test wants them to. The functions of enum fault are defined over
 * those of the C library: in a library that is preloaded into the daemon, where what is to fail stands in
 * shared memory (the file that $JITBROKER_FAULTS names, opened at the start only), or linked into a
 * test, for what is in its own process. A call is counted where it is armed, and passed on unless it is due.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* X(kind, function, what errno says) */
#define FAULTS(X)                                                                              \
    X(MALLOC, malloc, ENOMEM)                                                                  \
    X(CALLOC, calloc, ENOMEM)                                                                  \
    X(REALLOC, realloc, ENOMEM)                                                                \
    X(MMAP, mmap, ENOMEM)                                                                      \
    X(MADVISE, madvise, ENOMEM)                                                                \
    X(MEMFD_CREATE, memfd_create, EMFILE)                                                      \
    X(FTRUNCATE, ftruncate, ENOMEM)                                                            \
    X(FALLOCATE, fallocate, ENOSPC)                                                            \
    X(PWRITE, pwrite, ENOSPC)                                                                  \
    X(PREAD, pread, EIO)                                                                       \
    X(FCHMOD, fchmod, EPERM)                                                                   \
    X(FCNTL, fcntl, EMFILE)                                                                    \
    X(OPEN, open, EMFILE)                                                                      \
    X(FOPEN, fopen, EMFILE)                                                                    \
    X(SOCKET, socket, ENFILE)                                                                  \
    X(SOCKETPAIR, socketpair, EMFILE)                                                          \
    X(CONNECT, connect, ENOMEM)                                                                \
    X(ACCEPT4, accept4, EMFILE)                                                                \
    X(GETSOCKOPT, getsockopt, ENOBUFS)                                                         \
    X(SETSOCKOPT, setsockopt, ENOBUFS)                                                         \
    X(SEND, send, ENOBUFS)                                                                     \
    X(SENDMSG, sendmsg, ENOBUFS)                                                               \
    X(RECVMSG, recvmsg, ENOMEM)                                                                \
    X(EVENTFD, eventfd, EMFILE)                                                                \
    X(PREADV2, preadv2, EOPNOTSUPP)                                                            \
    /* What uv_poll_init() tries it with only: by any other failure libuv ends the process. */ \
    X(EPOLL_CTL, epoll_ctl, ENOSPC)

#define FAULT_ENUM(kind, function, error) FAULT_##kind,
enum fault { FAULT_NONE, FAULTS(FAULT_ENUM) FAULT_COUNT };

struct faults {
    _Atomic int armed;     /* enum fault */
    _Atomic bool lasts;    /* all calls from the first that fails on do */
    _Atomic uint32_t left; /* calls that pass before */
    _Atomic uint32_t fired;
    _Atomic int64_t blocks; /* of the heap, that are not freed */
};

/* Those of this process: its own, or the shared ones. */
extern struct faults *faults;

static inline const char *fault_name(enum fault fault)
{
#define FAULT_NAME(kind, function, error) #function,
    static const char *const names[FAULT_COUNT] = {"none", FAULTS(FAULT_NAME)};

    return names[fault];
}

/* The call after `left` more fails; with `lasts` all others too, until faults_disarm(). */
static inline void faults_arm(struct faults *in, enum fault fault, uint32_t left, bool lasts)
{
    atomic_store(&in->armed, FAULT_NONE);
    atomic_store(&in->fired, 0);
    atomic_store(&in->left, left);
    atomic_store(&in->lasts, lasts);
    atomic_store(&in->armed, (int)fault);
}

/* Returns how many calls have failed. */
static inline uint32_t faults_disarm(struct faults *in)
{
    atomic_store(&in->armed, FAULT_NONE);
    return atomic_load(&in->fired);
}

#endif
