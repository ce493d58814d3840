/* SPDX-License-Identifier: MIT */
/* A span's bytes. */
#ifndef TOOLS_CODE_H
#define TOOLS_CODE_H

#include <stddef.h>
#include <stdint.h>

#include "tools/ask.h"

struct code {
    uint64_t offset; /* of the span */
    uint8_t *bytes;
    size_t count;
};

/* Of the span around the offset. EXIT_YES, or the exit status, said; code_free() in any case. */
int code_fetch(struct ask *ask, uint64_t session, uint64_t offset, struct code *code);
void code_free(struct code *code);

#endif
