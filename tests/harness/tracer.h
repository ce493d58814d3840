/* SPDX-License-Identifier: MIT */
/*
 * Runs a program under ptrace from its first instruction, and notes the system calls that it and its
 * threads make once a seccomp filter is in force that it installed itself.
 */
#ifndef TESTS_TRACER_H
#define TESTS_TRACER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACER_CALLS_MAX 1024

/* Shared between tracer and test. */
struct tracer {
    pid_t tracer;          /* of the last start, for who started it */
    _Atomic pid_t program; /* 0: not there yet */
    atomic_bool is_confined;
    _Atomic unsigned made[TRACER_CALLS_MAX];    /* by number, since it is confined */
    _Atomic unsigned refused[TRACER_CALLS_MAX]; /* of those, how many failed with EPERM */
};

/* Memory that children share; lives until the test's program ends. */
struct tracer *tracer_new(void);

/*
 * Starts `run`, which must call execve(2), in a child that a tracer follows, and waits until it is
 * confined. What was noted before stays, and is added to. Fails the test if it ends before that, or waits for
 * events.
 */
void tracer_start(struct tracer *tracer, void (*run)(void *), void *argument);

/* Whether that system call is the one by which an event loop waits. */
bool tracer_is_wait(uint64_t number);

/* Waits for its end; its status as waitpid(2) has it. */
int tracer_wait(struct tracer *tracer);

#endif
