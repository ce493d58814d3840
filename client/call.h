/* SPDX-License-Identifier: MIT */
/*
 * Requests and their replies. A call holds its client's lock from call_begin() to
 * call_end(), so replies cannot be mixed up, and its thread can't be cancelled meanwhile; whatever breaks the
 * connection is remembered in the client and told by every later call.
 */
#ifndef CLIENT_CALL_H
#define CLIENT_CALL_H

#include "client/client.h"
#include "proto/codec.h"
#include "proto/record.h"

/* JITC_OK with the lock held, or a status with its detail set and nothing to end. */
int call_begin(struct jitc_client *client);
void call_end(struct jitc_client *client);

/* An empty record in the client's own buffer. */
struct buffer call_buffer(struct jitc_client *client);

/* Sends the record as request *id. JITC_OK, or why the connection is lost. */
int call_send(struct jitc_client *client, struct buffer *out, uint64_t *id);

/*
 * Receives the reply to request `id`, with up to fds_max descriptors in *record,
 * which may be NULL where that is 0. A reply that refuses the request as a whole is a
 * failure, told as such; its results otherwise are the caller's to look at.
 */
int call_receive(struct jitc_client *client, uint64_t id, struct reply_record *reply, unsigned fds_max,
                 struct record *record);

/* For a client that is lost: DISCONNECTED, with the detail that says why. */
int call_lost(struct jitc_client *client);

/*
 * Gives the connection up, with the lock held, after the ring said that there is no session any more, or
 * the socket did; or, `is_late`, nothing at all. Returns the status, with its detail set.
 */
int call_lose_session(struct jitc_client *client, bool is_late);

/* Gives the connection up: the reply `what`, which no broker of ours says. Returns BAD_REPLY. */
int call_lose(struct jitc_client *client, const char *what);

/* One operation, start to end. The status of *result, with its detail set. */
int call_run(struct jitc_client *client, const struct request *request, struct result *result);

/* The status of *result, with its detail set where it is a refusal. */
int call_status(const struct result *result);

#endif
