/* SPDX-License-Identifier: MIT */
/*
 * One client's socket: records in, operations run, replies out.
 *
 * Invariants, which bound what a client can cost:
 * - No record is read while a reply waits to be sent: a client that does not read its
 *   answers holds up itself, at the price of one reply, and not for longer than the policy says.
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

#include "daemon/audit.h"
#include "daemon/peer.h"
#include "daemon/plane.h"
#include "daemon/policy.h"
#include "daemon/quota.h"
#include "daemon/session.h"

struct server;

/* A session's socket, pidfd, arena, its ring's bell and, in direct mode, the arena's second descriptor. */
#define CONNECTION_FDS 5u
/* An executor's socket, and the arena's descriptors, for which it may be the last. */
#define EXECUTOR_FDS 3u

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
    struct policy *policy;     /* that it was let in by ... */
    const struct class *class; /* ... and as what */
    struct account *account;
    struct charge charge; /* one session of its user's */
    struct charge fds;
    struct charge queued;    /* what `pending` and `unfinished` hold */
    struct session *session; /* NULL before Hello; an executor's is its owner's, from the beginning */
    bool is_executor;        /* see executor.h */
    bool has_hello;
    struct plane plane; /* of a session that has one */
    uint8_t *pending;   /* a reply that the socket had no room for */
    size_t pending_bytes;
    struct unfinished *unfinished; /* a request whose slice was over */
    bool lingers;                  /* ended, but the client has not read everything */
    uint64_t due_ns;               /* by when what was done so far would be done at the permitted rate */
    uint64_t due_bytes_ns;         /* the same by the rate of bytes */
    uint64_t paced_bytes;          /* of its arena's moved_bytes, those that were counted */
    uint64_t round;                /* of its user's in which it was served last */
    uint64_t operations;
    uint64_t refusals;
    uint64_t operation_began_ns; /* of one that is done in steps; 0: there is none */
    struct audit_source audit; /* of its session */
};

/*
 * Serves the peer behind `fd`, which it takes over, or turns it away with a reason.
 * The connection belongs to the server's list until it has ended.
 */
void connection_accept(struct server *server, int fd);

/*
 * For one that accept or executor.c makes. Charges it, by its peer and class, as one session more: STATUS_OK
 * if there may be one. Begins to serve its socket: 0 or -errno. Frees one that was not begun, and returns
 * NULL; its socket is the caller's to close.
 */
enum status connection_charge(struct connection *connection, struct result *refusal);
int connection_start(struct connection *connection);
struct connection *connection_discard(struct connection *connection);

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
