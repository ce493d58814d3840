/* SPDX-License-Identifier: MIT */
#include "preload/mapping.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "preload/code.h"
#include "preload/family.h"
#include "preload/lock.h"
#include "preload/settings.h"
#include "preload/signals.h"
#include "preload/system.h"
#include "preload/window.h"

/* ---- mmap() and munmap() --------------------------------------------------------------------------------
 */

static void want(uintptr_t address, uint64_t bytes, bool writes)
{
    uintptr_t at = address;
    struct piece piece;

    signals_check(); /* its faults are to reach us */
    while (window_next(&at, address + window_page_up(bytes), true, &piece)) {
        piece.window->wants_execute |= piece.pages;
        if (writes)
            piece.window->wants_write |= piece.pages;
    }
}

long mapping_mmap(uintptr_t address, uint64_t bytes, int protection, int flags, int fd, long offset)
{
    bool writes = (protection & PROT_WRITE) != 0;
    /* A file without PROT_WRITE is a library: the kernel's own. */
    bool is_code = (protection & PROT_EXEC) != 0 && (writes || (flags & MAP_ANONYMOUS) != 0);
    bool is_family = (flags & (MAP_TYPE | MAP_ANONYMOUS)) == (MAP_SHARED | MAP_ANONYMOUS);
    uint64_t mask;
    long result;

    if (lock_is_mine || (!is_code && !is_family && !window_any()))
        return system_mmap(address, bytes, protection, flags, fd, offset);
    /* A file that others see as well can't be told apart from what is ours. */
    if (is_code && writes && (settings.no_rwx || (flags & (MAP_TYPE | MAP_ANONYMOUS)) == MAP_SHARED))
        return -EACCES;
    lock_take(&mask);
    result = system_mmap(address, bytes, is_code ? protection & ~PROT_EXEC : protection, flags, fd, offset);
    if (!system_failed(result)) {
        code_forget_locked((uintptr_t)result, bytes);
        if (is_family)
            family_note((uintptr_t)result, window_page_up(bytes));
        if (is_code) {
            want((uintptr_t)result, bytes, writes);
            (void)family_of((uintptr_t)result);
        }
    }
    lock_drop(&mask);
    return result;
}

long mapping_munmap(uintptr_t address, uint64_t bytes)
{
    uint64_t mask;
    long result;

    if (lock_is_mine || (!window_any() && !family_any()) || window_is_odd(address, bytes))
        return system_munmap(address, bytes);
    lock_take(&mask);
    result = system_munmap(address, bytes);
    if (result == 0)
        code_forget_locked(address, bytes);
    lock_drop(&mask);
    return result;
}

/* ---- mremap() -------------------------------------------------------------------------------------------
 */

