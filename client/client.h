/* SPDX-License-Identifier: MIT */
/*
 * What a jitc_client holds. Its lock guards everything below it; what is above is
 * set by jitc_connect() and its kin and does not change.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <pthread.h>
#include <stdbool.h>

#include "client/arena_map.h"
#include "client/jitclient.h"
#include "proto/codec.h"

struct jitc_client {
    uint64_t mark; /* of the process that connected, see fork_guard.h */
    uint32_t timeout_ms;
    struct welcome welcome;
    struct arena_map map;
    bool has_barrier; /* the kernel can make all threads see patched code */

    pthread_mutex_t lock;
    int socket; /* open until jitc_close(): as long as it is, the daemon leaves the arena its memory */
    uint64_t last_id;
    bool is_lost;     /* nothing is said on the socket any more ... */
    char lost[256];   /* ... because of this */
    uint8_t *records; /* one to send, one received */
    struct codec_pool pool;
};

/* options with all defaults where that is NULL or shorter than this library's. */
jitc_options client_options(const jitc_options *options);

/*
 * Says Hello on a connected socket, which it takes over, and maps the arena. *client
 * is set on success only. JITC_OK, or a status with its detail set.
 */
int client_new(struct jitc_client **client, int socket, const jitc_options *options);

/* JITC_OK if this process may use the client at all, else the status with its detail set. */
int client_check(const struct jitc_client *client);

#endif
