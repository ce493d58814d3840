/* SPDX-License-Identifier: MIT */
/* upgrade: has the daemon's supervisor put the program at its path in its place. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "proto/json.h"
#include "tools/ask.h"

/* The new program is tried first; then the old one has ten seconds to end. */
#define LOOKS_MAX 300
#define LOOK_NS 50000000L

struct daemon {
    int64_t pid;
    int64_t supervisor; /* 0: none */
    uint64_t adopted;
    bool has_store;
    char version[64];
};

static void take(const struct answer *answer, struct daemon *daemon)
{
    for (size_t i = 0; i < answer->count; i++) {
        const Admin__Status *said = answer->parts[i]->status;

        if (said == NULL)
            continue;
        *daemon = (struct daemon){said->pid, said->supervisor, said->sessions_adopted, said->has_store, ""};
        (void)snprintf(daemon->version, sizeof daemon->version, "%s", said->version);
    }
}

/* Until another process answers; false: none does. While nobody does that is no trouble yet. */
static bool await_other(const struct invocation *invocation, const struct daemon *old, struct daemon *now)
{
    const struct timespec look = {.tv_nsec = LOOK_NS};

    for (int i = 0; i < LOOKS_MAX; i++) {
        struct answer answer;

        (void)nanosleep(&look, NULL);
        if (ask_quietly(invocation, ADMIN__VERB__STATUS, &answer) == EXIT_YES)
            take(&answer, now);
        answer_free(&answer);
        if (now->pid != 0 && now->pid != old->pid)
            return true;
    }
    return false;
}

static int tell(const struct invocation *invocation, const struct daemon *now)
{
    if (!invocation->json) {
        (void)printf("jitbrokerd %s, process %" PRId64 ", goes on with %" PRIu64 " sessions\n", now->version,
                     now->pid, now->adopted);
        return EXIT_YES;
    }
    json_open(NULL, '{');
    json_text("version", now->version);
    json_number("pid", (uint64_t)now->pid);
    json_number("sessions_adopted", now->adopted);
    json_close('}');
    json_end();
    return EXIT_YES;
}

int verb_upgrade(const struct invocation *invocation)
{
    struct daemon old = {0};
    struct daemon now = {0};
    struct answer answer;
    int status = ask_once(invocation, ADMIN__VERB__STATUS, 0, &answer);

    take(&answer, &old);
    answer_free(&answer);
    if (status != EXIT_YES)
        return status;
    if (old.supervisor == 0) {
        (void)fprintf(stderr, "jitbrokerctl: the daemon has no supervisor of its own: %s\n",
                      old.has_store ? "the service manager restarts it, as by systemctl restart jitbrokerd"
                                    : "to restart it would end its sessions");
        return EXIT_NO;
    }
    if (kill((pid_t)old.supervisor, SIGUSR2) != 0) {
        (void)fprintf(stderr, "jitbrokerctl: the supervisor, process %" PRId64 ": %s\n", old.supervisor,
                      strerror(errno));
        return errno == EPERM ? EXIT_NO_ANSWER : EXIT_NO;
    }
    if (await_other(invocation, &old, &now))
        return tell(invocation, &now);
    (void)fprintf(stderr,
                  "jitbrokerctl: process %" PRId64 " goes on serving; the supervisor's log says why\n",
                  old.pid);
    return EXIT_NO;
}
