/* SPDX-License-Identifier: MIT */
/* What jitbroker-run takes away from the program, by level. */
#ifndef TOOLS_RUN_PROFILE_H
#define TOOLS_RUN_PROFILE_H

#include <stdbool.h>

enum run_profile { RUN_PROFILE_NONE, RUN_PROFILE_STANDARD, RUN_PROFILE_STRICT };

bool run_profile_by_name(const char *name, enum run_profile *profile);

/* From here on this process, and what it executes, makes no executable memory. 0, or the exit status after
 * the reason was said. */
int run_profile_apply(enum run_profile profile);

#endif
