/* SPDX-License-Identifier: MIT */
#include "client/fork_guard.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

_Atomic uint64_t *_Atomic fork_guard_page;

static _Atomic uint64_t last_mark; /* survives a fork, so a child's mark differs from its parent's */

/* Without a lock, which a child could inherit from a thread that it does not have. Who fails may try again.
 */
static _Atomic uint64_t *find_page(void)
{
    _Atomic uint64_t *page = atomic_load(&fork_guard_page);
    _Atomic uint64_t *none = NULL;

    if (page != NULL)
        return page;
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, sizeof *page, MADV_WIPEONFORK) != 0) {
        int error = errno;

        (void)munmap(page, sizeof *page);
        errno = error;
        return NULL;
    }
    if (atomic_compare_exchange_strong(&fork_guard_page, &none, page))
        return page;
    (void)munmap(page, sizeof *page);
    return none;
}

uint64_t fork_guard_mark(void)
{
    _Atomic uint64_t *page = find_page();
    uint64_t none = 0;
    uint64_t mark;

    if (page == NULL)
        return 0;
    mark = atomic_load(page);
    if (mark != 0)
        return mark;
    mark = atomic_fetch_add(&last_mark, 1) + 1;
    return atomic_compare_exchange_strong(page, &none, mark) ? mark : none;
}
