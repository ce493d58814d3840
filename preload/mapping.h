/* SPDX-License-Identifier: MIT */
/*
 * Mappings that the program makes, moves and removes, and what then becomes of what is known of their pages.
 *
 * A new mapping is never executable itself, but for a file's: its pages are noted as wanted so (code.h), and
 * the first fault of each has it done. One that moves takes what is known along, and its pages leave the
 * arena: they are executable again when they are run. What is gone is forgotten before the lock is let go,
 * so that nothing is known of what is mapped there next.
 *
 * The functions do what the system call does for any memory, and return what it returns.
 */
#ifndef PRELOAD_MAPPING_H
#define PRELOAD_MAPPING_H

#include <stdint.h>

long mapping_mmap(uintptr_t address, uint64_t bytes, int protection, int flags, int fd, long offset);
long mapping_munmap(uintptr_t address, uint64_t bytes);
long mapping_mremap(uintptr_t address, uint64_t old_bytes, uint64_t bytes, int flags, uintptr_t to);

#endif
