/* SPDX-License-Identifier: MIT */
/*
 * The trail in systemd's journal: a datagram a record, in the format that systemd.io/JOURNAL_NATIVE_PROTOCOL
 * promises to keep. Not by sd_journal_sendv(3), whose socket waits for a journal that hangs for as long as
 * it does: ours gives up.
 */
#ifndef DAEMON_AUDIT_JOURNAL_H
#define DAEMON_AUDIT_JOURNAL_H

#include "daemon/audit_record.h"

/* How long one datagram waits for room. */
#define AUDIT_JOURNAL_PATIENCE_MS 1000

struct audit_journal {
    int fd;
    const char *path;
    uint64_t lost; /* records that it did not take, and does not tell yet */
};

/* The path must outlive it. 0 or -errno: whether anyone listens there is seen only later. */
int audit_journal_init(struct audit_journal *journal, const char *path);
void audit_journal_deinit(struct audit_journal *journal);

/* As audit_file_write(), for those of the records that are for the journal. */
int audit_journal_write(struct audit_journal *journal, const struct audit_record *records, size_t count,
                        uint64_t lost);

#endif
