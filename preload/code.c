/* SPDX-License-Identifier: MIT */
#include "preload/code.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/uio.h>

#include "preload/arena.h"
#include "preload/counters.h"
#include "preload/family.h"
#include "preload/lock.h"
#include "preload/settings.h"
#include "preload/signals.h"
#include "preload/step.h"
#include "preload/system.h"
#include "preload/window.h"

/* A mapping that becomes executable for the first time goes to the arena at once up to this size; of a larger
 * one each page when it is run. */
#define EAGER_BYTES (UINT64_C(256) << 10)
/* What an instruction has at most. */
#define INSTRUCTION_MAX_BYTES 15u
/* What is compared at once, and written if it differs. */
#define LINE_BYTES 64u
/* A window in which at most so many of at least so many pages changed is lazy ... */
#define LAZY_CHANGED_MAX 2u
#define LAZY_PAGES_MIN 4u
/* ... until so many of its pages were written one by one. */
#define LAZY_STORES_MAX 4u

static long protect_pages(const struct piece *piece, uint64_t pages, int protection)
{
    unsigned first;
    unsigned count;
    uint64_t run;

    for (; (run = window_run(pages, &first, &count)) != 0; pages &= ~run) {
        long error = system_mprotect(piece->base + first * PAGE_BYTES, count * PAGE_BYTES, protection);

        if (error != 0)
            return error;
    }
    return 0;
}

/* ---- To the arena ---------------------------------------------------------------------------- */

/* Has the bytes written that differ from those that stand there. 1: some did, 0, or a negative errno. */
static int update_page(struct window *window, const uint8_t *page, unsigned index)
{
    uint64_t offset = index * PAGE_BYTES;
    const uint8_t *there = window->chunk.code + offset;
    uint64_t from = 0;
    uint64_t to = PAGE_BYTES;
    int error;

    if (memcmp(page, there, PAGE_BYTES) == 0)
        return 0;
    while (memcmp(page + from, there + from, LINE_BYTES) == 0)
        from += LINE_BYTES;
    while (memcmp(page + to - LINE_BYTES, there + to - LINE_BYTES, LINE_BYTES) == 0)
        to -= LINE_BYTES;
    error = arena_write(&window->chunk, offset + from, page + from, to - from);
    return error != 0 ? error : 1;
}

/* Of pages that can be read, the content of which does not change. *changed: those that differed. */
static int update_pages(const struct piece *piece, uint64_t pages, uint64_t *changed)
{
    *changed = 0;

    for (; pages != 0; pages &= pages - 1) {
        unsigned index = (unsigned)__builtin_ctzll(pages);
        int result = update_page(piece->window, (const uint8_t *)piece->base + index * PAGE_BYTES, index);

        if (result < 0)
            return result;
        if (result > 0)
            *changed |= UINT64_C(1) << index;
    }
    return *changed != 0 ? arena_flush() : 0;
}

static int map_pages(const struct piece *piece, uint64_t pages)
{
    struct window *window = piece->window;
    unsigned first;
    unsigned count;
    uint64_t run;

    for (; (run = window_run(pages, &first, &count)) != 0; pages &= ~run) {
        int error = arena_map(&window->chunk, first * PAGE_BYTES, count * PAGE_BYTES,
                              piece->base + first * PAGE_BYTES);

        if (error != 0)
            return error;
        counters.flips++;
        counters.pages += count;
        window->in_arena |= run;
        window->copies &= ~run;
    }
    return 0;
}

