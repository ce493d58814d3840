/* SPDX-License-Identifier: MIT */
#include "client/fork_guard.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic uint64_t *page;     /* 0 in a child that has no mark yet */
static _Atomic uint64_t last_mark; /* survives a fork, so a child's mark differs from its parent's */
static int error;

static void set_up(void)
{
    void *memory = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        error = errno;
    } else if (madvise(memory, sizeof *page, MADV_WIPEONFORK) != 0) {
        error = errno;
        (void)munmap(memory, sizeof *page);
    } else {
        page = memory;
    }
}

uint64_t fork_guard_mark(void)
{
    uint64_t none = 0;
    uint64_t mark;

    (void)pthread_once(&once, set_up);
    if (page == NULL) {
        errno = error;
        return 0;
    }
    mark = atomic_load(page);
    if (mark != 0)
        return mark;
    mark = atomic_fetch_add(&last_mark, 1) + 1;
    return atomic_compare_exchange_strong(page, &none, mark) ? mark : none;
}

bool fork_guard_is_ours(uint64_t mark)
{
    return atomic_load_explicit(page, memory_order_relaxed) == mark;
}
