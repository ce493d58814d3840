/* SPDX-License-Identifier: MIT */
/* What jitc_lockdown() denies, for the test that holds the manual page to it. */
#ifndef CLIENT_LOCKDOWN_H
#define CLIENT_LOCKDOWN_H

#include <stddef.h>

/* The name of the index-th system call that the filter denies, NULL past the last. */
const char *lockdown_denied_name(size_t index);

#endif