/* Pages that only show the chunk become memory of their own, so that it may go. */
static int detach_pages(const struct piece *piece, uint64_t pages)
{
    static uint8_t content[PAGE_BYTES];

    for (; pages != 0; pages &= pages - 1) {
        unsigned index = (unsigned)__builtin_ctzll(pages);
        uint64_t bit = UINT64_C(1) << index;
        uintptr_t address = piece->base + index * PAGE_BYTES;
        bool writes = (piece->window->wants_write & bit) != 0;
        long error;

        if (system_mprotect(address, PAGE_BYTES, PROT_READ) != 0)
            continue;
        memcpy(content, (const void *)address, PAGE_BYTES);
        error = system_mmap(address, PAGE_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (system_failed(error))
            return (int)error;
        memcpy((void *)address, content, PAGE_BYTES);
        if (!writes)
            (void)system_mprotect(address, PAGE_BYTES,
                                  (piece->window->hides & bit) != 0 ? PROT_NONE : PROT_READ);
        piece->window->copies &= ~bit;
    }
    return 0;
}

/* Of pages that are to be in the arena, those that are: what isn't told to us can change that. */
static uint64_t check_pages(const struct piece *piece)
{
    static uint8_t content[PAGE_BYTES];
    struct window *window = piece->window;
    uint64_t found = window->in_arena;

    for (uint64_t pages = found; pages != 0; pages &= pages - 1) {
        unsigned index = (unsigned)__builtin_ctzll(pages);
        uint64_t offset = index * PAGE_BYTES;
        struct iovec to = {content, PAGE_BYTES};
        struct iovec from = {(void *)(piece->base + offset), PAGE_BYTES};

        if (system_call(SYS_process_vm_readv, system_call(SYS_getpid, 0, 0, 0, 0, 0, 0), (long)&to, 1,
                        (long)&from, 1, 0) != (long)PAGE_BYTES ||
            memcmp(content, window->chunk.code + offset, PAGE_BYTES) != 0)
            found &= ~(UINT64_C(1) << index);
    }
    window->copies |= window->in_arena & ~found;
    window->in_arena = found;
    return found;
}

/* To a chunk that nobody else sees. What runs there meanwhile goes on. */
static int move_window(const struct piece *piece)
{
    struct window *window = piece->window;
    struct chunk old = window->chunk;
    uint64_t runs = check_pages(piece);
    uint64_t changed;
    int error = detach_pages(piece, window->copies);

    if (error == 0)
        error = arena_take(&window->chunk);
    if (error != 0)
        return error;
    counters.moves++;
    error = update_pages(&(struct piece){window, (uintptr_t)old.code, runs}, runs, &changed);
    if (error == 0)
        error = map_pages(piece, runs);
    if (error != 0) {
        arena_give_back(&window->chunk);
        window->chunk = old;
        return error;
    }
    arena_give_back(&old);
    return 0;
}

static int need_chunk(const struct piece *piece)
{
    struct chunk *chunk = &piece->window->chunk;

    if (!chunk_exists(chunk)) {
        struct family *family = family_of(piece_first(piece));

        return family != NULL ? family_take(family, piece->base, chunk) : arena_take(chunk);
    }
    return arena_is_ours(chunk) ? 0 : move_window(piece);
}

/*
 * Whoever writes to these pages from now on faults, and waits for the lock. Where there is but one thread,
 * and it is here, that is only needed for pages of which we don't know that they can be read.
 */
static long hold_pages(const struct piece *piece, uint64_t pages)
{
    const struct window *window = piece->window;

    if (__libc_single_threaded)
        pages &= ~(window->wants_write & window->copies);
    return protect_pages(piece, pages, PROT_READ);
}

/* Makes these pages, none of which is in the arena, executable there, with what they hold. */
static int make_executable(const struct piece *piece, uint64_t pages)
{
    struct window *window = piece->window;
    unsigned changed;
    long error;

    error = hold_pages(piece, pages);
    if (error != 0)
        return (int)error;
    window->hides &= ~pages;
    error = need_chunk(piece);
    if (error == 0)
        error = update_pages(piece, pages, &window->changed);
    if (error == 0)
        error = map_pages(piece, pages);
    if (error != 0) {
        (void)protect_pages(piece, pages & window->wants_write, PROT_READ | PROT_WRITE);
        return (int)error;
    }
    changed = (unsigned)__builtin_popcountll(window->changed);
    window->is_lazy = !settings.is_eager && changed <= LAZY_CHANGED_MAX &&
                      (window->is_lazy || (unsigned)__builtin_popcountll(pages) >= LAZY_PAGES_MIN);
    window->stores = 0;
    return 0;
}

/* No page of these is mapped from the arena any more. */
static void forget(const struct piece *piece, uint64_t pages)
{
    struct window *window = piece->window;

    window->wants_execute &= ~pages;
    window->wants_write &= ~pages;
    window->hides &= ~pages;
    window->in_arena &= ~pages;
    window->copies &= ~pages;
    if (window_tracked(window) == 0) {
        arena_give_back(&window->chunk);
        window->is_lazy = false;
    }
}

void code_forget_locked(uintptr_t address, uint64_t bytes)
{
    uintptr_t at = address;
    struct piece piece;

    while (window_next(&at, address + window_page_up(bytes), false, &piece))
        forget(&piece, piece.pages);
    family_forget(address, window_page_up(bytes));
}

bool code_is_tracked_locked(uintptr_t address, uint64_t bytes)
{
    uintptr_t at = address;
    struct piece piece;

    while (window_next(&at, address + window_page_up(bytes), false, &piece)) {
        if ((window_tracked(piece.window) & piece.pages) != 0)
            return true;
    }
    return false;
}

/* ---- mprotect() ---------------------------------------------------------------------------------- */

/* A family's pages show the program's memory again, readable and writable. */
static long restore_pages(const struct piece *piece, uint64_t pages)
{
    struct window *window = piece->window;
    unsigned first;
    unsigned count;
    uint64_t run;

    for (; (run = window_run(pages, &first, &count)) != 0; pages &= ~run) {
        long error =
            family_restore(window->chunk.family, piece->base + first * PAGE_BYTES, count * PAGE_BYTES);

        if (error != 0)
            return error;
        window->in_arena &= ~run;
    }
    return 0;
}

/* Those of the arena leave it. */
static long take_back(const struct piece *piece, uint64_t pages, int protection)
{
    struct window *window = piece->window;
    long error = 0;

    if (window->chunk.family != NULL)
        error = restore_pages(piece, pages & window->in_arena);
    if (error == 0)
        error = protect_pages(piece, pages, protection);
    if (error == 0) {
        window->copies |= window->in_arena & pages;
        window->in_arena &= ~pages;
    }
    return error;
}

static long make_writable(const struct piece *piece, uint64_t pages)
{
    return take_back(piece, pages, PROT_READ | PROT_WRITE);
}

/* Whether nobody runs these pages yet, so that what they hold may be looked at when somebody does. */
static bool can_wait(const struct piece *piece)
{
    const struct family *family;

    if (chunk_exists(&piece->window->chunk))
        return false;
    family = family_of(piece_first(piece));
    return family == NULL || !family_has(family, piece->base);
}

static long protect_piece(const struct piece *piece, int protection, bool is_large)
{
    struct window *window = piece->window;
    uint64_t pages = piece->pages;
    uint64_t kept = 0; /* in the arena, and to stay there */
    long error = 0;

    switch (protection & (PROT_WRITE | PROT_EXEC)) {
    case PROT_EXEC:
        if (is_large && can_wait(piece))
            error = protect_pages(piece, pages, PROT_READ); /* see fetch_faulted() */
        else if ((pages & ~window->in_arena) != 0)
            error = make_executable(piece, pages & ~window->in_arena);
        break;
    case PROT_WRITE:
        if (window->is_lazy)
            kept = window->in_arena & pages & ~window->changed;
        error = make_writable(piece, pages & ~kept);
        break;
    case PROT_WRITE | PROT_EXEC:
        error = make_writable(piece, pages & ~window->in_arena);
        break;
    default:
        error = take_back(piece, pages, protection);
        break;
    }
    if (error != 0)
        return error;
    window->wants_execute =
        (protection & PROT_EXEC) != 0 ? window->wants_execute | pages : window->wants_execute & ~pages;
    window->wants_write =
        (protection & PROT_WRITE) != 0 ? window->wants_write | pages : window->wants_write & ~pages;
    window->hides = protection == PROT_NONE ? window->hides | pages : window->hides & ~pages;
    /* Neither executable nor of the arena: a page like any other. */
    window->wants_write &= window->wants_execute | window->in_arena | window->copies;
    window->hides &= window->copies;
    return 0;
}

static long protect(uintptr_t address, uint64_t bytes, int protection)
{
    bool executes = (protection & PROT_EXEC) != 0;
    uintptr_t end = address + window_page_up(bytes);
    uintptr_t at = address;
    uintptr_t done = address;
    /* It begins with the first code, before there are children. */
    struct family *family = executes || family_has_begun() ? family_of(address) : NULL;
    struct piece piece;
    long error = 0;

    if ((protection & (PROT_WRITE | PROT_EXEC)) == PROT_WRITE) {
        counters.writable++;
        if (family != NULL && code_is_tracked_locked(address, bytes))
            family_begin_writing(family);
    }
    if (executes && ((protection & PROT_WRITE) != 0 || bytes > EAGER_BYTES))
        signals_check(); /* its faults are to reach us */
    while (error == 0 && window_next(&at, end, executes, &piece)) {
        uintptr_t from = piece_first(&piece);

        if (from > done) /* nothing of ours in between */
            error = system_mprotect(done, from - done, protection);
        if (error == 0)
            error = protect_piece(&piece, protection, bytes > EAGER_BYTES);
        done = at < end ? at : end;
    }
    if (error == 0 && executes && at < end)
        error = -ENOMEM;
    if (error == 0 && done < end)
        error = system_mprotect(done, end - done, protection);
    if (family != NULL && (protection & PROT_WRITE) == 0)
        family_end_writing(family);
    return error;
}

/* Bytes from there on that are mapped without a hole. */
static uint64_t mapped_bytes(uintptr_t address, uint64_t bytes)
{
    uint64_t done = 0;
    uint8_t resident;

    while (done < bytes &&
           system_call(SYS_mincore, (long)(address + done), (long)PAGE_BYTES, (long)&resident, 0, 0, 0) == 0)
        done += PAGE_BYTES;
    return done;
}

/* At a hole the kernel stops, and what lies before it has changed. */
static long protect_to_hole(uintptr_t address, uint64_t bytes, int protection)
{
    long error = protect(address, bytes, protection);
    uint64_t mapped;

    if (error != -ENOMEM)
        return error;
    mapped = mapped_bytes(address, window_page_up(bytes));
    if (mapped > 0 && mapped < window_page_up(bytes))
        (void)protect(address, mapped, protection);
    return error;
}

/* What the kernel would say of a range or protection like that. */
static long refusal(uintptr_t address, uint64_t bytes, int unknown)
{
    if (address % PAGE_BYTES != 0 || unknown != 0)
        return -EINVAL;
    return bytes == 0 ? 0 : -ENOMEM;
}

long code_mprotect(uintptr_t address, uint64_t bytes, int protection)
{
    const int known = PROT_READ | PROT_WRITE | PROT_EXEC;
    uint64_t mask;
    uint64_t start;
    long result;

    bool is_plain = !window_is_odd(address, bytes) && (protection & ~known) == 0;

    if ((protection & PROT_EXEC) == 0 && (lock_is_mine || !is_plain || !window_any()))
        return system_mprotect(address, bytes, protection);
    /* What can't be served is not asked of the kernel, which would have the filter answer. */
    if (!is_plain)
        return refusal(address, bytes, protection & ~known);
    if ((protection & PROT_WRITE) != 0 && (protection & PROT_EXEC) != 0 && settings.no_rwx)
        return -EACCES;
    lock_take(&mask);
    start = counters_now();
    result = protect_to_hole(address, bytes, protection);
    arena_leave_ancestors();
    counters.all_ns += counters_now() - start;
    lock_drop(&mask);
    return result;
}

/* ---- madvise() ---------------------------------------------------------------------------------------- */

/* Zero again, as memory of its own is. */
static long discard(uintptr_t address, uint64_t bytes, int advice)
{
    uintptr_t end = address + window_page_up(bytes);
    uintptr_t at = address;
    struct piece piece;
    long error = 0;

    while (error == 0 && window_next(&at, end, false, &piece)) {
        /* A family's are not zero afterwards, since it is not only ours. */
        uint64_t pages = piece.window->chunk.family != NULL
                             ? 0
                             : piece.pages & (piece.window->in_arena | piece.window->copies);
        unsigned first;
        unsigned count;
        uint64_t run;

        for (; error == 0 && (run = window_run(pages, &first, &count)) != 0; pages &= ~run) {
            uintptr_t from = piece.base + first * PAGE_BYTES;
            long result;

            result = system_mmap(from, count * PAGE_BYTES, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            if (system_failed(result))
                return result;
            piece.window->in_arena &= ~run;
            piece.window->copies &= ~run;
            error = protect_pages(&piece, run & ~piece.window->wants_write & ~piece.window->hides, PROT_READ);
            if (error == 0)
                error = protect_pages(&piece, run & piece.window->hides, PROT_NONE);
            piece.window->hides &= ~run;
        }
    }
    return error != 0 ? error : system_call(SYS_madvise, (long)address, (long)bytes, advice, 0, 0, 0);
}

long code_madvise(uintptr_t address, uint64_t bytes, int advice)
{
    uint64_t mask;
    long result;

    if (lock_is_mine || !window_any() || window_is_odd(address, bytes) ||
        (advice != MADV_DONTNEED && advice != MADV_FREE))
        return system_call(SYS_madvise, (long)address, (long)bytes, advice, 0, 0, 0);
    lock_take(&mask);
    result = discard(address, bytes, advice);
    lock_drop(&mask);
    return result;
}

/* ---- Faults ------------------------------------------------------------------------------------------ */

static enum code_answer store_faulted(const struct piece *piece, bool is_odd, ucontext_t *context)
{
    struct window *window = piece->window;
    uint64_t pages = piece->pages;
    uintptr_t page = piece_first(piece);
    uintptr_t instruction = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    /* It, or its end, which is in the page behind. */
    bool is_own = instruction + INSTRUCTION_MAX_BYTES > page && instruction < page + PAGE_BYTES;

    if ((window->wants_write & pages) == 0)
        return CODE_FOREIGN;
    if ((window->in_arena & pages) == 0 && !is_odd)
        return CODE_RETRY;
    if (is_own && step_is_busy())
        return CODE_RETRY;
    counters.store_faults++;
    if ((window->wants_execute & pages) == 0 && ++window->stores > LAZY_STORES_MAX) {
        window->is_lazy = false;
        pages |= window->in_arena & window->wants_write & ~window->wants_execute;
    }
    if (make_writable(piece, pages) != 0)
        return CODE_FOREIGN;
    if (is_own && (window->wants_execute & piece->pages) != 0) {
        counters.steps++;
        if (!step_begin(page, context))
            return CODE_FOREIGN;
    }
    return CODE_DONE;
}

static enum code_answer fetch_faulted(const struct piece *piece, bool is_odd)
{
    struct window *window = piece->window;

    if ((window->wants_execute & piece->pages) == 0)
        return CODE_FOREIGN;
    if ((window->in_arena & piece->pages) != 0) {
        if (!is_odd)
            return CODE_RETRY;
        window->copies |= piece->pages;
        window->in_arena &= ~piece->pages;
    }
    if (step_is_in(piece_first(piece)))
        return CODE_RETRY;
    counters.fetch_faults++;
    if ((window->wants_write & piece->pages) == 0 && family_has_begun()) {
        const struct family *family = family_of(piece_first(piece));

        if (family != NULL)
            family_wait_for_writers(family);
    }
    return make_executable(piece, piece->pages) == 0 ? CODE_DONE : CODE_FOREIGN;
}

enum code_answer code_fault_locked(uintptr_t address, enum code_access access, bool is_odd,
                                   ucontext_t *context)
{
    uintptr_t at = address & ~(uintptr_t)(PAGE_BYTES - 1);
    struct piece piece;

    if (access == CODE_READ || !window_next(&at, at + PAGE_BYTES, false, &piece))
        return CODE_FOREIGN;
    return access == CODE_STORE ? store_faulted(&piece, is_odd, context) : fetch_faulted(&piece, is_odd);
}

void code_expect_stores(uintptr_t address, uint64_t bytes)
{
    uintptr_t at = address & ~(uintptr_t)(PAGE_BYTES - 1);
    uintptr_t end = window_page_up(address + bytes);
    struct piece piece;
    uint64_t mask;

    if (lock_is_mine || !window_any() || bytes == 0 || end < address)
        return;
    lock_take(&mask);
    while (window_next(&at, end, false, &piece)) {
        uint64_t pages = piece.pages & piece.window->in_arena & piece.window->wants_write;

        (void)make_writable(&piece, pages);
    }
    lock_drop(&mask);
}
