/* SPDX-License-Identifier: MIT */
/*
 * A private broker. The child shares our memory until its execve (as vfork's does), so
 * it touches nothing but its own stack frame and makes system calls only; it has
 * no exit signal, so a program that waits for any child, or counts SIGCHLDs, does
 * not meet it.
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
    sigset_t mask;
    volatile int error;
};

static int start_broker(void *user)
{
    struct start *start = user;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Out of the way of 0, 1 and 3, which the program may have had closed. */
    int high_null = fcntl(null, F_DUPFD_CLOEXEC, BROKER_FD + 1);
    int high_socket = fcntl(start->socket, F_DUPFD_CLOEXEC, BROKER_FD + 1);

    if (high_null < 0 || high_socket < 0 || dup2(high_null, STDIN_FILENO) < 0 ||
        dup2(high_null, STDOUT_FILENO) < 0 || dup2(high_socket, BROKER_FD) < 0)
        goto failed;
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

/* Runs the program on the socket. Its pid, and *pidfd; or -errno. */
static pid_t run_broker(const char *program, int socket, int *pidfd)
{
    char fd_argument[] = "--fd=3";
    char *const arguments[] = {(char *)(uintptr_t)program, fd_argument, NULL};
    struct start start = {.arguments = arguments, .environment = environ, .socket = socket};
    sigset_t all;
    uint8_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid;

    _Static_assert(BROKER_FD == 3, "as in the argument");
    if (stack == MAP_FAILED)
        return -errno;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &start.mask);
    pid = clone(start_broker, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, &start, pidfd);
    if (pid < 0)
        pid = -errno;
    (void)pthread_sigmask(SIG_SETMASK, &start.mask, NULL);
    (void)munmap(stack, STACK_BYTES);
    if (pid > 0 && start.error != 0) {
        (void)waitpid(pid, NULL, __WALL);
        (void)close(*pidfd);
        return -start.error;
    }
    return pid;
}

int jitc_spawn(jitc_client **client, const jitc_options *options)
{
    jitc_options all = client_options(options);
    const char *program = all.daemon;
    int sockets[2];
    int pidfd = -1;
    pid_t pid;
    int status;

    if (program == NULL)
        program = secure_getenv("JITBROKER_DAEMON");
    if (program == NULL)
        program = JITBROKERD_PATH;
    /* Its policy is ours to choose, and direct writing is for who asks for it. */
    if (all.write_mode == JITC_WRITE_ANY)
        all.write_mode = JITC_WRITE_THROUGH;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return failure_set(JITC_E_SYSTEM, "socketpair: %m");
    pid = run_broker(program, sockets[1], &pidfd);
    (void)close(sockets[1]);
    if (pid < 0) {
        errno = -pid;
        status = failure_set(JITC_E_SYSTEM, "starting %s: %m", program);
        (void)close(sockets[0]);
        return status;
    }
    status = client_new(client, sockets[0], &all);
    if (status == JITC_OK) {
        (*client)->broker = pid;
        (*client)->broker_pidfd = pidfd;
        return JITC_OK;
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, __WALL);
    (void)close(pidfd);
    return status;
}
