/* SPDX-License-Identifier: MIT */
/*
 * How many operations of each kind were done and refused, and how long the daemon works on one: from its
 * decoded request to its result, whichever plane it came by. All are counted; one of LATENCY_SAMPLE is timed,
 * and stands for as many, since to ask for the time twice would cost as much as the fastest of them. One that
 * is done in steps is timed always, from the first to the last: those are the slow ones, and few.
 */
#ifndef DAEMON_LATENCY_H
#define DAEMON_LATENCY_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "proto/buckets.h"
#include "proto/request.h"

#define LATENCY_SAMPLE 64u

struct latency_operation {
    uint64_t done;
    uint64_t refused;
    uint64_t sum_ns;  /* of what the buckets hold */
    uint32_t untimed; /* since the last that was timed */
    uint64_t buckets[BUCKETS_COUNT];
};

struct latency {
    struct latency_operation operations[OPERATION_COUNT];
};

void latency_add(struct latency_operation *operation, uint64_t ns, uint64_t weight);

/*
 * Before a step: when it begins, if it is timed, or 0. `began_ns` is the connection's, for operations in
 * steps: 0 where none is begun.
 */
static inline uint64_t latency_begin(struct latency *latency, enum operation operation, uint64_t began_ns)
{
    if (began_ns != 0 || ++latency->operations[operation].untimed < LATENCY_SAMPLE)
        return 0;
    return uv_hrtime();
}

/* After a step, which was the operation's last one or not. */
static inline void latency_end(struct latency *latency, const struct request *request, uint64_t step_ns,
                               uint64_t *began_ns, const struct result *result, bool is_done)
{
    struct latency_operation *operation = &latency->operations[request->operation];

    if (!is_done) {
        if (*began_ns == 0) {
            *began_ns = step_ns != 0 ? step_ns : uv_hrtime();
            operation->untimed--; /* it stands for itself */
        }
        return;
    }
    if (result->status == STATUS_OK || result->status == STATUS_MISMATCH)
        operation->done++;
    else
        operation->refused++;
    if (*began_ns != 0) {
        latency_add(operation, uv_hrtime() - *began_ns, 1);
        *began_ns = 0;
    } else if (step_ns != 0) {
        latency_add(operation, uv_hrtime() - step_ns, operation->untimed);
        operation->untimed = 0;
    }
}

#endif
