/* SPDX-License-Identifier: MIT */
#include "client/owed.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_FIRST 64u

void owed_deinit(struct owed *owed)
{
    free(owed->queue);
}

static bool make_room(struct owed *owed)
{
    size_t capacity = owed->capacity == 0 ? CAPACITY_FIRST : owed->capacity * 2;
    struct request *queue;

    if (owed->count < owed->capacity)
        return true;
    queue = reallocarray(owed->queue, capacity, sizeof *queue);
    if (queue == NULL)
        return false;
    owed->queue = queue;
    owed->capacity = capacity;
    return true;
}

bool owed_add(struct owed *owed, const struct request *request)
{
    if (!make_room(owed))
        return false;
    owed->queue[owed->count++] = *request;
    return true;
}

void owed_drop(struct owed *owed, size_t count)
{
    owed->count -= count;
    memmove(owed->queue, owed->queue + count, owed->count * sizeof *owed->queue);
}
