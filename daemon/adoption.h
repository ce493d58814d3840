/* SPDX-License-Identifier: MIT */
/*
 * What an earlier daemon left in the fd store, taken over before anyone is served: `session-N`, a parcel
 * (store.h) with a session's ledger and arena, its owner's socket and, where it has one, its ring and bell;
 * and `executor-N-M`, the socket of one of its executors. Nothing that they hold is believed. What is
 * damaged, or belongs to nobody, ends by itself, with a reason in the log. Where it is this process that has
 * not what it takes, all stays as it is in the store, for the next one.
 */
#ifndef DAEMON_ADOPTION_H
#define DAEMON_ADOPTION_H

#include "daemon/server.h"

/* What is in a session's parcel, in this order; without a ring the first three. */
enum part {
    PART_LEDGER,
    PART_ARENA,
    PART_SOCKET,
    PART_RING,
    PART_BELL,
    PARTS,
    PARTS_WITHOUT_RING = PART_RING
};

/* A descriptor that came with the process, and its name in the store. */
struct stored {
    const char *name;
    int fd;
};

/* Whether that is the name of something of a session's. */
bool adoption_is_for(const char *name);

/*
 * Takes all of them over: the first `room`, for which there are descriptors; the others stay stored, and so
 * does what there is no memory for. Returns how many sessions are there, and adds up how long their arenas
 * may get.
 */
unsigned adoption_run(struct server *server, const struct stored *stored, unsigned count, unsigned room,
                      uint64_t *arena_bytes);

#endif
