/* SPDX-License-Identifier: MIT */
/* Figures for people: short enough for a column. */
#ifndef TOOLS_FIGURES_H
#define TOOLS_FIGURES_H

#include <stdint.h>

#define FIGURE_BYTES 32u

/* Each writes to `to`, which has FIGURE_BYTES, and returns it. */
char *figure_bytes(char *to, uint64_t bytes);
char *figure_count(char *to, double count);
char *figure_age(char *to, uint64_t ms);
char *figure_time(char *to, double ns);

#define FIGURE_NAME_BYTES 257u
/* A name that somebody else chose, as a terminal may get it; `to` has FIGURE_NAME_BYTES. "-" for none. */
char *figure_name(char *to, const char *name);

#endif
