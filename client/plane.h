/* SPDX-License-Identifier: MIT */
/*
 * The client's end of the data plane (proto/ring.h): operations are put into the ring under the
 * client's lock, which is never held while anybody waits for the daemon.
 *
 * Most operations are not waited for. What the daemon refuses of them goes to the sink that was
 * named when they were put, or, without one, to `unanswered`, until somebody asks. A result
 * is copied out of its slot before the slot can be used again, so whoever waits may be late.
 *
 * Who waits for too long gives up, and its entries are no longer its own: what they are answered is told to
 * nobody, but that the lessee gives back what a late answer brings. They stay in the ring: the daemon,
 * or the next one, does them when it can.
 */
#ifndef CLIENT_PLANE_H
#define CLIENT_PLANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/failure.h"
#include "client/jitclient.h"
#include "proto/request.h"
#include "proto/result.h"
#include "proto/ring.h"

struct jitc_client;

/* Data of one entry is at most this, so that the daemon copies the first part while the next is staged. */
#define PLANE_CHUNK_BYTES (32u << 10)

/* Who is told of an entry. Must live until the entry is done, or given up. */
struct sink {
    struct result *result;  /* gets the answer; NULL: only refusals are of interest */
    struct failure failure; /* the first refusal; its status is JITC_OK: there was none */
};

static inline void sink_init(struct sink *sink, struct result *result)
{
    sink->result = result;
    sink->failure.status = 0; /* JITC_OK; the rest is of no importance then */
}

/* What we remember of an entry until it is collected. */
struct put {
    struct sink *sink; /* may be gone where nothing was answered and none was wanted */
    uint64_t staged;   /* bytes, this entry's included */
    uint32_t resets;   /* lessee.resets, as far as that goes */
    uint8_t operation; /* enum operation */
    bool is_wanted;    /* the sink wants a result */
};

struct plane {
    struct ring ring;
    void *memory; /* NULL: there is none, and the socket does everything */
    int bell;

    uint32_t room;            /* entries that may be in the ring: RING_ENTRIES, but none while something is
                                 owed, which goes first */
    uint64_t tail;            /* the next entry to be put */
    uint64_t published;       /* what the daemon knows of it */
    uint64_t collected;       /* entries whose answers were taken */
    _Atomic uint64_t refused; /* refusals among those, each told to its sink */
    uint64_t staged;          /* bytes staged so far, and what was skipped */
    uint64_t staged_done;     /* those that are free again */
    unsigned wanted;          /* entries not collected whose sink wants a result */
    struct put put[RING_ENTRIES];
    struct sink unanswered;
    struct sink late;         /* of entries that were given up, and may bring what is to be given back ... */
    struct result ignored;    /* ... as it wants to know */
    struct sink nobody;       /* of those that bring nothing */
    _Atomic uint64_t overdue; /* entries below this have been waited for too long; 0: none */
    _Atomic uint64_t looked_ns; /* when it was last seen whether the daemon is there, by who fails fast */

    _Atomic uint32_t spin_ns; /* for how long it is worth to look before sleeping */
};

/* Maps the ring; both descriptors stay the caller's on failure, which returns a status with its detail set.
 */
int plane_init(struct plane *plane, int memory_fd, int bell);
/* In a child (`inherited`) the mapping is not there. */
void plane_deinit(struct plane *plane, bool inherited);

/* ---- With the client's lock held ------------------------------------------------------- */

/*
 * Makes room for so many entries and one run of staged bytes. Waits, without the lock, until there is: what
 * the lock guards may have changed. JITC_OK, TIMEOUT, or why the connection is lost.
 */
int plane_reserve(struct jitc_client *client, unsigned entries, size_t bytes);
/* The same for entries without data; inline, since there is room mostly. */
static inline int plane_reserve_entries(struct jitc_client *client, struct plane *plane, unsigned entries)
{
    return plane->tail + entries - plane->collected <= plane->room ? JITC_OK
                                                                   : plane_reserve(client, entries, 0);
}
/* Whether there is room for so many, whatever is owed. */
static inline bool plane_has_entries(const struct plane *plane, unsigned entries)
{
    return plane->tail + entries - plane->collected <= RING_ENTRIES;
}
/*
 * Waits, without the lock, until what was waited for too long is done: before something is asked for that
 * would else only lie behind it. JITC_OK, TIMEOUT, or why the connection is lost.
 */
int plane_await_overdue(struct jitc_client *client);
static inline int plane_settle(struct jitc_client *client, struct plane *plane)
{
    return plane->overdue == 0 ? JITC_OK : plane_await_overdue(client);
}
/* Takes the answers of all that is done. */
void plane_collect(struct jitc_client *client);
/* Puts an entry for which there is room; returns its number. The data is copied. `sink` may be NULL. */
uint64_t plane_put(struct jitc_client *client, const struct request *request, struct sink *sink);
/*
 * The same for a write of any size, in chunks: reserves for each, so it may wait. The rest is left out once
 * the sink was told of a refusal, not counting earlier ones. *number is the last entry's. JITC_OK, or with
 * all entries of the sink given up TIMEOUT, or why the connection is lost.
 */
int plane_put_write(struct jitc_client *client, const struct request *request, struct sink *sink,
                    uint64_t *number);
/* Takes the last entry back if it is this carve and the daemon has not been told of it. */
bool plane_take_back(struct plane *plane, uint64_t span);
/* Tells the daemon of all that was put, and wakes it if it sleeps. */
void plane_publish(struct plane *plane);
/* The same for what nobody waits for: once `gathered` entries are to be told, and wakes it only where the
 * ring fills up. */
void plane_publish_lazily(struct plane *plane, unsigned gathered);
/*
 * One operation for which there is room, start to end, with the lock let go while it is waited for. The
 * status of *result, with its detail set.
 */
int plane_run(struct jitc_client *client, const struct request *request, struct result *result);

/* ---- Without it -------------------------------------------------------------------------- */

/*
 * Waits until entry `number`, which was published, is done and its sink, if it wants a result, was told. On
 * failure all entries of `sink` (may be NULL) are given up.
 */
int plane_wait(struct jitc_client *client, uint64_t number, struct sink *sink);
/*
 * The same for a sink that wants none: without the lock, unless something was refused. Where one sink has
 * many entries, `number` is the last.
 */
int plane_wait_done(struct jitc_client *client, uint64_t number, struct sink *sink);
/* JITC_OK, or what the unanswered operations that are done ran into first, which is told once. */
int plane_tell_refusal(struct jitc_client *client);
/* Waits until all that was put is done. */
int plane_flush(struct jitc_client *client);

#endif
