/* SPDX-License-Identifier: MIT */
/*
 * One line of the trail: a code write, or how many of them are missing. What is a client's doing in
 * it, the unit's name above all, can't be taken for anything else, whatever bytes it has.
 */
#ifndef DAEMON_AUDIT_RECORD_H
#define DAEMON_AUDIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/audit.h"

#define AUDIT_DIGEST_BYTES 32u /* SHA-256 */
/* systemd's UNIT_NAME_MAX, and the byte 0 behind it; what is longer is cut. */
#define AUDIT_UNIT_BYTES 256u
/* All of one, however it is written down: each byte of the unit's name may take six. */
#define AUDIT_LINE_MAX_BYTES (AUDIT_UNIT_BYTES * 6u + 1024u)

struct audit_record {
    enum audit_to to;
    uint64_t time_us; /* since 1970 */
    uint64_t session; /* 0: the missing ones are of no session in particular */
    uint64_t lost;    /* so many are missing before the next one; 0: this is a write */
    uint64_t offset;  /* from the start of the arena */
    uint64_t size;
    const char *operation; /* static, as is the verdict */
    const char *verdict;
    uid_t uid;
    bool has_digest; /* nothing was written where not */
    uint8_t digest[AUDIT_DIGEST_BYTES];
    char unit[AUDIT_UNIT_BYTES];
};

/* How many writes are missing where the record is. */
uint64_t audit_record_weight(const struct audit_record *record);

/* As a line of JSON, or as a datagram for the journal; `to` has AUDIT_LINE_MAX_BYTES. Bytes used. */
size_t audit_record_to_json(const struct audit_record *record, char *to);
size_t audit_record_to_journal(const struct audit_record *record, char *to);

#endif
