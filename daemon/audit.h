/* SPDX-License-Identifier: MIT */
/*
 * The trail of code writes: a record of each write and patch, with the digest of the bytes
 * that are in code memory since, kept in a file or in the journal.
 *
 * Invariants:
 * - The loop never waits: it fills one half of a queue, and a thread of our own writes the
 *   other one out. What has no room, or is beyond what its user may cause, is not recorded but counted.
 * - What is not recorded is told in the trail: before the next record of its session, or when that ends.
 *   What the file or the journal did not take is told as soon as it takes something again.
 * - Only the loop touches the half that is filled, and only the thread the half that is written
 *   out; they change hands when the thread has nothing to do.
 */
#ifndef DAEMON_AUDIT_H
#define DAEMON_AUDIT_H

enum audit_to { AUDIT_OFF, AUDIT_JOURNAL, AUDIT_FILE };

#endif
