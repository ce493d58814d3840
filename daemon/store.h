/* SPDX-License-Identifier: MIT */
/*
 * The service manager, as sd_notify(3) has it, and its fd store (FDSTORE=1): what is in that outlives this
 * process, and comes back to the next one by LISTEN_FDS. Whatever is said to the manager is said here.
 *
 * Invariants:
 * - The manager, which serves the whole machine, has little to do for a user who comes and goes without end:
 *   each may add so many a second. Who would be ahead of that waits.
 * - Nothing waits for a manager that has no room, as sd_notify() would. What has to arrive, as what is to be
 *   removed, arrives later, in its order; who has something to add is told, and the client waits.
 * - What is to be removed goes before what is to be added: so the manager never has more than we count. Until
 *   it is removed it is only a burden: a ledger says by itself that its session has ended.
 */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "proto/record.h"

#define STORE_NAME_MAX_BYTES 63u
/* All names are one string in the environment of the next process, of which the kernel takes 128 KiB. */
#define STORE_NAMES_MAX_BYTES (120u << 10)

/* What a user may add a second, and at once after a rest. */
#define STORE_RATE 100u
#define STORE_BURST 1000u
/* Users that are ahead of their rate at the same time; more than that share one. */
#define STORE_PACES 64u
/* How long to wait for a manager that has no room. */
#define STORE_RETRY_NS UINT64_C(10000000)

struct store_message;

struct store_pace {
    uid_t uid;
    uint64_t due_ns; /* by when what was added would be at the rate */
};

struct store {
    int socket;                    /* to the manager; -1: there is none */
    uv_poll_t poll;                /* of the socket, while something waits */
    struct store_message *waiting; /* what the manager had no room for yet */
    size_t names_bytes;            /* of all that is stored, each with a separator */
    uint64_t count;                /* of them */
    uint64_t count_max;            /* that the manager takes; UINT64_MAX: it does not say */
    struct store_pace paces[STORE_PACES];
};

/* Connects to $NOTIFY_SOCKET, if there is one. */
void store_init(struct store *store, uv_loop_t *loop);
/* Tries once more to say what waits; what is to be removed then the next process finds to be nobody's. */
void store_deinit(struct store *store);

/* Whether something can be stored: there is a manager, and it may keep something. */
static inline bool store_is_there(const struct store *store)
{
    return store->socket >= 0 && store->count_max > 0;
}

/* Tells the manager, now or not at all. 0, also where there is none, or -errno: -EAGAIN where it has no room.
 */
int store_say(const struct store *store, const char *text);
/* The same, later if need be: after what waits already. */
void store_tell(struct store *store, const char *text);

/* 0: that user may add something, and there is room; or how long to wait before asking once more. */
uint64_t store_wait_ns(struct store *store, uid_t uid, uint64_t now_ns);
/* That user adds something. */
void store_pace(struct store *store, uid_t uid, uint64_t now_ns);
/*
 * Stores them under a name of their own. 0 or -errno: none of them is stored; -ENOSPC: there are too many
 * already, or their names are too long.
 *
 * More than one are stored as one, a *parcel*: a socket with a record of one byte in it, which brings them.
 * For the manager compares each descriptor with all that it has, and has to name each in the environment of
 * the next process, which has an end at 128 KiB. store_unpack() gets at what is in it, and leaves it there.
 */
int store_add(struct store *store, const char *name, const int *fds, unsigned count);
/* Something is stored under that name already, by an earlier process. */
void store_note(struct store *store, const char *name);
/* Returns how many there were, which are the caller's: 0 where it is no parcel. */
unsigned store_unpack(int parcel, int fds[RECORD_FDS_MAX]);
/* Removes what store_add() or store_note() was told of. */
void store_remove(struct store *store, const char *name);

#endif
