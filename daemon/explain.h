/* SPDX-License-Identifier: MIT */
/* Says, for people, what a peer gets by a policy and which line of which file gives it. */
#ifndef DAEMON_EXPLAIN_H
#define DAEMON_EXPLAIN_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/policy.h"

/* Returns whether the peer is served. */
bool explain(FILE *out, const struct policy *policy, const struct peer *peer);

#endif
