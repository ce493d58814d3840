/* SPDX-License-Identifier: MIT */
/* The library's own life: when it is loaded, around forks, and at the end. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "preload/arena.h"
#include "preload/counters.h"
#include "preload/lock.h"
#include "preload/process.h"
#include "preload/settings.h"
#include "preload/signals.h"

static uint64_t mask_of_forker; /* guarded by the lock */

void process_before_fork(void)
{
    uint64_t mask;

    lock_take(&mask);
    mask_of_forker = mask;
    arena_before_fork();
}

void process_after_fork(bool in_child)
{
    uint64_t mask = mask_of_forker;

    arena_after_fork(in_child);
    if (in_child)
        lock_know_child();
    lock_drop(&mask);
}

static void after_fork_in_parent(void)
{
    process_after_fork(false);
}

static void after_fork_in_child(void)
{
    process_after_fork(true);
}

/* Of a parent that has told nobody, and so goes on writing to what we have from it. */
static void begin_child(void)
{
    arena_after_fork(true);
}

__attribute__((constructor)) static void begin(void)
{
    settings_read();
    signals_init();
    (void)lock_watch_children(begin_child);
    if (settings.fd >= 0) { /* the broker waits for it, and not for long */
        uint64_t mask;

        lock_take(&mask);
        (void)arena_begin();
        lock_drop(&mask);
    }
    (void)pthread_atfork(process_before_fork, after_fork_in_parent, after_fork_in_child);
}

__attribute__((destructor)) static void end(void)
{
    if (settings.stats)
        counters_print();
}
