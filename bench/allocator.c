/* SPDX-License-Identifier: MIT */
#include "allocator.h"

const uint8_t allocator_code[FUNCTION_MAX_BYTES] = {0xC3};

struct cycle {
    const struct allocator *allocator;
    size_t bytes;
};

static void step_cycle(void *user)
{
    const struct cycle *cycle = user;
    const struct allocator *allocator = cycle->allocator;

    allocator->release(allocator->self,
                       allocator->publish(allocator->self, cycle->bytes, allocator_code, cycle->bytes));
}

struct sample allocator_cycle(const struct allocator *allocator, size_t bytes, const struct effort *effort,
                              unsigned batch)
{
    struct cycle cycle = {allocator, bytes};

    return sample_take(effort, batch, step_cycle, &cycle);
}

struct sample allocator_cycle_paused(const struct allocator *allocator, size_t bytes,
                                     const struct effort *effort)
{
    struct cycle cycle = {allocator, bytes};

    return sample_take_paused(effort, step_cycle, &cycle);
}
