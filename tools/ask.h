/* SPDX-License-Identifier: MIT */
/*
 * A question over the admin socket, and all of its answer. What goes wrong is told on standard error, unless
 * `is_quiet`. A daemon that says nothing for ASK_PATIENCE_S is given up: nobody waits here for ever.
 */
#ifndef TOOLS_ASK_H
#define TOOLS_ASK_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/admin.h"
#include "tools/invocation.h"

#define ASK_PATIENCE_S 10 /* twice the time after which systemd kills a daemon that hangs */

struct ask {
    int fd;
    uint64_t id; /* of the last question */
    bool is_quiet;
};

/* The records of an answer, in their order. */
struct answer {
    Admin__Reply **parts;
    size_t count;
};

/* EXIT_YES, or the exit status. `is_quiet` is as before; ask_close() also where it was not opened. */
int ask_open(struct ask *ask, const struct invocation *invocation);
void ask_close(struct ask *ask);
/* EXIT_YES, or the exit status; the answer is for answer_free() in any case. */
int ask_for(struct ask *ask, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level,
            struct answer *answer);
void answer_free(struct answer *answer);

/* All of it for one question, by a connection of its own. */
int ask_once(const struct invocation *invocation, Admin__Verb verb, uint32_t level, struct answer *answer);
int ask_quietly(const struct invocation *invocation, Admin__Verb verb, struct answer *answer);

#endif
