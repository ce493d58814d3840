/* SPDX-License-Identifier: MIT */
/* A question over the admin socket, and all of its answer. What goes wrong is told on standard error. */
#ifndef TOOLS_ASK_H
#define TOOLS_ASK_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/admin.h"
#include "tools/invocation.h"

struct ask {
    int fd;
    uint64_t id; /* of the last question */
};

/* The records of an answer, in their order. */
struct answer {
    Admin__Reply **parts;
    size_t count;
};

/* EXIT_YES, or the exit status. ask_close() also where it was not opened. */
int ask_open(struct ask *ask, const struct invocation *invocation);
void ask_close(struct ask *ask);
/* Whether somebody is there to be asked; tells nobody if not. */
bool ask_is_answered(const struct invocation *invocation);

/* EXIT_YES, or the exit status; the answer is for answer_free() in any case. */
int ask_for(struct ask *ask, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level,
            struct answer *answer);
void answer_free(struct answer *answer);

/* All of it for one question. */
int ask_once(const struct invocation *invocation, Admin__Verb verb, uint32_t level, struct answer *answer);

#endif
