/* SPDX-License-Identifier: MIT */
/* What a client asks for when it says Hello, and what the daemon grants with Welcome. */
#ifndef PROTO_HELLO_H
#define PROTO_HELLO_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/result.h"

enum write_mode { WRITE_ANY = 0, WRITE_THROUGH = 1, WRITE_DIRECT = 2 };

struct hello {
    uint32_t version_min;
    uint32_t version_max;
    uint64_t features;
    uint32_t write_mode; /* enum write_mode, once it is validated */
    uint64_t arena_bytes;
    uint32_t granularity;
    uint32_t fill_pattern;
};

struct welcome {
    uint32_t version;
    uint64_t features;
    uint64_t session;
    uint32_t write_mode;
    uint64_t arena_bytes;
    uint32_t granularity;
    uint32_t fill_pattern;
    bool sealed;
    uint64_t span_max_bytes;
    uint32_t spans_max;
    uint32_t record_max_bytes;
    uint32_t write_max_bytes;
    uint32_t operations_max;
    uint32_t ring_bytes; /* 0: there is none */
    bool executor;
    char daemon[VERSION_TEXT_MAX_BYTES + 1];
};

/* The pattern of code memory nobody wrote: an instruction that traps. */
#if defined(__x86_64__) || defined(__i386__)
#define FILL_PATTERN_DEFAULT 0xCCCCCCCCu /* int3 */
#elif defined(__aarch64__)
#define FILL_PATTERN_DEFAULT 0xD4200000u /* brk #0 */
#else
#error "no trap pattern is known for this architecture"
#endif

/* True if entering memory filled with it traps, at whatever address it is entered. */
bool fill_pattern_traps(uint32_t pattern);

/* Writes it over and over. `to` is aligned to 4 bytes, and `bytes` a multiple of that. */
void fill_pattern_spread(void *to, uint64_t bytes, uint32_t pattern);

/*
 * STATUS_OK if the hello can be served by some daemon of this version, with its zeros
 * replaced by what they stand for (except arena_bytes, which is the policy's);
 * otherwise *result is the refusal.
 */
enum status hello_validate(struct hello *hello, struct result *result);
/* The same for an executor, which has no say in what its arena is. */
enum status hello_validate_executor(const struct hello *hello, struct result *result);

#endif
