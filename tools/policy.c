/* SPDX-License-Identifier: MIT */
/* policy explain: the daemon's own reader of the policy is asked, as there is no other. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/invocation.h"

int verb_policy(const struct invocation *invocation)
{
    const char *named = getenv("JITBROKER_DAEMON");
    const char *daemon = named != NULL && named[0] != '\0' ? named : JITBROKERD_PATH;
    static char name[] = "jitbrokerd";
    static char option[] = "--explain";
    static char json[] = "--json";
    char *arguments[PEER_OPTIONS_MAX + 4] = {name, option};

    if (strcmp(invocation->arguments[0], "explain") != 0) {
        (void)fputs("jitbrokerctl: behind policy comes explain; see jitbrokerctl --help\n", stderr);
        return EXIT_USAGE;
    }
    memcpy(arguments + 2, invocation->peer, sizeof invocation->peer);
    if (invocation->json)
        arguments[2 + invocation->peer_count] = json;
    (void)execv(daemon, arguments);
    (void)fprintf(stderr, "jitbrokerctl: %s: %s\n", daemon, strerror(errno));
    return EXIT_NO;
}
