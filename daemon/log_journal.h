/* SPDX-License-Identifier: MIT */
/*
 * The daemon's log as entries of systemd's journal, in the format that systemd.io/JOURNAL_NATIVE_PROTOCOL
 * promises to keep: where stderr is the journal, so that fields can be asked for (journalctl
 * JITBROKER_SESSION=7). Not by sd_journal_sendv(3), whose socket waits for a journal that hangs.
 */
#ifndef DAEMON_LOG_JOURNAL_H
#define DAEMON_LOG_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/log.h"

/* A value of any length would not fit a datagram. */
#define LOG_JOURNAL_VALUE_MAX_BYTES 1024u

struct log_journal {
    int fd; /* -1: stderr is no journal */
    const char *path;
    uint64_t lost;
};

struct log_journal_entry {
    int priority;
    const char *message;
    const char *event; /* NULL: it has no name, and is about nobody */
    const struct log_subject *subject;
    const char *reason;
};

/* By $JOURNAL_STREAM, as systemd sets it. The path is that of the journal's socket, and must outlive it. */
void log_journal_init(struct log_journal *journal, const char *path);

/*
 * False: there is no journal that takes entries now. An entry for which the journal has no room is lost, and
 * that is told when it has room again.
 */
bool log_journal_send(struct log_journal *journal, const struct log_journal_entry *entry);

#endif
