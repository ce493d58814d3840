/* SPDX-License-Identifier: MIT */
/*
 * The trail of code writes: a record of each write and patch, done or refused, with the digest of
 * the bytes that are in code memory since. Nothing else puts bytes of a client's choice there: what is
 * released, shrunk or reset becomes trap fill, and is not recorded.
 *
 * Invariants:
 * - The loop never waits: it fills one half of a queue, and a thread of our own writes the
 *   other one out. What has no room, or is beyond what its user may cause, is not recorded but counted.
 * - What is not recorded is told in the trail: before the next record of its session, or when that ends.
 *   What the file or the journal did not take is told as soon as it takes something again.
 * - Only the loop touches the half that is filled, and only the thread the other one and what it is written
 *   to; they change hands while the thread has nothing to do.
 *
 * A thread of our own, not libuv's pool: that ends the process where a thread can't be had.
 */
#ifndef DAEMON_AUDIT_H
#define DAEMON_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/request.h"

/* What a user may cause: records a second, and so many at once. */
#define AUDIT_RATE 1000u
#define AUDIT_BURST 4096u
/* Records that wait to be written out, beside those that are being: one user alone does not fill it at once.
 */
#define AUDIT_HALF ((size_t)2 * AUDIT_BURST)
/* For how long the first of them waits for more. */
#define AUDIT_DELAY_MS 50

#define AUDIT_JOURNAL_SOCKET "/run/systemd/journal/socket"

enum audit_to { AUDIT_OFF, AUDIT_JOURNAL, AUDIT_FILE };

struct audit;
struct uv_loop_s;

/* What a user has caused; kept a while longer than its sessions, so that to come anew is no way around it. */
struct audit_user {
    struct audit_user *next;
    uid_t uid;
    unsigned sessions;
    uint64_t due_ns; /* see audit_may_cause() */
};

/* A session's part in it, which whoever owns the session keeps. */
struct audit_source {
    enum audit_to to; /* AUDIT_OFF: none of the functions may be called */
    uint64_t session;
    uid_t uid;
    const char *unit;        /* "" if it has none; must outlive the source */
    struct audit_user *user; /* from here on: of audit_begin() */
    uint64_t lost;           /* records that are missing, which the trail does not tell yet */
};

/*
 * `file` may be NULL: then there is nothing but the journal, at the socket `journal`, a path that must
 * outlive it. NULL: it can't be had, which was logged.
 */
struct audit *audit_new(struct uv_loop_s *loop, const char *file, const char *journal);
/*
 * Writes out what there is, which takes as long as the file and the journal take. It is gone once the loop
 * has run. NULL is allowed; returns NULL.
 */
struct audit *audit_free(struct audit *audit);

/* Goes on in what is now behind that path. False: it can't, which was logged, and the old one stays. */
bool audit_reopen(struct audit *audit, const char *file);
/* Whether there is a file that it goes on in. */
bool audit_has_file(const struct audit *audit);

/* A session begins. */
void audit_begin(struct audit *audit, struct audit_source *source);
/* It ends: what is missing of it is told. */
void audit_end(struct audit *audit, struct audit_source *source);

/*
 * Records a write or patch. Those that were done have their bytes at `written`, where nobody may
 * change them meanwhile; of others it is NULL: what a client says it would have written is no evidence. The
 * verdict is static text. Returns how many bytes went into a digest.
 */
size_t audit_note(struct audit *audit, struct audit_source *source, const struct request *request,
                  const char *verdict, const uint8_t *written);
/* The name of a status, as the trail has it. */
const char *audit_verdict(enum status status);

/* Whether a user may cause one more record at `now_ns`; then it has. *due_ns is 0 at first. */
bool audit_may_cause(uint64_t *due_ns, uint64_t now_ns);

#endif
