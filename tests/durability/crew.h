/* SPDX-License-Identifier: MIT */
/*
 * Clients of every kind under a supervised broker, and what they compare (witness.h) when they are told to: a
 * crew is a process of its own user, with some threads that share a session and have spans of their own.
 *
 * In a comparison all threads of a crew stand still. Every byte of every span is what it should be, no span
 * lies over another, there are as many and as large ones as the daemon counts, trap fill between them, and
 * counters that only a patch raises were raised as often as a patch succeeded. Now and then it tries
 * whether it gets exactly as many spans, or as much memory, as its class may have.
 * What is not so ends the crew with a line, and whoever leads them with it.
 */
#ifndef TESTS_CREW_H
#define TESTS_CREW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/supervised.h"

enum { CREWS = 9, CREW_TIMES = 256 };

/* What all processes share. */
struct crew_table {
    _Atomic unsigned kills;     /* and other ends of the daemon, so far */
    _Atomic uint64_t killed_ns; /* the last one */
    _Atomic unsigned pause;     /* comparisons that were asked for */
    _Atomic unsigned go;        /* those that are over */
    _Atomic bool ends;
    struct crew_seat {
        _Atomic unsigned answered;  /* the last kill after which it had an answer ... */
        _Atomic uint64_t waited_ns; /* ... and how long that took, from the kill on */
        _Atomic unsigned paused;    /* comparisons it has made */
        _Atomic uint64_t acts;
        _Atomic uint64_t spans;   /* compared */
        _Atomic uint64_t bytes;   /* of arenas compared */
        _Atomic uint64_t refused; /* connections that an end of the daemon cost who comes and goes */
        _Atomic uint32_t times[CREW_TIMES]; /* acts that took 2^(i / 4) * (4 + i % 4) / 4 ns and more */
    } seats[CREWS];
};

struct crew_sum {
    uint64_t acts;
    uint64_t spans;
    uint64_t bytes;
    uint64_t refused;
};

extern struct crew_table *crew_table;

/* Starts the broker and them, and has them compare once. As root only. */
void crews_start(struct broker *broker, unsigned seed);
/* Has them compare, and stand still until crews_go_on(). */
void crews_compare(void);
void crews_go_on(void);
/* Fails the test if one of them, or the supervisor, has ended. */
void crews_look_after(void);
/*
 * Sends that signal to the daemon, SIGUSR2 to the supervisor, so long after there is one that is another than
 * `other`; returns it.
 */
pid_t crews_kill(pid_t other, int number, unsigned delay_us);
/* Until each had an answer since then; how long each waited, in CREWS numbers. */
void crews_await_answers(uint64_t *waits_ns);
/* What one is called, and its process. */
const char *crews_name(unsigned number);
pid_t crews_process(unsigned number);
struct crew_sum crews_sum(void);
/* Ends them and the broker, and fails the test if anything is left of them there. */
void crews_end(void);

uint64_t crew_now_ns(void);

#endif
