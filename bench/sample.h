/* SPDX-License-Identifier: MIT */
/*
 * Reading the clock, and what the readings say.
 *
 * A step that is short compared with reading the clock is timed many at a time: p50 and mean
 * are then of the readings of a batch, divided by its steps, and p99, which an average would
 * hide, of readings of one step each in a second pass. Nothing is subtracted: each reading
 * holds the cost of reading the clock once.
 */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include <stddef.h>

#define BATCH_STEPS 64u
#define PAUSE_US 3000u

struct sample {
    double p50_us;
    double p99_us;
    double mean_us;
    unsigned batch; /* steps in one reading, for p50 and mean */
    size_t steps;   /* timed ones, of both passes */
};

/* Whichever ends first. */
struct effort {
    unsigned rounds;
    double seconds; /* of one pass */
};

typedef void (*sample_step)(void *user);

double clock_us(void);
void sleep_us(double us);
/* Burns time without sleeping. */
void spin_us(double us);

struct sample sample_take(const struct effort *effort, unsigned batch, sample_step step, void *user);
/* Sleeps PAUSE_US before each step, which is timed alone. */
struct sample sample_take_paused(const struct effort *effort, sample_step step, void *user);
/* Of times taken elsewhere, at least one; sorts them. */
struct sample sample_of(double *times_us, size_t count);

#endif
