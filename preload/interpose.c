/* SPDX-License-Identifier: MIT */
/*
 * The functions of libc that are looked at, under their own names. All else of the library is hidden.
 * They do what libc's do, save where code memory is concerned.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/alternate.h"
#include "preload/code.h"
#include "preload/counters.h"
#include "preload/descriptors.h"
#include "preload/mapping.h"
#include "preload/process.h"
#include "preload/settings.h"
#include "preload/signals.h"
#include "preload/system.h"

#define INTERPOSED __attribute__((visibility("default")))

/* The function of that name that would have been called without us. */
#define NEXT(name)                                              \
    ({                                                          \
        static __typeof__(name) *next;                          \
        if (next == NULL)                                       \
            next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); \
        next;                                                   \
    })

static long result_of(long result)
{
    if (!system_failed(result))
        return result;
    errno = (int)-result;
    return -1;
}

/* ---- Memory ------------------------------------------------------------------------------------ */

INTERPOSED void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return (void *)result_of(mapping_mmap((uintptr_t)address, bytes, protection, flags, fd, offset));
}

INTERPOSED void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset)
    __attribute__((alias("mmap")));

INTERPOSED int munmap(void *address, size_t bytes)
{
    return (int)result_of(mapping_munmap((uintptr_t)address, bytes));
}

INTERPOSED int mprotect(void *address, size_t bytes, int protection)
{
    return (int)result_of(code_mprotect((uintptr_t)address, bytes, protection));
}

/* Keys are not handed out, see pkey_alloc(); -1 is none. */
INTERPOSED int pkey_mprotect(void *address, size_t bytes, int protection, int key)
{
    if (key != -1)
        return (int)result_of(
            system_call(SYS_pkey_mprotect, (long)address, (long)bytes, protection, key, 0, 0));
    return mprotect(address, bytes, protection);
}

/* As on a processor that has none: programs that use them for code do without. */
INTERPOSED int pkey_alloc(unsigned flags, unsigned rights)
{
    (void)flags, (void)rights;
    errno = ENOSPC;
    return -1;
}

INTERPOSED void *mremap(void *address, size_t old_bytes, size_t bytes, int flags, ...)
{
    va_list arguments;
    void *to;

    va_start(arguments, flags);
    to = (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0 ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    return (void *)result_of(mapping_mremap((uintptr_t)address, old_bytes, bytes, flags, (uintptr_t)to));
}

INTERPOSED int madvise(void *address, size_t bytes, int advice)
{
    return (int)result_of(code_madvise((uintptr_t)address, bytes, advice));
}

/*
 * A library that looks up its names in its own dependencies first would not find ours. The call is a tail
 * call, since dlopen() looks from where it was called.
 */
INTERPOSED void *dlopen(const char *file, int mode)
{
    return NEXT(dlopen)(file, mode & ~RTLD_DEEPBIND);
}

/* ---- Signals ----------------------------------------------------------------------------------- */

INTERPOSED int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    return signals_action(number, action, old);
}

static sighandler_t set_handler(int number, sighandler_t handler, int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct sigaction old;

    if ((flags & SA_NODEFER) == 0)
        (void)sigaddset(&action.sa_mask, number);
    return signals_action(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

INTERPOSED sighandler_t signal(int number, sighandler_t handler)
{
    return set_handler(number, handler, SA_RESTART);
}

INTERPOSED sighandler_t sysv_signal(int number, sighandler_t handler)
{
    return set_handler(number, handler, (int)SA_RESETHAND | SA_NODEFER);
}

INTERPOSED sighandler_t __sysv_signal(int number, sighandler_t handler) __attribute__((alias("sysv_signal")));

INTERPOSED int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    return (int)result_of(signals_mask(how, set, old));
}

INTERPOSED int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    return -signals_mask(how, set, old);
}

/* ---- Stores by the kernel -------------------------------------------------------------------------- */

/* The usual ones; others that store into code that is executable at the moment fail with EFAULT. */

INTERPOSED ssize_t read(int fd, void *to, size_t bytes)
{
    code_expect_stores((uintptr_t)to, bytes);
    return NEXT(read)(fd, to, bytes);
}

INTERPOSED ssize_t pread(int fd, void *to, size_t bytes, off_t offset)
{
    code_expect_stores((uintptr_t)to, bytes);
    return NEXT(pread)(fd, to, bytes, offset);
}

INTERPOSED ssize_t pread64(int fd, void *to, size_t bytes, off64_t offset) __attribute__((alias("pread")));

INTERPOSED ssize_t recv(int fd, void *to, size_t bytes, int flags)
{
    code_expect_stores((uintptr_t)to, bytes);
    return NEXT(recv)(fd, to, bytes, flags);
}

/* ---- Descriptors ----------------------------------------------------------------------------------- */

static bool is_taken(int fd)
{
    if (!descriptors_have(fd))
        return false;
    errno = EBADF;
    return true;
}

INTERPOSED int close(int fd)
{
    return is_taken(fd) ? -1 : NEXT(close)(fd);
}

