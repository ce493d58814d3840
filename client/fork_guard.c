/* SPDX-License-Identifier: MIT */
#include "client/fork_guard.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

_Atomic uint64_t *fork_guard_page;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic uint64_t last_mark; /* survives a fork, so a child's mark differs from its parent's */
static int error;

static void set_up(void)
{
    void *memory =
        mmap(NULL, sizeof *fork_guard_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        error = errno;
    } else if (madvise(memory, sizeof *fork_guard_page, MADV_WIPEONFORK) != 0) {
        error = errno;
        (void)munmap(memory, sizeof *fork_guard_page);
    } else {
        fork_guard_page = memory;
    }
}

uint64_t fork_guard_mark(void)
{
    uint64_t none = 0;
    uint64_t mark;

    (void)pthread_once(&once, set_up);
    if (fork_guard_page == NULL) {
        errno = error;
        return 0;
    }
    mark = atomic_load(fork_guard_page);
    if (mark != 0)
        return mark;
    mark = atomic_fetch_add(&last_mark, 1) + 1;
    return atomic_compare_exchange_strong(fork_guard_page, &none, mark) ? mark : none;
}
