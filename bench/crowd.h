/* SPDX-License-Identifier: MIT */
/* 64 client processes that publish at once on one processor, against one of them alone. */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include "bench.h"

void crowd_report(struct bench *bench);

#endif
