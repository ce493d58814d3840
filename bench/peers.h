/* SPDX-License-Identifier: MIT */
/* How others make code memory, within one process that may: page by page, or mapped twice. */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "bench.h"

struct sample peer_mprotect(const struct bench *bench);
struct sample peer_mmap(const struct bench *bench);
struct sample peer_dual(const struct bench *bench);

#endif
