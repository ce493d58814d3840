/* SPDX-License-Identifier: MIT */
/*
 * One operation as the daemon runs it, whichever plane it came by, and the check
 * of all that can be checked without knowing which spans are live.
 */
#ifndef PROTO_REQUEST_H
#define PROTO_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/result.h"

enum operation {
    OPERATION_ALLOC,
    OPERATION_RELEASE,
    OPERATION_SHRINK,
    OPERATION_QUERY,
    OPERATION_WRITE,
    OPERATION_PATCH,
    OPERATION_SEAL,
    OPERATION_RESET,
    OPERATION_STATISTICS,
    OPERATION_LEASE,
    OPERATION_CARVE,
    OPERATION_RETURN,
    OPERATION_COUNT
};

enum reset_kind { RESET_SOFT = 0, RESET_HARD = 1 };

struct request {
    enum operation operation;
    uint64_t
        span; /* first byte of a span, from the start of the arena; query: any byte; return: of a block */
    uint64_t size;       /* alloc, shrink, carve: bytes; lease: of the span that it is to have room for */
    uint64_t at;         /* write, patch: from the start of the span */
    const uint8_t *data; /* write: borrowed from the record */
    size_t data_bytes;
    uint32_t width; /* patch: bytes */
    uint64_t expected;
    uint64_t desired;
    uint32_t kind; /* reset: enum reset_kind */
    bool filled;   /* release, shrink, in a direct session: the client has trap-filled what it gives back */
};

/* What a session was granted, as far as a request can offend against it. */
struct shape {
    uint64_t arena_bytes;
    uint64_t span_max_bytes;
    uint32_t granularity;
    bool is_direct;
};

/*
 * STATUS_OK if the request makes sense in a session of that shape; otherwise
 * *result is the refusal. Afterwards no sum or product of its fields overflows, and
 * `span` is where a span could start.
 */
enum status request_validate(const struct request *request, const struct shape *shape, struct result *result);

/* Whether it leaves spans and bytes as they are: what an executor may ask for. */
bool operation_only_reads(enum operation operation);

/* "alloc", "write", ... */
const char *operation_name(enum operation operation);

#endif
