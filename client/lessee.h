/* SPDX-License-Identifier: MIT */
/*
 * Spans carved here, in blocks that the client leases from the daemon, so that to alloc and
 * to release is no round trip. Needs the data plane; its state is guarded by the client's lock.
 *
 * The lessee's heap holds what was carved and nothing else; the daemon is told of each span,
 * and checks it, in the order of the ring: by a carve that nobody waits for, and that is told at
 * the latest with the next write. A span that this heap does not know is asked of the daemon:
 * large ones, and those for which no lease could be had, are placed by it ("foreign" here).
 *
 * Who gives up waiting for a span or a lease can't know whether it is to be had: if it comes, the span is
 * released and the lease carved from.
 *
 * A block that becomes vacant is returned, but for one, so that the next alloc finds room.
 * In a direct session the client fills what it gives back: what it writes into the same
 * memory next does not wait until the daemon would have filled it.
 */
#ifndef CLIENT_LESSEE_H
#define CLIENT_LESSEE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/jitclient.h"
#include "proto/heap.h"
#include "proto/request.h"

struct jitc_client;

/*
 * The span that a thread was handed or released last, which most often is the next that it releases or is
 * handed: both are then done without a look at the heap, in which the span stays all the while, and in a
 * direct session without the client's lock. Which span it is changes under both locks, its own second; its
 * state under its own.
 */
struct recent {
    _Alignas(128) pthread_mutex_t lock;
    enum recent_state { RECENT_NONE, RECENT_LIVE, RECENT_KEPT } state; /* KEPT: released, and nobody's */
    uint64_t offset;
    uint64_t bytes;
};

/* Threads share one where there are more. */
#define RECENTS 8u

struct lessee {
    struct heap heap;
    struct recent recents[RECENTS]; /* of a KEPT one, in a direct session, the daemon does not know yet */
    /* Live spans that the daemon placed. For a moment one too few where a program releases, after a reset,
     * what another thread has just got in the same place. */
    int64_t foreign;
    uint64_t resets;    /* so far: a lease from before one is none any more */
    uint64_t vacant;    /* 1 + the offset of the vacant block that is kept; 0: there is none */
    bool keeps_nothing; /* JITC_IMMEDIATE_RELEASE */
};

/* JITC_OK, or SYSTEM. */
int lessee_init(struct lessee *lessee, uint64_t arena_bytes, uint32_t granularity, bool keeps_nothing);
void lessee_deinit(struct lessee *lessee);

/* The larger one of `others`, the daemon's, and what there is room for here. Takes the lock. */
uint64_t lessee_largest_free_bytes(struct jitc_client *client, uint64_t others);

/* As the public functions. The offset lies in the arena. */
int lessee_alloc(struct jitc_client *client, jitc_span *span, size_t size);
int lessee_release(struct jitc_client *client, uint64_t offset);

/* Any operation but alloc: as plane_run(), but what can be done here is done here, and the daemon only told.
 */
int lessee_run(struct jitc_client *client, const struct request *request, struct result *result);
/* Whether more than one thread of this process has used any. */
bool lessee_is_shared(void);
/* With the lock held: whether the answer to that, which was just given up, is to be told to ... */
bool lessee_expects_late(struct jitc_client *client, enum operation operation);
/* ... this, which may put one entry. */
void lessee_take_late(struct jitc_client *client, enum operation operation, const struct result *result);
/* With the lock held: puts what is owed, as far as there is room. True: nothing is owed any more. */
bool lessee_pay(struct jitc_client *client);
/* Tells the daemon what it has not been told, as far as the ring is concerned. Takes the lock. */
int lessee_settle(struct jitc_client *client);

#endif
