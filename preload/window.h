/* SPDX-License-Identifier: MIT */
/*
 * What the program's pages are, of those that concern us: a bit for each, in windows of 64 pages. A window
 * has one chunk of the arena, made when one of its pages becomes executable, in which page i of the window
 * has place i: so neighbours stay neighbours, and the kernel keeps few mappings.
 *
 * What processes share has windows of its own (family.h): a window is of one kind of memory, and there may be
 * several with the same base.
 *
 * A page is tracked if any of its bits is set. Guarded by the lock.
 */
#ifndef PRELOAD_WINDOW_H
#define PRELOAD_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "preload/arena.h"

#define PAGE_BYTES UINT64_C(4096)
#define WINDOW_PAGES 64u
#define WINDOW_BYTES (PAGE_BYTES * WINDOW_PAGES)

static inline uintptr_t window_page_up(uintptr_t address)
{
    return (address + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);
}

/* A range that the kernel would refuse: it says why. */
static inline bool window_is_odd(uintptr_t address, uint64_t bytes)
{
    return address % PAGE_BYTES != 0 || bytes == 0 || window_page_up(bytes) < bytes ||
           address + window_page_up(bytes) < address;
}

struct window {
    uint64_t wants_execute; /* by what the program asked for */
    uint64_t wants_write;   /* the same, of tracked pages */
    uint64_t hides;         /* of tracked pages, those that can't even be read */
    uint64_t in_arena;      /* mapped read+execute from the chunk */
    uint64_t copies;        /* mapped from the chunk and not executable: what was not written shows it */
    struct chunk chunk;
    uint64_t changed; /* pages that did between the last two calls of mprotect(): the next to be written */
    uint8_t stores;   /* pages that a store made writable since the program asked for that */
    bool is_lazy;     /* few pages change between one call and the next */
};

/* The window's part of a range. */
struct piece {
    struct window *window;
    uintptr_t base; /* the window's first byte */
    uint64_t pages; /* which of its pages are meant */
};

/* The first of the pages that are meant; there is one. */
static inline uintptr_t piece_first(const struct piece *piece)
{
    return piece->base + (unsigned)__builtin_ctzll(piece->pages) * PAGE_BYTES;
}

/* The window of an address; NULL: nothing anywhere near is tracked. */
struct window *window_find(uintptr_t address);

/* Whether there is any at all. */
bool window_any(void);

/*
 * The next piece of [*at, end), page aligned both; *at moves on. Without `makes` those of which nothing is
 * known are left out. False: there is none, or, with `makes`, no memory for it (then *at < end).
 */
bool window_next(uintptr_t *at, uintptr_t end, bool makes, struct piece *piece);

static inline uint64_t window_tracked(const struct window *window)
{
    return window->wants_execute | window->wants_write | window->in_arena | window->copies;
}

static inline uint64_t window_bit(uintptr_t address)
{
    return UINT64_C(1) << (address / PAGE_BYTES % WINDOW_PAGES);
}

/* The first run of set bits: its pages; *first is where it begins. 0: there is none. */
static inline uint64_t window_run(uint64_t pages, unsigned *first, unsigned *count)
{
    uint64_t rest;

    if (pages == 0)
        return 0;
    *first = (unsigned)__builtin_ctzll(pages);
    rest = ~(pages >> *first);
    *count = rest == 0 ? WINDOW_PAGES : (unsigned)__builtin_ctzll(rest);
    if (*count > WINDOW_PAGES - *first)
        *count = WINDOW_PAGES - *first;
    return (*count == WINDOW_PAGES ? ~UINT64_C(0) : (UINT64_C(1) << *count) - 1) << *first;
}

#endif
