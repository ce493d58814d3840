/* SPDX-License-Identifier: MIT */
#include "daemon/notice.h"

#include <string.h>

static bool parse_line(struct notice *notice, char *line)
{
    char *value = strchr(line, '=');

    if (value == NULL || value == line ||
        strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != (size_t)(value - line))
        return false;
    *value++ = '\0';
    if (strcmp(line, "FDNAME") == 0) {
        if (!shelf_is_name(value) || notice->name[0] != '\0')
            return false;
        memcpy(notice->name, value, strlen(value) + 1);
        return true;
    }
    if (strcmp(value, "1") != 0)
        return true; /* as WATCHDOG=trigger, or of another kind */
    if (strcmp(line, "READY") == 0)
        notice->is_ready = true;
    else if (strcmp(line, "WATCHDOG") == 0)
        notice->is_alive = true;
    else if (strcmp(line, "FDSTORE") == 0)
        notice->stores = true;
    else if (strcmp(line, "FDSTOREREMOVE") == 0)
        notice->removes = true;
    return true;
}

bool notice_parse(struct notice *notice, char *text, size_t length)
{
    char *end = text + length;

    *notice = (struct notice){.is_ready = false};
    if (length == 0 || memchr(text, '\0', length) != NULL)
        return false;
    *end = '\0';
    while (text < end) {
        char *line = text;
        char *next = strchr(line, '\n');

        text = next != NULL ? next + 1 : end;
        if (next != NULL)
            *next = '\0';
        if (!parse_line(notice, line))
            return false;
    }
    return !(notice->stores && notice->removes) &&
           (notice->stores || notice->removes) == (notice->name[0] != '\0');
}
