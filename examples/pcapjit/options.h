/* SPDX-License-Identifier: MIT */
/* The command line of pcapjit. */
#ifndef PCAPJIT_OPTIONS_H
#define PCAPJIT_OPTIONS_H

#include <stdbool.h>

enum options_broker {
    OPTIONS_BROKER_ANY = 0, /* where jitc_connect() finds one */
    OPTIONS_BROKER_SOCKET = 1,
    OPTIONS_BROKER_PRIVATE = 2,
    OPTIONS_BROKER_NONE = 3
};

struct options {
    const char *file;
    const char *expression;
    enum options_broker broker;
    const char *socket; /* for OPTIONS_BROKER_SOCKET */
    bool wants_direct;
    bool is_optimized; /* by pcap_compile(), before translation */
    unsigned rounds;
};

enum options_status {
    OPTIONS_OK = 0,
    OPTIONS_DONE = 1,   /* --help or --version was answered */
    OPTIONS_E_USAGE = 2 /* what was wrong stands on stderr */
};

/* The strings stay argv's. */
int options_parse(struct options *options, int argc, char **argv);

#endif
