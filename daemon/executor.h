/* SPDX-License-Identifier: MIT */
/*
 * Ends of a session for those who may run its code and ask where it is, and nothing else. An end
 * is a connection of its own, of whose socket the daemon made both sides and gave one to the session's owner,
 * who passes it on. Who holds it is nobody's business: it is judged, and paid for, as its owner.
 *
 * Invariants:
 * - Nothing that is said on it changes a span, or a byte of the arena.
 * - It is charged as a session of its owner's user, from before its socket is there until that is closed: so
 * it may wait for Hello as long as it likes. Its requests take their turns with those of that user.
 * - Its socket is handed to who has read all that was sent before. So an owner has one of them in flight at
 * most, and never together with the descriptors of Welcome.
 * - The session lives as long as its owner or, where the policy lets orphans run, one of its ends. With the
 *   last one its memory goes back to the system.
 */
#ifndef DAEMON_EXECUTOR_H
#define DAEMON_EXECUTOR_H

#include "daemon/connection.h"
#include "proto/codec.h"

/*
 * Opens an end of the session, and sends the reply with the other side of its socket to the owner. STATUS_OK,
 * or *refusal, with nothing sent.
 */
enum status executor_open(struct connection *owner, const struct buffer *reply, struct result *refusal);

/* Makes *refusal that of what executors may not do, and returns its status. */
enum status executor_refuse(struct result *refusal, const char *what);

/* Answers its Hello: what its arena is, in *welcome, or *refusal. */
enum status executor_welcome(struct connection *executor, const struct hello *hello, struct welcome *welcome,
                             struct result *refusal);

/* By what name its socket is in the fd store; `name` holds STORE_NAME_MAX_BYTES. */
void executor_store_name(const struct connection *executor, char *name);

/* Ends those that the owner's session has. */
void executor_end_all(struct connection *owner);

#endif
