/* SPDX-License-Identifier: MIT */
/*
 * A broker that listens on an abstract socket, whose name is not to be guessed, and lives as long as anybody
 * has the other end of its standard input. It is started by a child that ends at once, so that
 * the program meets it in no wait(2), and has nothing of the program's but its standard error.
 */
#include "tools/run_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/run.h"

/* In glibc's headers since 2.34, in Linux since 5.9. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define BACKLOG 4096
/* Above the descriptors that shell scripts and programs choose by number, below what select(2) can take. */
#define PASSED_FD_FIRST 900
#define LISTENER_FD 3
#define ERROR_FD 4

int run_broker_pass_on(int *fd)
{
    struct rlimit limit;
    int first = PASSED_FD_FIRST;
    int moved;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= PASSED_FD_FIRST)
        first = *fd; /* there is no such room: where it is */
    moved = fcntl(*fd, F_DUPFD, first);
    if (moved < 0)
        return -errno;
    (void)close(*fd);
    *fd = moved;
    return 0;
}

/* A listening socket with a name of its own, or -errno. */
static int listen_anywhere(char name[64])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t random[2];
    size_t bytes;
    int fd;

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return -errno;
    bytes = (size_t)snprintf(name, 64, "@jitbroker-run-%016llx%016llx", (unsigned long long)random[0],
                             (unsigned long long)random[1]);
    memcpy(address.sun_path + 1, name + 1, bytes - 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    bytes = (size_t)errno;
    (void)close(fd);
    return -(int)bytes;
}

/* In the child's child. */
static _Noreturn void become_broker(const char *program, int listener, int life, int errors)
{
    char listener_option[] = "--fd=3";
    char *const arguments[] = {(char *)(uintptr_t)program, listener_option, NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int high_listener = fcntl(listener, F_DUPFD_CLOEXEC, ERROR_FD + 1);
    int high_errors = fcntl(errors, F_DUPFD_CLOEXEC, ERROR_FD + 1);
    int error;

    _Static_assert(LISTENER_FD == 3, "as in the argument");
    if (null >= 0 && high_listener >= 0 && high_errors >= 0 && dup2(life, STDIN_FILENO) >= 0 &&
        dup2(null, STDOUT_FILENO) >= 0 && dup2(high_listener, LISTENER_FD) >= 0 &&
        dup3(high_errors, ERROR_FD, O_CLOEXEC) >= 0) {
        (void)syscall(SYS_close_range, ERROR_FD + 1, ~0U, 0);
        (void)execv(program, arguments);
        high_errors = ERROR_FD;
    }
    error = errno;
    (void)!write(high_errors, &error, sizeof error);
    _exit(EXIT_NOT_THERE);
}

/* 0 or -errno, from wherever it went wrong. */
static int start(const char *program, int listener, int life)
{
    int errors[2];
    int error = 0;
    pid_t pid;

    if (pipe2(errors, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid == 0) {
        (void)setsid(); /* signals to the program's group or terminal are not for its broker */
        pid = fork();
        if (pid == 0)
            become_broker(program, listener, life, errors[1]);
        if (pid < 0) {
            error = errno;
            (void)!write(errors[1], &error, sizeof error);
        }
        _exit(0);
    }
    if (pid < 0)
        error = errno;
    (void)close(errors[1]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    /* Ends without a word when the program was executed. */
    while (pid > 0 && read(errors[0], &error, sizeof error) < 0 && errno == EINTR)
        continue;
    (void)close(errors[0]);
    return -error;
}

int run_broker_start(struct run_broker *broker, const char *program)
{
    int life[2];
    int listener = listen_anywhere(broker->socket);
    int error;

    if (listener < 0)
        return run_fail(EXIT_LAUNCHER, "a socket for the private broker: %s", strerror(-listener));
    if (pipe2(life, O_CLOEXEC) != 0)
        return run_fail(EXIT_LAUNCHER, "a pipe for the private broker: %s", strerror(errno));
    error = start(program, listener, life[0]);
    (void)close(listener);
    (void)close(life[0]);
    broker->holder = life[1];
    if (error != 0)
        return run_fail(EXIT_LAUNCHER, "starting %s: %s", program, strerror(-error));
    error = run_broker_pass_on(&broker->holder);
    return error == 0 ? 0 : run_fail(EXIT_LAUNCHER, "a descriptor to pass on: %s", strerror(-error));
}
