/* SPDX-License-Identifier: MIT */
/*
 * A private broker. It is started by a child that ends at once: so it is nobody's child
 * that the program could meet in wait(2), and it ends by itself with its socket. Both
 * processes share our memory until the execve (as vfork's do), so they touch nothing
 * but their own stacks and *start, and make system calls only; the first has no exit
 * signal, so that the program gets no SIGCHLD.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "client/failure.h"
#include "client/patience.h"

/* In glibc's headers since 2.34, in Linux since 5.9. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define STACK_BYTES 65536u
#define BROKER_FD 3

struct start {
    char *const *arguments;
    char *const *environment;
    int socket;
    uint8_t *stack; /* the broker's until its execve, then that of the child in between */
    sigset_t mask;
    volatile int error;
};

/* On stacks of our own: a sanitizer would take them for broken. */
#define OWN_STACK __attribute__((no_sanitize("address")))

OWN_STACK static int start_broker(void *user)
{
    struct start *start = user;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Out of the way of 0, 1 and 3, which the program may have had closed. */
    int high_null = fcntl(null, F_DUPFD_CLOEXEC, BROKER_FD + 1);
    int high_socket = fcntl(start->socket, F_DUPFD_CLOEXEC, BROKER_FD + 1);

    if (high_null < 0 || high_socket < 0 || dup2(high_null, STDIN_FILENO) < 0 ||
        dup2(high_null, STDOUT_FILENO) < 0 || dup2(high_socket, BROKER_FD) < 0)
        goto failed;
    (void)setsid(); /* signals to the program's group or terminal are not for its broker */
    (void)syscall(SYS_close_range, BROKER_FD + 1, ~0U, 0);
    /* Until now a caught signal would have run the program's handler here, in its memory. */
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;

        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
            action.sa_handler != SIG_DFL)
            (void)signal(number, SIG_DFL);
    }
    (void)sigprocmask(SIG_SETMASK, &start->mask, NULL);
    (void)execve(start->arguments[0], start->arguments, start->environment);
failed:
    start->error = errno;
    _exit(127);
}

/* The child in between: gone as soon as the broker runs. */
OWN_STACK static int start_orphan(void *user)
{
    struct start *start = user;

    if (clone(start_broker, start->stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, start) < 0)
        start->error = errno;
    _exit(0);
}

/* Runs the program on the socket. 0 or -errno. */
static int run_broker(const char *program, int socket)
{
    char fd_argument[] = "--fd=3";
    char *const arguments[] = {(char *)(uintptr_t)program, fd_argument, NULL};
    struct start start = {.arguments = arguments, .environment = environ, .socket = socket};
    sigset_t all;
    pid_t pid;
    int error = 0;

    _Static_assert(BROKER_FD == 3, "as in the argument");
    start.stack =
        mmap(NULL, (size_t)2 * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start.stack == MAP_FAILED)
        return -errno;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &start.mask);
    pid = clone(start_orphan, start.stack + (size_t)2 * STACK_BYTES, CLONE_VM | CLONE_VFORK, &start);
    if (pid < 0)
        error = errno;
    else
        (void)waitpid(pid, NULL, __WALL);
    (void)pthread_sigmask(SIG_SETMASK, &start.mask, NULL);
    (void)munmap(start.stack, (size_t)2 * STACK_BYTES);
    return error != 0 ? -error : -start.error;
}

static const char *find_program(const jitc_options *options)
{
    const char *program = options->daemon;

    if (program == NULL) {
        program = secure_getenv("JITBROKER_DAEMON");
        if (program == NULL || program[0] == '\0')
            program = JITBROKERD_PATH;
    }
    return program;
}

int jitc_spawn(jitc_client **client, const jitc_options *options)
{
    jitc_options all;
    const char *program;
    int sockets[2];
    int cancel_state;
    int error;
    int status = client_options(options, &all);

    if (status != JITC_OK)
        return status;
    program = find_program(&all);
    /* Its policy is ours to choose, and direct writing is for who asks for it. */
    if (all.write_mode == JITC_WRITE_ANY)
        all.write_mode = JITC_WRITE_THROUGH;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return failure_set(JITC_E_SYSTEM, "socketpair: %m");
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); /* no unwinding in shared memory */
    error = run_broker(program, sockets[1]);
    (void)pthread_setcancelstate(cancel_state, NULL);
    (void)close(sockets[1]);
    if (error != 0) {
        errno = -error;
        status = failure_set(JITC_E_SYSTEM, "starting %s: %m", program);
        (void)close(sockets[0]);
        return status;
    }
    patience_begin();
    status = client_new(client, sockets[0], &all, false);
    if (status == JITC_E_DISCONNECTED)
        return failure_set(status, "%s started, but did not serve: it says why on stderr", program);
    return status;
}
