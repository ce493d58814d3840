/* SPDX-License-Identifier: MIT */
#include "client/arena_map.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/failure.h"
#include "client/jitclient.h"
#include "proto/huge_page.h"

/* In Linux's headers since 6.10; the number is the same on all architectures. */
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

#define NEAR_BYTES (UINT64_C(1) << 31)
#define NEAR_ALIGNMENT (UINT64_C(1) << 16)
/* Left free behind the heap, so that it can grow. */
#define HEAP_ROOM (UINT64_C(64) << 20)
#define NEAR_TRIES 4

/* ---- All maps of the process --------------------------------------------------------- */

static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena_map *maps;

static void lock_maps(void)
{
    (void)pthread_mutex_lock(&maps_lock);
}

static void unlock_maps(void)
{
    (void)pthread_mutex_unlock(&maps_lock);
}

/* A child must not inherit the lock from a thread that it does not have. */
static void watch_forks(void)
{
    (void)pthread_atfork(lock_maps, unlock_maps, unlock_maps);
}

static void map_link(struct arena_map *map)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, watch_forks);
    lock_maps();
    map->prev = NULL;
    map->next = maps;
    if (maps != NULL)
        maps->prev = map;
    maps = map;
    unlock_maps();
}

static void map_unlink(struct arena_map *map)
{
    lock_maps();
    if (map->prev != NULL)
        map->prev->next = map->next;
    else
        maps = map->next;
    if (map->next != NULL)
        map->next->prev = map->prev;
    unlock_maps();
}

int arena_map_seal_all(void)
{
    int result = 0;

    lock_maps();
    /* The call is harmless on no bytes, and tells whether there is one where there is no arena. */
    if (syscall(SYS_mseal, NULL, 0, 0) != 0)
        result = -errno;
    for (struct arena_map *map = maps; map != NULL && result == 0; map = map->next) {
        if (map->is_sealed)
            continue;
        if (syscall(SYS_mseal, map->rx, map->bytes, 0) != 0)
            result = -errno;
        else
            map->is_sealed = true;
    }
    unlock_maps();
    return result;
}

/* ---- Where to map ----------------------------------------------------------------------- */

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static bool is_within_reach(uint64_t start, uint64_t bytes, uint64_t near)
{
    return distance(start, near) < NEAR_BYTES && distance(start + bytes, near) < NEAR_BYTES;
}

/* The start in the free range [low, high) closest to `near`, or 0. */
static uint64_t place_in(uint64_t low, uint64_t high, uint64_t bytes, uint64_t near, uint64_t alignment)
{
    uint64_t start = near;

    low = (low + alignment - 1) & ~(alignment - 1);
    if (high < low || high - low < bytes)
        return 0;
    if (start > high - bytes)
        start = high - bytes;
    start &= ~(alignment - 1);
    if (start < low)
        start = low;
    return is_within_reach(start, bytes, near) ? start : 0;
}

/* An address, free a moment ago, from where `bytes` are all within reach of `near`; 0: there is none. */
static uint64_t find_near(uint64_t bytes, uint64_t near, uint64_t alignment)
{
    FILE *file = fopen("/proc/self/maps", "re");
    uint64_t best = 0;
    uint64_t end = NEAR_ALIGNMENT; /* nothing is mapped at zero */
    char line[512];

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        uint64_t from;
        uint64_t to;
        uint64_t start;
        char name[8] = "";

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %7s", &from, &to, name) < 2)
            continue; /* the rest of a long line */
        start = place_in(end, from, bytes, near, alignment);
        if (start != 0 && (best == 0 || distance(start, near) < distance(best, near)))
            best = start;
        end = to;
        if (name[0] == '[' && name[1] == 'h')
            end += HEAP_ROOM;
    }
    (void)fclose(file);
    return best;
}

static void *map_anywhere(int fd, size_t bytes, int protection, bool is_huge)
{
    return is_huge ? huge_page_map(fd, bytes, protection, 0)
                   : mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
}

static void *map_rx(int fd, size_t bytes, const void *near_to, bool is_huge)
{
    /* A place can be taken between our looking and our mapping. */
    for (int i = 0; near_to != NULL && i < NEAR_TRIES; i++) {
        uint64_t start = is_huge ? find_near(bytes, (uintptr_t)near_to, HUGE_PAGE_BYTES) : 0;
        void *memory;

        if (start == 0)
            start = find_near(bytes, (uintptr_t)near_to, NEAR_ALIGNMENT);
        if (start == 0)
            break;
        memory = mmap((void *)(uintptr_t)start, bytes, PROT_READ | PROT_EXEC,
                      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
        if (memory != MAP_FAILED)
            return memory;
        if (errno != EEXIST)
            break;
    }
    return map_anywhere(fd, bytes, PROT_READ | PROT_EXEC, is_huge);
}

int arena_map_init(struct arena_map *map, int fd, int fd_direct, size_t bytes, const void *near_to,
                   bool near_required, bool is_huge)
{
    void *rx = map_rx(fd, bytes, near_to, is_huge);
    void *rw = NULL;
    bool is_near;

    *map = (struct arena_map){.fd = -1};
    if (rx == MAP_FAILED)
        return failure_set(JITC_E_SYSTEM, "mapping the arena (%zu bytes) read+execute: %m", bytes);
    is_near = near_to != NULL && is_within_reach((uintptr_t)rx, bytes, (uintptr_t)near_to);
    if (near_required && !is_near) {
        (void)munmap(rx, bytes);
        return failure_set(JITC_E_NOT_NEAR, "no %zu bytes are free within 2 GiB of %p", bytes, near_to);
    }
    if (fd_direct >= 0) {
        rw = map_anywhere(fd_direct, bytes, PROT_READ | PROT_WRITE, is_huge);
        if (rw == MAP_FAILED) {
            int status = failure_set(JITC_E_SYSTEM, "mapping the arena (%zu bytes) read+write: %m", bytes);

            (void)munmap(rx, bytes);
            return status;
        }
        /* A child that writes would write into its parent's code. */
        (void)madvise(rw, bytes, MADV_DONTFORK);
    }
    *map = (struct arena_map){.rx = rx, .rw = rw, .bytes = bytes, .fd = fd, .is_near = is_near};
    map_link(map);
    return JITC_OK;
}

void arena_map_deinit(struct arena_map *map, bool inherited)
{
    if (map->rx == NULL)
        return;
    map_unlink(map);
    if (!map->is_sealed)
        (void)munmap(map->rx, map->bytes);
    if (map->rw != NULL && !inherited)
        (void)munmap(map->rw, map->bytes);
    (void)close(map->fd);
    *map = (struct arena_map){.fd = -1};
}

bool arena_map_read(const struct arena_map *map, uint64_t offset, void *to, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t got = pread(map->fd, (uint8_t *)to + done, bytes - done, (off_t)(offset + done));

        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got < 0 ? 0 : (size_t)got;
    }
    return true;
}

bool arena_map_offset(const struct arena_map *map, const void *pointer, uint64_t *offset)
{
    uint64_t at = (uintptr_t)pointer - (uintptr_t)map->rx;

    if (at >= map->bytes && map->rw != NULL)
        at = (uintptr_t)pointer - (uintptr_t)map->rw;
    *offset = at;
    return at < map->bytes;
}
