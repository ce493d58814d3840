/* SPDX-License-Identifier: MIT */
/* Who is at the other end of a socket, as it was when it connected. */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What takes system calls to find out, and is only where somebody asks for it. */
#define PEER_GROUPS 0x1u
#define PEER_UNIT 0x2u
#define PEER_LABEL 0x4u

struct peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;     /* for people: a number is used again */
    gid_t *groups; /* supplementary */
    size_t groups_count;
    char unit[256];  /* of systemd, whose control group it was in; "": none, or not known */
    char label[256]; /* of SELinux or another security module; "" as well */
};

/* 0 or -errno: then there is nothing to deinit. What of `facts` can't be found out is left empty. */
int peer_init(struct peer *peer, int socket, unsigned facts);
void peer_deinit(struct peer *peer);

/* Whether this kernel says enough of a peer to know its unit. */
bool peer_can_have_unit(void);

#endif
