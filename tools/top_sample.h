/* SPDX-License-Identifier: MIT */
/* What the daemon says at one moment, and what has happened between two of them. */
#ifndef TOOLS_TOP_SAMPLE_H
#define TOOLS_TOP_SAMPLE_H

#include "proto/buckets.h"
#include "tools/session_list.h"

#define TOP_OPERATIONS_MAX 32u

struct top_sample {
    struct answer status_answer;
    struct answer operations_answer;
    struct answer sessions_answer;
    struct session_list sessions;
    const Admin__Status *status;
    const Admin__Operation *operations[TOP_OPERATIONS_MAX];
    size_t operations_count;
    double at_s;
};

/* EXIT_YES, or the exit status, said; top_sample_free() in any case. */
int top_sample_take(struct top_sample *sample, struct ask *ask);
void top_sample_free(struct top_sample *sample);

struct top_operation {
    const char *name;
    double done_per_s;
    double refused_per_s;
    double p50_ns; /* 0: none was timed */
    double p99_ns;
};

struct top_session {
    const struct session_row *row;
    double operations_per_s;
};

struct top_frame {
    const Admin__Status *status;
    double seconds;
    double operations_per_s;
    double refused_per_s;
    struct top_operation operations[TOP_OPERATIONS_MAX];
    size_t operations_count;
    struct top_session *sessions; /* the busiest first */
    size_t sessions_count;
};

/* Both must outlive it. False without memory. */
bool top_frame_init(struct top_frame *frame, const struct top_sample *before, const struct top_sample *now);
void top_frame_deinit(struct top_frame *frame);

#endif
