/* SPDX-License-Identifier: MIT */
/*
 * Code in memory that processes share by forking (MAP_SHARED | MAP_ANONYMOUS), as PHP's workers do: what one
 * of them writes, all of them run.
 *
 * Such a mapping, when a page of it becomes executable, gets a keeper: a process of its own, forked by the
 * one that made the mapping, which has the session that owns the code. The family asks the keeper for chunks,
 * and to write, by memory that they all have, one at a time. The others are executors: each page is mapped
 * from the keeper's arena while it is executable, and from the program's own memory, of which a second
 * mapping is kept, while it is not. So they all see one memory, and one code.
 *
 * Whoever makes the memory writable stops the others, by a signal, until it has made it executable again:
 * what it tells them to run in between, they would run before it is there. Of a process with several threads
 * that stops one.
 *
 * The keeper is no child that wait(2) tells of; it ends when the last of the family has.
 */
#ifndef PRELOAD_FAMILY_H
#define PRELOAD_FAMILY_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* By which others are stopped: one that is ignored by who doesn't know it. */
#define FAMILY_SIGNAL SIGURG

struct chunk;
struct family;
struct window;

/* A mapping of that kind was made; this one, or a part of it, is gone. With the lock held, as all of these.
 */
void family_note(uintptr_t address, uint64_t bytes);
void family_forget(uintptr_t address, uint64_t bytes);

/* Whether there is any mapping of that kind; without the lock. */
bool family_any(void);
/* Whether there is one with a keeper. */
bool family_has_begun(void);

/*
 * The windows of such a mapping hold nothing of its neighbours, whose code is in another arena: they are its
 * own. The one of an address; NULL: it is in no such mapping. *edge becomes where the next such mapping
 * begins, or this one ends, if that is before it.
 */
struct window *family_window(uintptr_t address, uintptr_t *edge);

/* Whose memory it is, ready to be used; NULL: a process's own, or there is no keeper to be had. */
struct family *family_of(uintptr_t address);

/* Whether some of them has code in the window that begins there. */
bool family_has(const struct family *family, uintptr_t window);
/* The chunk of the window that begins there, the same for all. 0 or a negative errno. */
int family_take(struct family *family, uintptr_t window, struct chunk *chunk);
/* Has it written, and waits for that. */
int family_write(struct family *family, const struct chunk *chunk, uint64_t offset, const void *bytes,
                 uint64_t size);
int family_map(struct family *family, const struct chunk *chunk, uint64_t offset, uint64_t size,
               uintptr_t address);
/* This process begins to write, or has ended to, and what it wrote was sent. */
void family_begin_writing(struct family *family);
void family_end_writing(struct family *family);
/* Waits, though not for ever, until nobody else writes. */
void family_wait_for_writers(const struct family *family);
/* In a child. */
void family_join(void);
/* FAMILY_SIGNAL; without the lock. False: it is the program's own. */
bool family_is_stopped(const siginfo_t *info);

/* The program's memory is in its place again, readable and writable. */
long family_restore(struct family *family, uintptr_t address, uint64_t bytes);

#endif
