/* SPDX-License-Identifier: MIT */
/*
 * A broker (tests/harness/broker.h) under jitbrokerd --supervise: `pid` is the supervisor's. broker_stop()
 * ends both.
 */
#ifndef TESTS_SUPERVISED_H
#define TESTS_SUPERVISED_H

#include "tests/harness/broker.h"

/*
 * Prepares and starts it, and waits until there is a socket. `program`: what the supervisor takes for itself,
 * and starts as the daemon; NULL for jitbrokerd.
 */
void supervised_start(struct broker *broker, const char *program, const char *config);
/* The daemon that there is now, or 0. */
pid_t supervised_daemon(const struct broker *broker);
/* Waits for one that is another than `other`. */
pid_t supervised_await_daemon(const struct broker *broker, pid_t other);
/* What the folder's configuration says from now on. */
void supervised_configure(const struct broker *broker, const char *config);

#endif
