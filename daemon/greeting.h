/* SPDX-License-Identifier: MIT */
/* Hello and Welcome: how a connection gets its session, and its client what belongs to that. */
#ifndef DAEMON_GREETING_H
#define DAEMON_GREETING_H

#include "daemon/connection.h"
#include "proto/codec.h"

/*
 * Answers the first request of a connection: begins its session, and stores it, or ends the connection. What
 * is said to a client that has a session and was told of it by an earlier daemon, perhaps, is the same.
 */
void greeting_answer(struct connection *connection, struct request_record *record);

#endif
