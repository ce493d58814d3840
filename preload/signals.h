/* SPDX-License-Identifier: MIT */
/*
 * SIGSEGV, SIGSYS and SIGTRAP are ours; what the program sets for them is kept, told it again, and called
 * when one of them isn't about us: with the mask, and once, as it asked. They can't be blocked, here or in a
 * handler's mask, since a fault of a page of code is fatal then. What changes them past libc, by a system
 * call of its own, is found out the next time that code is asked for, and put right.
 */
#ifndef PRELOAD_SIGNALS_H
#define PRELOAD_SIGNALS_H

#include <signal.h>

void signals_init(void);
/* Ours are in place again, whoever replaced them. */
void signals_check(void);

int signals_action(int number, const struct sigaction *action, struct sigaction *old);
/* As rt_sigaction(2), of which these are the arguments. */
long signals_action_of_kernel(const long *argument);
/* As rt_sigprocmask(2): 0 or a negative errno. */
int signals_mask(int how, const sigset_t *set, sigset_t *old);

/* The mask, less what can't be blocked, in *allowed; NULL for NULL. */
const sigset_t *signals_allowed(const sigset_t *mask, sigset_t *allowed);

#endif
