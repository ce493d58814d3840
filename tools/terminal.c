/* SPDX-License-Identifier: MIT */
#include "tools/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_is_capable(void)
{
    const char *name = getenv("TERM");

    return isatty(STDOUT_FILENO) != 0 && name != NULL && name[0] != '\0' && strcmp(name, "dumb") != 0;
}

static struct winsize size(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
        size = (struct winsize){.ws_row = 0};
    return size;
}

unsigned terminal_rows(void)
{
    return size().ws_row;
}

unsigned terminal_columns(void)
{
    return size().ws_col;
}
