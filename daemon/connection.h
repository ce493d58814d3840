/* SPDX-License-Identifier: MIT */
/*
 * One client: its socket, its session, and what it is charged. exchange.c has what is said on the socket.
 *
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
#include "daemon/log.h"
#include "daemon/peer.h"
#include "daemon/plane.h"
#include "daemon/policy.h"
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
    struct policy *policy;     /* that it was let in by ... */
    const struct class *class; /* ... and as what */
    struct account *account;
    struct charge charge; /* one session of its user's */
    struct charge fds;
    struct charge queued;    /* what `pending` and `unfinished` hold */
    struct session *session; /* NULL before Hello; an executor's is its owner's, from the beginning */
    bool is_executor;        /* see executor.h */
    uint64_t number;         /* of an executor */
    bool has_hello;
    bool resumes;  /* it was another daemon's, which may have been answering what comes first */
    bool repeated; /* ... and was answered once more, which its client may have to read yet */
    bool is_stored;
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
    struct audit_source audit;   /* of its session */
};

/*
 * For one that was charged (admission.h). Begins to serve its socket: 0 or -errno. Frees one that was not
 * begun, and returns NULL; its socket is the caller's to close.
 */
int connection_start(struct connection *connection);
struct connection *connection_discard(struct connection *connection);

/*
 * Runs an operation, whichever plane it came by, and notes a refusal: true, and *result is complete. Or a
 * step of it: false, to be called again with the same. `key` is the ledger's.
 */
bool connection_run(struct connection *connection, const struct request *request, uint64_t key,
                    struct result *result);

/* Charges the client's rate for `operations`; a client that is ahead of it is held back on both planes. */
void connection_pace(struct connection *connection, size_t operations);

/* The same for a request; one without any is as much work as one. It goes on being read as it was. */
void connection_pace_request(struct connection *connection, size_t operations);
bool connection_is_paced(const struct connection *connection);
/* Reads on, at once or when the client's rate permits it. */
void connection_read_on(struct connection *connection);
void connection_wait_for(struct connection *connection, int events);
/* Reads no more from the socket for that long, and a millisecond. */
void connection_put_off_reading(struct connection *connection, uint64_t wait_ns);

/* Counts it, and logs the first ones. */
void connection_note_refusal(struct connection *connection, const char *what, const struct result *result);

/* Whatever it asks for is looked at from here on, and was got through: see ledger.h. It may have ended since.
 */
void connection_blame(const struct connection *connection);
void connection_absolve(const struct connection *connection);

/*
 * Ends it: the client is told why unless status is STATUS_OK. Its session is gone at once, the
 * connection is freed later, by the loop. One that lingers is closed for good.
 */
void connection_end(struct connection *connection, enum status status, const char *reason);
/* The same after an error of its socket. */
void connection_end_by_errno(struct connection *connection, int error);
/* The last one that has the session leaves it: no daemon is to find it again. */
void connection_end_session(struct server *server, struct session *session);

/* Tells who is at the other end of a socket, where that can be done at once. */
void connection_say_goodbye(int fd, enum status status, const char *reason);
/* Whom the log is about. */
struct log_subject connection_subject(const struct connection *connection);
/* Of its session. */
void connection_start_audit(struct connection *connection);

#endif
