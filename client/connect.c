/* SPDX-License-Identifier: MIT */
/* Where the broker is, and how to reach it. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
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
#include "client/patience.h"

#define SYSTEM_SOCKET "/run/jitbroker/socket"

/* Between two tries to reach a daemon that has just gone. */
#define PAUSE_MS 5u

/* "@name" is an abstract socket's, which begins with a zero byte and ends with its length. 0 or -errno. */
static int address_set(struct sockaddr_un *address, socklen_t *length, const char *path)
{
    size_t bytes = strlen(path);
    bool is_abstract = path[0] == '@';

    if (bytes + !is_abstract > sizeof address->sun_path)
        return -ENAMETOOLONG;
    if (is_abstract && bytes == 1)
        return -EINVAL; /* anybody's */
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, bytes);
    if (is_abstract)
        address->sun_path[0] = '\0';
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + !is_abstract);
    return 0;
}

/* A connected socket, or -errno. While the backlog is full it waits, in the time that is left. */
static int connect_to(const char *path, uint32_t timeout_ms)
{
    struct sockaddr_un address;
    socklen_t length;
    uint32_t left_ms;
    int error = address_set(&address, &length, path);
    int fd;

    if (error != 0)
        return error;
    error = -EAGAIN;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* An interrupted connect() on a Unix socket has done nothing, and is begun anew. */
    while ((left_ms = patience_left_ms(timeout_ms)) > 0) {
        struct timeval timeout = {.tv_sec = left_ms / 1000, .tv_usec = (suseconds_t)(left_ms % 1000) * 1000};

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        error = connect(fd, (const struct sockaddr *)&address, length) == 0 ? 0 : -errno;
        if (error != -EINTR)
            break;
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
    else if (error == -ENAMETOOLONG || error == -EINVAL)
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

/* The broker that *path names, or, where it is NULL, the system's, or the user's, of which `user` gets the
 * path. A connected socket, or -errno and in *path whose. */
static int reach(const char **path, char user[PATH_MAX], uint32_t timeout_ms)
{
    int fd = connect_to(*path != NULL ? *path : SYSTEM_SOCKET, timeout_ms);

    if (fd < 0 && *path == NULL && user_socket(user, PATH_MAX)) {
        int user_fd = connect_to(user, timeout_ms);

        /* What is wrong with the system's is told, unless there is a user's. */
        if (user_fd >= 0 || user_fd != -ENOENT) {
            *path = user;
            return user_fd;
        }
    }
    if (*path == NULL)
        *path = SYSTEM_SOCKET;
    return fd;
}

/* A daemon that stops or dies before it has said Welcome knew nothing of us yet: the next one will. */
static bool is_worth_another_try(int status, uint32_t timeout_ms)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};

    if (status != JITC_E_DISCONNECTED || patience_left_ms(timeout_ms) <= PAUSE_MS)
        return false;
    (void)nanosleep(&pause, NULL);
    return true;
}

/* The caller's options, and whose socket they or the environment name; NULL: nobody's. */
static int begin(const jitc_options *options, jitc_options *all, const char **named)
{
    int status = client_options(options, all);

    if (status == JITC_OK && all->socket != NULL && all->socket[0] == '\0')
        status = failure_set(JITC_E_INVALID, "options.socket is an empty path");
    if (status != JITC_OK)
        return status;
    *named = all->socket != NULL ? all->socket : from_environment("JITBROKER_SOCKET");
    patience_begin();
    return JITC_OK;
}

int jitc_connect(jitc_client **client, const jitc_options *options)
{
    jitc_options all;
    const char *named;
    char user[PATH_MAX];
    int status = begin(options, &all, &named);

    if (status != JITC_OK)
        return status;
    do {
        const char *path = named;
        int fd = reach(&path, user, all.timeout_ms);

        if (fd == -EAGAIN && status == JITC_E_DISCONNECTED)
            break; /* the time is over, and that says more */
        status = fd >= 0 ? client_new(client, fd, &all, false) : connect_failed(path, fd);
    } while (is_worth_another_try(status, all.timeout_ms));
    return status;
}

int jitc_dial(int *fd, const jitc_options *options)
{
    jitc_options all;
    const char *path;
    char user[PATH_MAX];
    int status = begin(options, &all, &path);
    int connected;

    if (status == JITC_OK && fd == NULL)
        status = failure_set(JITC_E_INVALID, "fd is NULL");
    if (status != JITC_OK)
        return status;
    connected = reach(&path, user, all.timeout_ms);
    if (connected < 0)
        return connect_failed(path, connected);
    status = client_move_fd(&connected, all.fd_min);
    if (status == JITC_OK)
        *fd = connected;
    else
        (void)close(connected);
    return status;
}
