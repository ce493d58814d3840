/* SPDX-License-Identifier: MIT */
#include "daemon/listen.h"

#include <errno.h>
#include <limits.h>
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

int listen_path_set(struct listen_path *path, const char *text)
{
    size_t length = strlen(text);

    *path = (struct listen_path){.bound = false};
    if (length == 0)
        return -EINVAL; /* would be an abstract address */
    if (length >= sizeof path->text)
        return -ENAMETOOLONG;
    memcpy(path->text, text, length + 1);
    return 0;
}

int listen_path_user(struct listen_path *path)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char folder[PATH_MAX];
    char text[PATH_MAX];
    int used;

    if (runtime == NULL || runtime[0] != '/')
        return -ENOENT;
    used = snprintf(folder, sizeof folder, "%s/jitbroker", runtime);
    if (used < 0 || snprintf(text, sizeof text, "%s/jitbroker/socket", runtime) >= (int)sizeof text)
        return -ENAMETOOLONG;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return -errno;
    return listen_path_set(path, text);
}

int listen_path_claim(struct listen_path *path)
{
    struct stat status;

    if (lstat(path->text, &status) != 0)
        return -errno;
    path->bound = true;
    path->device = status.st_dev;
    path->inode = status.st_ino;
    return 0;
}

int listen_at(struct listen_path *path, mode_t mode)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    bool is_bound;
    int error;
    int fd;

    memcpy(address.sun_path, path->text, sizeof address.sun_path);
    if (is_stale(&address))
        (void)unlink(path->text);
    fd = seqpacket();
    if (fd < 0)
        return fd;
    mask = umask((mode_t)~mode & 0777);
    is_bound = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    (void)umask(mask); /* does not touch errno */
    error = !is_bound || listen(fd, BACKLOG) != 0 ? -errno : listen_path_claim(path);
    if (error == 0)
        return fd;
    (void)close(fd);
    return error;
}

void listen_path_unlink(const struct listen_path *path)
{
    struct stat status;

    if (path->bound && lstat(path->text, &status) == 0 && status.st_dev == path->device &&
        status.st_ino == path->inode)
        (void)unlink(path->text);
}
