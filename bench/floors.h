/* SPDX-License-Identifier: MIT */
/*
 * The floors: what it costs two processes to exchange a request that carries a function for an
 * answer, when nothing is done with it. A broker can't be faster than the way it uses.
 */
#ifndef BENCH_FLOORS_H
#define BENCH_FLOORS_H

#include "bench.h"

struct sample floor_clock(const struct bench *bench);
struct sample floor_polled(const struct bench *bench);
struct sample floor_futex(const struct bench *bench);
struct sample floor_socket(const struct bench *bench);
struct sample floor_socket_one_cpu(const struct bench *bench);
struct sample floor_socket_paused(const struct bench *bench);

#endif
