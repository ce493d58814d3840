/* SPDX-License-Identifier: MIT */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "daemon/memfd.h"

/* A flag of open(2) without O_DIRECTORY, which it comes with. */
#define TMPFILE_FLAG ((unsigned)O_TMPFILE & ~(unsigned)O_DIRECTORY)
/* What makes a file, or empties one. */
#define OPEN_CHANGES ((unsigned)O_CREAT | (unsigned)O_TRUNC | TMPFILE_FLAG)
/* A memfd that could be executed, or takes pages from elsewhere. */
#define MEMFD_REFUSED ((uint32_t) ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL))
#define SOCKET_FLAGS ((unsigned)SOCK_CLOEXEC | (unsigned)SOCK_NONBLOCK)
#define LOW_HALF UINT64_C(0xFFFFFFFF)
/* What a thread has, and a process of its own, or one in namespaces of its own, lacks. */
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define NAMESPACE_FLAGS                                                                           \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET)

#define CALL(call) .name = #call, .number = SCMP_SYS(call)
#define IF_EQUAL(argument, value)       \
    {                                   \
        argument, SCMP_CMP_EQ, value, 0 \
    }
#define IF_MASKED(argument, mask, value)          \
    {                                             \
        argument, SCMP_CMP_MASKED_EQ, mask, value \
    }

#define READS_POLICY "when the policy is read, or a peer's unit"
#define THREAD "a thread that writes the audit trail, and its end"
#define ABORT "a broken invariant: the message, and abort(3)"
#define ELSEWHERE "another architecture, C library or libuv needs it"

/*
 * Sorted by what they are for. Where arguments are compared, what differs is refused. Paths can't be
 * compared: what opens files for reading can read what the daemon's user may, which is why that user
 * should own nothing.
 */
const struct sandbox_call sandbox_calls[] = {
    /* the loop */
    {CALL(epoll_wait)},
    {CALL(epoll_pwait), .seldom = ELSEWHERE},
    {CALL(epoll_ctl)},
    {CALL(read)},
    {CALL(write)},
    {CALL(close)},
    {CALL(ioctl), .compares_count = 1, .compares = {IF_MASKED(1, LOW_HALF, FIONBIO)}},
    {CALL(futex)},
    {CALL(clock_gettime), .seldom = ELSEWHERE}, /* the vdso does it, with most clocks */
    {CALL(getcpu), .seldom = ELSEWHERE},
    {CALL(restart_syscall), .seldom = "it was stopped, and goes on"},
    {CALL(rt_sigreturn)},
    {CALL(rt_sigprocmask)},
    {CALL(rt_sigaction)},
    {CALL(exit_group)},

    /* clients, and the service manager */
    {CALL(accept4)},
    {CALL(recvmsg)},
    {CALL(sendmsg)},
    {CALL(sendto)},
    {CALL(getsockopt)},
    {CALL(setsockopt)},
    {CALL(shutdown)},
    {CALL(ioctl), .compares_count = 1, .compares = {IF_MASKED(1, LOW_HALF, TIOCOUTQ)}},
    {CALL(getpid), .seldom = ABORT},
    {CALL(geteuid)},
    {CALL(eventfd2)},
    {CALL(preadv2)},
    /* Datagrams only: to the journal, not to any service that has a stream. */
    {CALL(socket), .compares_count = 2,
     .compares = {IF_EQUAL(0, AF_UNIX), IF_MASKED(1, LOW_HALF & ~SOCKET_FLAGS, SOCK_DGRAM)},
     .seldom = "a policy that is read anew asks for an audit trail"},
    {CALL(socketpair), .compares_count = 1, .compares = {IF_EQUAL(0, AF_UNIX)},
     .seldom = "a session is stored, or an owner asks for an executor end"},

    /* code memory, and the daemon's own: nothing of it can be executed */
    {CALL(memfd_create), .compares_count = 1, .compares = {IF_MASKED(1, MEMFD_REFUSED, 0)}},
    {CALL(fchmod), .compares_count = 1, .compares = {IF_MASKED(1, ~UINT64_C(0200), 0400)}},
    {CALL(ftruncate)},
    {CALL(fallocate)},
    {CALL(pwrite64)},
    {CALL(fcntl), .compares_count = 1, .compares = {IF_MASKED(1, LOW_HALF, F_ADD_SEALS)}},
    {CALL(mmap), .compares_count = 1, .compares = {IF_MASKED(2, PROT_EXEC, 0)}},
    {CALL(mprotect), .compares_count = 1, .compares = {IF_MASKED(2, PROT_EXEC, 0)},
     .seldom = "a thread's stack and heap"},
    {CALL(munmap)},
    {CALL(mremap), .seldom = "realloc(3) of something large"},
    {CALL(madvise)},
    {CALL(brk), .seldom = "malloc(3), with many clients"},

    /* Files: an arena's own descriptor anew, by /proc/self/fd; the policy; the audit trail, which alone
     * is made, and by which no file loses anything. */
    {CALL(openat), .compares_count = 1, .compares = {IF_MASKED(2, OPEN_CHANGES, 0)}},
    {CALL(openat), .compares_count = 1,
     .compares = {IF_MASKED(2, OPEN_CHANGES | O_APPEND, (unsigned)O_CREAT | O_APPEND)}},
    {CALL(newfstatat)},
    {CALL(fstat), .seldom = ELSEWHERE},
    {CALL(access), .seldom = READS_POLICY},
    {CALL(faccessat), .seldom = ELSEWHERE},
    {CALL(statfs), .seldom = READS_POLICY},
    {CALL(getdents64), .seldom = READS_POLICY},
    {CALL(lseek), .seldom = READS_POLICY},
    {CALL(fcntl), .compares_count = 1, .compares = {IF_MASKED(1, LOW_HALF, F_GETFL)}, .seldom = READS_POLICY},
    {CALL(unlink), .of_path = true},
    {CALL(unlinkat), .of_path = true, .seldom = ELSEWHERE},

    /* the log */
    {CALL(poll)},
    {CALL(ppoll), .seldom = ELSEWHERE},
    {CALL(ioctl), .compares_count = 1, .compares = {IF_MASKED(1, LOW_HALF, TCGETS)}},
    {CALL(writev), .seldom = ABORT},
    {CALL(gettid), .seldom = ABORT},
    {CALL(tgkill), .compares_count = 1, .compares = {IF_EQUAL(2, SIGABRT)}, .seldom = ABORT},

    /* Limits of its own, as a policy that is read anew may need them; a hard limit stays one. */
    {CALL(sysinfo)},
    {CALL(prlimit64), .compares_count = 1, .compares = {IF_EQUAL(0, 0)}, .seldom = READS_POLICY},
    {CALL(clone), .compares_count = 1,
     .compares = {IF_MASKED(0, THREAD_FLAGS | NAMESPACE_FLAGS, THREAD_FLAGS)}, .seldom = THREAD},
    {CALL(set_robust_list), .seldom = THREAD},
    {CALL(rseq), .seldom = THREAD},
    {CALL(exit), .seldom = THREAD},
};

