/* SPDX-License-Identifier: MIT */
/*
 * What a jitc_client holds. What is above the lock is set by jitc_connect() and its kin and does not change.
 * The lock guards the ring's part; it is never held while anybody waits for the daemon. The socket's part
 * belongs to the thread that has the turn (call.h), which is taken and given back under the lock.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <pthread.h>
#include <stdbool.h>

#include "client/arena_map.h"
#include "client/fork_guard.h"
#include "client/jitclient.h"
#include "client/lessee.h"
#include "client/owed.h"
#include "client/plane.h"
#include "proto/codec.h"

/* Requests of one call that are on their way at once, and one that tells what is owed. */
#define ASKED_MAX 5u

struct jitc_client {
    uint64_t mark; /* of the process that connected, see fork_guard.h */
    uint32_t timeout_ms;
    uint32_t fd_min;
    bool fails_fast; /* JITC_FAIL_FAST */
    struct welcome welcome;
    struct arena_map map;
    bool has_barrier; /* the kernel can make all threads see patched code */

    pthread_mutex_t lock;
    _Atomic bool is_lost;   /* nothing is said to the daemon any more ... */
    _Atomic bool is_losing; /* ... by who was the first to find out, and ... */
    char lost[256];         /* ... because of this, which does not change when is_lost is set */
    struct plane plane;
    struct lessee lessee; /* where there is a plane */
    struct owed owed;     /* goes by the ring where there is one, else by the socket */
    bool is_talking;      /* some thread has the turn */
    pthread_cond_t turn;

    int cancel_state; /* of the thread that has the turn, before it did */
    int socket;       /* open until jitc_close(): with its end the daemon takes the arena's memory back */
    uint64_t last_id;
    struct asked {
        uint64_t id;
        bool brings_span; /* that is to be released if nobody waits for it any more */
    } asked[ASKED_MAX];   /* requests that are not answered */
    unsigned asked_count;
    bool is_overdue;  /* one of them has been waited for in vain */
    uint8_t *records; /* one to send, one received */
    struct codec_pool pool;
};

/* Fills in *all from the caller's options (NULL: the defaults). JITC_OK, or INVALID with its detail set. */
int client_options(const jitc_options *options, jitc_options *all);

/* JITC_OK if a struct with that struct_size can be filled in: it is at least as large as it was in 0.1.0. */
int client_check_struct(const char *name, size_t struct_size, size_t needed);

/*
 * Says Hello on a connected socket, which it takes over, and maps the arena, as an owner or as an
 * executor. *client is set on success only. JITC_OK, or a status with its detail set.
 */
int client_new(struct jitc_client **client, int socket, const jitc_options *options, bool is_executor);

/*
 * A program that closed its standard streams would print into what got their number; `fd_min` as in
 * jitc_options. JITC_OK, or SYSTEM with *fd as it was.
 */
int client_move_fd(int *fd, uint32_t fd_min);

/* JITC_OK if this process may use the client at all, else the status with its detail set. */
int client_check(const struct jitc_client *client);
/* The same for what executors may not do. */
int client_check_owner(const struct jitc_client *client);
/* With the lock held: has it done as soon as the daemon can be told. TIMEOUT; or SYSTEM, and nothing is owed.
 */
int client_owe(struct jitc_client *client, const struct request *request);
/* Lets the lock go, and returns the status of a client that is lost, with its detail set. */
int client_unlock_lost(struct jitc_client *client);

/*
 * Locks the client; JITC_OK with the lock held, or a status with its detail set: not ours, or lost. There
 * is no place under this lock where a thread can be cancelled.
 */
static inline int client_lock(struct jitc_client *client)
{
    if (client == NULL || !fork_guard_is_ours(client->mark))
        return client_check(client);
    (void)pthread_mutex_lock(&client->lock);
    return client->is_lost ? client_unlock_lost(client) : JITC_OK;
}

/* The same without looking whether the client is ours, which was done before, or lost. */
static inline void client_relock(struct jitc_client *client)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): client_check() has refused NULL */
    (void)pthread_mutex_lock(&client->lock);
}

static inline void client_unlock(struct jitc_client *client)
{
    (void)pthread_mutex_unlock(&client->lock);
}

#endif
