/* SPDX-License-Identifier: MIT */
/*
 * Requests and their replies, by the socket. One thread at a time has the turn, from call_begin() to
 * call_end(), and can't be cancelled meanwhile; it holds no lock while it waits. Whatever breaks the
 * connection is remembered in the client and told by every later call.
 *
 * A reply belongs to the request whose id it has. A call that gets none in time leaves its requests behind
 * as "asked": their replies are taken by a later call, and what they bring is given back. A daemon that
 * was restarted may answer a request again that had been answered: whatever answers nothing that is asked
 * is dropped.
 */
#ifndef CLIENT_CALL_H
#define CLIENT_CALL_H

#include "client/client.h"
#include "proto/codec.h"
#include "proto/record.h"

/* JITC_OK with the turn taken, or a status with its detail set and nothing to end. */
int call_begin(struct jitc_client *client);
void call_end(struct jitc_client *client);

/*
 * Before anything is asked: takes the replies that earlier calls have given up, for which it waits, and tells
 * the daemon what is owed, the answer to which may be still to come. JITC_OK, TIMEOUT, or why the
 * connection is lost.
 */
int call_settle(struct jitc_client *client);

/* An empty record in the client's own buffer. */
struct buffer call_buffer(struct jitc_client *client);

/*
 * Sends the record as request *id. `brings_span`: a span that comes when nobody waits for it is to be
 * released. JITC_OK; TIMEOUT, with nothing sent; or why the connection is lost.
 */
int call_send(struct jitc_client *client, struct buffer *out, bool brings_span, uint64_t *id);

/*
 * Receives the reply to request `id`, or where several were sent to one from there on, with up to fds_max
 * descriptors in *record, which may be NULL where that is 0. A reply that refuses the request as a whole is a
 * failure, told as such; its results otherwise are the caller's to look at.
 */
int call_receive(struct jitc_client *client, uint64_t id, struct reply_record *reply, unsigned fds_max,
                 struct record *record);

/* For a client that is lost: DISCONNECTED, with the detail that says why. */
int call_lost(const struct jitc_client *client);

/* For a call that got no answer in time: TIMEOUT, with its detail. The client is as good as before. */
int call_late(const struct jitc_client *client);

/* Gives the connection up: the reply `what`, which no broker of ours says. Returns BAD_REPLY. */
int call_lose(struct jitc_client *client, const char *what);

/* ---- For who waits at the ring, without the client's lock --------------------------------- */

/* Takes what lies in the socket. False: the daemon is gone, and the connection given up. */
bool call_listen(struct jitc_client *client);

/* Gives the connection up, after the ring said that there is no session any more. Returns why. */
int call_lose_session(struct jitc_client *client);

/* ---- Operations, by either plane --------------------------------------------------------- */

/* One operation, start to end. The status of *result, with its detail set. */
int call_run(struct jitc_client *client, const struct request *request, struct result *result);

/* The status of *result, with its detail set where it is a refusal. */
int call_status(const struct result *result);

#endif
