/* SPDX-License-Identifier: MIT */
/* The command line of jitbroker-run. */
#ifndef TOOLS_RUN_OPTIONS_H
#define TOOLS_RUN_OPTIONS_H

#include <stdbool.h>

#include "tools/run_profile.h"

struct run_options {
    const char *socket; /* NULL: where the library looks */
    const char *log;    /* NULL: the standard error */
    bool private_broker;
    bool stats;
    bool no_rwx;
    enum run_profile profile;
    char **program; /* and its arguments */
};

/* False: the launcher is to end with *status now, after --help, --version or a mistake. */
bool run_options_parse(struct run_options *options, int argc, char **argv, int *status);

#endif
