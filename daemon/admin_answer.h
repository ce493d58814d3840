/* SPDX-License-Identifier: MIT */
/*
 * What the operator is answered: a table of verbs, each with the right that it takes and the function that
 * makes its answer, or the next part of it.
 */
#ifndef DAEMON_ADMIN_ANSWER_H
#define DAEMON_ADMIN_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/admin.h"
#include "daemon/peer.h"
#include "proto/admin.h"

/* Room that is left in a record for an error, and for that there is more to come. */
#define ADMIN_RESERVE_BYTES 640u
#define ADMIN_ERROR_MAX_BYTES 512u

enum admin_right {
    ADMIN_MAY_READ = 1,  /* figures, and the bytes of code */
    ADMIN_MAY_CHANGE = 2 /* sessions, the policy in force, the log's level */
};

enum admin_step {
    ADMIN_STEP_DONE,  /* the answer is complete */
    ADMIN_STEP_FULL,  /* the record is, and there is more to say */
    ADMIN_STEP_LATER, /* time is over, and the record has room */
};

/* An answer in the making. */
struct admin_answer {
    struct admin *admin;
    const struct peer *peer; /* who asked */
    const struct admin_verb *verb;
    uint64_t session;
    uint64_t offset; /* how far it is */
    uint64_t
        start; /* of the span whose bytes are told, and its end; of a list of spans: how far its leases are */
    uint64_t end;
    struct {
        uint64_t sessions;
        uint64_t executors;
        uint64_t used_bytes;
    } tally; /* of the status */
    uint32_t level;
    bool is_begun;
    /* Whom it speaks of next: NULL is nobody, or where `is_begun` says that it was somebody, one that is
     * gone. */
    const struct connection *at;
};

struct admin_verb {
    const char *name;
    enum admin_right right;
    /* Appends to `out`, until `end_ns` at most. */
    enum admin_step (*step)(struct admin_answer *answer, struct buffer *out, uint64_t end_ns);
};

/* Of a request that was validated. */
const struct admin_verb *admin_verb(uint32_t verb);

/* Appends an error, for which the record has that room. */
void admin_put_error(struct buffer *out, Admin__Code code, const char *text);

#endif
