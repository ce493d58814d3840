/* SPDX-License-Identifier: MIT */
#include "daemon/log_journal.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/peer.h"

#define FIELDS_MAX 10u
#define PARTS_PER_FIELD ((size_t)4)
#define NUMBER_BYTES 24u

/* Each field as its name, the length of its value, that, and a newline: then no byte of it begins another. */
struct fields {
    struct iovec parts[FIELDS_MAX * PARTS_PER_FIELD];
    uint64_t lengths[FIELDS_MAX];
    char numbers[FIELDS_MAX][NUMBER_BYTES];
    unsigned count;
};

static struct iovec part(const void *bytes, size_t count)
{
    /* sendmsg() only reads it; struct iovec is for both directions. */
    return (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
}

static void add(struct fields *fields, const char *name, const char *value)
{
    struct iovec *parts = &fields->parts[fields->count * PARTS_PER_FIELD];
    uint64_t *length = &fields->lengths[fields->count];
    size_t bytes;

    if (value == NULL || value[0] == '\0')
        return;
    bytes = strnlen(value, LOG_JOURNAL_VALUE_MAX_BYTES);
    *length = htole64(bytes);
    parts[0] = part(name, strlen(name));
    parts[1] = part(length, sizeof *length);
    parts[2] = part(value, bytes);
    parts[3] = part("\n", 1);
    fields->count++;
}

static void add_number(struct fields *fields, const char *name, uint64_t number)
{
    char *text = fields->numbers[fields->count];

    (void)snprintf(text, NUMBER_BYTES, "%" PRIu64, number);
    add(fields, name, text);
}

static void add_event(struct fields *fields, const struct log_journal_entry *entry)
{
    const struct log_subject *subject = entry->subject;

    add(fields, "JITBROKER_EVENT\n", entry->event);
    if (subject->session != 0)
        add_number(fields, "JITBROKER_SESSION\n", subject->session);
    if (subject->peer != NULL) {
        add_number(fields, "JITBROKER_UID\n", subject->peer->uid);
        add_number(fields, "JITBROKER_PID\n", (uint64_t)subject->peer->pid);
        add(fields, "JITBROKER_UNIT\n", subject->peer->unit);
    }
    add(fields, "JITBROKER_CLASS\n", subject->class);
    add(fields, "JITBROKER_REASON\n", entry->reason);
}

void log_journal_init(struct log_journal *journal, const char *path)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t device;
    uintmax_t inode;
    struct stat status;

    *journal = (struct log_journal){.fd = -1, .path = path};
    /* Whoever starts us with another stderr leaves the variable as it was. */
    if (stream == NULL || sscanf(stream, "%ju:%ju", &device, &inode) != 2 ||
        fstat(STDERR_FILENO, &status) != 0 || status.st_dev != device || status.st_ino != inode)
        return;
    journal->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* Not connected: a journal that is started anew gets what follows. 0 or -errno. */
static int put(const struct log_journal *journal, const struct log_journal_entry *entry)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct fields fields = {.count = 0};
    struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = fields.parts};

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", journal->path);
    add(&fields, "SYSLOG_IDENTIFIER\n", "jitbrokerd");
    add_number(&fields, "PRIORITY\n", (uint64_t)entry->priority);
    add(&fields, "MESSAGE\n", entry->message);
    if (entry->event != NULL)
        add_event(&fields, entry);
    message.msg_iovlen = (size_t)fields.count * PARTS_PER_FIELD;
    while (sendmsg(journal->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static bool is_full(int error)
{
    return error == -EAGAIN || error == -ENOBUFS;
}

bool log_journal_send(struct log_journal *journal, const struct log_journal_entry *entry)
{
    char text[64];
    int error;

    if (journal->fd < 0)
        return false;
    if (journal->lost > 0) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " lines were lost: the journal had no room",
                       journal->lost);
        error = put(journal, &(struct log_journal_entry){.priority = LOG_WARNING, .message = text});
        if (error == 0)
            journal->lost = 0;
    }
    error = put(journal, entry);
    if (is_full(error))
        journal->lost++;
    return error == 0 || is_full(error);
}
