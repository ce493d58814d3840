/* SPDX-License-Identifier: MIT */
#include "daemon/arena.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/memfd.h"
#include "proto/hello.h"
#include "proto/limits.h"

#ifndef MADV_POPULATE_WRITE /* in glibc's headers since 2.35, in Linux since 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

#ifndef MADV_COLLAPSE /* in glibc's headers since 2.37, in Linux since 6.1 */
#define MADV_COLLAPSE 25
#endif

#ifndef F_SEAL_EXEC /* in Linux's headers since 6.3: what a memfd that can't be executed comes with */
#define F_SEAL_EXEC 0x0020
#endif

/* Tries to make one huge page, in calls one after another, while someone has a page of it in use. */
#define COLLAPSE_TRIES_MAX 8u

static int reopen(int fd, int flags)
{
    char path[32];
    int again;

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    again = open(path, flags | O_CLOEXEC);
    return again < 0 ? -errno : again;
}

static int close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* The seals that make the invariants true, see the header. */
static int seals(enum arena_kind kind)
{
    switch (kind) {
    case ARENA_SEALED:
        return F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE;
    case ARENA_DIRECT:
        return F_SEAL_SEAL | F_SEAL_SHRINK;
    case ARENA_THROUGH:
        break;
    }
    return F_SEAL_SEAL;
}

static void *map(const struct arena *arena, int protection)
{
    if (arena->is_huge)
        return huge_page_map(arena->fd, arena->reserved_bytes, protection, MAP_NORESERVE);
    return mmap(NULL, arena->reserved_bytes, protection, MAP_SHARED | MAP_NORESERVE, arena->fd, 0);
}

static int arena_set_up(struct arena *arena)
{
    void *memory;

    arena->fd = memfd_new("jitbroker-arena");
    if (arena->fd < 0)
        return arena->fd;
    /* Born 0666: from here on no other uid reopens it for writing. Of a direct one we do. */
    if (fchmod(arena->fd, arena->kind == ARENA_DIRECT ? 0600 : 0400) != 0)
        return -errno;
    memory = map(arena, PROT_READ | PROT_WRITE);
    if (memory == MAP_FAILED)
        return -errno;
    arena->bytes = memory;
    (void)madvise(memory, arena->reserved_bytes, MADV_DONTDUMP);
    /* After the mapping: F_SEAL_FUTURE_WRITE would refuse it. */
    if (fcntl(arena->fd, F_ADD_SEALS, seals(arena->kind)) != 0)
        return -errno;
    return 0;
}

int arena_init(struct arena *arena, enum arena_kind kind, uint64_t reserved_bytes, uint32_t fill_pattern,
               bool is_huge)
{
    int error;

    assert(reserved_bytes % BLOCK_BYTES == 0 && reserved_bytes > 0);
    *arena = (struct arena){
        .kind = kind,
        .fd = -1,
        .reserved_bytes = reserved_bytes,
        .fill_pattern = fill_pattern,
        .is_huge = is_huge,
        .collapse_at_bytes = HUGE_PAGE_BYTES,
    };
    error = arena_set_up(arena);
    if (error != 0)
        arena_deinit(arena);
    return error;
}

/* What lies beyond is no whole block of fill, or nobody's. */
static const char *adopt_length(struct arena *arena, uint64_t grown_bytes)
{
    struct stat status;

    if (fstat(arena->fd, &status) != 0 || !S_ISREG(status.st_mode))
        return "its arena is no file";
    arena->grown_bytes = grown_bytes;
    if ((uint64_t)status.st_size >= grown_bytes && arena->kind != ARENA_THROUGH)
        return NULL;
    if (arena->kind != ARENA_THROUGH)
        return "its arena is shorter than it was";
    if ((uint64_t)status.st_size < grown_bytes)
        arena->grown_bytes = (uint64_t)status.st_size / BLOCK_BYTES * BLOCK_BYTES;
    if (ftruncate(arena->fd, (off_t)arena->grown_bytes) != 0)
        return "its arena can't be cut to its length";
    return NULL;
}

