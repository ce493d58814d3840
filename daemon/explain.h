/* SPDX-License-Identifier: MIT */
/* Says what a peer gets by a policy and which line of which file gives it: for people, or as JSON. */
#ifndef DAEMON_EXPLAIN_H
#define DAEMON_EXPLAIN_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/policy.h"

/* Returns whether the peer is served. */
bool explain(FILE *out, const struct policy *policy, const struct peer *peer);
/* On standard output, in the shape that jitbrokerctl(1) tells. */
bool explain_json(const struct policy *policy, const struct peer *peer);

#endif
