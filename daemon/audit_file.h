/* SPDX-License-Identifier: MIT */
/*
 * The trail in a file: one line of JSON a record, appended. What the file did not take is told by
 * a line of its own before anything else is written to it. A line that was begun and can't be
 * finished stays as it is, and the next one begins a new line: the file may be one that can only be appended
 * to.
 */
#ifndef DAEMON_AUDIT_FILE_H
#define DAEMON_AUDIT_FILE_H

#include "daemon/audit_record.h"

/* Written by one call, and no line takes less than the second. */
#define AUDIT_FILE_CHUNK_BYTES 65536u
#define AUDIT_FILE_LINE_MIN_BYTES 32u

struct audit_file {
    int fd;
    bool is_torn;  /* its last line is no whole one */
    uint64_t lost; /* records that it did not take, and does not tell yet */
    size_t used;   /* of the chunk */
    unsigned lines;
    uint64_t weights[AUDIT_FILE_CHUNK_BYTES / AUDIT_FILE_LINE_MIN_BYTES]; /* of its lines */
    char chunk[AUDIT_FILE_CHUNK_BYTES];
};

/*
 * Opens, or makes (mode 0600), a regular file: not a fifo, whose reader could hold up the trail. The
 * descriptor, or -errno, which was logged.
 */
int audit_file_open(const char *path);

/* Writes to this descriptor, its own from here on, from now on. */
void audit_file_init(struct audit_file *file, int fd);
void audit_file_deinit(struct audit_file *file);
void audit_file_replace(struct audit_file *file, int fd);

/*
 * Writes those of the records that are for a file; after them, `lost` are missing that nobody gave us. 0, or
 * the -errno for which something is not told yet.
 */
int audit_file_write(struct audit_file *file, const struct audit_record *records, size_t count,
                     uint64_t lost);

#endif