const char *arena_adopt(struct arena *arena, int fd, enum arena_kind kind, uint64_t reserved_bytes,
                        uint64_t grown_bytes, uint32_t fill_pattern, bool is_huge)
{
    const char *flaw = NULL;
    void *memory;

    *arena = (struct arena){
        .kind = kind,
        .fd = fd,
        .reserved_bytes = reserved_bytes,
        .fill_pattern = fill_pattern,
        .is_huge = is_huge,
        .collapse_at_bytes = HUGE_PAGE_BYTES,
    };
    if ((fcntl(fd, F_GET_SEALS) & ~F_SEAL_EXEC) != seals(kind))
        flaw = "its arena is not sealed as it has to be";
    else
        flaw = adopt_length(arena, grown_bytes);
    if (flaw == NULL) {
        memory = map(arena, kind == ARENA_SEALED ? PROT_READ : PROT_READ | PROT_WRITE);
        if (memory == MAP_FAILED)
            flaw = errno == ENOMEM ? memfd_no_memory : "its arena can't be mapped";
        else
            arena->bytes = memory;
    }
    if (flaw != NULL) {
        *arena = (struct arena){.fd = -1};
        return flaw;
    }
    (void)madvise(arena->bytes, reserved_bytes, MADV_DONTDUMP);
    return NULL;
}

void arena_revoke(struct arena *arena)
{
    if (arena->kind == ARENA_DIRECT)
        (void)fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, INT64_MAX);
    else
        (void)arena_trim(arena, 0);
}

void arena_deinit(struct arena *arena)
{
    if (arena->bytes != NULL)
        (void)munmap(arena->bytes, arena->reserved_bytes);
    arena->bytes = NULL;
    arena->fd = close_fd(arena->fd);
}

int arena_open_read_only(const struct arena *arena)
{
    return reopen(arena->fd, O_RDONLY);
}

/* Not ours: the flags of an open file are the client's to change. */
int arena_open_writable(const struct arena *arena)
{
    assert(arena->kind == ARENA_DIRECT);
    return reopen(arena->fd, O_RDWR);
}

static int grow_filled(struct arena *arena, uint64_t bytes)
{
    static uint8_t block[BLOCK_BYTES]; /* one thread runs all of the daemon */

    fill_pattern_spread(block, sizeof block, arena->fill_pattern);
    for (uint64_t end = arena->grown_bytes; end < bytes;) {
        uint64_t left = bytes - end;
        ssize_t done = pwrite(arena->fd, block, left < sizeof block ? left : sizeof block, (off_t)end);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -ENOSPC;
        end += (uint64_t)done;
    }
    return 0;
}

/* No pwrite() after F_SEAL_FUTURE_WRITE, only our mapping; fallocate() fails where a touch would kill us. */
static int grow_sealed(struct arena *arena, uint64_t bytes)
{
    while (fallocate(arena->fd, 0, (off_t)arena->grown_bytes, (off_t)(bytes - arena->grown_bytes)) != 0) {
        if (errno != EINTR)
            return -errno;
    }
    fill_pattern_spread(arena->bytes + arena->grown_bytes, bytes - arena->grown_bytes, arena->fill_pattern);
    return 0;
}

int arena_grow(struct arena *arena, uint64_t bytes)
{
    int error;

    assert(bytes > arena->grown_bytes && bytes <= arena->reserved_bytes && bytes % BLOCK_BYTES == 0);
    arena->moved_bytes += bytes - arena->grown_bytes;
    error = arena->kind == ARENA_SEALED ? grow_sealed(arena, bytes) : grow_filled(arena, bytes);
    if (error != 0) {
        /* What did grow is filled: if it can't be taken back it does no harm. */
        (void)arena_trim(arena, arena->grown_bytes);
        return error;
    }
    arena->grown_bytes = bytes;
    return 0;
}

bool arena_trim(struct arena *arena, uint64_t bytes)
{
    assert(bytes <= arena->grown_bytes && bytes % BLOCK_BYTES == 0);
    if (bytes < arena->huge_bytes)
        bytes = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if (arena->kind != ARENA_THROUGH || ftruncate(arena->fd, (off_t)bytes) != 0)
        return false;
    arena->moved_bytes += arena->grown_bytes - bytes;
    arena->grown_bytes = bytes;
    if (bytes < arena->huge_bytes) {
        arena->huge_bytes = bytes;
        arena->collapse_at_bytes = bytes + HUGE_PAGE_BYTES;
    }
    return true;
}

