/* SPDX-License-Identifier: MIT */
/* asmjit's JitAllocator with dual mapping, where the build found it: asmjit.cpp, else asmjit_missing.c. */
#ifndef BENCH_ASMJIT_H
#define BENCH_ASMJIT_H

#include <stdbool.h>

#include "allocator.h"

#ifdef __cplusplus
extern "C" {
#endif

/* False where there is none. What is set up is the caller's until asmjit_deinit(). */
bool asmjit_init(struct allocator *allocator);
void asmjit_deinit(struct allocator *allocator);

#ifdef __cplusplus
}
#endif

#endif
