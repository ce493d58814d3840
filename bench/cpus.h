/* SPDX-License-Identifier: MIT */
/*
 * Who runs where. Of the processors that this process may use the first is the daemon's and
 * that of the floors' servers, the second is the clients'. With one processor, or where one is
 * wanted, both are the first.
 */
#ifndef BENCH_CPUS_H
#define BENCH_CPUS_H

#include <sched.h>
#include <stdbool.h>

enum side {
    SIDE_SERVER,
    SIDE_CLIENT,
    SIDE_ANY, /* wherever the scheduler likes */
};

struct cpus {
    cpu_set_t allowed;
    unsigned server;
    unsigned client;
    bool two; /* server and client are not the same */
};

void cpus_init(struct cpus *cpus, bool on_one);
/* Pins the calling thread, and what it starts from now on. */
void cpus_pin(const struct cpus *cpus, enum side side);

#endif
