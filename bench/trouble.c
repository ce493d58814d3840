/* SPDX-License-Identifier: MIT */
#include "trouble.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jitclient.h"

void die(const char *what)
{
    die_because("%s: %s", what, strerror(errno));
}

void die_because(const char *format, ...)
{
    va_list args;

    (void)fputs("jitbench: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

void die_of_status(int status, const char *what)
{
    die_because("%s: %s: %s", what, jitc_strerror(status), jitc_error_detail());
}