/* Pages of ours, copied to memory of their own, in which they are what they were, but in the arena. */
static long copy_pages(uintptr_t from, uintptr_t to, uint64_t bytes)
{
    long result =
        system_mmap(to, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    for (uint64_t done = 0; done < bytes && !system_failed(result); done += PAGE_BYTES) {
        const struct window *window = window_find(from + done);
        uint64_t bit = window_bit(from + done);
        bool writes = (window->wants_write & bit) != 0;

        if ((window->hides & bit) != 0)
            (void)system_mprotect(from + done, PAGE_BYTES, PROT_READ);
        memcpy((void *)(to + done), (const void *)(from + done), PAGE_BYTES);
        if ((window->wants_execute & bit) != 0)
            want(to + done, PAGE_BYTES, writes);
        if (!writes)
            (void)system_mprotect(to + done, PAGE_BYTES, (window->hides & bit) != 0 ? PROT_NONE : PROT_READ);
    }
    return system_failed(result) ? result : system_munmap(from, bytes);
}

static bool is_ours(uintptr_t page)
{
    const struct window *window = window_find(page);

    return window != NULL && (window_tracked(window) & window_bit(page)) != 0;
}

/* To a place that is free, by runs of pages that are all of ours, or none. */
static long move_pages(uintptr_t from, uintptr_t to, uint64_t bytes)
{
    long error = 0;

    for (uint64_t done = 0; done < bytes && error == 0;) {
        bool ours = is_ours(from + done);
        uint64_t run = PAGE_BYTES;

        while (done + run < bytes && is_ours(from + done + run) == ours)
            run += PAGE_BYTES;
        if (ours) {
            error = copy_pages(from + done, to + done, run);
        } else {
            error = system_call(SYS_mremap, (long)(from + done), (long)run, (long)run,
                                MREMAP_MAYMOVE | MREMAP_FIXED, (long)(to + done), 0);
            error = system_failed(error) ? error : 0;
        }
        done += run;
    }
    return error;
}

/* What a mapping grows by is what its last page is: mapped so, and wanted so once it is there. */
struct growth {
    bool executes;
    bool writes;
};

static struct growth growth_of(uintptr_t last)
{
    const struct window *window = window_find(last);
    uint64_t bit = window_bit(last);

    return (struct growth){
        .executes = window != NULL && (window->wants_execute & bit) != 0,
        .writes = window == NULL || (window_tracked(window) & bit) == 0 || (window->wants_write & bit) != 0,
    };
}

static long map_growth(struct growth growth, uintptr_t to, uint64_t bytes, int flags)
{
    return system_mmap(to, bytes, PROT_READ | (growth.writes ? PROT_WRITE : 0),
                       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static long move_range(uintptr_t address, uint64_t old_bytes, uint64_t bytes, int flags, uintptr_t to)
{
    uint64_t common = old_bytes < bytes ? old_bytes : bytes;
    struct growth growth = growth_of(address + old_bytes - PAGE_BYTES);
    long result = map_growth(growth, to, bytes, (flags & MREMAP_FIXED) != 0 ? MAP_FIXED : 0);
    long error;

    if (system_failed(result))
        return result;
    code_forget_locked((uintptr_t)result, bytes);
    if (growth.executes && bytes > old_bytes)
        want((uintptr_t)result + old_bytes, bytes - old_bytes, growth.writes);
    error = move_pages(address, (uintptr_t)result, common);
    if (error != 0)
        return error;
    if (old_bytes > common)
        (void)system_munmap(address + common, old_bytes - common);
    code_forget_locked(address, old_bytes);
    return result;
}

static long grow_in_place(uintptr_t address, uint64_t old_bytes, uint64_t bytes)
{
    uintptr_t end = address + old_bytes;
    struct growth growth = growth_of(end - PAGE_BYTES);
    long result = map_growth(growth, end, bytes - old_bytes, MAP_FIXED_NOREPLACE);

    if (system_failed(result))
        return result;
    code_forget_locked(end, bytes - old_bytes);
    if (growth.executes)
        want(end, bytes - old_bytes, growth.writes);
    return (long)address;
}

static long remap(uintptr_t address, uint64_t old_bytes, uint64_t bytes, int flags, uintptr_t to)
{
    long result;

    if ((flags & MREMAP_FIXED) != 0) {
        bool overlaps = to < address + old_bytes && address < to + bytes;

        return overlaps || (flags & MREMAP_MAYMOVE) == 0 ? -EINVAL
                                                         : move_range(address, old_bytes, bytes, flags, to);
    }
    if (bytes <= old_bytes) {
        if (bytes < old_bytes) {
            (void)system_munmap(address + bytes, old_bytes - bytes);
            code_forget_locked(address + bytes, old_bytes - bytes);
        }
        return (long)address;
    }
    result = grow_in_place(address, old_bytes, bytes);
    if (system_failed(result) && (flags & MREMAP_MAYMOVE) != 0)
        return move_range(address, old_bytes, bytes, flags, 0);
    return system_failed(result) ? -ENOMEM : result;
}

long mapping_mremap(uintptr_t address, uint64_t old_bytes, uint64_t bytes, int flags, uintptr_t to)
{
    uint64_t mask;
    long result;

    if (lock_is_mine || !window_any() || window_is_odd(address, old_bytes) || window_is_odd(to, bytes))
        return system_call(SYS_mremap, (long)address, (long)old_bytes, (long)bytes, flags, (long)to, 0);
    lock_take(&mask);
    if (code_is_tracked_locked(address, old_bytes) && (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0) {
        result = -EINVAL; /* MREMAP_DONTUNMAP, which not all kernels do for all memory either */
    } else if (code_is_tracked_locked(address, old_bytes)) {
        result = remap(address, window_page_up(old_bytes), window_page_up(bytes), flags, to);
    } else {
        result = system_call(SYS_mremap, (long)address, (long)old_bytes, (long)bytes, flags, (long)to, 0);
        if (!system_failed(result)) {
            code_forget_locked(address, old_bytes);
            code_forget_locked((uintptr_t)result, bytes);
        }
    }
    lock_drop(&mask);
    return result;
}
