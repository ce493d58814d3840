/* SPDX-License-Identifier: MIT */
/* It has definitions of its own for some of these. */
#undef _FORTIFY_SOURCE

#include "tests/faults/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Over whatever else has the name, and not to be hidden as the rest of the project is. */
#define OVERRIDE __attribute__((visibility("default")))

static struct faults own;
OVERRIDE struct faults *faults = &own;

#define FAULT_ERROR(kind, function, error) error,
static const int errors[FAULT_COUNT] = {0, FAULTS(FAULT_ERROR)};

/* The next definition of the name after ours. */
#define NEXT(name)                                              \
    __extension__({                                             \
        static __typeof__(&(name)) next_;                       \
        if (next_ == NULL)                                      \
            *(void **)(void *)&next_ = dlsym(RTLD_NEXT, #name); \
        next_;                                                  \
    })

static bool is_due(enum fault fault)
{
    if (atomic_load(&faults->armed) != (int)fault)
        return false;
    if (atomic_load(&faults->left) > 0) {
        (void)atomic_fetch_sub(&faults->left, 1);
        return false;
    }
    if (!atomic_load(&faults->lasts))
        atomic_store(&faults->armed, FAULT_NONE);
    (void)atomic_fetch_add(&faults->fired, 1);
    errno = errors[fault];
    return true;
}

/* Once, while the process may still open files. */
__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("JITBROKER_FAULTS");
    int fd = path == NULL ? -1 : NEXT(open)(path, O_RDWR | O_CLOEXEC);
    void *memory;

    if (fd < 0)
        return;
    memory = NEXT(mmap)(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (memory != MAP_FAILED)
        faults = memory;
}

/* ---- Not tried ------------------------------------------------------------------------- */

/*
 * Nothing fails any more from where the daemon has its filter made: libseccomp (2.5) goes wrong by itself
 * where an allocation fails (it crashes, or loads a filter that is not what was asked for). That is at the
 * start, before anyone is served.
 */
OVERRIDE void *seccomp_init(uint32_t action);
OVERRIDE void *seccomp_init(uint32_t action)
{
    if (faults != NULL)
        atomic_store(&faults->armed, FAULT_NONE);
    return NEXT(seccomp_init)(action);
}

/* ---- The heap ------------------------------------------------------------------------ */

/* The sanitizer's, or else the C library's. Not by dlsym(), which needs a heap itself. */
#define HEAP(name, type, ...)                                            \
    extern type __interceptor_##name(__VA_ARGS__) __attribute__((weak)); \
    extern type __libc_##name(__VA_ARGS__)
HEAP(malloc, void *, size_t);
HEAP(calloc, void *, size_t, size_t);
HEAP(realloc, void *, void *, size_t);
HEAP(free, void, void *);
#define NEXT_HEAP(name) (__interceptor_##name != NULL ? __interceptor_##name : __libc_##name)

static void *counted(void *block)
{
    if (block != NULL)
        (void)atomic_fetch_add(&faults->blocks, 1);
    return block;
}

OVERRIDE void *malloc(size_t bytes)
{
    return is_due(FAULT_MALLOC) ? NULL : counted(NEXT_HEAP(malloc)(bytes));
}

OVERRIDE void *calloc(size_t count, size_t bytes)
{
    return is_due(FAULT_CALLOC) ? NULL : counted(NEXT_HEAP(calloc)(count, bytes));
}

OVERRIDE void *realloc(void *block, size_t bytes)
{
    void *now;

    if (is_due(FAULT_REALLOC))
        return NULL;
    now = NEXT_HEAP(realloc)(block, bytes);
    if (block == NULL)
        return counted(now);
    if (bytes == 0)
        (void)atomic_fetch_sub(&faults->blocks, 1);
    return now;
}

OVERRIDE void free(void *block)
{
    if (block != NULL)
        (void)atomic_fetch_sub(&faults->blocks, 1);
    NEXT_HEAP(free)(block);
}

/* ---- The system ----------------------------------------------------------------------- */

#define FAIL_OR(fault, failure, call) return is_due(fault) ? (failure) : (call)

OVERRIDE void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    FAIL_OR(FAULT_MMAP, MAP_FAILED, NEXT(mmap)(at, bytes, protection, flags, fd, offset));
}

