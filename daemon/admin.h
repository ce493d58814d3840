/* SPDX-License-Identifier: MIT */
/*
 * The operator's socket: who may ask what, records in, answers out. What they say is admin_answer.c's.
 *
 * Invariants:
 * - Each request is checked against its caller, as the kernel says that it was when it connected: root and
 *   the daemon's own user may do everything; members of ADMIN_GROUP may read, and change nothing, as
 *   a user's groups come with all of its programs; nobody else is answered.
 * - There are ADMIN_CONNECTIONS_MAX connections at most, the last of them for who may change something; each
 * with one request in work and one record of its answer in memory. The next request is read when the answer
 * is sent; one that is not read for as long as a client may leave its own ends the connection.
 * - An answer is made in steps of ADMIN_STEP_NS, one a turn of the loop, so clients don't wait for it.
 * - What is no request ends the connection.
 */
#ifndef DAEMON_ADMIN_H
#define DAEMON_ADMIN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define ADMIN_CONNECTIONS_MAX 8u
/* Who may only read gets none beyond these, so that whoever may revoke always gets through. */
#define ADMIN_READERS_MAX 6u
#define ADMIN_STEP_NS UINT64_C(5000)

struct admin_connection;
struct connection;
struct server;

struct admin {
    struct server *server;
    uv_poll_t poll;
    uv_timer_t retry; /* when the process ran out of descriptors */
    int fd;
    bool listens;
    struct admin_connection *connections;
    unsigned connections_count;
    /* For the status: */
    uint64_t started_ns;
    uint64_t started_s; /* since 1970 */
};

/* Accepts from a listening SOCK_SEQPACKET socket, which it takes over. There is one. 0 or -errno. */
int admin_listen(struct admin *admin, struct server *server, int fd);
/* Ends all connections at once; the loop frees them. Also where it never listened. */
void admin_stop(struct admin *admin);

/* A client's connection goes: no answer may speak of it any more. */
void admin_forget(struct admin *admin, const struct connection *connection);

#endif
