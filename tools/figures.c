/* SPDX-License-Identifier: MIT */
#include "tools/figures.h"

#include <inttypes.h>
#include <stdio.h>

/* Three digits or more, and the unit. */
static char *scaled(char *to, double value, double step, const char *const *units, unsigned count)
{
    unsigned unit = 0;

    while (value >= step && unit + 1 < count) {
        value /= step;
        unit++;
    }
    (void)snprintf(to, FIGURE_BYTES, value < 10 && unit > 0 ? "%.1f%s" : "%.0f%s", value, units[unit]);
    return to;
}

char *figure_bytes(char *to, uint64_t bytes)
{
    static const char *const units[] = {"B", "K", "M", "G", "T"};

    return scaled(to, (double)bytes, 1024, units, 5);
}

char *figure_count(char *to, double count)
{
    static const char *const units[] = {"", "k", "M", "G"};

    return scaled(to, count, 1000, units, 4);
}

char *figure_age(char *to, uint64_t ms)
{
    uint64_t s = ms / 1000;

    if (s < 60)
        (void)snprintf(to, FIGURE_BYTES, "%" PRIu64 "s", s);
    else if (s < 3600)
        (void)snprintf(to, FIGURE_BYTES, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(to, FIGURE_BYTES, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        (void)snprintf(to, FIGURE_BYTES, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    return to;
}

char *figure_time(char *to, double ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};

    return scaled(to, ns, 1000, units, 4);
}

char *figure_name(char *to, const char *name)
{
    unsigned used = 0;

    for (; *name != '\0' && used + 1 < FIGURE_NAME_BYTES; name++)
        to[used++] = (char)(*name > ' ' && *name <= '~' ? *name : '?');
    if (used == 0)
        to[used++] = '-';
    to[used] = '\0';
    return to;
}
