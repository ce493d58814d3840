/* SPDX-License-Identifier: MIT */
/* One client, write-through: a function at a time, asleep and awake, many at once, a large one, the first. */
#ifndef BENCH_THROUGH_H
#define BENCH_THROUGH_H

#include "bench.h"

void through_report(struct bench *bench);

#endif
