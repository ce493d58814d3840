/* SPDX-License-Identifier: MIT */
/* What a process that was taken over would try first: change its code, or make new. */
#ifndef PCAPJIT_ATTEMPTS_H
#define PCAPJIT_ATTEMPTS_H

#include <stddef.h>
#include <stdio.h>

struct attempts {
    unsigned tried;
    unsigned refused;
};

/*
 * Really tries all of it on the code of this process, tells `out` what came of each,
 * and counts. Whatever is not refused leaves the code's bytes as they are, but
 * perhaps no longer executable: call it last.
 */
void attempts_run(struct attempts *attempts, const void *code, FILE *out);

/*
 * The oldest way to run generated code: fill plain memory, then make it executable.
 * 0 if that worked, else a negative errno and *step names what failed.
 */
int attempts_plain_code(const void *code, size_t size, const char **step);

/* "EPERM" and the like. */
const char *attempts_errno_name(int number);

#endif
