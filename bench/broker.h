/* SPDX-License-Identifier: MIT */
/*
 * A daemon of our own, with a folder of its own for its socket, configuration and log. There is
 * one at a time. However this program ends, the daemon ends too, and the folder is gone, unless
 * this program is killed by SIGKILL: then only the folder stays.
 */
#ifndef BENCH_BROKER_H
#define BENCH_BROKER_H

#include <sys/types.h>

#include "bench.h"
#include "jitclient.h"

struct broker {
    pid_t pid;
    char folder[64];
    char socket[96];
    char config[96];
    char log[96];
    char audit[96]; /* where a class has one */
};

/* Has the program clean up after itself at exit and on signals, and end after `limit_s` at the latest. */
void broker_guard(unsigned limit_s);

void broker_start(struct broker *broker, const struct bench *bench, enum side side);
void broker_stop(struct broker *broker);

/* A client of it; arena_bytes 0: the daemon's default. Ends the program where there is none to be had. */
jitc_client *broker_connect(const struct broker *broker, enum jitc_write_mode mode, uint64_t arena_bytes);
/* The same, but returns the library's status. */
int broker_try_connect(const struct broker *broker, jitc_client **client, enum jitc_write_mode mode,
                       uint64_t arena_bytes);

#endif
