/* SPDX-License-Identifier: MIT */
/*
 * Somebody else's session, in a process of its own: spans with code that nobody but
 * it may change, and which is asked whether all is as it was.
 */
#ifndef TESTS_VICTIM_H
#define TESTS_VICTIM_H

#include <stdint.h>

#include "tests/harness/broker.h"

/* What an attacker could at best have guessed. */
struct victim_secret {
    const uint8_t *base; /* its arena, in its address space */
    const void *rx;      /* its first span there */
    uint64_t offset;     /* and in the arena */
    int socket;          /* the descriptor of its connection */
    uint64_t rounds;     /* of its last work: alloc, write, run, release */
    uint64_t longest_us; /* the longest of them */
    uint64_t mean_us;
};

struct victim {
    pid_t pid; /* 0: there is none */
    int channel;
    const struct victim_secret *secret;
};

/* Starts it under that uid (as root; else under ours), or fails the test. */
void victim_start(struct victim *victim, const struct broker *broker, uid_t uid);
/* Fails the test unless its spans hold their bytes, run, and are exactly those that it allocated. */
void victim_check(const struct victim *victim);
/* From here on it works, as any client does, until ... */
void victim_work(const struct victim *victim);
/* ... here: fails the test unless all was right. Says how long the daemon let it wait, and returns the
 * rounds. */
uint64_t victim_rest(const struct victim *victim, const char *meanwhile);
/* Checks it once more, and ends it. */
void victim_stop(struct victim *victim);

#endif
