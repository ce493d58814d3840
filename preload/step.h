/* SPDX-License-Identifier: MIT */
/*
 * Stores of instructions into their own page. It can't be executable and writable at once, so such an
 * instruction is run elsewhere: one step, at the place in the arena where its page has its code. Meanwhile
 * the page is writable, and who wants to run it waits. Where the operand is relative to the instruction, a
 * copy is run in which it is relative to a register instead.
 *
 * All that is done with signals blocked, by the thread itself: SIGTRAP ends it.
 */
#ifndef PRELOAD_STEP_H
#define PRELOAD_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* With the lock held, the page writable: has the instruction run by the return from this signal. `page` is
 * its page, `code` where that is in the arena. False: it can't be. */
bool step_begin(uintptr_t page, const uint8_t *code, ucontext_t *context);
/* Whether some thread steps, and in this page. */
bool step_is_busy(void);
bool step_is_in(uintptr_t page);
/* With the lock held: after SIGTRAP, or where the instruction ran into a fault of the program's own, which is
 * not `whole`. The context is as if it had been run in its place. False: this thread takes no step. */
bool step_end(ucontext_t *context, bool is_whole);

#endif
