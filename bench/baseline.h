/* SPDX-License-Identifier: MIT */
/* The floors and the peers: measured once, when a row first needs them, and again for the drift. */
#ifndef BENCH_BASELINE_H
#define BENCH_BASELINE_H

#include "bench.h"

/* Measured anew; false where it can't be had here. The caller ends up on the clients' processor. */
bool baseline_measure(const struct bench *bench, enum baseline which, struct sample *sample);
/* NULL where it can't be had. */
const struct sample *baseline_get(struct bench *bench, enum baseline which);
/* Why it can't be had. */
const char *baseline_why_not(enum baseline which);

void baseline_report_floors(struct bench *bench);
void baseline_report_peers(struct bench *bench);
void baseline_report_drift(struct bench *bench);

#endif
