/* SPDX-License-Identifier: MIT */
/* A client that says what it wants: records by hand, for what libjitclient would never send. */
#ifndef TESTS_WIRE_H
#define TESTS_WIRE_H

#include "proto/codec.h"
#include "proto/record.h"

struct wire {
    int socket;
    uint64_t last_id;
    struct record record; /* the last one received, with its descriptors until wire_close_fds() */
    struct reply_record reply;
    uint8_t out_bytes[RECORD_MAX_BYTES];
    uint8_t in_bytes[RECORD_MAX_BYTES];
    struct codec_pool pool;
};

/* Takes the socket over. Free it with wire_free(). */
struct wire *wire_new(int socket);
struct wire *wire_free(struct wire *wire);

/* An empty request with the next id. */
struct buffer wire_begin(struct wire *wire);
void wire_send(struct wire *wire, const struct buffer *request);
void wire_send_bytes(struct wire *wire, const void *bytes, size_t count);

/* Waits for a reply (wire->reply), or fails the test. */
void wire_receive(struct wire *wire);
void wire_close_fds(struct wire *wire);

/* Hello with defaults, answered by Welcome; the descriptors stay in wire->record. */
void wire_hello(struct wire *wire);
/* One operation, and its result. */
struct result wire_run(struct wire *wire, const struct request *request);

/* The session ends, with this status and a sentence that has `part` in it. */
void wire_expect_goodbye(struct wire *wire, enum status status, const char *part);
/* The connection is closed, with nothing more said. */
void wire_expect_end(struct wire *wire);

#endif
