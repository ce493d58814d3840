/* SPDX-License-Identifier: MIT */
/*
 * What each operation does: the one function that every request ends in, whichever
 * plane it came by.
 *
 * What takes long, as growing an arena or filling a large span does, is done in steps, so that others have
 * their turn meanwhile. Between two of them all is consistent, and the rest of it is the same operation once
 * more: a large span that is being released is a shorter one, an arena that is being grown has memory that
 * nobody uses.
 */
#ifndef DAEMON_OPERATION_H
#define DAEMON_OPERATION_H

#include "daemon/session.h"
#include "proto/request.h"

#define OPERATION_STEP_BYTES ((uint64_t)BLOCK_BYTES)

/*
 * Validates the request, then does it or refuses it: true, and *result is complete either way. Or a part of
 * it, by moving `step_bytes` (a multiple of BLOCK_BYTES) or little more: false, to be called again with the
 * same request; if that never happens, or with another one, nobody comes to harm.
 */
bool operation_run(struct session *session, const struct request *request, uint64_t step_bytes,
                   struct result *result);

#endif
