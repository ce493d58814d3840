/* SPDX-License-Identifier: MIT */
/*
 * The memory of one session: a memfd, mapped read+write here and read+execute at
 * the client, and never executable in this process.
 *
 * Invariants:
 * - Every byte below `grown_bytes` was written by arena_write() or arena_patch(), or
 *   is trap fill. The file ends there; a client that runs or reads beyond gets SIGBUS.
 *   (A sealed arena grows by zeros that are filled at once: see SECURITY.md.)
 * - Nobody but this process has a descriptor that can write, unless the arena is direct.
 * - Huge pages back what is below `huge_bytes`, as far as the kernel keeps them: it may split one,
 *   and so may the client of a direct arena. An extent of HUGE_PAGE_BYTES becomes one when all of it has
 *   grown, so that no byte appears by it, and is given back as a whole.
 * - The file cannot get shorter under our mapping: only we could make it so, or, where
 *   somebody else holds or could make a writable descriptor, F_SEAL_SHRINK forbids it.
 */
#ifndef DAEMON_ARENA_H
#define DAEMON_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/huge_page.h"

enum arena_kind {
    ARENA_THROUGH, /* the client's uid can't reopen the memfd for writing */
    ARENA_SEALED,  /* it could (our own uid, or root): no new writable mapping, by anyone */
    ARENA_DIRECT   /* the client gets a writable descriptor too */
};

struct arena {
    enum arena_kind kind;
    int fd;
    uint8_t *bytes;
    uint64_t reserved_bytes;
    uint64_t grown_bytes;
    uint32_t fill_pattern;
    bool is_huge; /* is to have huge pages */
    uint64_t huge_bytes;
    uint64_t collapse_at_bytes; /* when it has grown so far, the next huge page is tried */
    uint32_t collapse_tries;    /* in vain, of this one */
    uint64_t moved_bytes; /* so far: got, filled, written or given back. What the daemon's time went into */
};

/* Whether the kernel can put arenas on huge pages. Tried once, and logged if it can't. */
bool arena_can_be_huge(void);

/* reserved_bytes is a multiple of BLOCK_BYTES. Returns 0 or -errno. */
int arena_init(struct arena *arena, enum arena_kind kind, uint64_t reserved_bytes, uint32_t fill_pattern,
               bool is_huge);
void arena_deinit(struct arena *arena);
/*
 * Goes on with the arena that `fd` is, which an earlier process had: checks what it is, and takes it over.
 * arena->grown_bytes is `grown_bytes`, or less where the file got shorter. A sealed one can be read, and
 * nothing else. NULL, or what is wrong: then `fd` is the caller's still.
 */
const char *arena_adopt(struct arena *arena, int fd, enum arena_kind kind, uint64_t reserved_bytes,
                        uint64_t grown_bytes, uint32_t fill_pattern, bool is_huge);

/*
 * Gives its memory back to the system even where somebody still maps it, who then meets
 * SIGBUS, or in a direct arena zeros. A sealed arena's stays for as long as it is mapped.
 */
void arena_revoke(struct arena *arena);

/* A new read-only descriptor of the arena, the caller's; or -errno. */
int arena_open_read_only(const struct arena *arena);
/* The same of a direct one, for reading and writing. */
int arena_open_writable(const struct arena *arena);

/* Makes the arena end at `bytes`, a multiple of BLOCK_BYTES. What is new is trap fill. 0 or -errno. */
int arena_grow(struct arena *arena, uint64_t bytes);
/*
 * Gives everything from `bytes` on, or from the end of the huge page that is there, back to the
 * system, if this kind of arena can; returns whether. grown_bytes tells what is left.
 */
bool arena_trim(struct arena *arena, uint64_t bytes);

/*
 * Puts HUGE_PAGE_BYTES, if so many have grown and have none yet, on a huge page: at most one in
 * a call, since everybody waits for it. Whoever touches the bytes meanwhile waits too. 0, or the
 * kernel's -errno: then it is tried again when as much again has grown, and a few times in the next
 * calls if someone just had a page in use (-EAGAIN).
 */
int arena_collapse(struct arena *arena);

/* The range is below grown_bytes in all of them. */
void arena_fill(struct arena *arena, uint64_t offset, uint64_t bytes);
void arena_write(struct arena *arena, uint64_t offset, const void *data, size_t bytes);
/*
 * Writes it with `between` there in between: who runs or reads the range meanwhile meets no mixture of what
 * was there before and what is written.
 */
void arena_replace(struct arena *arena, uint64_t offset, const void *data, size_t bytes, uint8_t between);
/* Atomic compare-and-swap of 1, 2, 4 or 8 aligned bytes; returns what was there. */
uint64_t arena_patch(struct arena *arena, uint64_t offset, uint32_t width, uint64_t expected,
                     uint64_t desired);

#endif
