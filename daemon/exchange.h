/* SPDX-License-Identifier: MIT */
/*
 * What is said on a connection's socket: records in, operations run, replies out.
 *
 * Invariants, which bound what a client can cost:
 * - No record is read while a reply waits to be sent: a client that does not read its
 *   answers holds up itself, at the price of one reply, and not for longer than the policy says.
 * - One record is read per turn of the loop, and a request of many operations gives the
 *   turn away when its time slice is over: so every client gets its turn.
 * - Where there is an fd store, a record stays in the socket until it was answered: the ledger says how far
 *   that is, and the next daemon finds it there.
 */
#ifndef DAEMON_EXCHANGE_H
#define DAEMON_EXCHANGE_H

#include "daemon/connection.h"
#include "proto/codec.h"

void exchange_on_poll(uv_poll_t *handle, int status, int events);

/* Goes on with what an earlier daemon was doing for it when it ended, before anything else is done. */
void exchange_resume(struct connection *connection);

/* An empty reply to request `id`, in what all connections share. */
struct buffer exchange_begin_record(struct connection *connection, uint64_t id);
/* The record that was worked on was answered, and can go. */
void exchange_take_record(struct connection *connection);

#endif
