/* SPDX-License-Identifier: MIT */
/* What sessions cost that do nothing: memory each, and the daemon's wakeups and processor time. */
#ifndef BENCH_IDLE_H
#define BENCH_IDLE_H

#include "bench.h"

void sessions_report(struct bench *bench);
void idle_report(struct bench *bench);

#endif
