/* SPDX-License-Identifier: MIT */
#include "daemon/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* As many as the kernel lets wait. */
#define BACKLOG 4096

static int seqpacket(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd < 0 ? -errno : fd;
}

/* True if the socket at `address` is one that nobody listens on. */
static int is_stale(const struct sockaddr_un *address)
{
    struct stat status;
    int fd;
    int stale;

    if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return 0;
    fd = seqpacket();
    if (fd < 0)
        return 0;
    stale = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

int listen_at(const char *path, mode_t mode)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int bound;
    int fd;

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (is_stale(&address))
        (void)unlink(path);
    fd = seqpacket();
    if (fd < 0)
        return fd;
    mask = umask((mode_t)~mode & 0777);
    bound = bind(fd, (const struct sockaddr *)&address, sizeof address);
    if (bound != 0)
        bound = -errno;
    (void)umask(mask);
    if (bound == 0 && listen(fd, BACKLOG) != 0)
        bound = -errno;
    if (bound != 0) {
        (void)close(fd);
        return bound;
    }
    return fd;
}

int listen_user_path(char *path, size_t bytes)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int used;

    if (runtime == NULL || runtime[0] != '/')
        return -ENOENT;
    used = snprintf(path, bytes, "%s/jitbroker", runtime);
    if (used < 0 || (size_t)used + sizeof "/socket" > bytes)
        return -ENAMETOOLONG;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return -errno;
    memcpy(path + used, "/socket", sizeof "/socket");
    return 0;
}
