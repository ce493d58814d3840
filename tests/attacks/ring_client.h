/* SPDX-License-Identifier: MIT */
/* A client of the data plane that does what it likes: no library keeps it from anything. */
#ifndef TESTS_RING_CLIENT_H
#define TESTS_RING_CLIENT_H

#include <stdint.h>

#include "proto/ring.h"
#include "tests/harness/broker.h"
#include "tests/harness/wire.h"

struct ring_client {
    struct wire *wire;
    struct ring ring;
    void *memory;
    int memory_fd;
    int bell;
    const uint8_t *rx;
    uint8_t *rw; /* of a direct session */
    uint64_t arena_bytes;
    uint64_t tail; /* the next entry; what was published, where the test did not lie */
};

/* Connects and says Hello with these features; fails the test unless it gets a ring. */
void ring_client_start(struct ring_client *client, const struct broker *broker, uint64_t features);
/* Forgets it; the daemon hears of it. */
void ring_client_stop(struct ring_client *client);

/* Writes it at client->tail, which goes on. Nothing is published. */
void ring_client_put(struct ring_client *client, const struct ring_entry *entry);
/* Stores any tail at all, and rings. */
void ring_client_publish_as(struct ring_client *client, uint64_t tail);
/* Publishes what was put. */
void ring_client_publish(struct ring_client *client);
/* Waits until all that was put is done, or the session has ended, which it returns. Fails the test after a
 * while. */
bool ring_client_await(struct ring_client *client);
/* Puts, publishes, waits: what it was answered; the session must go on. */
struct result ring_client_run(struct ring_client *client, const struct ring_entry *entry);
/* A span of that size, by the ring: its offset. */
uint64_t ring_client_alloc(struct ring_client *client, uint64_t size);

/* The session has ended, with a goodbye that says `part`, for an entry that is not as it must be. */
void ring_client_expect_end(struct ring_client *client, const char *part);

#endif
