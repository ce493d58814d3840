/* SPDX-License-Identifier: MIT */
/*
 * Churn: with so many spans live, release one at random, alloc 8 to 1031 bytes, write up to 256
 * of them. What a step costs against the number of live spans, and how much memory is in use
 * of what is reserved; ours in both modes, and asmjit.
 */
#ifndef BENCH_CHURN_H
#define BENCH_CHURN_H

#include "bench.h"

void churn_report(struct bench *bench);

#endif
