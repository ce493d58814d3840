/* SPDX-License-Identifier: MIT */
/* What one hostile client of another user costs a good one. */
#ifndef BENCH_HOSTILE_H
#define BENCH_HOSTILE_H

#include "bench.h"

void hostile_report(struct bench *bench);

#endif
