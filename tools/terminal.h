/* SPDX-License-Identifier: MIT */
/* The terminal that standard output is, if it is one: what it can show, and how much of it. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stdbool.h>

/* Whether it knows escape sequences: it is none, or TERM=dumb, otherwise. */
bool terminal_is_capable(void);

/* 0: nobody knows. */
unsigned terminal_rows(void);
unsigned terminal_columns(void);

#endif
