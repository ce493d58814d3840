/* SPDX-License-Identifier: MIT */
/* What a write costs more where it is recorded. */
#ifndef BENCH_AUDIT_H
#define BENCH_AUDIT_H

#include "bench.h"

void audit_report(struct bench *bench);

#endif
