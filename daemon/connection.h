/* SPDX-License-Identifier: MIT */
/*
 * One client's socket: records in, operations run, replies out.
 *
 * Invariants, which bound what a client can cost:
 * - No record is read while a reply waits to be sent: a client that does not read its
 *   answers holds up itself, at the price of one reply.
 * - One record is read per turn of the loop, and a request of many operations gives the
 *   turn away when its time slice is over: so every client gets its turn.
 * - A connection says Hello within the time the configuration gives it, and gets no
 *   arena before that.
 * - A client that leaves Welcome unread keeps descriptors in flight, which the kernel bounds
 *   for all of the daemon together: its connection stays charged until it has read, or closed.
 * - Whatever a client does wrong ends in a refusal (the connection goes on) or in
 *   connection_end() with a reason that the client is told and the log has.
 */
#ifndef DAEMON_CONNECTION_H
#define DAEMON_CONNECTION_H

#include <uv.h>

#include "daemon/peer.h"
#include "daemon/plane.h"
#include "daemon/quota.h"
#include "daemon/session.h"

struct server;

struct connection {
    struct server *server;
    struct connection *next;
    struct connection *prev;
    uv_poll_t poll;
    uv_timer_t timer;    /* until Hello: its deadline; later: when a throttled client is read again */
    uv_idle_t next_turn; /* while a request is unfinished */
    int fd;
    unsigned handles; /* of libuv's, still to be closed */
    struct peer peer;
    struct account *account;
    struct charge charge;    /* one session of its user's */
    struct session *session; /* NULL before Hello */
    struct plane plane;      /* of a session that has one */
    uint8_t *pending;        /* a reply that the socket had no room for */
    size_t pending_bytes;
    struct unfinished *unfinished; /* a request whose slice was over */
    bool lingers;                  /* ended, but the client has not read everything */
    uint64_t due_ns;               /* by when what was done so far would be done at the permitted rate */
    uint64_t round;                /* of its user's in which it was served last */
    uint64_t operations;
    uint64_t refusals;
};

/*
 * Serves the peer behind `fd`, which it takes over, or turns it away with a reason.
 * The connection belongs to the server's list until it has ended.
 */
void connection_accept(struct server *server, int fd);

/*
 * Runs an operation, whichever plane it came by, and notes a refusal: true, and *result is complete. Or a
 * step of it: false, to be called again with the same.
 */
bool connection_run(struct connection *connection, const struct request *request, struct result *result);

/* Charges the client's rate for `operations`; a client that is ahead of it is held back on both planes. */
void connection_pace(struct connection *connection, size_t operations);

/*
 * Ends it: the client is told why unless status is STATUS_OK. Its session is gone at once, the
 * connection is freed later, by the loop. One that lingers is closed for good.
 */
void connection_end(struct connection *connection, enum status status, const char *reason);

#endif
