/* SPDX-License-Identifier: MIT */
/*
 * A client that knows what it has: every live span, each of its bytes, and how often a counter was raised.
 * It does what it is told, or anything at random, and compares what is there with what it knows.
 *
 * Nothing in here fails but by must(): then the process says what was not so, and ends with status 1.
 */
#ifndef TESTS_WITNESS_H
#define TESTS_WITNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/jitclient.h"

enum { WITNESS_SPANS = 24 };

enum witness_act {
    WITNESS_ALLOC, /* and mostly writes it at once */
    WITNESS_WRITE,
    WITNESS_WRITE_FN, /* may shrink it */
    WITNESS_SCOPE,    /* writes several */
    WITNESS_PATCH,
    WITNESS_COUNT, /* raises the counter, by a patch */
    WITNESS_SHRINK,
    WITNESS_SEAL,
    WITNESS_RELEASE,
    WITNESS_QUERY,
    WITNESS_CALL,
    WITNESS_EXECUTOR, /* another end of the session sees the same */
    WITNESS_ACTS,
    WITNESS_RESET = WITNESS_ACTS, /* not at random: nobody else may use the client */
};

struct witness_span {
    jitc_span span; /* rx NULL: none */
    uint8_t *bytes; /* what is in there */
    uint32_t value; /* what it returns, if it begins with code */
    bool has_code;
    bool is_written; /* at least in its first granule */
    bool is_sealed;
};

struct witness {
    jitc_client *client;
    unsigned random; /* rand_r()'s */
    uint32_t fill;
    bool is_once; /* what was written stays */
    bool has_no_executors;
    uint64_t acts;
    jitc_span counter;
    uint64_t counted;
    struct witness_span spans[WITNESS_SPANS];
};

#define must(condition)                                   \
    do {                                                  \
        if (!(condition))                                 \
            witness_fail(__FILE__, __LINE__, #condition); \
    } while (0)

/* Says so, with the library's last words, and ends the process. */
void witness_fail(const char *file, int line, const char *condition) __attribute__((noreturn));

/* Of a client that it does not own. */
void witness_init(struct witness *witness, jitc_client *client, unsigned seed, bool is_once);
/* Forgets all; the client may be gone. */
void witness_deinit(struct witness *witness);

/* With a span chosen at random that fits, if there is one. */
void witness_do(struct witness *witness, enum witness_act act);
void witness_do_any(struct witness *witness);

/* One of that many bytes, which stay trap fill; NULL: it has as many as it can. */
struct witness_span *witness_take(struct witness *witness, size_t bytes);
/* New content for its first `bytes`, a multiple of four, that begins with code. */
void witness_write(struct witness *witness, struct witness_span *own, size_t bytes);
void witness_shrink(struct witness *witness, struct witness_span *own, size_t keep);
void witness_seal(struct witness *witness, struct witness_span *own);
void witness_release(struct witness *witness, struct witness_span *own);
void witness_release_all(struct witness *witness);
/* In a scope; and by a callback that keeps a part of it. */
void witness_write_in(struct witness *witness, jitc_scope *scope, struct witness_span *own, size_t bytes);
void witness_write_fn(struct witness *witness, struct witness_span *own);

/* Every byte, every span's place, length and flags, and the counter. */
void witness_check(struct witness *witness);
/* Live ones, the counter's too. */
unsigned witness_count(const struct witness *witness);
/* The live spans, the counter's first; `spans` has room for WITNESS_SPANS + 1. Returns how many. */
unsigned witness_list(const struct witness *witness, jitc_span *spans);

/* Of whose session nobody else has a part: all of the above, and what an executor of it sees. */
void witness_check_session(struct witness *witness, jitc_client *executor);
/*
 * That these spans, which it sorts, are all that the session has: none lies over another, the daemon counts
 * as many and as large ones, and between them is trap fill. Returns how long the arena is.
 */
uint64_t witness_check_arena(jitc_client *client, jitc_span *spans, unsigned count);
/* That the session may have exactly so many spans, of which `live` are there, or so much memory. */
void witness_check_spans_quota(jitc_client *client, unsigned live, unsigned most);
void witness_check_bytes_quota(jitc_client *client, uint64_t most);

#endif
