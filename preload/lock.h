/* SPDX-License-Identifier: MIT */
/*
 * The one lock of the library. While a thread has it all its signals are blocked, so no handler of the
 * program's runs in between, and what the library's own calls of mmap() and its kin mean is not looked at.
 * Our handlers are entered with all signals blocked, so there `lock_enter()` does without the system call.
 */
#ifndef PRELOAD_LOCK_H
#define PRELOAD_LOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Whether this thread has it. */
extern _Thread_local bool lock_is_mine __attribute__((tls_model("initial-exec")));

void lock_enter(void);
void lock_leave(void);

/* The same with signals blocked and given back. */
void lock_take(uint64_t *mask);
void lock_drop(const uint64_t *mask);

/*
 * Calls `on_child` with the lock held, before anything else is done, in a child that was made by a system
 * call of the program's own. 0 or a negative errno.
 */
int lock_watch_children(void (*on_child)(void));
/* The same for one of which its parent has told us: it is no surprise. */
void lock_know_child(void);

#endif
