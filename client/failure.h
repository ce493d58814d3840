/* SPDX-License-Identifier: MIT */
/* What went wrong: of this thread's last call that failed, or kept until somebody asks. */
#ifndef CLIENT_FAILURE_H
#define CLIENT_FAILURE_H

#include "proto/result.h"

struct failure {
    int status;
    char detail[512]; /* jitc_error_detail() */
    /* Of JITC_E_FORBIDDEN: the instruction, and where it begins in the arena. */
    char instruction[16];
    uint64_t at;
};

/* What failure_set() calls. */
void failure_say(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Remembers the sentence and yields `status`. %m is errno's text. A macro, so that whatever reads the code
 * after it knows that this is not JITC_OK.
 */
#define failure_set(status, ...) (failure_say((int)(status), __VA_ARGS__), (int)(status))

/* What the daemon says of a request that it refused. */
void failure_note(struct failure *failure, const struct result *refusal);
/* Makes it the last failure of this thread. Returns its status. */
int failure_tell(const struct failure *failure);
/* The last failure of this thread. */
const struct failure *failure_last(void);

#endif
