/* SPDX-License-Identifier: MIT */
/* Where the broker is, and how to reach it. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client/client.h"
#include "client/failure.h"

#define SYSTEM_SOCKET "/run/jitbroker/socket"

/* A connected socket, or -errno. While the backlog is full it waits, for as long as SO_SNDTIMEO says. */
static int connect_to(const char *path, uint32_t timeout_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                              .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    struct timespec began;
    struct timespec now;
    int error = -EINTR;
    int fd;

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    now = began;
    /* An interrupted connect() on a Unix socket has done nothing, and is begun anew. */
    while (error == -EINTR && (uint64_t)(now.tv_sec - began.tv_sec) * 1000 <= timeout_ms) {
        error = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : -errno;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    }
    if (error == 0)
        return fd;
    (void)close(fd);
    return error == -EINTR ? -EAGAIN : error;
}

/* The value of an environment variable; what is empty, or in a program that gained privileges, counts as
 * unset. */
static const char *from_environment(const char *name)
{
    const char *value = secure_getenv(name);

    return value == NULL || value[0] == '\0' ? NULL : value;
}

static int connect_failed(const char *path, int error)
{
    const char *advice = "";
    int status = JITC_E_NO_BROKER;

    errno = -error;
    if (error == -ENOENT || error == -ECONNREFUSED)
        advice = "; is jitbrokerd running?";
    else if (error == -EACCES)
        advice = "; may this user use the socket?";
    else if (error == -ENAMETOOLONG)
        status = JITC_E_INVALID;
    else if (error == -EAGAIN)
        status = JITC_E_TIMEOUT;
    else if (error == -EMFILE || error == -ENFILE || error == -ENOMEM)
        status = JITC_E_SYSTEM;
    return failure_set(status, "connecting to %s: %m%s", path, advice);
}

/* Writes the user's own socket's path; false if it has none. */
static bool user_socket(char *path, size_t bytes)
{
    const char *runtime = from_environment("XDG_RUNTIME_DIR");
    int used = runtime == NULL ? -1 : snprintf(path, bytes, "%s/jitbroker/socket", runtime);

    return used > 0 && (size_t)used < bytes;
}

int jitc_connect(jitc_client **client, const jitc_options *options)
{
    jitc_options all;
    const char *path;
    char user[PATH_MAX];
    int fd;
    int status = client_options(options, &all);

    if (status == JITC_OK && all.socket != NULL && all.socket[0] == '\0')
        status = failure_set(JITC_E_INVALID, "options.socket is an empty path");
    if (status != JITC_OK)
        return status;
    path = all.socket != NULL ? all.socket : from_environment("JITBROKER_SOCKET");
    fd = connect_to(path != NULL ? path : SYSTEM_SOCKET, all.timeout_ms);
    if (fd < 0 && path == NULL && user_socket(user, sizeof user)) {
        int user_fd = connect_to(user, all.timeout_ms);

        /* What is wrong with the system's is told, unless there is a user's. */
        if (user_fd >= 0 || user_fd != -ENOENT) {
            fd = user_fd;
            path = user;
        }
    }
    if (fd < 0)
        return connect_failed(path != NULL ? path : SYSTEM_SOCKET, fd);
    return client_new(client, fd, &all, false);
}
