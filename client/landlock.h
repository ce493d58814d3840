/* SPDX-License-Identifier: MIT */
/* No file under a procfs opens for writing any more; everything else goes on working. */
#ifndef CLIENT_LANDLOCK_H
#define CLIENT_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>

/* The kernel's Landlock ABI, 0 where it has none or it is switched off. */
int landlock_abi(void);

/*
 * Restricts the calling thread and what it creates later, and where the kernel can
 * (ABI 8) every other thread. 0 when the whole process is restricted. Otherwise a
 * negative errno, and `why` says it in words: -EXDEV where it holds for this thread
 * only. Needs no_new_privs or CAP_SYS_ADMIN. Calling it twice adds no second layer.
 */
int landlock_restrict_proc(bool other_threads, char *why, size_t why_bytes);

#endif
