/* SPDX-License-Identifier: MIT */
#include "daemon/audit_journal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int audit_journal_init(struct audit_journal *journal, const char *path)
{
    const struct timeval patience = {AUDIT_JOURNAL_PATIENCE_MS / 1000,
                                     (suseconds_t)(AUDIT_JOURNAL_PATIENCE_MS % 1000) * 1000};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error;

    *journal = (struct audit_journal){.fd = fd, .path = path};
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0)
        return 0;
    error = -errno;
    audit_journal_deinit(journal);
    return error;
}

void audit_journal_deinit(struct audit_journal *journal)
{
    if (journal->fd >= 0)
        (void)close(journal->fd);
    journal->fd = -1;
}

/* Not connected: a journal that is started anew gets what follows. 0 or -errno. */
static int put(const struct audit_journal *journal, const struct audit_record *record)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char bytes[AUDIT_LINE_MAX_BYTES];
    size_t count = audit_record_to_journal(record, bytes);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", journal->path);
    while (sendto(journal->fd, bytes, count, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static int say_lost(struct audit_journal *journal)
{
    const struct audit_record missing = {.lost = journal->lost};
    int error = journal->lost == 0 ? 0 : put(journal, &missing);

    if (error == 0)
        journal->lost = 0;
    return error;
}

int audit_journal_write(struct audit_journal *journal, const struct audit_record *records, size_t count,
                        uint64_t lost)
{
    int error = say_lost(journal);

    for (size_t i = 0; i < count; i++) {
        if (records[i].to != AUDIT_JOURNAL)
            continue;
        if (error == 0)
            error = put(journal, &records[i]);
        if (error != 0) /* none of the others is tried: each would wait as long */
            journal->lost += audit_record_weight(&records[i]);
    }
    journal->lost += lost;
    return error == 0 ? say_lost(journal) : error;
}
