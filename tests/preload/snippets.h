/* SPDX-License-Identifier: MIT */
/*
 * Instructions that write, each as a piece of code that can be run where it stands or be copied somewhere
 * else: the same registers and memory must come out of both. x86-64.
 */
#ifndef TESTS_PRELOAD_SNIPPETS_H
#define TESTS_PRELOAD_SNIPPETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a snippet: what it needs of the processor, and of the place that it writes to. */
#define SNIPPET_SSE41 1u
#define SNIPPET_AVX 2u
#define SNIPPET_AVX512 4u
#define SNIPPET_ALIGNED 8u /* to 64 bytes */

struct snippet {
    const char *name;
    const uint8_t *code;
    const uint8_t *end;
    uint32_t flags; /* those of RFLAGS that are defined after it */
    unsigned needs;
};

/* What goes in, and what comes out. */
struct registers {
    uint64_t rax, rcx, rdx, rbx;
    const uint8_t *rsi; /* what it reads, in some snippets */
    uint8_t *rdi;       /* what it writes */
    uint64_t flags;
    uint8_t xmm0[16];
};

extern const struct snippet snippets[];
extern const size_t snippets_count;

bool snippet_fits(const struct snippet *snippet);
/* Calls the code with these registers, and leaves in them what it left. */
void snippet_run(const uint8_t *code, struct registers *registers);

#endif
