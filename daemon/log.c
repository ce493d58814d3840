/* SPDX-License-Identifier: MIT */
#include "daemon/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static enum log_priority level = LOG_INFO;

static void write_line(enum log_priority priority, const char *format, va_list args)
{
    char line[LINE_MAX_BYTES];
    int used = isatty(STDERR_FILENO) ? 0 : snprintf(line, sizeof line, "<%d>", (int)priority);
    int added = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);

    used += added < 0 ? 0 : added;
    if (used > LINE_MAX_BYTES - 2)
        used = LINE_MAX_BYTES - 2;
    line[used++] = '\n';
    /* Who does not read the log must not hold us up. A pipe that is writable has room for a line. */
    if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) != 1)
        return;
    /* One write a line, so that lines of several processes don't mix; a lost line is no error. */
    if (write(STDERR_FILENO, line, (size_t)used) < 0)
        return;
}

void log_line(enum log_priority priority, const char *format, ...)
{
    va_list args;

    if (priority > level)
        return;
    va_start(args, format);
    write_line(priority, format, args);
    va_end(args);
}

void log_client(enum log_priority priority, const char *format, ...)
{
    static time_t second;
    static unsigned lines;
    struct timespec now;
    va_list args;

    if (priority > level)
        return;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec != second) {
        if (lines > LOG_BURST)
            log_line(LOG_WARNING, "%u more lines about clients were not logged", lines - LOG_BURST);
        second = now.tv_sec;
        lines = 0;
    }
    if (++lines > LOG_BURST)
        return;
    va_start(args, format);
    write_line(priority, format, args);
    va_end(args);
}

void log_set_level(enum log_priority priority)
{
    level = priority;
}
