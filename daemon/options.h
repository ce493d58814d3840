/* SPDX-License-Identifier: MIT */
/* The command line of jitbrokerd. */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>

#include "daemon/peer.h"

#define EXIT_USAGE 2
#define EXIT_CONFIG 78 /* as sysexits.h and systemd have it */

struct options {
    const char *socket; /* NULL: the sockets that systemd passed */
    const char *config; /* NULL: the default file, if there is one */
    const char *admin;  /* NULL: no socket for operators but one that systemd passed */
    int fd;             /* -1: none */
    bool user;
    bool supervise;
    bool check_config;
    bool explain;
    bool json;        /* the explanation */
    struct peer peer; /* whom to explain the policy for */
};

/* Returns false if the program is to end with *status now: after --help, --version or a mistake. */
bool options_parse(struct options *options, int argc, char **argv, int *status);

#endif
