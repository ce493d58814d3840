/* SPDX-License-Identifier: MIT */
/* The fixtures of a test that has one daemon, which serves everybody. */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include "tests/harness/broker.h"

static struct broker broker;

static inline void start(void)
{
    broker_start(&broker, NULL);
}

static inline void start_direct(void)
{
    broker_start(&broker, "[class default]\nwrite=direct\n");
}

static inline void stop(void)
{
    broker_stop(&broker);
}

/* Instead, where the test ends the daemon, if by anything but its own wish. */
static inline void bury(void)
{
    broker_kill(&broker);
    broker_stop(&broker);
}

#endif
