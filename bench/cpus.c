/* SPDX-License-Identifier: MIT */
#include "cpus.h"

#include "trouble.h"

/* The next one from `cpu` on, CPU_SETSIZE if there is none. */
static unsigned next_allowed(const struct cpus *cpus, unsigned cpu)
{
    while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &cpus->allowed))
        cpu++;
    return cpu;
}

void cpus_init(struct cpus *cpus, bool on_one)
{
    if (sched_getaffinity(0, sizeof cpus->allowed, &cpus->allowed) != 0)
        die("sched_getaffinity");
    cpus->server = next_allowed(cpus, 0);
    cpus->client = next_allowed(cpus, cpus->server + 1);
    cpus->two = !on_one && cpus->client < CPU_SETSIZE;
    if (!cpus->two)
        cpus->client = cpus->server;
}

void cpus_pin(const struct cpus *cpus, enum side side)
{
    cpu_set_t set = cpus->allowed;

    if (side != SIDE_ANY) {
        CPU_ZERO(&set);
        CPU_SET(side == SIDE_SERVER ? cpus->server : cpus->client, &set);
    }
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die("sched_setaffinity");
}
