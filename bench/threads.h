/* SPDX-License-Identifier: MIT */
/* 8 threads that share one client, against one thread, with all processors for everybody. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "bench.h"

void threads_report(struct bench *bench);

#endif
