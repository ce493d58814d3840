/* SPDX-License-Identifier: MIT */
/*
 * Looks at the rings of all planes that are awake, for as long as that is worth it.
 *
 * To be woken costs more than to look for a while, so a plane stays awake for spin_ns
 * after its last entry. That is the configured `spin_us`, and less, down to a few microseconds,
 * while no client uses it: each time that nobody had woken the daemon within that time of its
 * falling asleep halves it, and each time that somebody had doubles it (as KVM's halt
 * polling does). Not at all where the client waits for the very processor that we are on.
 *
 * Between two turns of the loop there are at most POLLER_TURN_NS of it, so that
 * sockets are served as well. Time is shared by user: in one sweep over all rings a user
 * gets POLLER_SLICE_NS, whatever the number of its sessions, and at least a batch of one of them;
 * the next sweep goes on with the one after.
 */
#ifndef DAEMON_POLLER_H
#define DAEMON_POLLER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define POLLER_TURN_NS UINT64_C(20000)
#define POLLER_SLICE_NS UINT64_C(50000)

struct account;
struct plane;

struct poller {
    uv_idle_t idle;
    struct account *accounts; /* those that have a plane awake */
    uint64_t moved_bytes;     /* for the planes, since the clock was looked at last */
    uint64_t spin_max_ns;
    uint64_t spin_ns;
    uint64_t slept_at_ns; /* when the last plane went to sleep */
    int cpu;              /* where we were when this turn began */
};

void poller_init(struct poller *poller, uv_loop_t *loop);
/* How long to look at a ring in which nothing happens, at most. */
void poller_set_spin(struct poller *poller, uint64_t max_ns);
void poller_deinit(struct poller *poller);

void poller_add(struct poller *poller, struct plane *plane);
/* Allowed also for one that is not there. */
void poller_remove(struct poller *poller, struct plane *plane);

#endif
