/* SPDX-License-Identifier: MIT */
/* What became of one request: a status with a sentence, and what the operation yields. */
#ifndef PROTO_RESULT_H
#define PROTO_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/status.h"

struct usage {
    uint64_t blocks;
    uint64_t spans;
    uint64_t used_bytes;
    uint64_t reserved_bytes;
    uint64_t overhead_bytes;
    uint64_t reserved_peak_bytes;
    uint64_t huge_bytes;
    uint64_t leased_bytes;       /* of leased blocks, what no span takes */
    uint64_t largest_free_bytes; /* the largest span for which there is room, in memory that is reserved and
                                    not leased */
    uint64_t free_runs;          /* in blocks, leased ones too */
};

struct result {
    enum status status;
    const char *field; /* static, or lives as long as the record it was decoded from */
    char text[ERROR_TEXT_MAX_BYTES];

    bool has_span;
    uint64_t offset;
    uint64_t size;
    uint32_t flags;

    uint64_t found;

    bool has_usage;
    struct usage usage;
};

/* Makes *result "done, and nothing to tell", without touching the text. */
void result_init(struct result *result);

/* Makes *result a refusal and returns `status`. `field` is static, "" where no field is at fault. */
enum status result_refuse(struct result *result, enum status status, const char *field, const char *format,
                          ...) __attribute__((format(printf, 4, 5)));

#endif
