/* SPDX-License-Identifier: MIT */
/* What every fuzz target defines, and what it checks with. */
#ifndef TESTS_FUZZ_TARGET_H
#define TESTS_FUZZ_TARGET_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Called again and again; aborts where the code under test broke a promise. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define must(condition)                                                                   \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)
#define must_be(got, wanted)                                                                                 \
    do {                                                                                                     \
        uint64_t got_ = (uint64_t)(got);                                                                     \
        uint64_t wanted_ = (uint64_t)(wanted);                                                               \
        if (got_ != wanted_) {                                                                               \
            (void)fprintf(stderr, "%s:%d: %s: 0x%" PRIx64 ", not 0x%" PRIx64 "\n", __FILE__, __LINE__, #got, \
                          got_, wanted_);                                                                    \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
