/* SPDX-License-Identifier: MIT */
/*
 * What the program asks of its pages, and what they then really are. (Mappings that come, move and go:
 * mapping.h.)
 *
 * No page is ever writable and executable. One that is to be executable is copied to the arena, as far as
 * it differs from what stands there, and mapped from it in place; one that is to be writable as well is
 * the one or the other by turns, which its faults decide. A page that is made writable again stays mapped
 * from the arena, privately: what is stored is a copy, and what isn't shows what is there already.
 *
 * mprotect() to writable of pages that are in the arena may be left undone until one of them is written,
 * where so far few of them were (is_lazy). A system call that stores into such a page, as read(2) does,
 * returns EFAULT then, as it does for pages that are executable by turns.
 *
 * Not every system call is told to us: libraries that were loaded with RTLD_DEEPBIND, libc itself, and
 * programs that make their own, can change pages behind our back, to anything but executable. What we believe
 * of a page is found wrong by its next fault, and put right then.
 *
 * The functions do what the system call does for any memory, and return what it returns; those that begin
 * with code_ and end with _locked need the lock.
 */
#ifndef PRELOAD_CODE_H
#define PRELOAD_CODE_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

long code_mprotect(uintptr_t address, uint64_t bytes, int protection);
long code_madvise(uintptr_t address, uint64_t bytes, int advice);

enum code_access { CODE_READ, CODE_STORE, CODE_FETCH };

enum code_answer {
    CODE_FOREIGN, /* it is the program's own */
    CODE_DONE,    /* what was in the way is not any more */
    CODE_RETRY,   /* nothing should be in the way: another thread was faster, or is at it */
};

/*
 * A page fault, with the lock held and the context of the thread that ran into it. `is_odd`: it was told to
 * RETRY, and in vain.
 */
enum code_answer code_fault_locked(uintptr_t address, enum code_access access, bool is_odd,
                                   ucontext_t *context);

/* The range is mapped anew, or no more: nothing is known of it. */
void code_forget_locked(uintptr_t address, uint64_t bytes);
/* Whether anything is known of any page there. */
bool code_is_tracked_locked(uintptr_t address, uint64_t bytes);

/* Before a system call that stores there: it would not fault, but fail. */
void code_expect_stores(uintptr_t address, uint64_t bytes);

#endif
