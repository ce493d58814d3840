/* SPDX-License-Identifier: MIT */
/*
 * jitbrokerctl: the operator's command. A verb is one row of `verbs` and one function, in a file of its
 * duty; which options it takes its row says too.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jitclient.h>

#include "proto/admin.h"
#include "tools/invocation.h"

#define INTERVAL_MIN_MS 10u
#define INTERVAL_MAX_MS 3600000u

/* Options of some verbs, and what a verb's arguments are. */
enum {
    TAKES_SOCKET = 1,
    TAKES_ADMIN = 2,
    TAKES_JSON = 4,
    TAKES_PEER = 8,
    TAKES_SVG = 16,
    TAKES_OUTPUT = 32,
    TAKES_TOP = 64,
    TAKES_YES = 128,
    IS_OF_SESSION = 256,
};

struct verb {
    const char *name;
    const char *arguments; /* for the help */
    unsigned takes;
    int arguments_min;
    int arguments_max;
    const char *what;
    int (*run)(const struct invocation *invocation);
};

#define ASKS (TAKES_ADMIN | TAKES_JSON)

static const struct verb verbs[] = {
    {"status", "", ASKS, 0, 0, "what the daemon has, against its limits", verb_status},
    {"sessions", "", ASKS, 0, 0, "all sessions, with what each holds and did", verb_sessions},
    {"spans", "SESSION", ASKS | IS_OF_SESSION, 1, 1, "a session's spans", verb_spans},
    {"map", "SESSION", ASKS | TAKES_SVG | IS_OF_SESSION, 1, 1,
     "a picture of its arena: how full, how fragmented", verb_map},
    {"disasm", "SESSION OFFSET", ASKS | IS_OF_SESSION, 2, 2, "the instructions of the span around an offset",
     verb_disasm},
    {"dump", "SESSION [OFFSET]", ASKS | TAKES_OUTPUT | IS_OF_SESSION, 1, 2,
     "the bytes of that span; or of all, each at its offset", verb_dump},
    {"top", "", ASKS | TAKES_TOP, 0, 0, "what happens now: rates, latency, the busiest sessions", verb_top},
    {"metrics", "", ASKS, 0, 0, "the daemon's figures as OpenMetrics text", verb_metrics},
    {"revoke", "SESSION", ASKS | TAKES_YES | IS_OF_SESSION, 1, 1, "end a session, and its executors",
     verb_revoke},
    {"reload", "", ASKS, 0, 0, "read the policy anew, and say whether it was right", verb_reload},
    {"upgrade", "", ASKS, 0, 0, "have a supervised daemon replaced by the program that is there now",
     verb_upgrade},
    {"log-level", "LEVEL", ASKS, 1, 1, "log error, warning, notice, info, or debug, and above",
     verb_log_level},
    {"doctor", "", ASKS | TAKES_SOCKET, 0, 0, "try whether a process started here can run generated code",
     verb_doctor},
    {"policy", "explain", TAKES_PEER | TAKES_JSON, 1, 1,
     "what a peer would get by the policy's files, and why", verb_policy},
};

#define VERBS_COUNT (sizeof verbs / sizeof verbs[0])

