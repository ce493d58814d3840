/* SPDX-License-Identifier: MIT */
/*
 * What each operation does: the one function that every request ends in, whichever
 * plane it came by.
 */
#ifndef DAEMON_OPERATION_H
#define DAEMON_OPERATION_H

#include "daemon/session.h"
#include "proto/request.h"

/* Validates the request, then does it or refuses it. *result is complete either way; its status is returned.
 */
enum status operation_run(struct session *session, const struct request *request, struct result *result);

#endif
