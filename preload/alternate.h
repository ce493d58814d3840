/* SPDX-License-Identifier: MIT */
/*
 * Alternate signal stacks. Our handlers run on them too, and need more of them than a program that knows
 * only its own may have thought of: a small one is replaced by a larger one, which the program isn't told.
 */
#ifndef PRELOAD_ALTERNATE_H
#define PRELOAD_ALTERNATE_H

#include <signal.h>

/* As sigaltstack(2): 0 or a negative errno. */
int alternate_stack(const stack_t *stack, stack_t *old);

#endif
