/* SPDX-License-Identifier: MIT */
#include "tools/run_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jitclient.h>

#include "tools/run.h"

static const char usage[] =
    "Usage: jitbroker-run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
    "Runs a program that makes code at run time, and knows nothing of brokers, so that a broker writes\n"
    "that code, and the program can make no executable memory of its own.\n"
    "\n"
    "  --socket PATH     the broker's socket, or @NAME; else $JITBROKER_SOCKET, the usual places\n"
    "  --private-broker  start one for this program, which ends with the last of its processes\n"
    "  --profile LEVEL   what is taken away from the program:\n"
    "                      none      nothing, to compare\n"
    "                      standard  all ways to executable memory that this kernel can take; the default\n"
    "                      strict    the same, or else it is not started; and capabilities that lead\n"
    "                                around it\n"
    "  --no-rwx          refuse memory that is writable and executable at once\n"
    "  --stats           each process tells at its end what was done\n"
    "  --log FILE        append what is told to FILE instead of the standard error\n"
    "  --help            print this\n"
    "  --version         print the version\n"
    "\n"
    "Exit status: the program's; or 125 if it is not started for another reason than itself (the\n"
    "command line, the broker, this kernel), 126 if it can't be run, or not so, 127 if it is not there.\n";

enum {
    OPTION_SOCKET = 1,
    OPTION_PRIVATE_BROKER,
    OPTION_PROFILE,
    OPTION_NO_RWX,
    OPTION_STATS,
    OPTION_LOG,
    OPTION_HELP,
    OPTION_VERSION
};

static int usage_error(const char *problem, const char *what)
{
    return run_fail(EXIT_LAUNCHER, "%s%s; see jitbroker-run --help", problem, what);
}

/* The words of $JITBROKER_RUN have commas between. */
static int take_log(struct run_options *options, const char *path)
{
    if (path[0] == '\0' || strchr(path, ',') != NULL)
        return usage_error("--log: empty, or with a comma: ", path);
    options->log = path;
    return -1;
}

/* What is to be done at once, and ends the launcher, is its exit status, or else -1. */
static int take(struct run_options *options, int option)
{
    switch (option) {
    case OPTION_SOCKET:
        options->socket = optarg;
        return optarg[0] != '\0' ? -1 : usage_error("--socket: empty", "");
    case OPTION_PRIVATE_BROKER:
        options->private_broker = true;
        return -1;
    case OPTION_PROFILE:
        return run_profile_by_name(optarg, &options->profile) ? -1 : usage_error("no such profile: ", optarg);
    case OPTION_NO_RWX:
        options->no_rwx = true;
        return -1;
    case OPTION_STATS:
        options->stats = true;
        return -1;
    case OPTION_LOG:
        return take_log(options, optarg);
    case OPTION_HELP:
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    case OPTION_VERSION:
        (void)printf("jitbroker-run %s (libjitclient %s)\n", JITBROKER_VERSION, jitc_version());
        return EXIT_SUCCESS;
    default: /* getopt_long said what is wrong */
        return EXIT_LAUNCHER;
    }
}

bool run_options_parse(struct run_options *options, int argc, char **argv, int *status)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"private-broker", no_argument, NULL, OPTION_PRIVATE_BROKER},
        {"profile", required_argument, NULL, OPTION_PROFILE},
        {"no-rwx", no_argument, NULL, OPTION_NO_RWX},
        {"stats", no_argument, NULL, OPTION_STATS},
        {"log", required_argument, NULL, OPTION_LOG},
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {NULL, 0, NULL, 0},
    };

    *options = (struct run_options){.profile = RUN_PROFILE_STANDARD};
    for (int option; (option = getopt_long(argc, argv, "+", longs, NULL)) != -1;) {
        *status = take(options, option);
        if (*status >= 0)
            return false;
    }
    *status = EXIT_LAUNCHER;
    options->program = argv + optind;
    if (optind == argc)
        (void)usage_error("no program given", "");
    else if (options->socket != NULL && options->private_broker)
        (void)usage_error("--socket and --private-broker exclude one another", "");
    else
        return true;
    return false;
}
