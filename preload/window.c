/* SPDX-License-Identifier: MIT */
#include "preload/window.h"

#include <sys/mman.h>

#include "preload/family.h"
#include "preload/system.h"

/* Two levels: windows of 1 GiB together, for all that a program can map. */
#define LEAF_BITS 12u
#define LEAF_WINDOWS (1u << LEAF_BITS)
#define LEAF_BYTES (WINDOW_BYTES * LEAF_WINDOWS)
#define ADDRESS_BITS 47u
#define LEAVES (UINT64_C(1) << (ADDRESS_BITS - 30))

_Static_assert(LEAF_BYTES == UINT64_C(1) << 30, "as LEAVES has it");

/* Zero pages of both cost nothing until they are used. */
static struct window *leaves[LEAVES];
static bool is_used;

bool window_any(void)
{
    return is_used;
}

static struct window *leaf_of(uintptr_t address, bool makes)
{
    uint64_t number = address / LEAF_BYTES;
    long memory;

    if (number >= LEAVES)
        return NULL;
    if (leaves[number] != NULL || !makes)
        return leaves[number];
    memory = system_mmap(0, sizeof(struct window) * LEAF_WINDOWS, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (system_failed(memory))
        return NULL;
    leaves[number] = (struct window *)memory;
    return leaves[number];
}

/* Where there is none, *edge becomes the place from where on there may be one again. */
static struct window *window_at(uintptr_t address, bool makes, uintptr_t *edge)
{
    struct window *window = family_window(address, edge);
    struct window *leaf;

    if (window != NULL)
        return window;
    leaf = leaf_of(address, makes);
    if (leaf != NULL)
        return &leaf[address / WINDOW_BYTES % LEAF_WINDOWS];
    *edge = (address | (LEAF_BYTES - 1)) + 1;
    (void)family_window(address, edge);
    return NULL;
}

struct window *window_find(uintptr_t address)
{
    uintptr_t edge = UINTPTR_MAX;

    return window_at(address, false, &edge);
}

bool window_next(uintptr_t *at, uintptr_t end, bool makes, struct piece *piece)
{
    while (*at < end) {
        uintptr_t base = *at & ~(WINDOW_BYTES - 1);
        uintptr_t next = base + WINDOW_BYTES < end ? base + WINDOW_BYTES : end;
        unsigned first = (unsigned)((*at - base) / PAGE_BYTES);
        struct window *window = window_at(*at, makes, &next);

        if (window == NULL && makes)
            return false;
        *at = next;
        if (window == NULL || (!makes && window_tracked(window) == 0))
            continue;
        is_used |= makes;
        *piece = (struct piece){
            .window = window,
            .base = base,
            .pages = (~UINT64_C(0) << first) &
                     (~UINT64_C(0) >> (WINDOW_PAGES - 1 - (next - 1 - base) / PAGE_BYTES)),
        };
        return true;
    }
    return false;
}
