/* SPDX-License-Identifier: MIT */
/* Random numbers that can be had again: the seed is printed, and JITBROKER_SEED sets it. */
#ifndef TESTS_UNIT_DICE_H
#define TESTS_UNIT_DICE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_environment(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);

    return value == NULL ? otherwise : strtoull(value, NULL, 0);
}

/* In main(), so that every test of a program has the same one. */
static inline uint64_t dice_seed(void)
{
    struct timespec now;
    uint64_t seed;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    seed = dice_environment("JITBROKER_SEED", (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec);
    printf("JITBROKER_SEED=%" PRIu64 "\n", seed);
    (void)fflush(stdout);
    return seed;
}

/* splitmix64 */
static inline uint64_t dice_next(struct dice *dice)
{
    uint64_t value = dice->state += UINT64_C(0x9E3779B97F4A7C15);

    value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

/* 0 to bound - 1 */
static inline uint64_t dice_below(struct dice *dice, uint64_t bound)
{
    return dice_next(dice) % bound;
}

static inline bool dice_percent(struct dice *dice, unsigned percent)
{
    return dice_below(dice, 100) < percent;
}

#endif
