/* SPDX-License-Identifier: MIT */
#include "tests/harness/tracer.h"

#include <check.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 16u
#define EXIT_TRACER 125

/* In which call each thread is. */
struct thread {
    pid_t id;
    uint64_t number;
    uint64_t first_argument;
};

struct tracer *tracer_new(void)
{
    struct tracer *tracer =
        mmap(NULL, sizeof *tracer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert(tracer != MAP_FAILED);
    return tracer;
}

static struct thread *thread_of(struct thread *threads, pid_t id)
{
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        if (threads[i].id == 0)
            threads[i].id = id;
        if (threads[i].id == id)
            return &threads[i];
    }
    _exit(EXIT_TRACER);
}

bool tracer_is_wait(uint64_t number)
{
#ifdef SYS_epoll_wait
    if (number == SYS_epoll_wait)
        return true;
#endif
    return number == SYS_epoll_pwait;
}

static void note(struct tracer *tracer, struct thread *thread)
{
    struct __ptrace_syscall_info info;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread->id, sizeof info, &info) <= 0)
        return; /* killed meanwhile */
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        thread->number = info.entry.nr;
        thread->first_argument = info.entry.args[0];
        /* With this a loop begins: who is not confined by then will never be. */
        if (!tracer->is_confined && tracer_is_wait(thread->number))
            (void)kill(tracer->program, SIGKILL);
        if (tracer->is_confined && thread->number < TRACER_CALLS_MAX)
            tracer->made[thread->number]++;
        return;
    }
    if (info.op != PTRACE_SYSCALL_INFO_EXIT)
        return;
    if (thread->number == SYS_seccomp && thread->first_argument == SECCOMP_SET_MODE_FILTER &&
        info.exit.rval == 0)
        tracer->is_confined = true;
    else if (tracer->is_confined && thread->number < TRACER_CALLS_MAX && info.exit.is_error &&
             info.exit.rval == -EPERM)
        tracer->refused[thread->number]++;
}

/* Ends as the program does, so that the test sees its status. */
__attribute__((noreturn)) static void end_like(int status)
{
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    (void)signal(WTERMSIG(status), SIG_DFL);
    (void)raise(WTERMSIG(status));
    _exit(EXIT_TRACER);
}

__attribute__((noreturn)) static void follow(struct tracer *tracer)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    struct thread threads[THREADS_MAX] = {{.id = 0}};
    pid_t program = tracer->program;
    int status;

    if (waitpid(program, &status, __WALL) != program || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, program, 0, options) != 0 || ptrace(PTRACE_SYSCALL, program, 0, 0) != 0)
        _exit(EXIT_TRACER);
    for (;;) {
        pid_t id = waitpid(-1, &status, __WALL);
        int number = 0;

        if (id < 0)
            _exit(EXIT_TRACER);
        if (!WIFSTOPPED(status)) {
            if (id == program)
                end_like(status);
            continue;
        }
        if (WSTOPSIG(status) == (SIGTRAP | 0x80))
            note(tracer, thread_of(threads, id));
        else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP)
            number = WSTOPSIG(status);
        (void)ptrace(PTRACE_SYSCALL, id, 0, (long)number);
    }
}

void tracer_start(struct tracer *tracer, void (*run)(void *), void *argument)
{
    pid_t child;

    tracer->program = 0;
    tracer->is_confined = false;
    (void)fflush(stdout);
    child = fork(); /* in a local of each side's: the rest is shared */
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        pid_t program = fork();

        if (program == 0) {
            if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
                _exit(EXIT_TRACER);
            run(argument);
            _exit(127);
        }
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* a test that dies leaves nothing behind */
        tracer->program = program;
        follow(tracer);
    }
    tracer->tracer = child;
    while (!tracer->is_confined) {
        int status;

        if (waitpid(tracer->tracer, &status, WNOHANG) == tracer->tracer)
            ck_abort_msg("it ended before it was confined, with status %x", (unsigned)status);
        (void)usleep(1000);
    }
}

int tracer_wait(struct tracer *tracer)
{
    int status;

    ck_assert_int_eq(waitpid(tracer->tracer, &status, 0), tracer->tracer);
    return status;
}
