/* SPDX-License-Identifier: MIT */
#include "daemon/audit_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"

int audit_file_open(const char *path)
{
    /* O_NONBLOCK: a device must not hold us up before we know that it is one. O_RDWR: to see how it ends. */
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    struct stat status;

    if (fd < 0) {
        int error = -errno;

        log_line(LOG_ERROR, "audit_file=%s: %s", path, strerror(errno));
        return error;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        return fd;
    log_line(LOG_ERROR, "audit_file=%s: not a regular file", path);
    (void)close(fd);
    return -EINVAL;
}

/* Whether whoever wrote it last was killed, or out of space, within a line. */
static bool ends_torn(int fd)
{
    char last;

    /* Where it is read from is no matter to what is appended. */
    return lseek(fd, -1, SEEK_END) >= 0 && read(fd, &last, 1) == 1 && last != '\n';
}

void audit_file_init(struct audit_file *file, int fd)
{
    file->fd = fd;
    file->is_torn = fd >= 0 && ends_torn(fd);
    file->lost = 0;
    file->used = 0;
    file->lines = 0;
}

void audit_file_deinit(struct audit_file *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

void audit_file_replace(struct audit_file *file, int fd)
{
    uint64_t lost = file->lost;

    audit_file_deinit(file);
    audit_file_init(file, fd);
    file->lost = lost;
}

/* As much of it as the file takes: *done. 0 or -errno. */
static int write_all(int fd, const char *bytes, size_t count, size_t *done)
{
    *done = 0;
    while (*done < count) {
        ssize_t written = write(fd, bytes + *done, count - *done);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? -errno : -EIO;
        *done += (size_t)written;
    }
    return 0;
}

/* Empties the chunk; of its lines those from `first` on are missing. */
static void drop(struct audit_file *file, unsigned first)
{
    for (unsigned i = first; i < file->lines; i++)
        file->lost += file->weights[i];
    file->used = 0;
    file->lines = 0;
}

/* 0, or -errno with what did not get in counted. Either way the chunk is empty then. */
static int flush(struct audit_file *file)
{
    unsigned whole = 0;
    size_t done;
    int error = write_all(file->fd, file->chunk, file->used, &done);

    for (size_t i = 0; i < done; i++)
        whole += file->chunk[i] == '\n';
    if (done > 0)
        file->is_torn = file->chunk[done - 1] != '\n';
    /* All of a line but its end: that is written before anything else is. */
    if (file->is_torn && done > 0 && file->chunk[done] == '\n')
        whole++;
    drop(file, whole);
    return error;
}

static int put(struct audit_file *file, const struct audit_record *record)
{
    int error = 0;

    if (AUDIT_FILE_CHUNK_BYTES - file->used < AUDIT_LINE_MAX_BYTES)
        error = flush(file);
    file->used += audit_record_to_json(record, file->chunk + file->used);
    file->weights[file->lines++] = audit_record_weight(record);
    return error;
}

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Ends a torn line and says what is missing. 0, or -errno with nothing changed but the file. */
static int recover(struct audit_file *file)
{
    const struct audit_record missing = {.time_us = now_us(), .lost = file->lost};
    size_t done;
    int error = 0;

    if (file->is_torn) {
        error = write_all(file->fd, "\n", 1, &done);
        file->is_torn = error != 0;
    }
    if (error != 0 || file->lost == 0)
        return error;
    file->lost = 0; /* the line says it, or is lost with that weight */
    (void)put(file, &missing);
    return flush(file);
}

/* Counts from `first` on. */
static void lose(struct audit_file *file, const struct audit_record *records, size_t first, size_t count)
{
    for (size_t i = first; i < count; i++)
        file->lost += records[i].to == AUDIT_FILE ? audit_record_weight(&records[i]) : 0;
}

int audit_file_write(struct audit_file *file, const struct audit_record *records, size_t count, uint64_t lost)
{
    int error = recover(file);
    size_t next = 0;

    for (; next < count && error == 0; next++)
        error = records[next].to == AUDIT_FILE ? put(file, &records[next]) : 0;
    if (error == 0)
        error = flush(file);
    else
        drop(file, 0);
    lose(file, records, next, count);
    file->lost += lost;
    return error == 0 && lost > 0 ? recover(file) : error;
}