OVERRIDE int madvise(void *at, size_t bytes, int advice)
{
    FAIL_OR(FAULT_MADVISE, -1, NEXT(madvise)(at, bytes, advice));
}

OVERRIDE int memfd_create(const char *name, unsigned flags)
{
    FAIL_OR(FAULT_MEMFD_CREATE, -1, NEXT(memfd_create)(name, flags));
}

OVERRIDE int ftruncate(int fd, off_t bytes)
{
    FAIL_OR(FAULT_FTRUNCATE, -1, NEXT(ftruncate)(fd, bytes));
}

OVERRIDE int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    FAIL_OR(FAULT_FALLOCATE, -1, NEXT(fallocate)(fd, mode, offset, bytes));
}

OVERRIDE ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset)
{
    FAIL_OR(FAULT_PWRITE, -1, NEXT(pwrite)(fd, from, bytes, offset));
}

OVERRIDE ssize_t pread(int fd, void *to, size_t bytes, off_t offset)
{
    FAIL_OR(FAULT_PREAD, -1, NEXT(pread)(fd, to, bytes, offset));
}

OVERRIDE int fchmod(int fd, mode_t mode)
{
    FAIL_OR(FAULT_FCHMOD, -1, NEXT(fchmod)(fd, mode));
}

OVERRIDE int fcntl(int fd, int command, ...)
{
    va_list more;
    long argument; /* int, or a pointer: all fit */

    va_start(more, command);
    argument = va_arg(more, long);
    va_end(more);
    FAIL_OR(FAULT_FCNTL, -1, NEXT(fcntl)(fd, command, argument));
}

OVERRIDE int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list more;

        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    FAIL_OR(FAULT_OPEN, -1, NEXT(open)(path, flags, mode));
}

OVERRIDE FILE *fopen(const char *path, const char *mode)
{
    FAIL_OR(FAULT_FOPEN, NULL, NEXT(fopen)(path, mode));
}

OVERRIDE int socket(int family, int type, int protocol)
{
    FAIL_OR(FAULT_SOCKET, -1, NEXT(socket)(family, type, protocol));
}

OVERRIDE int socketpair(int family, int type, int protocol, int ends[2])
{
    FAIL_OR(FAULT_SOCKETPAIR, -1, NEXT(socketpair)(family, type, protocol, ends));
}

OVERRIDE int connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    FAIL_OR(FAULT_CONNECT, -1, NEXT(connect)(fd, address, bytes));
}

OVERRIDE int accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
    FAIL_OR(FAULT_ACCEPT4, -1, NEXT(accept4)(fd, address, bytes, flags));
}

OVERRIDE int getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
    FAIL_OR(FAULT_GETSOCKOPT, -1, NEXT(getsockopt)(fd, level, name, value, bytes));
}

OVERRIDE int setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
    FAIL_OR(FAULT_SETSOCKOPT, -1, NEXT(setsockopt)(fd, level, name, value, bytes));
}

OVERRIDE ssize_t send(int fd, const void *from, size_t bytes, int flags)
{
    FAIL_OR(FAULT_SEND, -1, NEXT(send)(fd, from, bytes, flags));
}

OVERRIDE ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    FAIL_OR(FAULT_SENDMSG, -1, NEXT(sendmsg)(fd, message, flags));
}

OVERRIDE ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    FAIL_OR(FAULT_RECVMSG, -1, NEXT(recvmsg)(fd, message, flags));
}

OVERRIDE int eventfd(unsigned count, int flags)
{
    FAIL_OR(FAULT_EVENTFD, -1, NEXT(eventfd)(count, flags));
}

OVERRIDE ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    FAIL_OR(FAULT_PREADV2, -1, NEXT(preadv2)(fd, parts, count, offset, flags));
}

OVERRIDE int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    if (operation == EPOLL_CTL_ADD && event->data.fd == -1 && is_due(FAULT_EPOLL_CTL))
        return -1;
    return NEXT(epoll_ctl)(epoll, operation, fd, event);
}
