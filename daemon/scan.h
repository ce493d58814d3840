/* SPDX-License-Identifier: MIT */
/*
 * Looks for machine instructions that a policy forbids, at every offset of some bytes.
 * A pure function: who calls it brings the bytes, neighbours included, and sees to it
 * that they are the ones that get written.
 */
#ifndef DAEMON_SCAN_H
#define DAEMON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum scan_mode { SCAN_OFF, SCAN_REPORT, SCAN_DENY };

/* The sets of instructions that can be forbidden. */
#define SCAN_SYSCALL 1u
#define SCAN_PKU 2u
#define SCAN_SEGMENT 4u
#define SCAN_FAR 8u

/* The set that a policy calls `name`, or 0. */
uint32_t scan_set(const char *name);

#endif
