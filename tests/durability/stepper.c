/* SPDX-License-Identifier: MIT */
#include "tests/durability/stepper.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/tracer.h"

enum event { EVENT_WORKER, EVENT_DAEMON, EVENT_ASLEEP };

/* Stopped for a step or a system call, not for a signal, nor because it was born or interrupted. */
static bool is_trap(int status)
{
    return status >> 16 == 0 && (WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == (SIGTRAP | 0x80));
}

static void go_on(pid_t pid, enum __ptrace_request how, int status)
{
    bool is_signal = status >> 16 == 0 && !is_trap(status);

    /* ESRCH: it was killed meanwhile. */
    ck_assert(ptrace(how, pid, 0, (long)(is_signal ? WSTOPSIG(status) : 0)) == 0 || errno == ESRCH);
}

/* What stands in a file of the process there; "": nothing. */
static void read_proc(pid_t pid, const char *name, char *text, size_t bytes)
{
    char path[32];
    ssize_t count;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    count = fd < 0 ? 0 : read(fd, text, bytes - 1);
    text[count > 0 ? count : 0] = '\0';
    if (fd >= 0)
        (void)close(fd);
}

/* It waits for events, and there is none. */
static bool is_asleep(pid_t pid)
{
    char text[512];
    const char *state;

    read_proc(pid, "stat", text, sizeof text);
    state = strrchr(text, ')');
    if (state == NULL || state[1] != ' ' || state[2] != 'S')
        return false;
    read_proc(pid, "syscall", text, sizeof text);
    return text[0] >= '0' && text[0] <= '9' && tracer_is_wait(strtoull(text, NULL, 10));
}

static void note_end(struct stepper *stepper, pid_t pid, int status)
{
    ck_assert_msg(pid == stepper->daemon && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "process %d ended with %x, and is neither the worker nor a daemon that was killed",
                  (int)pid, (unsigned)status);
    stepper->daemon = 0;
}

/* What stops or ends next. After EVENT_DAEMON it stands still; else it goes on. */
static enum event await(struct stepper *stepper)
{
    for (;;) {
        bool may_sleep = stepper->worker_waits && stepper->daemon != 0;
        int status;
        pid_t pid = waitpid(-1, &status, __WALL | WUNTRACED | (may_sleep ? WNOHANG : 0));

        if (pid == 0 && is_asleep(stepper->daemon))
            return EVENT_ASLEEP;
        if (pid == 0)
            continue;
        ck_assert_int_gt(pid, 0);
        if (pid == stepper->worker) {
            ck_assert_msg(WIFSTOPPED(status), "the worker ended with %x", (unsigned)status);
            stepper->worker_waits = true;
            return EVENT_WORKER;
        }
        if (!WIFSTOPPED(status)) {
            note_end(stepper, pid, status);
            continue;
        }
        if (pid == stepper->supervisor) {
            go_on(pid, PTRACE_CONT, status);
            continue;
        }
        stepper->daemon = pid; /* perhaps it was just born */
        if (is_trap(status) && stepper->how != PTRACE_CONT)
            return EVENT_DAEMON;
        go_on(pid, stepper->how, status);
    }
}

/* Stops one that runs, where it is, or where a step or a call has just stopped it. Returns its status. */
static int stop(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
    ck_assert_int_eq(waitpid(pid, &status, __WALL), pid);
    ck_assert_msg(WIFSTOPPED(status), "process %d ended with %x", (int)pid, (unsigned)status);
    return status;
}

/* The daemon, which runs so far from step to step, or from call to call, runs freely. */
static void set_free(struct stepper *stepper)
{
    int status = stop(stepper->daemon);

    stepper->how = PTRACE_CONT;
    go_on(stepper->daemon, PTRACE_CONT, status);
}

bool stepper_init(struct stepper *stepper, const struct broker *broker, pid_t worker)
{
    const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

    *stepper = (struct stepper){.supervisor = broker->pid,
                                .worker = worker,
                                .daemon = supervised_await_daemon(broker, 0),
                                .how = PTRACE_CONT};
    if (ptrace(PTRACE_SEIZE, stepper->supervisor, 0, options) != 0)
        return false;
    return ptrace(PTRACE_SEIZE, stepper->daemon, 0, options) == 0;
}

