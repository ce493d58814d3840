/* SPDX-License-Identifier: MIT */
/* Between the daemon's offsets and this process's spans. */
#ifndef CLIENT_SPAN_H
#define CLIENT_SPAN_H

#include "client/client.h"
#include "proto/result.h"

/* Fills in *span from a result that tells one. JITC_OK, or BAD_REPLY where it can't be. */
int span_from_result(const struct jitc_client *client, const struct result *result, jitc_span *span);

/* The offset of the span's first byte. JITC_OK, or FOREIGN_POINTER. */
int span_offset(const struct jitc_client *client, const void *rx, uint64_t *offset);

/* The same for a span of which [at, at + bytes) is to be written; OUT_OF_RANGE where that is not within it.
 */
int span_check_range(const struct jitc_client *client, const jitc_span *span, size_t at, size_t bytes,
                     uint64_t *offset);

/* The same for a copy from `src`, which is not NULL unless bytes is 0. */
int span_check_write(const struct jitc_client *client, const jitc_span *span, size_t at, const void *src,
                     size_t bytes, uint64_t *offset);
int span_check_policy(jitc_write_policy policy);

/* `size` rounded up to the granularity. */
size_t span_round_up(const struct jitc_client *client, size_t size);

/*
 * Makes the bytes at rx, written already, fit to run: nothing on x86. Also where the memory
 * was never handed out before: the data has to leave the data cache all the same.
 */
void span_flush(const void *rx, size_t bytes, jitc_write_policy policy);

#endif
