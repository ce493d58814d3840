/* SPDX-License-Identifier: MIT */
/*
 * jitbrokerctl: the operator's command. A verb is one row of `verbs` and one function.
 * Exit status, for every verb: 0 yes or done, 1 no or failed, 2 the command line is wrong.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jitclient.h>

#define EXIT_YES 0
#define EXIT_NO 1
#define EXIT_USAGE 2

#define PEER_OPTIONS_MAX 8

struct invocation {
    const char *socket; /* NULL: where the library looks */
    bool json;
    char *peer[PEER_OPTIONS_MAX]; /* "--uid=33" and so on, for the daemon's --explain */
    int peer_count;
};

struct verb {
    const char *name;
    const char *object; /* its argument; NULL: it takes none */
    const char *what;
    int (*run)(const struct invocation *invocation);
};

/* ---- JSON ------------------------------------------------------------------- */

static void json_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c == '\n')
            printf("\\n");
        else if (c < 0x20 || c == 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

struct bit {
    uint32_t bit;
    const char *name;
};

static void json_bits(const char *key, uint32_t bits, const struct bit *names, size_t count)
{
    printf("  \"%s\": {", key);
    for (size_t i = 0; i < count; i++) {
        const char *no = bits & (names[i].bit << JITC_PROBE_UNKNOWN_SHIFT) ? "null" : "false";
        printf("%s\"%s\": %s", i ? ", " : "", names[i].name, bits & names[i].bit ? "true" : no);
    }
    printf("},\n");
}

/* ---- doctor ----------------------------------------------------------------- */

static const struct bit can_names[] = {
    {JITC_CAN_WRITE_EXECUTE, "write_execute"},
    {JITC_CAN_FLIP, "flip"},
    {JITC_CAN_DUAL_MAP, "dual_map"},
    {JITC_CAN_MAP_READ_ONLY, "map_read_only"},
    {JITC_CAN_REACH_BROKER, "reach_broker"},
    {JITC_CAN_SPAWN_BROKER, "spawn_broker"},
    {JITC_CAN_RUN, "run"},
};

static const struct bit lockdown_names[] = {
    {JITC_LOCKDOWN_NO_NEW_PRIVS, "no_new_privs"}, {JITC_LOCKDOWN_MDWE, "mdwe"},
    {JITC_LOCKDOWN_SECCOMP, "seccomp"},           {JITC_LOCKDOWN_SEAL_ARENAS, "seal_arenas"},
    {JITC_LOCKDOWN_LANDLOCK, "landlock"},
};

static void doctor_print_json(int status, const jitc_probe_result *probe)
{
    printf("{\n  \"status\": %d,\n  \"status_text\": ", status);
    json_string(jitc_strerror(status));
    printf(",\n  \"detail\": ");
    json_string(status == JITC_OK ? "" : jitc_error_detail());
    printf(",\n");
    json_bits("can", probe->can, can_names, sizeof can_names / sizeof can_names[0]);
    json_bits("lockdown", probe->lockdown, lockdown_names, sizeof lockdown_names / sizeof lockdown_names[0]);
    printf("  \"report\": ");
    json_string(probe->report);
    printf("\n}\n");
}

static int doctor(const struct invocation *invocation)
{
    jitc_options options;
    jitc_options_init(&options);
    options.socket = invocation->socket;
    jitc_probe_result probe = {.struct_size = sizeof probe};
    int status = jitc_probe(&probe, &options);
    if (invocation->json)
        doctor_print_json(status, &probe);
    else
        fputs(probe.report, stdout);
    return status == JITC_OK ? EXIT_YES : EXIT_NO;
}

/* ---- policy explain ------------------------------------------------------------- */

/* The daemon's own reader of the policy is asked: there is no other. */
static int policy_explain(const struct invocation *invocation)
{
    const char *named = getenv("JITBROKER_DAEMON");
    const char *daemon = named != NULL && named[0] != '\0' ? named : JITBROKERD_PATH;
    static char name[] = "jitbrokerd";
    static char option[] = "--explain";
    char *arguments[PEER_OPTIONS_MAX + 3] = {name, option};

    if (invocation->json) {
        fputs("jitbrokerctl: policy explain has no --json\n", stderr);
        return EXIT_USAGE;
    }
    memcpy(arguments + 2, invocation->peer, sizeof invocation->peer);
    (void)execv(daemon, arguments);
    fprintf(stderr, "jitbrokerctl: %s: %s\n", daemon, strerror(errno));
    return EXIT_NO;
}

/* ---- The command line --------------------------------------------------------- */

static const struct verb verbs[] = {
    {"doctor", NULL, "try whether a process started here can run generated code, and say why not", doctor},
    {"policy", "explain", "say what a peer would get by the policy's files, and by which line",
     policy_explain},
};

#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

static void print_help(FILE *out)
{
    fprintf(out, "usage: jitbrokerctl [--socket PATH] [--json] VERB\n\nVerbs:\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        fprintf(out, "  %s%s%-*s %s\n", verbs[i].name, verbs[i].object != NULL ? " " : "",
                (int)(15 - strlen(verbs[i].name)), verbs[i].object != NULL ? verbs[i].object : "",
                verbs[i].what);
    fprintf(out, "\nOptions:\n"
                 "  --socket PATH  the broker's socket; without it $JITBROKER_SOCKET and the usual places\n"
                 "  --json         print JSON\n"
                 "  --uid UID, --gid GID, --unit UNIT, --label LABEL\n"
                 "                 policy explain: whom it is asked for; --uid is needed\n"
                 "  --config FILE  policy explain: another file than " JITBROKER_CONFIG "\n"
                 "  --help         print this\n"
                 "  --version      print the version\n");
}

static int usage_error(const char *problem, const char *what)
{
    fprintf(stderr, "jitbrokerctl: %s%s; see jitbrokerctl --help\n", problem, what);
    return EXIT_USAGE;
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

/* False where there is no room for one more. */
static bool add_peer_option(struct invocation *invocation, const char *name, const char *value)
{
    if (invocation->peer_count == PEER_OPTIONS_MAX)
        return false;
    return asprintf(&invocation->peer[invocation->peer_count++], "--%s=%s", name, value) > 0;
}

enum parsed { PARSED_VERB, PARSED_EXIT };

/* PARSED_EXIT: all is said already, and *exit_status is the answer. */
static enum parsed parse(int argc, char **argv, struct invocation *invocation, const struct verb **verb,
                         int *exit_status)
{
    enum { OPTION_SOCKET = 1, OPTION_JSON, OPTION_HELP, OPTION_VERSION, OPTION_PEER };
    static const struct option options[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET}, {"json", no_argument, NULL, OPTION_JSON},
        {"help", no_argument, NULL, OPTION_HELP},           {"version", no_argument, NULL, OPTION_VERSION},
        {"uid", required_argument, NULL, OPTION_PEER},      {"gid", required_argument, NULL, OPTION_PEER},
        {"unit", required_argument, NULL, OPTION_PEER},     {"label", required_argument, NULL, OPTION_PEER},
        {"config", required_argument, NULL, OPTION_PEER},   {NULL, 0, NULL, 0},
    };
    int index = 0;
    *exit_status = EXIT_USAGE;
    for (int option; (option = getopt_long(argc, argv, "", options, &index)) != -1;) {
        switch (option) {
        case OPTION_SOCKET:
            invocation->socket = optarg;
            break;
        case OPTION_JSON:
            invocation->json = true;
            break;
        case OPTION_HELP:
            print_help(stdout);
            *exit_status = EXIT_YES;
            return PARSED_EXIT;
        case OPTION_VERSION:
            printf("jitbrokerctl %s (libjitclient %s)\n", JITBROKER_VERSION, jitc_version());
            *exit_status = EXIT_YES;
            return PARSED_EXIT;
        case OPTION_PEER:
            if (!add_peer_option(invocation, options[index].name, optarg)) {
                *exit_status = usage_error("too much is said of the peer: ", optarg);
                return PARSED_EXIT;
            }
            break;
        default: /* getopt_long said what is wrong */
            return PARSED_EXIT;
        }
    }
    if (optind == argc) {
        *exit_status = usage_error("no verb given", "");
        return PARSED_EXIT;
    }
    *verb = find_verb(argv[optind]);
    if (!*verb) {
        *exit_status = usage_error("no such verb: ", argv[optind]);
        return PARSED_EXIT;
    }
    if ((*verb)->object != NULL && (++optind == argc || strcmp(argv[optind], (*verb)->object) != 0)) {
        *exit_status = usage_error("behind this verb comes ", (*verb)->object);
        return PARSED_EXIT;
    }
    if (optind + 1 < argc) {
        *exit_status = usage_error("unexpected argument: ", argv[optind + 1]);
        return PARSED_EXIT;
    }
    if ((*verb)->object == NULL && invocation->peer_count > 0) {
        *exit_status = usage_error("this verb asks for no peer: ", invocation->peer[0]);
        return PARSED_EXIT;
    }
    return PARSED_VERB;
}

int main(int argc, char **argv)
{
    struct invocation invocation = {.socket = NULL};
    const struct verb *verb = NULL;
    int exit_status;
    if (parse(argc, argv, &invocation, &verb, &exit_status) == PARSED_EXIT)
        return exit_status;
    exit_status = verb->run(&invocation);
    if (fflush(stdout) != 0)
        return EXIT_NO;
    return exit_status;
}
