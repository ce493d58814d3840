/* SPDX-License-Identifier: MIT */
/*
 * A client that sends what it likes and waits for nothing: what libjitclient would never do. It runs in a
 * process of its own, which ends where even that can't be done.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/codec.h"
#include "proto/record.h"
#include "proto/ring.h"

struct raw {
    int socket;
    int bell;
    struct ring ring;
    uint64_t tail;
    uint64_t arena_bytes;
};

/* A socket that has said nothing yet. */
int raw_socket(const char *path);
/* A session with a ring, and an arena of that size (0: the daemon's default). False if it was refused. */
bool raw_open(struct raw *raw, const char *path, uint64_t arena_bytes);
void raw_close(struct raw *raw);

/* A request with nothing in it; `bytes` has room for a record. */
struct buffer raw_begin(uint8_t *bytes);
/* Sends without waiting; false where there is no room. */
bool raw_send(const struct raw *raw, const struct buffer *request);
/* Throws the answers away that are there; returns how many. */
unsigned raw_drain(const struct raw *raw);

/* Whether the ring has room for one more. */
bool raw_has_room(const struct raw *raw);
void raw_put(struct raw *raw, const struct request *request);
/* Publishes what was put, and rings where the daemon sleeps. */
void raw_publish(struct raw *raw);

#endif
