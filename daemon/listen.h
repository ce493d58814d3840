/* SPDX-License-Identifier: MIT */
/* Listening SOCK_SEQPACKET sockets in the file system. */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

struct listen_path {
    char text[sizeof((struct sockaddr_un *)0)->sun_path];
    bool bound; /* there is a socket of ours, with this device and inode */
    dev_t device;
    ino_t inode;
};

/* 0, or -errno: -EINVAL for an empty one, -ENAMETOOLONG. */
int listen_path_set(struct listen_path *path, const char *text);
/* $XDG_RUNTIME_DIR/jitbroker/socket; makes its folder. -ENOENT: the variable is not set. */
int listen_path_user(struct listen_path *path);

/*
 * A listening socket there, with that mode. A socket that nobody listens on any more is
 * replaced; one that somebody does is -EADDRINUSE. Returns it or -errno.
 */
int listen_at(struct listen_path *path, mode_t mode);

/* The socket that is there is ours, from before this program was started. 0 or -errno. */
int listen_path_claim(struct listen_path *path);

/* Removes the socket, unless another has taken its place. */
void listen_path_unlink(const struct listen_path *path);

#endif
