/* SPDX-License-Identifier: MIT */
/*
 * Memory that ends where no page is: who reads or writes behind it dies, even if it is
 * a library that no sanitizer knows.
 */
#ifndef TESTS_FUZZ_GUARDED_H
#define TESTS_FUZZ_GUARDED_H

#include <string.h>
#include <sys/mman.h>

#include "tests/fuzz/target.h"

#define GUARD_BYTES 65536u /* a page or more, on any machine */

struct guarded {
    uint8_t *bytes;
    size_t capacity;
};

/* `capacity` is a multiple of GUARD_BYTES. Never freed: it serves every input. */
static inline void guarded_init(struct guarded *guarded, size_t capacity)
{
    uint8_t *memory;

    if (guarded->bytes != NULL)
        return;
    must(capacity % GUARD_BYTES == 0);
    memory = mmap(NULL, capacity + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED);
    must(mprotect(memory + capacity, GUARD_BYTES, PROT_NONE) == 0);
    *guarded = (struct guarded){.bytes = memory, .capacity = capacity};
}

/* A copy whose last byte is the last before the guard. */
static inline const uint8_t *guarded_copy(const struct guarded *guarded, const void *data, size_t bytes)
{
    uint8_t *start = guarded->bytes + guarded->capacity - bytes;

    must(bytes <= guarded->capacity);
    if (bytes > 0)
        memcpy(start, data, bytes);
    return start;
}

#endif
