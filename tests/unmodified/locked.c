/* SPDX-License-Identifier: MIT */
/*
 * locked PROGRAM ARGUMENT...: runs it locked down as jitbroker-run does, without what jitbroker-run gives it
 * for that. What it can't be is refused with EPERM.
 */
#include <stdio.h>
#include <unistd.h>

#include "client/jitclient.h"

#define LIKE_JITBROKER_RUN                                                                              \
    (JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_MDWE | JITC_LOCKDOWN_SECCOMP | JITC_LOCKDOWN_LANDLOCK | \
     JITC_LOCKDOWN_ALLOW_EXEC | JITC_LOCKDOWN_ALLOW_LIBRARIES)
/* Without these no JIT fails. */
#define NEEDED (JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_SECCOMP)

int main(int count, char **words)
{
    if (count < 2) {
        (void)fprintf(stderr, "usage: locked PROGRAM ARGUMENT...\n");
        return 2;
    }
    if ((jitc_lockdown(LIKE_JITBROKER_RUN) & NEEDED) != 0) {
        (void)fprintf(stderr, "locked: %s\n", jitc_error_detail());
        return 125;
    }
    (void)execvp(words[1], words + 1);
    perror(words[1]);
    return 127;
}
