/* SPDX-License-Identifier: MIT */
/*
 * The output: a line for each row as soon as it is measured, for people or, with --json, one
 * object a line. Rows that --only leaves out are dropped here.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>

#include "sample.h"

struct report {
    bool json;
    const char *only;
    unsigned met;
    unsigned missed;
    unsigned absent;
};

/* What a row says. */
struct figure {
    const char *row;             /* its id */
    unsigned live;               /* live spans, of a row that there is for several counts; 0: of any other */
    double value;                /* in the row's unit */
    double against;              /* in the same unit; 0 where that could not be had */
    const struct sample *sample; /* for p99 and mean; may be NULL */
    const char *note;            /* may be NULL */
};

/* Whether a row whose id begins with `prefix` is asked for. */
bool report_wants(const struct report *report, const char *prefix);

void report_heading(const struct report *report, const char *text);
void report_figure(struct report *report, const struct figure *figure);
/* The value is the sample's p50; nothing to compare with. */
void report_sample(struct report *report, const char *row, const struct sample *sample);
/* `against` may be NULL: then `why_not` says why. */
void report_compared(struct report *report, const char *row, const struct sample *sample,
                     const struct sample *against, const char *why_not);
/* The row can't be had, and why. */
void report_absent(struct report *report, const char *row, unsigned live, const char *why);
/* A sentence for people. */
void report_remark(const struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