void stepper_deinit(struct stepper *stepper)
{
    go_on(stepper->daemon, PTRACE_DETACH, stop(stepper->daemon));
    go_on(stepper->supervisor, PTRACE_DETACH, stop(stepper->supervisor));
}

void stepper_wake_worker(struct stepper *stepper)
{
    stepper->worker_waits = false;
    (void)kill(stepper->worker, SIGCONT);
}

void stepper_await_worker(struct stepper *stepper)
{
    while (!stepper->worker_waits)
        (void)await(stepper);
}

void stepper_await_rest(struct stepper *stepper)
{
    while (await(stepper) != EVENT_ASLEEP)
        continue;
}

/* To its next system call's beginning or end. False: there will be none. */
static bool await_call(struct stepper *stepper, struct __ptrace_syscall_info *call)
{
    enum event event;

    do {
        event = await(stepper);
    } while (event == EVENT_WORKER);
    if (event == EVENT_ASLEEP)
        return false;
    ck_assert_int_gt(ptrace(PTRACE_GET_SYSCALL_INFO, stepper->daemon, sizeof *call, call), 0);
    return true;
}

bool stepper_await_request(struct stepper *stepper)
{
    struct __ptrace_syscall_info call;
    bool waits = false;

    int status;

    stepper_await_rest(stepper);
    /* Its wait is interrupted, and begun again: then it is seen how it ends. */
    status = stop(stepper->daemon);
    stepper->how = PTRACE_SYSCALL;
    stepper_wake_worker(stepper);
    for (;;) {
        go_on(stepper->daemon, PTRACE_SYSCALL, status);
        status = 0;
        if (!await_call(stepper, &call)) {
            set_free(stepper);
            return false;
        }
        if (call.op == PTRACE_SYSCALL_INFO_ENTRY)
            waits = tracer_is_wait(call.entry.nr);
        else if (waits && call.op == PTRACE_SYSCALL_INFO_EXIT && call.exit.rval > 0)
            return true;
    }
}

/* To the beginning, or to the end, of such a call of the daemon that comes next, or is there. */
static void await_call_of(struct stepper *stepper, uint64_t number, bool whole)
{
    struct __ptrace_syscall_info call;
    bool is_within = false;

    stepper->how = PTRACE_SYSCALL;
    for (;;) {
        if (!await_call(stepper, &call))
            continue;
        if (call.op == PTRACE_SYSCALL_INFO_ENTRY)
            is_within = call.entry.nr == number;
        if (is_within && call.op == (whole ? PTRACE_SYSCALL_INFO_EXIT : PTRACE_SYSCALL_INFO_ENTRY))
            return;
        go_on(stepper->daemon, PTRACE_SYSCALL, 0);
    }
}

void stepper_await_adoption(struct stepper *stepper)
{
    /* It takes what it adopts out of records, which nothing did before. */
    await_call_of(stepper, SYS_recvmsg, false);
}

void stepper_await_filter(struct stepper *stepper)
{
    await_call_of(stepper, SYS_seccomp, true);
}

uint64_t stepper_step(struct stepper *stepper, uint64_t most)
{
    stepper->how = PTRACE_SINGLESTEP;
    for (uint64_t steps = 0; steps < most; steps++) {
        enum event event;

        go_on(stepper->daemon, PTRACE_SINGLESTEP, 0);
        do {
            event = await(stepper);
        } while (event == EVENT_WORKER);
        if (event == EVENT_ASLEEP) {
            set_free(stepper);
            return steps;
        }
    }
    return most;
}

void stepper_kill(struct stepper *stepper)
{
    stepper->how = PTRACE_CONT;
    (void)kill(stepper->daemon, SIGKILL);
    stepper->kills++;
    while (stepper->daemon != 0) {
        int status;

        ck_assert_int_eq(waitpid(stepper->daemon, &status, __WALL), stepper->daemon);
        if (!WIFSTOPPED(status))
            note_end(stepper, stepper->daemon, status);
    }
}
