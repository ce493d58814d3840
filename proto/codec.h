/* SPDX-License-Identifier: MIT */
/*
 * Between records and structures: syntax only, in both directions, and the only
 * place that knows protobuf. Decoding allocates from a pool of fixed size that the
 * caller owns, so no record can make a peer use more memory than that; what it
 * decoded lives until the pool decodes the next record.
 *
 * A record is built by appending: protobuf defines the concatenation of two encoded
 * messages as their merge, so operations and results are added one by one.
 */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/hello.h"
#include "proto/request.h"
#include "proto/result.h"

struct buffer {
    uint8_t *bytes;
    size_t capacity;
    size_t used;
};

struct codec_pool {
    uint8_t *bytes; /* aligned as malloc() does */
    size_t capacity;
    size_t used;
};

/* A pool of this size decodes every record of OPERATIONS_MAX operations that says each field once. */
#define CODEC_POOL_BYTES (RECORD_MAX_BYTES + 1024u * OPERATIONS_MAX)

struct request_record {
    uint64_t id;
    bool has_hello;
    struct hello hello;
    bool has_unknown_fields;
    size_t operations_count;
    bool has_open_executor;
    const void *message; /* private */
};

struct reply_record {
    uint64_t id;
    bool has_error;
    struct result error;
    bool has_welcome;
    struct welcome welcome;
    size_t results_count;
    const void *message; /* private */
};

/* False if the record is no message of the protocol, or does not fit the pool. */
bool codec_decode_request(struct codec_pool *pool, const void *data, size_t bytes,
                          struct request_record *record);
bool codec_decode_reply(struct codec_pool *pool, const void *data, size_t bytes, struct reply_record *record);

/* Operation `index` of the record; a refusal in *result if this version does not know all of it. */
enum status codec_operation(const struct request_record *record, size_t index, struct request *request,
                            struct result *result);
/* Result `index` of the record. Its `field` and text are cut to what struct result holds. */
void codec_result(const struct reply_record *record, size_t index, struct result *result);

/* Each appends to the record in `out`, or returns false and leaves it as it was: no room. */
bool codec_put_request(struct buffer *out, uint64_t id);
bool codec_put_hello(struct buffer *out, const struct hello *hello);
bool codec_put_operation(struct buffer *out, const struct request *request);
bool codec_put_open_executor(struct buffer *out);
bool codec_put_reply(struct buffer *out, uint64_t id);
bool codec_put_error(struct buffer *out, const struct result *error);
bool codec_put_welcome(struct buffer *out, const struct welcome *welcome);
bool codec_put_result(struct buffer *out, const struct result *result);

#endif
