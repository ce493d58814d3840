/* SPDX-License-Identifier: MIT */
/* What it costs that the daemon looks for forbidden instructions in what it writes. */
#ifndef BENCH_SCAN_H
#define BENCH_SCAN_H

#include "bench.h"

void scan_report(struct bench *bench);

#endif
