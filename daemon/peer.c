/* SPDX-License-Identifier: MIT */
#include "daemon/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD /* in Linux's headers since 6.5 */
#define SO_PEERPIDFD 77
#endif

/* Of 65,536 that a kernel allows. Who is in more than these is taken to be in its primary group only. */
#define GROUPS_MAX 1024u

static void find_groups(struct peer *peer, int socket)
{
    gid_t groups[GROUPS_MAX];
    socklen_t length = sizeof groups;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &length) != 0 || length == 0)
        return;
    peer->groups = malloc(length);
    if (peer->groups == NULL)
        return;
    memcpy(peer->groups, groups, length);
    peer->groups_count = length / sizeof groups[0];
}

/* -1 where the kernel has none to give (before 6.5). */
static int peer_pidfd(int socket)
{
    int pidfd = -1;
    socklen_t length = sizeof pidfd;

    return getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0 ? pidfd : -1;
}

/*
 * By its control group, which /proc names by pid: a number that another process may have by now.
 * So it counts only if the process that connected is still there afterwards.
 */
static void find_unit(struct peer *peer, int socket)
{
    struct pollfd ended = {.fd = peer_pidfd(socket), .events = POLLIN};
    char *unit = NULL;

    if (ended.fd < 0)
        return;
    if (sd_pid_get_unit(peer->pid, &unit) >= 0 && poll(&ended, 1, 0) == 0 && strlen(unit) < sizeof peer->unit)
        memcpy(peer->unit, unit, strlen(unit) + 1);
    free(unit);
    (void)close(ended.fd);
}

static void find_label(struct peer *peer, int socket)
{
    char label[sizeof peer->label];
    socklen_t length = sizeof label;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERSEC, label, &length) != 0 || length >= sizeof label)
        return;
    memcpy(peer->label, label, length); /* with or without its terminator, by kernel */
}

int peer_init(struct peer *peer, int socket, unsigned facts)
{
    struct ucred credentials;
    socklen_t length = sizeof credentials;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
        return -errno;
    *peer = (struct peer){
        .uid = credentials.uid,
        .gid = credentials.gid,
        .pid = credentials.pid,
    };
    if ((facts & PEER_GROUPS) != 0)
        find_groups(peer, socket);
    if ((facts & PEER_UNIT) != 0)
        find_unit(peer, socket);
    if ((facts & PEER_LABEL) != 0)
        find_label(peer, socket);
    return 0;
}

void peer_deinit(struct peer *peer)
{
    free(peer->groups);
    peer->groups = NULL;
    peer->groups_count = 0;
}

bool peer_can_have_unit(void)
{
    int ends[2];
    int pidfd;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    pidfd = peer_pidfd(ends[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    if (pidfd >= 0)
        (void)close(pidfd);
    return pidfd >= 0;
}
