/* SPDX-License-Identifier: MIT */
/* What the daemon holds for its clients, which must be what it was once they are gone. */
#ifndef TESTS_HOLDINGS_H
#define TESTS_HOLDINGS_H

#include "tests/harness/broker.h"

struct holdings {
    long fds;          /* -1 where that can't be seen */
    long shared_bytes; /* in its memfds */
};

/* Of a daemon that has nobody: after a first client, so that what is made once is there. */
struct holdings holdings_baseline(const struct broker *broker);
/* The daemon hears of an end a moment after it: fails the test unless it is back there soon. */
void holdings_await(const struct broker *broker, const struct holdings *baseline);

#endif
