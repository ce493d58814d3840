/* SPDX-License-Identifier: MIT */
/*
 * Stores of instructions into their own page. It can't be executable and writable at once, so such an
 * instruction is run elsewhere: one step, of a copy of it in the arena. Meanwhile the page is writable, and
 * who wants to run it waits. Where the operand is relative to the instruction, it is relative to a register
 * in the copy.
 *
 * All that is done with signals blocked, by the thread itself: SIGTRAP ends it.
 */
#ifndef PRELOAD_STEP_H
#define PRELOAD_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* With the lock held, and the page that it writes to writable: has the instruction run by the return from
 * this signal. False: it can't be. */
bool step_begin(uintptr_t page, ucontext_t *context);
/* Whether some thread steps, and in this page. */
bool step_is_busy(void);
bool step_is_in(uintptr_t page);
/* With the lock held: after SIGTRAP, or where the instruction ran into a fault of the program's own, which is
 * not `whole`. The context is as if it had been run in its place. False: this thread takes no step. */
bool step_end(ucontext_t *context, bool is_whole);

#endif
