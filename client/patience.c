/* SPDX-License-Identifier: MIT */
#include "client/patience.h"

#include <time.h>

#define NS_PER_MS UINT64_C(1000000)

_Thread_local uint64_t patience_until_ns __attribute__((tls_model("initial-exec")));

uint64_t patience_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t patience_left_ms(uint32_t timeout_ms)
{
    uint64_t now = patience_now_ns();

    if (patience_until_ns == 0)
        patience_until_ns = now + timeout_ms * NS_PER_MS;
    return now >= patience_until_ns ? 0 : (uint32_t)((patience_until_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}
