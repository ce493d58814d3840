/* SPDX-License-Identifier: MIT */
/* revoke, reload and log-level: what changes something. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/json.h"
#include "tools/ask.h"

/* With --json every change says the same, if it was made. */
static int tell(const struct invocation *invocation, int status, const char *what)
{
    if (status != EXIT_YES)
        return status;
    if (!invocation->json) {
        (void)puts(what);
        return status;
    }
    json_open(NULL, '{');
    json_bool("done", true);
    json_text("text", what);
    json_close('}');
    json_end();
    return status;
}

/* False unless a person at a terminal says so. */
static bool is_confirmed(uint64_t session)
{
    char line[8] = "";

    if (!isatty(STDIN_FILENO)) {
        (void)fputs("jitbrokerctl: nobody is here to confirm it: say --yes\n", stderr);
        return false;
    }
    (void)fprintf(stderr, "End session %" PRIu64 ", and take its code memory from it? [y/N] ", session);
    return fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
}

int verb_revoke(const struct invocation *invocation)
{
    char what[64];
    struct answer answer;
    int status;

    if (!invocation->yes && !is_confirmed(invocation->session))
        return EXIT_USAGE;
    status = ask_once(invocation, ADMIN__VERB__REVOKE, 0, &answer);
    answer_free(&answer);
    (void)snprintf(what, sizeof what, "session %" PRIu64 " has ended", invocation->session);
    return tell(invocation, status, what);
}

int verb_reload(const struct invocation *invocation)
{
    struct answer answer;
    int status = ask_once(invocation, ADMIN__VERB__RELOAD, 0, &answer);

    answer_free(&answer);
    return tell(invocation, status, "the policy was read, and is in force");
}

int verb_log_level(const struct invocation *invocation)
{
    uint32_t level = admin_level(invocation->arguments[0]);
    char what[64];
    struct answer answer;
    int status;

    if (level == 0) {
        (void)fprintf(stderr, "jitbrokerctl: %s: not error, warning, notice, info or debug\n",
                      invocation->arguments[0]);
        return EXIT_USAGE;
    }
    status = ask_once(invocation, ADMIN__VERB__LOG_LEVEL, level, &answer);
    answer_free(&answer);
    (void)snprintf(what, sizeof what, "the log has %s, and what is more urgent", invocation->arguments[0]);
    return tell(invocation, status, what);
}