/* Not left to shmem_enabled= and MADV_HUGEPAGE: they don't reach what grows by pwrite(). */
int arena_collapse(struct arena *arena)
{
    int error;

    if (!arena->is_huge || arena->grown_bytes < arena->collapse_at_bytes)
        return 0;
    arena->moved_bytes += HUGE_PAGE_BYTES;
    if (madvise(arena->bytes + arena->huge_bytes, HUGE_PAGE_BYTES, MADV_COLLAPSE) == 0) {
        arena->huge_bytes += HUGE_PAGE_BYTES;
        arena->collapse_at_bytes = arena->huge_bytes + HUGE_PAGE_BYTES;
        arena->collapse_tries = 0;
        return 0;
    }
    error = errno;
    arena->collapse_tries++;
    if (error != EAGAIN || arena->collapse_tries == COLLAPSE_TRIES_MAX) {
        arena->collapse_at_bytes = (arena->grown_bytes / HUGE_PAGE_BYTES + 1) * HUGE_PAGE_BYTES;
        arena->collapse_tries = 0;
    }
    return -error;
}

static int try_huge_page(void)
{
    struct arena arena;
    int error;

    /* With larger pages a huge one is larger too, and MADV_COLLAPSE finds nothing to do. */
    if (sysconf(_SC_PAGESIZE) != 4096)
        return -EOPNOTSUPP;
    error = arena_init(&arena, ARENA_THROUGH, HUGE_PAGE_BYTES, 0, true);
    if (error != 0)
        return error;
    error = arena_grow(&arena, HUGE_PAGE_BYTES);
    if (error == 0)
        error = arena_collapse(&arena);
    arena_deinit(&arena);
    return error;
}

bool arena_can_be_huge(void)
{
    static bool tried;
    static bool can;

    if (!tried) {
        int error = try_huge_page();

        tried = true;
        can = error == 0;
        if (!can)
            log_line(LOG_NOTICE, "no huge pages for arenas: the kernel says \"%s\"", strerror(-error));
    }
    return can;
}

void arena_fill(struct arena *arena, uint64_t offset, uint64_t bytes)
{
    assert(offset <= arena->grown_bytes && bytes <= arena->grown_bytes - offset);
    /* All at once, not one fault a page; where it can't be done the faults do it. */
    if (bytes >= BLOCK_BYTES)
        (void)madvise(arena->bytes + (offset & ~((uint64_t)BLOCK_BYTES - 1)), bytes, MADV_POPULATE_WRITE);
    fill_pattern_spread(arena->bytes + offset, bytes, arena->fill_pattern);
    arena->moved_bytes += bytes;
}

void arena_write(struct arena *arena, uint64_t offset, const void *data, size_t bytes)
{
    assert(offset <= arena->grown_bytes && bytes <= arena->grown_bytes - offset);
    if (bytes > 0)
        memcpy(arena->bytes + offset, data, bytes);
    arena->moved_bytes += bytes;
}

void arena_replace(struct arena *arena, uint64_t offset, const void *data, size_t bytes, uint8_t between)
{
    assert(offset <= arena->grown_bytes && bytes <= arena->grown_bytes - offset);
    memset(arena->bytes + offset, between, bytes);
    atomic_thread_fence(memory_order_release); /* all of it before anything of what follows */
    arena_write(arena, offset, data, bytes);
}

uint64_t arena_patch(struct arena *arena, uint64_t offset, uint32_t width, uint64_t expected,
                     uint64_t desired)
{
    uint8_t *at = arena->bytes + offset;
    uint8_t expected8 = (uint8_t)expected;
    uint16_t expected16 = (uint16_t)expected;
    uint32_t expected32 = (uint32_t)expected;

    assert(offset % width == 0 && offset < arena->grown_bytes);
    switch (width) {
    case 1:
        (void)__atomic_compare_exchange_n(at, &expected8, (uint8_t)desired, 0, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST);
        return expected8;
    case 2:
        (void)__atomic_compare_exchange_n((uint16_t *)(void *)at, &expected16, (uint16_t)desired, 0,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        return expected16;
    case 4:
        (void)__atomic_compare_exchange_n((uint32_t *)(void *)at, &expected32, (uint32_t)desired, 0,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        return expected32;
    default:
        (void)__atomic_compare_exchange_n((uint64_t *)(void *)at, &expected, desired, 0, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST);
        return expected;
    }
}
