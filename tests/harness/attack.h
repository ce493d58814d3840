/* SPDX-License-Identifier: MIT */
/*
 * What a test tries of tests/attacks/rows.txt, and how that was refused: the real errno, signal or status. It
 * goes, a line each, to a file of the program's own in the folder $JITBROKER_ATTACKS; summary.sh makes a
 * table of them. Without that variable nothing is written.
 */
#ifndef TESTS_ATTACK_H
#define TESTS_ATTACK_H

/* From here on this process tries that row. */
#define tries(row) attack_begin(row, __func__)
void attack_begin(const char *row, const char *test);

/* The attempts are those of a child's, under the worker's uid. */
void attack_is_a_workers(void);

/* How an attempt ended. Nothing is noted where no row is being tried. */
void attack_met(const char *how);
void attack_met_errno(int error);
void attack_met_signal(int number);
/* A status of the daemon's or of libjitclient's, which are the same. */
void attack_met_status(int status);

#endif
