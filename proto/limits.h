/* SPDX-License-Identifier: MIT */
/* The protocol's fixed numbers. A peer learns those that may change from Welcome. */
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

#include <stdint.h>

#define PROTOCOL_VERSION 1u

/* Hello.features, Welcome.features */
#define FEATURE_IMMEDIATE_RELEASE UINT64_C(0x1)
#define FEATURE_LARGE_PAGES UINT64_C(0x2)
#define FEATURE_RING UINT64_C(0x4)
#define FEATURE_EXECUTORS UINT64_C(0x8)

/* A record either way. Below Linux's default SO_SNDBUF (212,992), so that it can always be sent. */
#define RECORD_MAX_BYTES 131072u
/* Write.data; leaves room in the record for the rest of it. */
#define WRITE_MAX_BYTES 65536u
#define OPERATIONS_MAX 256u
#define ERROR_TEXT_MAX_BYTES 200u
#define VERSION_TEXT_MAX_BYTES 63u

/* No span is larger: what one operation takes the daemon from its other clients is bounded by it. */
#define SPAN_LIMIT_BYTES (UINT64_C(32) << 20)

#define BLOCK_BYTES 65536u
#define GRANULARITY_MIN_BYTES 64u
#define GRANULARITY_MAX_BYTES 256u
#define ARENA_MIN_BYTES ((uint64_t)BLOCK_BYTES)
#define ARENA_LIMIT_BYTES (UINT64_C(1) << 36)

/* Span.flags */
#define SPAN_ICACHE_CLEAN 0x1u
#define SPAN_SEALED 0x2u

#endif
