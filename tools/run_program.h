/* SPDX-License-Identifier: MIT */
/* Whether a program can be served by a preloaded library, found out by its file before it runs. */
#ifndef TOOLS_RUN_PROGRAM_H
#define TOOLS_RUN_PROGRAM_H

#include <stdbool.h>

/*
 * Looks `name` up as execvp(3) does, follows "#!" to the interpreter, and looks into that. 0, or the exit
 * status after the reason was said. What can't be read, or is no file that we know, is left to the kernel.
 * With is_locked an executable stack is a reason too.
 */
int run_program_check(const char *name, bool is_locked);

#endif
