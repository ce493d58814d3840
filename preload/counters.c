/* SPDX-License-Identifier: MIT */
#include "preload/counters.h"

#include <inttypes.h>
#include <time.h>

#include "preload/settings.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_US 1000u

struct counters counters;

uint64_t counters_now(void)
{
    struct timespec now;

    if (!settings.stats)
        return 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void counters_print(void)
{
    settings_log(
        "flips=%" PRIu64 " pages=%" PRIu64 " writable=%" PRIu64 " writes=%" PRIu64 " bytes=%" PRIu64
        " fetch_faults=%" PRIu64 " store_faults=%" PRIu64 " steps=%" PRIu64 " traps=%" PRIu64
        " moves=%" PRIu64 " chunks=%" PRIu64 " chunks_max=%" PRIu64 " broker_us=%" PRIu64 " all_us=%" PRIu64,
        counters.flips, counters.pages, counters.writable, counters.writes, counters.sent_bytes,
        counters.fetch_faults, counters.store_faults, counters.steps, counters.traps, counters.moves,
        counters.chunks, counters.chunks_max, counters.broker_ns / NS_PER_US, counters.all_ns / NS_PER_US);
}
