/* SPDX-License-Identifier: MIT */
/* What jitbroker-run told us, in $JITBROKER_RUN: words with commas between. Read once, at the start. */
#ifndef PRELOAD_SETTINGS_H
#define PRELOAD_SETTINGS_H

#include <stdbool.h>

struct settings {
    bool stats;    /* tell what was done when the process ends */
    bool no_rwx;   /* memory that is writable and executable at once is refused */
    bool is_eager; /* mprotect() to writable takes effect at once, whatever happened before */
    int fd;        /* a connected socket, or -1 */
    int stderr_fd; /* where lines go without a file */
    char log[256]; /* a file to append to; "": the standard error */
};

extern struct settings settings;

void settings_read(void);

/* A line to the log, beginning with the program's number and name, ending with a newline; cut short where it
 * is too long. Signal-safe. */
__attribute__((format(printf, 1, 2))) void settings_log(const char *format, ...);

#endif
