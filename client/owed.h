/* SPDX-License-Identifier: MIT */
/*
 * Operations that the daemon has not been told of, since it was away when they were asked for: release,
 * shrink, seal and reset, which are promised to be done all the same. They are told in their order, and
 * before anything that is asked for later. A span that came when nobody waited for it any more is
 * released in the same way. Guarded by the client's lock.
 */
#ifndef CLIENT_OWED_H
#define CLIENT_OWED_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/request.h"

struct owed {
    struct request *queue; /* none has data */
    size_t count;
    size_t capacity;
};

void owed_deinit(struct owed *owed);

/* False: no memory. */
bool owed_add(struct owed *owed, const struct request *request);
/* Drops the first `count`, of which the daemon has been told. */
void owed_drop(struct owed *owed, size_t count);

/* Whether an operation is owed where the daemon could not be told of it. */
static inline bool owed_is_promised(enum operation operation)
{
    return operation == OPERATION_RELEASE || operation == OPERATION_SHRINK || operation == OPERATION_SEAL ||
           operation == OPERATION_RESET;
}

#endif
