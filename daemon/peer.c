/* SPDX-License-Identifier: MIT */
#include "daemon/peer.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* In Linux's headers since 6.5. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

int peer_init(struct peer *peer, int socket)
{
    struct ucred credentials;
    socklen_t length = sizeof credentials;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
        return -errno;
    *peer = (struct peer){
        .uid = credentials.uid,
        .pid = credentials.pid,
        .pidfd = -1,
    };
    length = sizeof peer->pidfd;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &peer->pidfd, &length) != 0)
        peer->pidfd = -1;
    return 0;
}

void peer_deinit(struct peer *peer)
{
    if (peer->pidfd >= 0)
        (void)close(peer->pidfd);
    peer->pidfd = -1;
}
