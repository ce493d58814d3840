/* SPDX-License-Identifier: MIT */
/* The library's own life: when it is loaded, around forks, and at the end. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "preload/arena.h"
#include "preload/counters.h"
#include "preload/lock.h"
#include "preload/settings.h"
#include "preload/signals.h"

static uint64_t mask_of_forker; /* guarded by the lock */

static void before_fork(void)
{
    uint64_t mask;

    lock_take(&mask);
    mask_of_forker = mask;
    arena_before_fork();
}

static void after_fork(bool in_child)
{
    uint64_t mask = mask_of_forker;

    arena_after_fork(in_child);
    lock_drop(&mask);
}

static void after_fork_in_parent(void)
{
    after_fork(false);
}

static void after_fork_in_child(void)
{
    after_fork(true);
}

__attribute__((constructor)) static void begin(void)
{
    settings_read();
    signals_init();
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

__attribute__((destructor)) static void end(void)
{
    if (settings.stats)
        counters_print();
}
