/* SPDX-License-Identifier: MIT */
/* What the kernel says about a mapping of this process. */
#ifndef TESTS_SMAPS_H
#define TESTS_SMAPS_H

#include <check.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes of shared memory that the mapping around `address` has by huge page table entries. */
static inline uint64_t smaps_huge_bytes(const void *address)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    bool is_it = false;
    uint64_t kib = UINT64_MAX;

    ck_assert_ptr_nonnull(file);
    while (kib == UINT64_MAX && fgets(line, sizeof line, file) != NULL) {
        uint64_t from;
        uint64_t to;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            is_it = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (is_it)
            (void)sscanf(line, "ShmemPmdMapped: %" SCNu64 " kB", &kib);
    }
    (void)fclose(file);
    ck_assert_msg(kib != UINT64_MAX, "the kernel tells nothing of the mapping at %p", address);
    return kib << 10;
}

#endif
