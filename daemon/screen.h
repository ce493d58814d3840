/* SPDX-License-Identifier: MIT */
/*
 * What stands between a request and the arena of a session whose class forbids instructions.
 *
 * Invariant, in a session that denies: no forbidden instruction lies whole in its arena, at any offset,
 * whichever spans it would touch. Each change is looked at together with as many bytes before and after it
 * as an instruction can reach; what lies beyond has not changed. Trap fill needs no look: it comes by whole
 * granules, and no instruction that can be forbidden begins or ends with it (test_scan shows that).
 * A write goes by arena_replace(), since what was there before and what comes are clean, but not every
 * mixture of both.
 * In a session that only reports all is written, and what it forbids is counted and logged.
 */
#ifndef DAEMON_SCREEN_H
#define DAEMON_SCREEN_H

#include "daemon/session.h"

/*
 * Whether `data`, of at most WRITE_MAX_BYTES, may be written at `at` of the span. Then *screened is what is
 * to be written: the data where there is nothing to look for, else a private copy that was looked at,
 * good until the next call. What of the data changes meanwhile makes no difference. False: *result is the
 * refusal; `field` is the one that the data came by.
 */
bool screen_pass(struct session *session, const struct heap_span *span, uint64_t at, const void *data,
                 size_t bytes, const char *field, const uint8_t **screened, struct result *result);

#endif
