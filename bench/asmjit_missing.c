/* SPDX-License-Identifier: MIT */
#include "asmjit.h"

bool asmjit_init(struct allocator *allocator)
{
    (void)allocator;
    return false;
}

void asmjit_deinit(struct allocator *allocator)
{
    (void)allocator;
}
