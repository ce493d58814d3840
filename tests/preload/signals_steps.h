/* SPDX-License-Identifier: MIT */
/* Signal handlers, and code that is flipped and patched meanwhile. */
#ifndef TESTS_PRELOAD_SIGNALS_STEPS_H
#define TESTS_PRELOAD_SIGNALS_STEPS_H

#include <signal.h>

#include "tests/preload/program.h"

static sigjmp_buf back;
static volatile sig_atomic_t seen;
static uint8_t *region;        /* of the case that runs */
static uint8_t *other;         /* another */
static volatile uint32_t last; /* what a handler found */

static inline void handle(int signal, void (*handler)(int, siginfo_t *, void *), unsigned flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = (int)(SA_SIGINFO | flags)};

    must(sigaction(signal, &action, NULL) == 0);
}

/* Some flips, and some code that is written where it runs. */
static inline void work(uint8_t *flipped, uint8_t *at_once, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        if (flipped != NULL) {
            protect(flipped, 2 * PAGE, RW);
            put(flipped + 8, i);
            put(flipped + PAGE, i + 1);
            protect(flipped, 2 * PAGE, RX);
            must_return(flipped + 8, i);
            must_return(flipped + PAGE, i + 1);
        }
        if (at_once != NULL) {
            put(at_once, i);
            must_return(at_once, i);
        }
    }
}

#endif
