/* SPDX-License-Identifier: MIT */
#include "proto/hello.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

static const uint32_t trap_patterns[] = {
#if defined(__x86_64__) || defined(__i386__)
    /* Only patterns of one repeated byte: an x86 instruction can start at any of them. */
    FILL_PATTERN_DEFAULT, 0xF4F4F4F4u, /* hlt, privileged */
#else
    FILL_PATTERN_DEFAULT,
#endif
};

bool fill_pattern_traps(uint32_t pattern)
{
    for (size_t i = 0; i < sizeof trap_patterns / sizeof trap_patterns[0]; i++) {
        if (trap_patterns[i] == pattern)
            return true;
    }
    return false;
}

void fill_pattern_spread(void *to, uint64_t bytes, uint32_t pattern)
{
    if (pattern == (pattern & 0xFFu) * 0x01010101u) {
        memset(to, (int)(pattern & 0xFFu), bytes);
        return;
    }
    for (uint64_t at = 0; at < bytes; at += sizeof pattern)
        memcpy((uint8_t *)to + at, &pattern, sizeof pattern);
}

static enum status validate_versions(const struct hello *hello, struct result *result)
{
    if (hello->version_min > hello->version_max)
        return result_refuse(result, STATUS_INVALID, "version_min",
                             "%" PRIu32 " is above version_max %" PRIu32, hello->version_min,
                             hello->version_max);
    if (hello->version_min > PROTOCOL_VERSION || hello->version_max < PROTOCOL_VERSION)
        return result_refuse(result, STATUS_VERSION, "version_max",
                             "the client speaks versions %" PRIu32 " to %" PRIu32 ", this daemon only %u",
                             hello->version_min, hello->version_max, PROTOCOL_VERSION);
    return STATUS_OK;
}

enum status hello_validate(struct hello *hello, struct result *result)
{
    if (validate_versions(hello, result) != STATUS_OK)
        return result->status;
    if (hello->granularity == 0)
        hello->granularity = GRANULARITY_MIN_BYTES;
    if (hello->granularity != 64 && hello->granularity != 128 && hello->granularity != 256)
        return result_refuse(result, STATUS_INVALID, "granularity", "%" PRIu32 "; it is 64, 128 or 256 bytes",
                             hello->granularity);
    if (hello->fill_pattern == 0)
        hello->fill_pattern = FILL_PATTERN_DEFAULT;
    if (!fill_pattern_traps(hello->fill_pattern))
        return result_refuse(result, STATUS_INVALID, "fill_pattern",
                             "0x%08" PRIx32 " does not trap wherever it is entered; use 0x%08" PRIx32,
                             hello->fill_pattern, FILL_PATTERN_DEFAULT);
    if (hello->write_mode != WRITE_ANY && hello->write_mode != WRITE_THROUGH &&
        hello->write_mode != WRITE_DIRECT)
        return result_refuse(result, STATUS_INVALID, "write_mode",
                             "%" PRIu32 "; it is any (0), through (1) or direct (2)", hello->write_mode);
    if (hello->arena_bytes > ARENA_LIMIT_BYTES)
        return result_refuse(result, STATUS_TOO_LARGE, "arena_bytes",
                             "%" PRIu64 " bytes; no arena exceeds %" PRIu64, hello->arena_bytes,
                             ARENA_LIMIT_BYTES);
    return STATUS_OK;
}

enum status hello_validate_executor(const struct hello *hello, struct result *result)
{
    const struct {
        uint64_t wish;
        const char *field;
    } wishes[] = {
        {hello->granularity, "granularity"},
        {hello->fill_pattern, "fill_pattern"},
        {hello->write_mode, "write_mode"},
        {hello->arena_bytes, "arena_bytes"},
    };

    if (validate_versions(hello, result) != STATUS_OK)
        return result->status;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        if (wishes[i].wish != 0)
            return result_refuse(result, STATUS_INVALID, wishes[i].field,
                                 "%" PRIu64 "; an executor takes the arena as its owner has it: 0",
                                 wishes[i].wish);
    }
    return STATUS_OK;
}
