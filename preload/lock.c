/* SPDX-License-Identifier: MIT */
#include "preload/lock.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "preload/system.h"

enum { FREE, TAKEN, AWAITED };

_Thread_local bool lock_is_mine __attribute__((tls_model("initial-exec")));

static _Atomic uint32_t state;

/* 1, in memory that is zero again in every child. */
static _Atomic uint32_t *alive;
static void (*on_unknown_child)(void);

int lock_watch_children(void (*on_child)(void))
{
    long memory = system_mmap(0, sizeof *alive, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (system_failed(memory))
        return (int)memory;
    if (system_call(SYS_madvise, memory, sizeof *alive, MADV_WIPEONFORK, 0, 0, 0) != 0)
        return 0; /* before Linux 4.14 */
    alive = (_Atomic uint32_t *)memory;
    on_unknown_child = on_child;
    lock_know_child();
    return 0;
}

void lock_know_child(void)
{
    if (alive != NULL)
        atomic_store_explicit(alive, 1, memory_order_relaxed);
}

static bool is_unknown_child(void)
{
    return alive != NULL && atomic_load_explicit(alive, memory_order_relaxed) == 0;
}

void lock_enter(void)
{
    uint32_t free = FREE;

    if (is_unknown_child()) {
        /* It has one thread, and whoever had the lock is not there. */
        atomic_store(&state, TAKEN);
        lock_is_mine = true;
        lock_know_child();
        on_unknown_child();
        return;
    }
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
