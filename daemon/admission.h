/* SPDX-License-Identifier: MIT */
/* Who is let in: a peer that has a class, and whose user may have one connection more. */
#ifndef DAEMON_ADMISSION_H
#define DAEMON_ADMISSION_H

#include "daemon/connection.h"

/* What a session's owner keeps open: socket, arena, ledger, ring and its bell. */
#define CONNECTION_FDS 5u
/* An executor its socket, and it may be the last to hold arena and ledger. */
#define EXECUTOR_FDS 3u

/*
 * Serves the peer behind `fd`, which it takes over, or turns it away with a reason.
 * The connection belongs to the server's list until it has ended.
 */
void admission_accept(struct server *server, int fd);

/* Charges the connection, by its peer and class, as one session more: STATUS_OK if there may be one. */
enum status admission_charge(struct connection *connection, struct result *refusal);
/* The same for one that was let in by an earlier daemon, whatever its user holds. False without memory. */
bool admission_restore(struct connection *connection);

#endif
