/* SPDX-License-Identifier: MIT */
/* The table: every row there is, what it is compared with, and what is aimed at. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <stdbool.h>
#include <stddef.h>

enum aim_on {
    AIM_NONE,
    AIM_VALUE,
    AIM_RATIO, /* of the value to what it is compared with */
};

struct row {
    const char *id; /* SECTION.WHAT */
    const char *title;
    const char *unit;
    const char *against; /* NULL: nothing */
    enum aim_on aim_on;
    bool at_least; /* else at most */
    double aim;
};

extern const struct row rows[];
extern const size_t rows_count;

/* The row with that id, which there must be. */
const struct row *rows_find(const char *id);
/* Whether `only` (NULL: any) is part of the row's id. */
bool rows_matches(const struct row *row, const char *only);
/* Whether that is so for any row whose id begins with `prefix`. */
bool rows_match_any(const char *prefix, const char *only);

#endif
