/* SPDX-License-Identifier: MIT */
/* Where the broker is, and how to reach it. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/client.h"
#include "client/failure.h"

#define SYSTEM_SOCKET "/run/jitbroker/socket"

/* A connected socket, or -errno. connect() waits while the backlog is full, for as long as SO_SNDTIMEO says.
 */
static int connect_to(const char *path, uint32_t timeout_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                              .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    int fd;
    int error;

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0 &&
        connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    error = -errno;
    (void)close(fd);
    return error;
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
    else if (error == -EAGAIN)
        status = JITC_E_TIMEOUT;
    else if (error == -EMFILE || error == -ENFILE || error == -ENOMEM)
        status = JITC_E_SYSTEM;
    return failure_set(status, "connecting to %s: %m%s", path, advice);
}

/* Writes the user's own socket's path; false if it has none. */
static bool user_socket(char *path, size_t bytes)
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    int used = runtime == NULL ? -1 : snprintf(path, bytes, "%s/jitbroker/socket", runtime);

    return used > 0 && (size_t)used < bytes;
}

int jitc_connect(jitc_client **client, const jitc_options *options)
{
    const jitc_options all = client_options(options);
    const char *path = all.socket;
    char user[PATH_MAX];
    int fd;

    if (path == NULL)
        path = secure_getenv("JITBROKER_SOCKET");
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
    return client_new(client, fd, &all);
}
