/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <stdlib.h>

#include "baseline.h"

#define PAIRS 5u

static int compare(const void *a, const void *b)
{
    double left = ((const struct pair *)a)->ratio;
    double right = ((const struct pair *)b)->ratio;

    return (left > right) - (left < right);
}

static struct effort part_of(struct effort effort)
{
    return (struct effort){(effort.rounds + PAIRS - 1) / PAIRS, effort.seconds / PAIRS};
}

struct pair pair_take(struct bench *bench, pair_measure ours, void *user, enum baseline theirs)
{
    struct effort effort = bench->effort;
    struct effort slow_effort = bench->slow_effort;
    struct pair pairs[PAIRS];

    bench->effort = part_of(effort);
    bench->slow_effort = part_of(slow_effort);
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair *pair = &pairs[i];

        *pair = (struct pair){.ratio = 0};
        cpus_pin(&bench->cpus, SIDE_CLIENT);
        pair->ours = ours(bench, user);
        if (baseline_measure(bench, theirs, &pair->theirs))
            pair->ratio = pair->ours.p50_us / pair->theirs.p50_us;
    }
    bench->effort = effort;
    bench->slow_effort = slow_effort;
    qsort(pairs, PAIRS, sizeof pairs[0], compare);
    return pairs[PAIRS / 2];
}

void pair_report(struct bench *bench, const char *row, const struct pair *pair, enum baseline theirs)
{
    report_compared(&bench->report, row, &pair->ours, pair->ratio > 0 ? &pair->theirs : NULL,
                    baseline_why_not(theirs));
}
