/* SPDX-License-Identifier: MIT */
/*
 * The process that a test locks down: a test is one, and runs as whoever starts it and, if that
 * is root, as nobody too.
 */
#ifndef TESTS_SUBJECT_H
#define TESTS_SUBJECT_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* Every test runs twice: 0 as the caller, 1 as nobody where the caller is root. */
#define USER_COUNT 2
#define LANDLOCK_ABI_TSYNC 8
/* As CTest is told. */
#define EXIT_SKIPPED 77

/* False where this process has run as that user already. */
bool become_user(int which);

int kernel_landlock_abi(void);
/* What this kernel can't give, found out independently of the library. */
uint32_t kernel_lacks(void);

/* jitc_lockdown(flags), which must give all that the kernel has. */
void lock_down(uint32_t flags);

/* In a child: 0, an errno, or KILLED_BY(signal). */
int in_child(int (*attack)(void));

/* Opens DIRECTORY/NAME and closes it: 0 or errno. */
int open_under(const char *directory, const char *name, int flags);
void make_directory_under(const char *directory, const char *name);

/* True, and said, where a sanitizer gives every process a thread that Landlock can't reach on this kernel. */
bool has_thread_out_of_reach(void);

#endif
