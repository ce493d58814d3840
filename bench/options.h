/* SPDX-License-Identifier: MIT */
/* The command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define LIVE_COUNTS_MAX 16u
#define LIVE_MAX 3000000u
#define SETTINGS_MAX 16u

struct options {
    bool json;
    bool quick;
    bool one_cpu;
    bool list;
    const char *only;
    unsigned rounds;
    unsigned bytes;
    unsigned live[LIVE_COUNTS_MAX];
    size_t live_count;
    const char *settings[SETTINGS_MAX]; /* [SECTION]KEY=VALUE, for the daemon's configuration */
    size_t settings_count;
};

/* False if the program is to end with *status: help was asked for, or there is a mistake, which was said. */
bool options_parse(struct options *options, int argc, char **argv, int *status);
bool options_have_live(const struct options *options, unsigned live);

#endif
