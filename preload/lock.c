/* SPDX-License-Identifier: MIT */
#include "preload/lock.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "preload/system.h"

enum { FREE, TAKEN, AWAITED };

_Thread_local bool lock_is_mine;

static _Atomic uint32_t state;

void lock_enter(void)
{
    uint32_t free = FREE;

    if (!atomic_compare_exchange_strong(&state, &free, TAKEN)) {
        while (atomic_exchange(&state, AWAITED) != FREE)
            (void)system_call(SYS_futex, (long)&state, FUTEX_WAIT_PRIVATE, AWAITED, 0, 0, 0);
    }
    lock_is_mine = true;
}

void lock_leave(void)
{
    lock_is_mine = false;
    if (atomic_exchange(&state, FREE) == AWAITED)
        (void)system_call(SYS_futex, (long)&state, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

void lock_take(uint64_t *mask)
{
    uint64_t all = ~UINT64_C(0);

    (void)system_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)mask, sizeof all, 0, 0);
    lock_enter();
}

void lock_drop(const uint64_t *mask)
{
    lock_leave();
    (void)system_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)mask, 0, sizeof *mask, 0, 0);
}

void lock_reset(void)
{
    atomic_store(&state, FREE);
    lock_is_mine = false;
}
