/* SPDX-License-Identifier: MIT */
/*
 * What an earlier daemon left in the fd store, taken over before anyone is served: sessions (arena and
 * ledger), their owners (socket, ring and bell) and executors (socket). Descriptors are told apart by their
 * names and by what they are; nothing that they hold is believed. What is damaged, or belongs to nobody, ends
 * by itself, with a reason in the log.
 */
#ifndef DAEMON_ADOPTION_H
#define DAEMON_ADOPTION_H

#include "daemon/server.h"

/* A descriptor that came with the process, and its name in the store. */
struct stored {
    const char *name;
    int fd;
};

/* Whether that is the name of something of a session's. */
bool adoption_is_for(const char *name);

/* Takes all of them over. Returns how many sessions are there, and adds up how long their arenas may get. */
unsigned adoption_run(struct server *server, struct stored *stored, unsigned count, uint64_t *arena_bytes);

#endif
