/* SPDX-License-Identifier: MIT */
#include "preload/window.h"

#include <sys/mman.h>

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
    is_used = true;
    return leaves[number];
}

struct window *window_find(uintptr_t address)
{
    struct window *leaf = leaf_of(address, false);

    return leaf == NULL ? NULL : &leaf[address / WINDOW_BYTES % LEAF_WINDOWS];
}

bool window_next(uintptr_t *at, uintptr_t end, bool makes, struct piece *piece)
{
    while (*at < end) {
        struct window *leaf = leaf_of(*at, makes);
        uintptr_t base = *at & ~(WINDOW_BYTES - 1);
        uintptr_t next = base + WINDOW_BYTES;
        unsigned first = (unsigned)((*at - base) / PAGE_BYTES);
        unsigned last = end >= next ? WINDOW_PAGES - 1 : (unsigned)((end - 1 - base) / PAGE_BYTES);

        if (leaf == NULL && makes)
            return false;
        if (leaf == NULL) {
            *at = (*at | (LEAF_BYTES - 1)) + 1;
            continue;
        }
        *piece = (struct piece){
            .window = &leaf[base / WINDOW_BYTES % LEAF_WINDOWS],
            .base = base,
            .pages = (~UINT64_C(0) << first) & (~UINT64_C(0) >> (WINDOW_PAGES - 1 - last)),
        };
        *at = next;
        if (makes || window_tracked(piece->window) != 0)
            return true;
    }
    return false;
}
