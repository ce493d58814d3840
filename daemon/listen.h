/* SPDX-License-Identifier: MIT */
/* Listening SOCK_SEQPACKET sockets in the file system. */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stddef.h>
#include <sys/types.h>

/*
 * A listening socket at `path`, with that mode. A socket that nobody listens on any
 * more is replaced; one that somebody does is -EADDRINUSE. Returns it or -errno.
 */
int listen_at(const char *path, mode_t mode);

/* Writes $XDG_RUNTIME_DIR/jitbroker/socket to `path` and makes its folder. 0 or -errno. */
int listen_user_path(char *path, size_t bytes);

#endif
