/* SPDX-License-Identifier: MIT */
/*
 * Something of ours beside what it is compared with.
 *
 * What an exchange between two processors costs can change from one moment to the next, where
 * they are virtual: they share a core, or they don't; one is woken sooner, or later. So both are
 * measured one right after the other, several times, each for a part of the effort, and the pair
 * whose ratio is the median is the one that counts.
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include "bench.h"

struct pair {
    struct sample ours;
    struct sample theirs;
    double ratio; /* of p50; 0 where there is nothing to compare with */
};

typedef struct sample (*pair_measure)(const struct bench *bench, void *user);

struct pair pair_take(struct bench *bench, pair_measure ours, void *user, enum baseline theirs);
void pair_report(struct bench *bench, const char *row, const struct pair *pair, enum baseline theirs);

#endif
