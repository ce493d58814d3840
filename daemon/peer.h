/* SPDX-License-Identifier: MIT */
/* Who is at the other end of a socket, as it was when it connected. */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include <sys/types.h>

struct peer {
    uid_t uid;
    pid_t pid; /* for people: a number is used again, the pidfd is not */
    int pidfd; /* -1 where the kernel has none to give (before 6.5) */
};

/* 0 or -errno. */
int peer_init(struct peer *peer, int socket);
void peer_deinit(struct peer *peer);

#endif
