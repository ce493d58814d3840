/* SPDX-License-Identifier: MIT */
/*
 * Tells whether this process is still the one that made something. Holds for fork() and
 * bare clone() alike: the mark is on a page that the kernel wipes in a child, and reading
 * it costs no system call. (A vfork() child is its parent until its execve.)
 */
#ifndef CLIENT_FORK_GUARD_H
#define CLIENT_FORK_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* This process's mark, or 0 where it can't be made (errno says why). */
uint64_t fork_guard_mark(void);

/* Private; what it points to is 0 in a child that has no mark yet. */
extern _Atomic uint64_t *_Atomic fork_guard_page;

/* Inline, since every call of the library begins with it. */
static inline bool fork_guard_is_ours(uint64_t mark)
{
    /* Who has a mark can only have it from the page. */
    return atomic_load_explicit(atomic_load_explicit(&fork_guard_page, memory_order_relaxed),
                                memory_order_relaxed) == mark;
}

#endif
