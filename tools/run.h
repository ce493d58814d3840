/* SPDX-License-Identifier: MIT */
/* How jitbroker-run says that it can't: one line, and an exit status as of env(1), which leave all others to
 * the program. */
#ifndef TOOLS_RUN_H
#define TOOLS_RUN_H

#define EXIT_LAUNCHER 125  /* nothing is wrong with the program: the command line, the broker, the kernel */
#define EXIT_UNFIT 126     /* the program is there, and can't be run, or not so */
#define EXIT_NOT_THERE 127 /* it is not there */

/* Prints the line, and returns the status. */
__attribute__((format(printf, 2, 3))) int run_fail(int status, const char *format, ...);
/* Prints it, and that is all. */
__attribute__((format(printf, 1, 2))) void run_warn(const char *format, ...);

#endif
