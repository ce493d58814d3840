/* SPDX-License-Identifier: MIT */
/* Around a fork that does not come by fork(3), which tells us by itself. In the parent before, in both after.
 */
#ifndef PRELOAD_PROCESS_H
#define PRELOAD_PROCESS_H

#include <stdbool.h>

void process_before_fork(void);
void process_after_fork(bool in_child);

#endif
