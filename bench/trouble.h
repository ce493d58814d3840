/* SPDX-License-Identifier: MIT */
/* The end of the program where it can't go on. */
#ifndef BENCH_TROUBLE_H
#define BENCH_TROUBLE_H

#include <errno.h>

/* Says what could not be done, and why by errno. */
_Noreturn void die(const char *what);
/* The same in full sentences. */
_Noreturn void die_because(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die_of_status(int status, const char *what);

/* For the results of the library. */
static inline void check(int status, const char *what)
{
    if (__builtin_expect(status != 0, 0))
        die_of_status(status, what);
}

#endif
