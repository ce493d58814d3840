/* SPDX-License-Identifier: MIT */
/* What every part of jitbench is given. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>

#include "cpus.h"
#include "options.h"
#include "report.h"
#include "sample.h"

/* What others are measured against: taken when it is first asked for, and kept. */
enum baseline {
    BASELINE_POLLED,
    BASELINE_FUTEX,
    BASELINE_SOCKET,
    BASELINE_SOCKET_ONE_CPU,
    BASELINE_SOCKET_PAUSED,
    BASELINE_MPROTECT,
    BASELINE_MMAP,
    BASELINE_DUAL,
    BASELINE_ASMJIT,
    BASELINE_COUNT,
};

struct bench {
    struct options options;
    struct cpus cpus;
    struct report report;
    struct effort effort;      /* for what is quick */
    struct effort slow_effort; /* for what takes milliseconds a step */
    double run_s;              /* for what runs for a time */
    struct sample baselines[BASELINE_COUNT];
    bool has_baseline[BASELINE_COUNT];
};

#endif
