/* SPDX-License-Identifier: MIT */
/* Whom an attack is tried as, and how one is tried that may end its process. */
#ifndef TESTS_ATTACKER_H
#define TESTS_ATTACKER_H

#include <stdbool.h>

#include "tests/harness/attack.h"
#include "tests/harness/broker.h"

enum attacker {
    ATTACKER_WORKER,     /* another uid than the daemon's: the rule */
    ATTACKER_DAEMON_UID, /* the daemon's own */
    ATTACKER_ROOT,
    ATTACKER_COUNT
};

/* Takes that uid for good, or skips the test where this process can't. */
void attacker_become(enum attacker attacker, const struct broker *broker);

/*
 * Runs attack(user) in a child, without anyone's signal handlers: its result (0: it
 * worked, or the errno of its refusal), or minus the signal that ended it, which is noted.
 */
int attempt(int (*attack)(const void *user), const void *user);

/* 0 or errno, of a call that returns -1 on failure. */
int outcome(long returned);

/* jitc_lockdown(0), and true if all of `needed` (JITC_LOCKDOWN_*) is in force; else says what is not. */
bool lock_down(uint32_t needed);

/* "/proc/self/fd/N", in a buffer of its own per call; few at a time. */
const char *fd_path(int fd);

/* Of a call that returns 0, or the errno of its refusal, which is noted. */
#define assert_error(error, call)                                                                         \
    do {                                                                                                  \
        int outcome_ = (call);                                                                            \
        ck_assert_msg(outcome_ == (error), "%s: %s, not %s", #call, strerror(outcome_), strerror(error)); \
        if (outcome_ != 0)                                                                                \
            attack_met_errno(outcome_);                                                                   \
    } while (0)

/* The same of one that returns -1 and sets errno. */
#define assert_refused(error, call) assert_error(error, outcome((long)(call)))

#define assert_works(call) assert_refused(0, call)

#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        ck_assert_msg(status_ == JITC_OK, "%s: %s: %s", #call, jitc_strerror(status_), jitc_error_detail()); \
    } while (0)

#endif