static void print_help(FILE *out)
{
    (void)fprintf(out, "usage: jitbrokerctl [OPTION]... VERB [ARGUMENT]...\n\nVerbs:\n");
    for (size_t i = 0; i < VERBS_COUNT; i++)
        (void)fprintf(out, "  %-9s %-17s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].what);
    (void)fprintf(
        out, "\nOptions:\n"
             "  --json           print JSON\n"
             "  --admin PATH     operators' socket; else $JITBROKER_ADMIN, " ADMIN_SOCKET "\n"
             "  --socket PATH    doctor: clients' socket; else $JITBROKER_SOCKET, the usual places\n"
             "  --svg            map: as an SVG document\n"
             "  --output FILE    dump: to there\n"
             "  --interval S     top: seconds between two looks; 1 if not given\n"
             "  --once           top: one frame, and end\n"
             "  --yes            revoke: nobody is asked\n"
             "  --uid UID, --gid GID, --unit UNIT, --label LABEL\n"
             "                   policy explain: whom it is asked for; --uid is needed\n"
             "  --config FILE    policy explain: another file than " JITBROKER_CONFIG "\n"
             "  -h, --help       print this\n"
             "  -V, --version    print the version\n"
             "\nExit status: 0 done, 1 failed or no such session, 2 the command line is wrong, 3 the\n"
             "admin socket can't be reached, or does not answer you, 78 policy explain: the files have a\n"
             "mistake.\n");
}

/* ---- The command line --------------------------------------------------------- */

static int usage_error(const char *problem, const char *what)
{
    (void)fprintf(stderr, "jitbrokerctl: %s%s; see jitbrokerctl --help\n", problem, what);
    return EXIT_USAGE;
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

/* Decimal, or with 0x. */
static bool parse_number(const char *text, uint64_t *number)
{
    bool is_hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    char *end;

    errno = 0;
    *number = strtoull(text, &end, is_hexadecimal ? 16 : 10);
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

static bool parse_interval(const char *text, uint32_t *ms)
{
    char *end;
    double seconds = strtod(text, &end);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || seconds * 1000 < INTERVAL_MIN_MS ||
        seconds * 1000 > INTERVAL_MAX_MS)
        return false;
    *ms = (uint32_t)(seconds * 1000);
    return true;
}

/* False where there is no room for one more. */
static bool add_peer_option(struct invocation *invocation, const char *name, const char *value)
{
    if (invocation->peer_count == PEER_OPTIONS_MAX)
        return false;
    return asprintf(&invocation->peer[invocation->peer_count++], "--%s=%s", name, value) > 0;
}

enum { OPTION_HELP = 'h', OPTION_VERSION = 'V', OPTION_ONCE = 1 << 16, OPTION_INTERVAL };

static const struct option options[] = {
    {"socket", required_argument, NULL, TAKES_SOCKET}, {"admin", required_argument, NULL, TAKES_ADMIN},
    {"json", no_argument, NULL, TAKES_JSON},           {"svg", no_argument, NULL, TAKES_SVG},
    {"output", required_argument, NULL, TAKES_OUTPUT}, {"interval", required_argument, NULL, OPTION_INTERVAL},
    {"once", no_argument, NULL, OPTION_ONCE},          {"yes", no_argument, NULL, TAKES_YES},
    {"uid", required_argument, NULL, TAKES_PEER},      {"gid", required_argument, NULL, TAKES_PEER},
    {"unit", required_argument, NULL, TAKES_PEER},     {"label", required_argument, NULL, TAKES_PEER},
    {"config", required_argument, NULL, TAKES_PEER},   {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},    {NULL, 0, NULL, 0},
};

/* Takes one option; what is to be done at once, and ends the program, is its exit status, or else -1. */
static int take_option(struct invocation *invocation, int option, const char *name, unsigned *given)
{
    switch (option) {
    case TAKES_SOCKET:
        invocation->socket = optarg;
        break;
    case TAKES_ADMIN:
        invocation->admin = optarg;
        break;
    case TAKES_JSON:
        invocation->json = true;
        break;
    case TAKES_SVG:
        invocation->svg = true;
        break;
    case TAKES_OUTPUT:
        invocation->output = optarg;
        break;
    case TAKES_YES:
        invocation->yes = true;
        break;
    case OPTION_ONCE:
        invocation->once = true;
        option = TAKES_TOP;
        break;
    case OPTION_INTERVAL:
        if (!parse_interval(optarg, &invocation->interval_ms))
            return usage_error("not from 0.01 to 3600 seconds: ", optarg);
        option = TAKES_TOP;
        break;
    case TAKES_PEER:
        if (!add_peer_option(invocation, name, optarg))
            return usage_error("too much is said of the peer: ", optarg);
        break;
    case OPTION_HELP:
        print_help(stdout);
        return EXIT_YES;
    case OPTION_VERSION:
        (void)printf("jitbrokerctl %s (libjitclient %s)\n", JITBROKER_VERSION, jitc_version());
        return EXIT_YES;
    default: /* getopt_long said what is wrong */
        return EXIT_USAGE;
    }
    *given |= (unsigned)option;
    return -1;
}

/* What is behind the verb. EXIT_YES, or what is wrong was said. */
static int take_arguments(struct invocation *invocation, const struct verb *verb, int count, char **arguments)
{
    if (count < verb->arguments_min)
        return usage_error("behind this verb comes ", verb->arguments);
    if (count > verb->arguments_max)
        return usage_error("unexpected argument: ", arguments[verb->arguments_max]);
    for (int i = 0; i < count; i++)
        invocation->arguments[i] = arguments[i];
    invocation->arguments_count = count;
    if ((verb->takes & IS_OF_SESSION) == 0)
        return EXIT_YES;
    if (!parse_number(arguments[0], &invocation->session) || invocation->session == 0)
        return usage_error("not the number of a session: ", arguments[0]);
    invocation->has_offset = count > 1;
    if (invocation->has_offset && !parse_number(arguments[1], &invocation->offset))
        return usage_error("not an offset, as 4096 or 0x1000: ", arguments[1]);
    return EXIT_YES;
}

/* False: all is said already, and *exit_status is the answer. */
static bool parse(int argc, char **argv, struct invocation *invocation, const struct verb **verb,
                  int *exit_status)
{
    unsigned given = 0;
    int index = 0;

    for (int option; (option = getopt_long(argc, argv, "hV", options, &index)) != -1;) {
        *exit_status = take_option(invocation, option, options[index].name, &given);
        if (*exit_status >= 0)
            return false;
    }
    *exit_status = EXIT_USAGE;
    if (optind == argc) {
        (void)usage_error("no verb given", "");
        return false;
    }
    *verb = find_verb(argv[optind]);
    if (*verb == NULL) {
        (void)usage_error("no such verb: ", argv[optind]);
        return false;
    }
    if ((given & ~(*verb)->takes) != 0) {
        (void)usage_error("an option was given that is not for the verb ", (*verb)->name);
        return false;
    }
    if (invocation->json && invocation->svg) {
        (void)usage_error("--json and --svg exclude one another", "");
        return false;
    }
    *exit_status = take_arguments(invocation, *verb, argc - optind - 1, argv + optind + 1);
    return *exit_status == EXIT_YES;
}

int main(int argc, char **argv)
{
    static struct invocation invocation = {.admin = ADMIN_SOCKET, .interval_ms = 1000};
    const char *named = getenv("JITBROKER_ADMIN");
    const struct verb *verb = NULL;
    int exit_status;

    if (named != NULL && named[0] != '\0')
        invocation.admin = named;
    if (parse(argc, argv, &invocation, &verb, &exit_status))
        exit_status = verb->run(&invocation);
    if (ferror(stdout) != 0 || fflush(stdout) != 0) {
        (void)fprintf(stderr, "jitbrokerctl: printing: %s\n", strerror(errno));
        return EXIT_NO;
    }
    return exit_status;
}
