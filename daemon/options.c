/* SPDX-License-Identifier: MIT */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "Usage: jitbrokerd [OPTION]...\n"
    "Owns the executable memory of processes that may not make any.\n"
    "Without --socket, --user or --fd it serves the sockets that systemd passes to it.\n"
    "\n"
    "  -s, --socket=PATH    listen on this SOCK_SEQPACKET socket\n"
    "  -u, --user           listen on $XDG_RUNTIME_DIR/jitbroker/socket, for this user\n"
    "  -f, --fd=N           serve the connected socket N, and end when it closes\n"
    "  -c, --config=FILE    read FILE instead of " JITBROKER_CONFIG "\n"
    "      --check-config   say whether the configuration is right, and end\n"
    "  -h, --help           show this\n"
    "  -V, --version        show the version\n"
    "\n"
    "Exit status: 0 after a clean end, 1 on trouble with the system, 2 on a wrong command\n"
    "line, 78 on a wrong configuration.\n";

enum { OPTION_CHECK_CONFIG = 256 };

static bool fail(int *status)
{
    (void)fputs("Try 'jitbrokerd --help'.\n", stderr);
    *status = EXIT_USAGE;
    return false;
}

static bool parse_fd(struct options *options, const char *text)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value <= 2 || value > INT_MAX) {
        (void)fprintf(stderr, "jitbrokerd: --fd=%s: not a file descriptor above 2\n", text);
        return false;
    }
    options->fd = (int)value;
    return true;
}

bool options_parse(struct options *options, int argc, char **argv, int *status)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'},
        {"user", no_argument, NULL, 'u'},
        {"fd", required_argument, NULL, 'f'},
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *options = (struct options){.fd = -1};
    while ((option = getopt_long(argc, argv, "s:uf:c:hV", longs, NULL)) != -1) {
        switch (option) {
        case 's':
            options->socket = optarg;
            break;
        case 'u':
            options->user = true;
            break;
        case 'f':
            if (!parse_fd(options, optarg))
                return fail(status);
            break;
        case 'c':
            options->config = optarg;
            break;
        case OPTION_CHECK_CONFIG:
            options->check_config = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            *status = EXIT_SUCCESS;
            return false;
        case 'V':
            (void)puts("jitbrokerd " JITBROKER_VERSION);
            *status = EXIT_SUCCESS;
            return false;
        default:
            return fail(status);
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "jitbrokerd: unexpected argument '%s'\n", argv[optind]);
        return fail(status);
    }
    if ((options->socket != NULL) + options->user + (options->fd >= 0) > 1) {
        (void)fputs("jitbrokerd: --socket, --user and --fd exclude one another\n", stderr);
        return fail(status);
    }
    return true;
}
