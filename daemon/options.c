/* SPDX-License-Identifier: MIT */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: jitbrokerd [OPTION]...\n"
    "Owns the executable memory of processes that may not make any.\n"
    "Without --socket, --user or --fd it serves the sockets that systemd passes to it.\n"
    "\n"
    "  -s, --socket=PATH    listen on this SOCK_SEQPACKET socket\n"
    "  -u, --user           serve this user, on systemd's sockets or $XDG_RUNTIME_DIR/jitbroker/socket\n"
    "  -f, --fd=N           serve the connected socket N, and end when it closes; or who connects to\n"
    "                       the listening socket N, and end with standard input, a pipe\n"
    "      --supervise      with --socket or --user: keep the sessions for a daemon that this starts anew\n"
    "  -a, --admin=PATH     answer jitbrokerctl on this socket\n"
    "  -c, --config=FILE    read FILE instead of " JITBROKER_CONFIG "\n"
    "      --check-config   say whether the configuration is right, and end\n"
    "      --explain        say what a peer gets by the configuration, and by which line, and end:\n"
    "      --uid=UID        ... one of this user; and if given\n"
    "      --gid=GID        ... of this primary group\n"
    "      --unit=UNIT      ... in this systemd unit\n"
    "      --label=LABEL    ... with this security label\n"
    "      --json           ... as JSON\n"
    "  -h, --help           show this\n"
    "  -V, --version        show the version\n"
    "\n"
    "Exit status: 0 after a clean end, 1 on trouble with the system or if --explain finds\n"
    "that the peer is refused, 2 on a wrong command line, 78 on a wrong configuration.\n";

enum {
    OPTION_SUPERVISE = 256,
    OPTION_CHECK_CONFIG,
    OPTION_EXPLAIN,
    OPTION_UID,
    OPTION_GID,
    OPTION_UNIT,
    OPTION_LABEL,
    OPTION_JSON
};

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

static bool parse_id(const char *name, const char *text, uint32_t *id)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value >= UINT32_MAX) {
        (void)fprintf(stderr, "jitbrokerd: --%s=%s: not a number of a user or group\n", name, text);
        return false;
    }
    *id = (uint32_t)value;
    return true;
}

static bool take_text(const char *name, const char *text, char *to, size_t bytes)
{
    if (strlen(text) < bytes) {
        memcpy(to, text, strlen(text) + 1);
        return true;
    }
    (void)fprintf(stderr, "jitbrokerd: --%s: longer than %zu characters\n", name, bytes - 1);
    return false;
}

/* An option that says whom to explain the policy for. */
static bool parse_peer(struct options *options, int option, const char *text)
{
    switch (option) {
    case OPTION_UID:
        return parse_id("uid", text, &options->peer.uid);
    case OPTION_GID:
        return parse_id("gid", text, &options->peer.gid);
    case OPTION_UNIT:
        return take_text("unit", text, options->peer.unit, sizeof options->peer.unit);
    default:
        return take_text("label", text, options->peer.label, sizeof options->peer.label);
    }
}

bool options_parse(struct options *options, int argc, char **argv, int *status)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'},
        {"user", no_argument, NULL, 'u'},
        {"fd", required_argument, NULL, 'f'},
        {"supervise", no_argument, NULL, OPTION_SUPERVISE},
        {"admin", required_argument, NULL, 'a'},
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
        {"explain", no_argument, NULL, OPTION_EXPLAIN},
        {"uid", required_argument, NULL, OPTION_UID},
        {"gid", required_argument, NULL, OPTION_GID},
        {"unit", required_argument, NULL, OPTION_UNIT},
        {"label", required_argument, NULL, OPTION_LABEL},
        {"json", no_argument, NULL, OPTION_JSON},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    bool names_peer = false;
    int option;

    *options = (struct options){.fd = -1, .peer = {.uid = (uid_t)-1, .gid = (gid_t)-1}};
    while ((option = getopt_long(argc, argv, "s:uf:a:c:hV", longs, NULL)) != -1) {
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
        case OPTION_SUPERVISE:
            options->supervise = true;
            break;
        case 'a':
            options->admin = optarg;
            break;
        case 'c':
            options->config = optarg;
            break;
        case OPTION_CHECK_CONFIG:
            options->check_config = true;
            break;
        case OPTION_EXPLAIN:
            options->explain = true;
            break;
        case OPTION_UID:
        case OPTION_GID:
        case OPTION_UNIT:
        case OPTION_LABEL:
            names_peer = true;
            if (!parse_peer(options, option, optarg))
                return fail(status);
            break;
        case OPTION_JSON:
            options->json = true;
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
    if (options->supervise && options->socket == NULL && !options->user) {
        (void)fputs("jitbrokerd: --supervise needs --socket or --user\n", stderr);
        return fail(status);
    }
    if (options->admin != NULL && options->fd >= 0) {
        (void)fputs("jitbrokerd: --fd serves one client, and --admin nobody then\n", stderr);
        return fail(status);
    }
    if (options->explain ? options->peer.uid == (uid_t)-1 : names_peer || options->json) {
        (void)fputs("jitbrokerd: --explain needs --uid; what describes a peer, and --json, need --explain\n",
                    stderr);
        return fail(status);
    }
    return true;
}
