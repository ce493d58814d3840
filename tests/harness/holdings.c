/* SPDX-License-Identifier: MIT */
#include "tests/harness/holdings.h"

#include <check.h>
#include <stdio.h>
#include <unistd.h>

static struct holdings read_holdings(const struct broker *broker)
{
    return (struct holdings){broker_fds(broker), broker_shared_bytes(broker)};
}

struct holdings holdings_baseline(const struct broker *broker)
{
    struct holdings holdings = {.fds = -1};

    (void)jitc_close(broker_connect(broker, NULL));
    for (int i = 0; i < 100; i++) {
        holdings = read_holdings(broker);
        if (holdings.shared_bytes <= 0 && i > 10)
            break;
        (void)usleep(10000);
    }
    if (holdings.fds < 0)
        (void)printf("skipped in part: needs root, to count the daemon's descriptors\n");
    return holdings;
}

void holdings_await(const struct broker *broker, const struct holdings *baseline)
{
    struct holdings holdings = {0};

    for (int i = 0; i < 10000; i++) {
        holdings = read_holdings(broker);
        if (holdings.fds == baseline->fds && holdings.shared_bytes == baseline->shared_bytes)
            return;
        (void)usleep(i < 1000 ? 100 : 1000);
    }
    ck_abort_msg("%ld descriptors, there were %ld; %ld shared bytes, there were %ld", holdings.fds,
                 baseline->fds, holdings.shared_bytes, baseline->shared_bytes);
}
