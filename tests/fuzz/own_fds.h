/* SPDX-License-Identifier: MIT */
/* How many descriptors this process has: the same before and after, or something was not closed. */
#ifndef TESTS_FUZZ_OWN_FDS_H
#define TESTS_FUZZ_OWN_FDS_H

#include <dirent.h>

#include "tests/fuzz/target.h"

static inline unsigned count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    must(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

#endif
