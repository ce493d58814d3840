/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2

static const char usage[] =
    "Usage: jitbench [OPTION]...\n"
    "What a function costs through the broker, against this machine's floors and against other ways.\n"
    "\n"
    "      --json          one object a line\n"
    "      --quick         under 30 seconds: fewer rounds, and 1,000,000 live spans only if asked for\n"
    "      --live=LIST     live spans of the churn, as in 1000,10000 (1 to 3000000, at most 16 of them)\n"
    "      --bytes=N       a function's size (1 to 65536; 256)\n"
    "      --rounds=N      steps to time per row at most (100 to 10000000; 100000, with --quick 10000)\n"
    "      --one-cpu       everything on one processor\n"
    "      --only=NAME     only rows with this in their name, and what they are compared with\n"
    "      --set=[SECTION]KEY=VALUE\n"
    "                      a line for the daemon's configuration, as in '[daemon]sessions_max=2000'\n"
    "      --list          the rows' names\n"
    "  -h, --help\n"
    "\n"
    "It starts a daemon of its own: $JITBROKER_DAEMON, or the installed one.\n";

static bool parse_number(const char *text, unsigned min, unsigned max, char end_at, const char **rest,
                         unsigned *number)
{
    char *end;
    unsigned long value;

    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    value = strtoul(text, &end, 10);
    if (errno != 0 || value < min || value > max || (*end != '\0' && *end != end_at))
        return false;
    *number = (unsigned)value;
    *rest = end;
    return true;
}

static bool read_number(const char *name, const char *text, unsigned min, unsigned max, unsigned *number)
{
    const char *rest;

    if (parse_number(text, min, max, '\0', &rest, number))
        return true;
    (void)fprintf(stderr, "jitbench: --%s=%s: not a whole number from %u to %u\n", name, text, min, max);
    return false;
}

static bool read_live(struct options *options, const char *text)
{
    const char *at = text;

    options->live_count = 0;
    for (;;) {
        unsigned *live = &options->live[options->live_count];

        if (options->live_count == LIVE_COUNTS_MAX) {
            (void)fprintf(stderr, "jitbench: --live=%s: more than %u counts\n", text, LIVE_COUNTS_MAX);
            return false;
        }
        if (!parse_number(at, 1, LIVE_MAX, ',', &at, live)) {
            (void)fprintf(stderr, "jitbench: --live=%s: not whole numbers from 1 to %u with commas between\n",
                          text, LIVE_MAX);
            return false;
        }
        options->live_count++;
        if (*at == '\0')
            return true;
        at++;
    }
}

static bool read_setting(struct options *options, const char *text)
{
    const char *end = strchr(text, ']');

    if (text[0] != '[' || end == NULL || strchr(end, '=') == NULL || strchr(text, '\n') != NULL) {
        (void)fprintf(stderr, "jitbench: --set=%s: it is [SECTION]KEY=VALUE\n", text);
        return false;
    }
    if (options->settings_count == SETTINGS_MAX) {
        (void)fprintf(stderr, "jitbench: --set: more than %u\n", SETTINGS_MAX);
        return false;
    }
    options->settings[options->settings_count++] = text;
    return true;
}

static void set_defaults(struct options *options)
{
    static const unsigned live[] = {1000, 10000, 100000, 1000000};

    if (options->rounds == 0)
        options->rounds = options->quick ? 10000 : 100000;
    if (options->live_count == 0) {
        options->live_count = options->quick ? 3 : 4;
        memcpy(options->live, live, sizeof live);
    }
}

static bool read_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case 'j':
        options->json = true;
        return true;
    case 'q':
        options->quick = true;
        return true;
    case '1':
        options->one_cpu = true;
        return true;
    case 'L':
        options->list = true;
        return true;
    case 'o':
        options->only = value;
        return true;
    case 'l':
        return read_live(options, value);
    case 'b':
        return read_number("bytes", value, 1, 65536, &options->bytes);
    case 'r':
        return read_number("rounds", value, 100, 10000000, &options->rounds);
    case 's':
        return read_setting(options, value);
    default: /* getopt has said what is wrong */
        return false;
    }
}

bool options_parse(struct options *options, int argc, char **argv, int *status)
{
    static const struct option longs[] = {
        {"json", no_argument, NULL, 'j'},
        {"quick", no_argument, NULL, 'q'},
        {"live", required_argument, NULL, 'l'},
        {"bytes", required_argument, NULL, 'b'},
        {"rounds", required_argument, NULL, 'r'},
        {"one-cpu", no_argument, NULL, '1'},
        {"only", required_argument, NULL, 'o'},
        {"set", required_argument, NULL, 's'},
        {"list", no_argument, NULL, 'L'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *options = (struct options){.bytes = 256};
    *status = EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(usage, stdout);
            *status = EXIT_SUCCESS;
            return false;
        }
        if (!read_option(options, option, optarg)) {
            (void)fputs("Try jitbench --help\n", stderr);
            return false;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "jitbench: %s: it takes options only\nTry jitbench --help\n", argv[optind]);
        return false;
    }
    set_defaults(options);
    return true;
}

bool options_have_live(const struct options *options, unsigned live)
{
    for (size_t i = 0; i < options->live_count; i++) {
        if (options->live[i] == live)
            return true;
    }
    return false;
}
