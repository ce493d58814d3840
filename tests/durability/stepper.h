/* SPDX-License-Identifier: MIT */
/*
 * The daemon of a supervised broker, and each that comes after it, under ptrace: it runs instruction by
 * instruction, and is killed after any of them.
 *
 * Beside it there is one other process, a child that stops itself (SIGSTOP) when it has nothing to do: the
 * worker. All that happens to these is seen by one waitpid(2), so that nothing depends on time. Whatever
 * else ends, or ends otherwise than it was told to, fails the test.
 */
#ifndef TESTS_STEPPER_H
#define TESTS_STEPPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>

#include "tests/harness/supervised.h"

struct stepper {
    pid_t supervisor;
    pid_t worker;
    pid_t daemon; /* 0: between two */
    bool worker_waits;
    enum __ptrace_request how; /* the daemon goes on: a request of ptrace(2) */
    unsigned kills;            /* so far */
};

/* Takes hold of them; the worker may run. False, and of none of them: the kernel does not let us. */
bool stepper_init(struct stepper *stepper, const struct broker *broker, pid_t worker);
/* Lets them go, where the worker waits. */
void stepper_deinit(struct stepper *stepper);

void stepper_wake_worker(struct stepper *stepper);
/* Until it waits; the daemon runs. */
void stepper_await_worker(struct stepper *stepper);
/* Until the daemon waits too; the worker waits already. */
void stepper_await_rest(struct stepper *stepper);
/*
 * Has the worker go on, and stops the daemon at the first instruction after the wait that something ended.
 * False: the worker waits again, and had nothing for the daemon to do.
 */
bool stepper_await_request(struct stepper *stepper);
/*
 * After a kill: stop the next daemon where it is going to look at the first session that it adopts; and where
 * it has adopted all of them, and its filter of system calls has just come into force: between them it makes
 * that filter, which is a million instructions.
 */
void stepper_await_adoption(struct stepper *stepper);
void stepper_await_filter(struct stepper *stepper);
/*
 * So many instructions of it; fewer, and the daemon runs again, where it waits for events and the worker
 * waits as well. Returns how many there were.
 */
uint64_t stepper_step(struct stepper *stepper, uint64_t most);
/* Kills it where it stands; the next one runs. */
void stepper_kill(struct stepper *stepper);

#endif
