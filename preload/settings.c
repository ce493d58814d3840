/* SPDX-License-Identifier: MIT */
#include "preload/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/descriptors.h"
#include "preload/system.h"

struct settings settings = {.fd = -1, .stderr_fd = STDERR_FILENO};

/* The value of `name=value`, or NULL where the word is another. */
static char *value_of(char *word, size_t bytes, const char *name)
{
    size_t name_bytes = strlen(name);

    return bytes > name_bytes && memcmp(word, name, name_bytes) == 0 && word[name_bytes] == '='
               ? word + name_bytes + 1
               : NULL;
}

static bool is_word(const char *word, size_t bytes, const char *name)
{
    return bytes == strlen(name) && memcmp(word, name, bytes) == 0;
}

/*
 * "N:PID:INODE": the socket, whom it was made for, and which it is. Of this process's children some would
 * find it used, and a program that was executed later another file by its number.
 */
static int socket_of(char *value)
{
    unsigned long inode;
    struct stat status;
    int fd;
    int pid;
    bool is_read = sscanf(value, "%d:%d:%lu", &fd, &pid, &inode) == 3;

    /* An emulator's guest loads us too, in the same process. */
    while (*value != '\0' && *value != ',')
        *value++ = '-';
    if (!is_read || pid != getpid() || fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode) ||
        status.st_ino != inode)
        return -1;
    return fd;
}

void settings_read(void)
{
    char *at = secure_getenv("JITBROKER_RUN");

    while (at != NULL && *at != '\0') {
        size_t bytes = strcspn(at, ",");
        char *value;

        if (is_word(at, bytes, "stats"))
            settings.stats = true;
        else if (is_word(at, bytes, "no-rwx"))
            settings.no_rwx = true;
        else if (is_word(at, bytes, "eager"))
            settings.is_eager = true;
        else if ((value = value_of(at, bytes, "fd")) != NULL)
            settings.fd = socket_of(value);
        else if ((value = value_of(at, bytes, "log")) != NULL)
            (void)snprintf(settings.log, sizeof settings.log, "%.*s", (int)(at + bytes - value), value);
        at += bytes + (at[bytes] == ',');
    }
    if (settings.stats) { /* programs close theirs before they end */
        long fd = system_call(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 0, 0, 0, 0);

        if (!system_failed(fd)) {
            settings.stderr_fd = (int)fd;
            descriptors_move_up(&settings.stderr_fd);
            descriptors_add(settings.stderr_fd);
        }
    }
}

void settings_log(const char *format, ...)
{
    char line[512];
    int used = snprintf(line, sizeof line, "%s[%d]: jitbroker-run: ", program_invocation_short_name,
                        (int)system_call(SYS_getpid, 0, 0, 0, 0, 0, 0));
    va_list arguments;
    int fd = -1;

    va_start(arguments, format);
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    if ((size_t)used >= sizeof line)
        used = sizeof line - 1;
    line[used++] = '\n';
    if (settings.log[0] != '\0')
        fd = (int)system_call(SYS_openat, AT_FDCWD, (long)settings.log,
                              O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600, 0, 0);
    (void)system_call(SYS_write, fd < 0 ? settings.stderr_fd : fd, (long)line, used, 0, 0, 0);
    if (fd >= 0)
        (void)system_call(SYS_close, fd, 0, 0, 0, 0, 0);
}