static long close_range_around(unsigned first, unsigned last, int flags)
{
    long result = 0;

    while (first <= last && result == 0) {
        int ours = first > INT_MAX ? -1 : descriptors_next((int)first);
        unsigned end = ours >= 0 && (unsigned)ours <= last ? (unsigned)ours : last + 1;

        if (end != first) /* with `last` the largest there is, the end is 0 */
            result = system_call(SYS_close_range, first, end - 1, flags, 0, 0, 0);
        if (end == last + 1)
            break;
        first = end + 1;
    }
    return result;
}

INTERPOSED int close_range(unsigned first, unsigned last, int flags)
{
    return (int)result_of(close_range_around(first, last, flags));
}

INTERPOSED void closefrom(int first)
{
    (void)close_range_around(first < 0 ? 0 : (unsigned)first, ~0U, 0);
}

INTERPOSED int dup2(int fd, int to)
{
    return is_taken(to) ? -1 : (int)result_of(system_call(SYS_dup2, fd, to, 0, 0, 0, 0));
}

INTERPOSED int dup3(int fd, int to, int flags)
{
    return is_taken(to) ? -1 : (int)result_of(system_call(SYS_dup3, fd, to, flags, 0, 0, 0));
}

/* ---- Forks without fork(3)'s handlers ------------------------------------------------------------ */

static long fork_by(long number, const long *argument)
{
    long result;

    process_before_fork();
    result =
        system_call(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    process_after_fork(result == 0);
    return result;
}

INTERPOSED pid_t _Fork(void)
{
    pid_t result;

    process_before_fork();
    result = NEXT(_Fork)();
    process_after_fork(result == 0);
    return result;
}

/* ---- Waits with a mask of their own ------------------------------------------------------------------ */

INTERPOSED int sigaltstack(const stack_t *stack, stack_t *old)
{
    return (int)result_of(alternate_stack(stack, old));
}

INTERPOSED int sigsuspend(const sigset_t *mask)
{
    sigset_t allowed;

    return NEXT(sigsuspend)(signals_allowed(mask, &allowed));
}

INTERPOSED int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    sigset_t allowed;

    return NEXT(ppoll)(fds, count, timeout, signals_allowed(mask, &allowed));
}

INTERPOSED int pselect(int count, fd_set *reads, fd_set *writes, fd_set *excepts,
                       const struct timespec *timeout, const sigset_t *mask)
{
    sigset_t allowed;

    return NEXT(pselect)(count, reads, writes, excepts, timeout, signals_allowed(mask, &allowed));
}

INTERPOSED int epoll_pwait(int epoll, struct epoll_event *events, int count, int timeout,
                           const sigset_t *mask)
{
    sigset_t allowed;

    return NEXT(epoll_pwait)(epoll, events, count, timeout, signals_allowed(mask, &allowed));
}

/* ---- Ends that run no destructor ----------------------------------------------------------------- */

INTERPOSED void _exit(int status)
{
    if (settings.stats)
        counters_print();
    for (;;)
        (void)system_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

INTERPOSED void _Exit(int status) __attribute__((alias("_exit"), noreturn));

/* ---- System calls without a function ------------------------------------------------------------- */

INTERPOSED long syscall(long number, ...)
{
    va_list arguments;
    long argument[6];

    va_start(arguments, number);
    for (unsigned i = 0; i < 6; i++)
        argument[i] = va_arg(arguments, long);
    va_end(arguments);
    switch (number) {
    case SYS_mmap:
        return result_of(mapping_mmap((uintptr_t)argument[0], (uint64_t)argument[1], (int)argument[2],
                                      (int)argument[3], (int)argument[4], argument[5]));
    case SYS_mprotect:
        return result_of(code_mprotect((uintptr_t)argument[0], (uint64_t)argument[1], (int)argument[2]));
    case SYS_munmap:
        return result_of(mapping_munmap((uintptr_t)argument[0], (uint64_t)argument[1]));
    case SYS_mremap:
        return result_of(mapping_mremap((uintptr_t)argument[0], (uint64_t)argument[1], (uint64_t)argument[2],
                                        (int)argument[3], (uintptr_t)argument[4]));
    case SYS_madvise:
        return result_of(code_madvise((uintptr_t)argument[0], (uint64_t)argument[1], (int)argument[2]));
    case SYS_fork:
        return result_of(fork_by(number, argument));
    case SYS_clone:
        return result_of((argument[0] & CLONE_VM) == 0
                             ? fork_by(number, argument)
                             : system_call(number, argument[0], argument[1], argument[2], argument[3],
                                           argument[4], argument[5]));
    case SYS_rt_sigaction:
        return result_of(signals_action_of_kernel(argument));
    case SYS_rt_sigprocmask:
        return result_of(
            signals_mask((int)argument[0], (const sigset_t *)argument[1], (sigset_t *)argument[2]));
    default:
        return result_of(system_call(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                                     argument[5]));
    }
}
