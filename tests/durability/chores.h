/* SPDX-License-Identifier: MIT */
/*
 * Each operation there is, one at a time, for who wants to see what becomes of it when the daemon dies: what
 * comes before it and after it is told apart from itself. All are done on a session of a witness, and what
 * they change it knows.
 */
#ifndef TESTS_CHORES_H
#define TESTS_CHORES_H

#include "tests/durability/witness.h"
#include "tests/harness/broker.h"

/* What the class that they are done in must grant. */
#define CHORES_SPANS_MAX 48u
#define CHORES_BYTES_MAX (UINT64_C(8) << 20)
#define CHORES_CLASS "span_max=48\nbytes_max=8M\n"

struct chores {
    const struct broker *broker;
    struct witness witness;
    jitc_client *executor;
    jitc_client *other;            /* a session that comes, or goes */
    struct witness_span *spans[4]; /* that the present chore is about */
    bool is_reset;
    unsigned checks;
};

struct chore {
    const char *name;
    void (*prepare)(struct chores *chores); /* or NULL */
    void (*run)(struct chores *chores);
    bool fills_all; /* of the arena, whatever the session has */
};

extern const struct chore chores_all[];
extern const unsigned chores_count;

/* A client, once more if the daemon died before it was served; or the process ends, as by must(). */
jitc_client *chores_connect(const struct broker *broker);

void chores_init(struct chores *chores, const struct broker *broker, unsigned seed, bool is_once);
void chores_deinit(struct chores *chores);

/*
 * In this order, and the chore's `run` after the first: what is left of the one before goes, and what it
 * needs is made; what a reset took away is there again, and another session is tried and goes; all is
 * compared, and each eighth time how much memory can be had.
 */
void chores_prepare(struct chores *chores, const struct chore *chore);
void chores_tidy(struct chores *chores);
void chores_check(struct chores *chores);

#endif
