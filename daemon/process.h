/* SPDX-License-Identifier: MIT */
/* What the daemon does to its own process before it serves anyone. */
#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include <stdint.h>

/* Makes 0, 1 and 2 something: what we open, a client's socket say, must not get the log's number. 0 or
 * -errno. */
int process_open_standard_streams(void);

/*
 * No new privileges, no executable memory but what is mapped now, no core dump and no
 * ptrace of what is in memory: done even when no unit file does it.
 */
void process_harden(void);

/*
 * Raises the limit on descriptors as far as `sessions` need it and the system allows.
 * Returns how many sessions there are descriptors for.
 */
uint32_t process_allow_sessions(uint32_t sessions);
/* So many descriptors are open at most, with so many sessions. */
uint32_t process_fds_max(uint32_t sessions);

#endif