const size_t sandbox_calls_count = sizeof sandbox_calls / sizeof sandbox_calls[0];

#if defined(JITBROKER_INSTRUMENTED) || !defined(__LP64__)
/* Where long has 32 bits other calls are made than are listed: the unit's filter has them. */
int sandbox_install(bool has_path)
{
    (void)has_path;
    return 0;
}
#else

/*
 * What is refused fails with EPERM, as in the unit. To kill instead would give an intruder one try
 * only; but it would also end every session of the machine when an update of a library makes a call
 * that it didn't make before, which it could do without, and no attacker be there. The kernel logs
 * each refusal where it audits, so it is not to be overlooked. Two things no library does by itself,
 * and they end the daemon at once: to start a program, and to make calls of another architecture.
 */
static int allow(scmp_filter_ctx filter, bool has_path)
{
    int error = 0;

    for (size_t i = 0; i < sandbox_calls_count && error == 0; i++) {
        const struct sandbox_call *call = &sandbox_calls[i];

        if (call->number >= 0 && (has_path || !call->of_path))
            error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, call->compares_count,
                                           call->compares);
    }
    /* Its flags are in memory, which a filter can't see; libc then takes clone(). */
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(execve), 0);
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(execveat), 0);
    return error;
}

static int set_up(scmp_filter_ctx filter, bool has_path)
{
    int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* process_harden() has set it */
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    /* A binary tree: what compares arguments is not cached by the kernel, and must be found quickly. */
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (error == 0)
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1); /* before Linux 4.14 there is none */
    return error == 0 ? allow(filter, has_path) : error;
}

int sandbox_install(bool has_path)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int error;

    if (filter == NULL)
        return -ENOMEM;
    error = set_up(filter, has_path);
    if (error == 0)
        error = seccomp_load(filter);
    seccomp_release(filter);
    return error;
}

#endif
