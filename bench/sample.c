/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "trouble.h"

#define WARM_UP_STEPS 1000u

double clock_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

void sleep_us(double us)
{
    struct timespec left = {.tv_sec = (time_t)(us / 1e6)};

    left.tv_nsec = (long)((us - (double)left.tv_sec * 1e6) * 1e3);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

void spin_us(double us)
{
    double end = clock_us() + us;

    while (clock_us() < end)
        ;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

struct sample sample_of(double *times_us, size_t count)
{
    struct sample sample = {.batch = 1, .steps = count};
    double sum = 0;

    qsort(times_us, count, sizeof *times_us, compare);
    for (size_t i = 0; i < count; i++)
        sum += times_us[i];
    sample.mean_us = sum / (double)count;
    sample.p50_us = times_us[count / 2];
    sample.p99_us = times_us[count - 1 - count / 100];
    return sample;
}

static void warm_up(const struct effort *effort, sample_step step, void *user)
{
    unsigned steps = effort->rounds / 10 < WARM_UP_STEPS ? effort->rounds / 10 : WARM_UP_STEPS;
    double end = clock_us() + effort->seconds * 1e6 / 4;

    for (unsigned i = 0; i < steps && clock_us() < end; i++)
        step(user);
}

static double *new_times(size_t count)
{
    double *times = calloc(count, sizeof *times);

    if (times == NULL)
        die("memory for readings");
    return times;
}

/* Fills `times` with up to `count` readings of `batch` steps each; returns how many there was time for. */
static size_t read_times(double *times, size_t count, const struct effort *effort, unsigned batch,
                         sample_step step, void *user)
{
    double began = clock_us();
    double end = began + effort->seconds * 1e6;
    size_t i = 0;

    while (i < count && began <= end) {
        double now;

        for (unsigned k = 0; k < batch; k++)
            step(user);
        now = clock_us();
        times[i++] = (now - began) / batch;
        began = now;
    }
    return i;
}

struct sample sample_take(const struct effort *effort, unsigned batch, sample_step step, void *user)
{
    double *times = new_times(effort->rounds);
    struct sample single;
    struct sample sample;
    size_t batches = effort->rounds / batch > 0 ? effort->rounds / batch : 1;

    warm_up(effort, step, user);
    single = sample_of(times, read_times(times, effort->rounds, effort, 1, step, user));
    if (batch == 1) {
        free(times);
        return single;
    }
    batches = read_times(times, batches, effort, batch, step, user);
    sample = sample_of(times, batches);
    sample.p99_us = single.p99_us;
    sample.batch = batch;
    sample.steps = batches * batch + single.steps;
    free(times);
    return sample;
}

struct sample sample_take_paused(const struct effort *effort, sample_step step, void *user)
{
    double *times = new_times(effort->rounds);
    double end = clock_us() + effort->seconds * 1e6;
    struct sample sample;
    size_t count = 0;

    step(user);
    while (count < effort->rounds && (count == 0 || clock_us() < end)) {
        double began;

        sleep_us(PAUSE_US);
        began = clock_us();
        step(user);
        times[count++] = clock_us() - began;
    }
    sample = sample_of(times, count);
    free(times);
    return sample;
}
