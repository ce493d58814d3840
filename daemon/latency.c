/* SPDX-License-Identifier: MIT */
#include "daemon/latency.h"

void latency_add(struct latency_operation *operation, uint64_t ns, uint64_t weight)
{
    operation->buckets[bucket_of(ns)] += weight;
    operation->sum_ns += ns * weight;
}
