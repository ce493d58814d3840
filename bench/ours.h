/* SPDX-License-Identifier: MIT */
/* The broker as an allocator of the loops. */
#ifndef BENCH_OURS_H
#define BENCH_OURS_H

#include "allocator.h"
#include "jitclient.h"

/* Writes by jitc_write(), whatever the mode. */
struct allocator ours_by_write(jitc_client *client);
/* Stores through the span's writable address, which there is in direct mode. */
struct allocator ours_by_store(jitc_client *client);

#endif
