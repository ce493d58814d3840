/* SPDX-License-Identifier: MIT */
#include "preload/alternate.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "preload/system.h"

/* Of which our handlers leave the rest to the program's. */
#define ENOUGH_BYTES (UINT64_C(32) << 10)
#define LARGE_BYTES (UINT64_C(64) << 10)

/* This thread's. */
static _Thread_local struct {
    stack_t told; /* what the program set, where ours is in its place */
    void *large;  /* NULL: it isn't */
} alternate __attribute__((tls_model("initial-exec")));

static int set(const stack_t *stack, stack_t *old)
{
    return (int)system_call(SYS_sigaltstack, (long)stack, (long)old, 0, 0, 0, 0);
}

int alternate_stack(const stack_t *stack, stack_t *old)
{
    void *before = alternate.large;
    stack_t told = alternate.told;
    stack_t large;
    stack_t found = {.ss_size = 0};
    long memory;
    int error;

    /* The kernel's own checks come first: of its size, its flags, and whether the old one is in use. */
    error = set(stack, &found);
    if (error != 0)
        return error;
    if (old != NULL) {
        *old = before != NULL ? told : found;
        if (before != NULL)
            old->ss_flags = (int)((unsigned)told.ss_flags | ((unsigned)found.ss_flags & SS_ONSTACK));
    }
    if (stack == NULL)
        return 0;
    alternate.large = NULL;
    if ((stack->ss_flags & SS_DISABLE) == 0 && stack->ss_size < ENOUGH_BYTES) {
        memory = before != NULL ? (long)before
                                : system_mmap(0, LARGE_BYTES, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        large = (stack_t){.ss_sp = (void *)memory, .ss_flags = stack->ss_flags, .ss_size = LARGE_BYTES};
        if (!system_failed(memory) && set(&large, NULL) == 0) {
            alternate.told = *stack;
            alternate.large = large.ss_sp;
        }
    }
    if (before != NULL && alternate.large == NULL)
        (void)system_munmap((uintptr_t)before, LARGE_BYTES);
    return 0;
}
