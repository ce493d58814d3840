/* SPDX-License-Identifier: MIT */
/* One client, direct mode: it has a writable view of its own arena. */
#ifndef BENCH_DIRECT_H
#define BENCH_DIRECT_H

#include "bench.h"

void direct_report(struct bench *bench);

#endif
