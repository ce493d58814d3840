/* SPDX-License-Identifier: MIT */
#include "ours.h"

#include <string.h>

#include "trouble.h"

static void *publish_by_write(void *self, size_t size, const void *code, size_t bytes)
{
    jitc_span span;

    check(jitc_alloc(self, &span, size), "alloc");
    check(jitc_write(self, &span, 0, code, bytes, JITC_WRITE_DEFAULT), "write");
    return jitc_span_rx(&span);
}

static void *publish_by_store(void *self, size_t size, const void *code, size_t bytes)
{
    jitc_span span;
    char *rx;

    check(jitc_alloc(self, &span, size), "alloc");
    memcpy(jitc_span_rw(&span), code, bytes);
    rx = jitc_span_rx(&span);
    __builtin___clear_cache(rx, rx + bytes);
    return rx;
}

static void release(void *self, void *rx)
{
    check(jitc_release(self, rx), "release");
}

static void statistics(void *self, uint64_t *used_bytes, uint64_t *reserved_bytes)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    check(jitc_statistics(self, &stats), "statistics");
    *used_bytes = stats.used_bytes;
    *reserved_bytes = stats.reserved_bytes;
}

struct allocator ours_by_write(jitc_client *client)
{
    return (struct allocator){client, publish_by_write, release, statistics};
}

struct allocator ours_by_store(jitc_client *client)
{
    return (struct allocator){client, publish_by_store, release, statistics};
}
