/* SPDX-License-Identifier: MIT */
/*
 * This process's session with the broker, and chunks of its arena, one for each window of code.
 *
 * A chunk's bytes are seen by every process that had it mapped when it forked. So who forks, or was forked,
 * never writes to a chunk from before: arena_is_ours() says no, and the window moves to another chunk. What
 * the parent had stays its session's until the last such process is gone, which the end of a pipe tells
 * that they all hold.
 *
 * The session begins when code is first needed: a process that makes none costs the broker nothing.
 * Functions that can fail return 0 or a negative errno, which is the program's answer; why, goes to the log.
 * All are called with the lock held.
 */
#ifndef PRELOAD_ARENA_H
#define PRELOAD_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "client/jitclient.h"

struct family;

struct chunk {
    jitc_span span;   /* rx is NULL: there is none */
    uint8_t *code;    /* its first page, where the arena is mapped */
    uint64_t process; /* whose session it is of, and ... */
    uint64_t forks;   /* ... after how many forks of its it was made */

    struct family *family; /* or whose it is, and ... */
    uint32_t window;       /* ... for which of its windows */
};

static inline bool chunk_exists(const struct chunk *chunk)
{
    return chunk->span.rx != NULL;
}

/* Begins the session, if there is none yet; the others do it themselves. */
int arena_begin(void);

int arena_take(struct chunk *chunk);
/* No page of it may be mapped any more, here; there need not be one. */
void arena_give_back(struct chunk *chunk);
/* Whether nobody else sees it any more. */
bool arena_is_ours(struct chunk *chunk);

/* Has it written by the next arena_flush(); `offset` from the first page. The bytes are the caller's at once.
 */
int arena_write(struct chunk *chunk, uint64_t offset, const void *bytes, uint64_t size);
int arena_flush(void);
/* Maps [offset, offset + size) of the chunk read+execute at `address`. */
int arena_map(const struct chunk *chunk, uint64_t offset, uint64_t size, uintptr_t address);

/* For a family's keeper, see family.h: an end for executors, and where a chunk's code is in the arena. */
int arena_open_executor(int *end);
uint64_t arena_place(const struct chunk *chunk);

/* This process, among those that forked from one another. */
uint64_t arena_process(void);

/* Gives up what is not needed any more of the processes that forked this one. Not in a handler: it frees. */
void arena_leave_ancestors(void);

/* Around fork(2): in the parent before, in both after. */
void arena_before_fork(void);
void arena_after_fork(bool in_child);

#endif
