/* SPDX-License-Identifier: MIT */
/* The command line of pcapjit: one table for getopt_long, one place that says what is wrong with it. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS_DEFAULT 5u
#define ROUNDS_MAX 1000u

static const char help_text[] =
    "Usage: pcapjit [OPTION]... FILE EXPRESSION\n"
    "Filters the packets of a capture FILE with machine code made from a pcap-filter(7)\n"
    "EXPRESSION, in a process that may not make executable memory: jitbrokerd writes it.\n"
    "Every verdict is checked against libpcap's interpreter.\n"
    "\n"
    "  -s, --socket=PATH     connect to the broker at PATH, not the usual places\n"
    "  -p, --private-broker  start a broker of its own ($JITBROKER_DAEMON names the program)\n"
    "  -n, --no-broker       lock down and try it without one, to show that this fails\n"
    "  -d, --direct          ask for a second, writable view, if the policy allows\n"
    "  -O, --no-optimize     translate the program before pcap_compile()'s optimizer\n"
    "  -r, --rounds=N        passes over the packets, the fastest counts (1 to 1000; 5)\n"
    "  -h, --help            print this text\n"
    "  -V, --version         print the version\n"
    "\n"
    "Exit status: 0 if all verdicts agree and every attempt to write code was refused,\n"
    "1 if not or if something failed, 2 for a mistake on the command line.\n";

static const struct option long_options[] = {
    {"socket", required_argument, NULL, 's'},
    {"private-broker", no_argument, NULL, 'p'},
    {"no-broker", no_argument, NULL, 'n'},
    {"direct", no_argument, NULL, 'd'},
    {"no-optimize", no_argument, NULL, 'O'},
    {"rounds", required_argument, NULL, 'r'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static int usage_error(const char *what)
{
    if (what)
        fprintf(stderr, "pcapjit: %s\n", what);
    fprintf(stderr, "Try 'pcapjit --help' for more information.\n");
    return OPTIONS_E_USAGE;
}

static bool set_broker(struct options *options, enum options_broker broker)
{
    if (options->broker != OPTIONS_BROKER_ANY && options->broker != broker)
        return false;
    options->broker = broker;
    return true;
}

static bool set_rounds(struct options *options, const char *text)
{
    char *end;
    unsigned long rounds;

    errno = 0;
    rounds = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || rounds < 1 || rounds > ROUNDS_MAX)
        return false;
    options->rounds = (unsigned)rounds;
    return true;
}

static int parse_one(struct options *options, int option)
{
    static const char one_broker[] = "--socket, --private-broker and --no-broker exclude each other";

    switch (option) {
    case 's':
        options->socket = optarg;
        return set_broker(options, OPTIONS_BROKER_SOCKET) ? OPTIONS_OK : usage_error(one_broker);
    case 'p':
        return set_broker(options, OPTIONS_BROKER_PRIVATE) ? OPTIONS_OK : usage_error(one_broker);
    case 'n':
        return set_broker(options, OPTIONS_BROKER_NONE) ? OPTIONS_OK : usage_error(one_broker);
    case 'd':
        options->wants_direct = true;
        return OPTIONS_OK;
    case 'O':
        options->is_optimized = false;
        return OPTIONS_OK;
    case 'r':
        return set_rounds(options, optarg) ? OPTIONS_OK
                                           : usage_error("--rounds takes a number from 1 to 1000");
    case 'h':
        fputs(help_text, stdout);
        return OPTIONS_DONE;
    case 'V':
        puts("pcapjit (jitbroker) " JITBROKER_VERSION);
        return OPTIONS_DONE;
    default:
        return usage_error(NULL); /* getopt_long has said what */
    }
}

int options_parse(struct options *options, int argc, char **argv)
{
    int option;

    *options = (struct options){.is_optimized = true, .rounds = ROUNDS_DEFAULT};
    while ((option = getopt_long(argc, argv, "s:pndOr:hV", long_options, NULL)) != -1) {
        int status = parse_one(options, option);

        if (status != OPTIONS_OK)
            return status;
    }
    if (options->wants_direct && options->broker == OPTIONS_BROKER_NONE)
        return usage_error("--direct needs a broker");
    if (argc - optind != 2)
        return usage_error("it takes exactly a FILE and an EXPRESSION (quote the expression)");
    options->file = argv[optind];
    options->expression = argv[optind + 1];
    return OPTIONS_OK;
}
