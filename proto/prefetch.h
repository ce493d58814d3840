/* SPDX-License-Identifier: MIT */
/* Memory that is about to be written, called for while there is something else to do. */
#ifndef PROTO_PREFETCH_H
#define PROTO_PREFETCH_H

#include <stddef.h>

/* What most functions are long. */
#define PREFETCH_BYTES 512u

/* A hint: `at` need not be valid. */
static inline void prefetch_to_write(const void *at)
{
    for (size_t line = 0; line < PREFETCH_BYTES; line += 64)
        __builtin_prefetch((const char *)at + line, 1);
}

#endif
