/* SPDX-License-Identifier: MIT */
/* What the daemon does to its own process before it serves anyone. */
#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include <stdint.h>

/* Descriptors that are not clients': standard streams, listeners, libuv's own, and what is open for a moment.
 */
#define PROCESS_FDS_OTHER 64u

/* Makes 0, 1 and 2 something: what we open, a client's socket say, must not get the log's number. 0 or
 * -errno. */
int process_open_standard_streams(void);

/*
 * No new privileges, no capabilities, no executable memory but what is mapped now, no core dump
 * and no ptrace of what is in memory: done even when no unit file does it.
 */
void process_harden(void);

/*
 * Raises the limit on descriptors as far as `wanted` for clients need it and the system allows.
 * Returns how many there are for them.
 */
uint64_t process_raise_fds(uint64_t wanted);

/*
 * Bounds the address space (RLIMIT_AS) to what that many sessions can take, besides those with
 * `adopted_bytes` of arenas, so that nothing grows beyond the policy unnoticed. Sums that overflow bound
 * nothing. The soft limit only, and never less than an earlier call has set: a policy that is read anew may
 * grant more, and older sessions keep what they have. Nothing in an instrumented build, as sanitizers take
 * terabytes.
 */
void process_bound_addresses(uint32_t sessions, uint64_t arena_max_bytes, uint64_t adopted_bytes);

#endif
