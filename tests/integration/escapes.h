/* SPDX-License-Identifier: MIT */
/*
 * Ways to executable memory that is not the broker's. Each returns 0 when it worked, else
 * errno; jitc_lockdown() must leave none that works.
 */
#ifndef TESTS_ESCAPES_H
#define TESTS_ESCAPES_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KILLED_BY(signal) (-(signal))

struct escape {
    const char *name;
    const char *row; /* of tests/attacks/rows.txt */
    int (*attack)(void);
    int refusal;   /* errno afterwards; KILLED_BY() needs a child */
    uint32_t step; /* the lockdown step that stands in its way */
};

extern const struct escape escapes[];
extern const int escapes_count;

/* Bytes; to be set before any of them is tried. */
extern size_t page;

static inline int result(bool worked)
{
    return worked ? 0 : errno;
}

/* Those that are part of other tests too. */
int map_anonymous_executable(void);
void *written_page(void);
int map_memfd_twice(void);
int write_code_through_self_mem(void);
int spawn_program(const char *path);
int execute_program(void);

#endif
