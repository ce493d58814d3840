/* SPDX-License-Identifier: MIT */
/*
 * doctor: whether a process started here can run generated code; and, where the daemon answers this caller as
 * an operator, what is wrong with it that its clients don't see yet.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jitclient.h>

#include "proto/json.h"
#include "tools/ask.h"

struct bit {
    uint32_t bit;
    const char *name;
};

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

static void print_bits(const char *key, uint32_t bits, const struct bit *names, size_t count)
{
    json_open(key, '{');
    for (size_t i = 0; i < count; i++) {
        const char *no = (bits & (names[i].bit << JITC_PROBE_UNKNOWN_SHIFT)) != 0 ? "null" : "false";

        json_literal(names[i].name, (bits & names[i].bit) != 0 ? "true" : no);
    }
    json_close('}');
}

/* ---- The daemon -------------------------------------------------------------------------- */

#define FINDINGS_MAX 8
#define FINDING_BYTES 640 /* the policy's mistake is a line of its own */
/* From there on a limit is near. */
#define NEAR_PERCENT 90u

struct findings {
    bool is_answered;
    unsigned count;
    char texts[FINDINGS_MAX][FINDING_BYTES];
};

static void find(struct findings *findings, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void find(struct findings *findings, const char *format, ...)
{
    va_list args;

    if (findings->count == FINDINGS_MAX)
        return;
    va_start(args, format);
    (void)vsnprintf(findings->texts[findings->count++], FINDING_BYTES, format, args);
    va_end(args);
}

static bool is_near(uint64_t held, uint64_t most)
{
    return held > 0 && held >= (most * NEAR_PERCENT + 99) / 100;
}

static void examine(struct findings *findings, const Admin__Status *status)
{
    if (status->policy_mistake[0] != '\0')
        find(findings,
             "the policy's files have a mistake, so what was in force before still is: %s. Mend it, then "
             "jitbrokerctl reload.",
             status->policy_mistake);
    else if (status->classes == 0)
        find(findings, "the policy has no class, so nobody is served: see jitbrokerd.conf(5).");
    if (!status->has_store)
        find(findings, "nobody keeps its sessions, so they end with it: run it by its unit, with "
                       "FileDescriptorStoreMax=, or with --supervise.");
    if (strcmp(status->version, JITBROKER_VERSION) != 0)
        find(findings,
             "it is version %s, and this program is %s: restart it (systemctl restart jitbrokerd, or "
             "jitbrokerctl upgrade), which keeps its sessions where somebody keeps them.",
             status->version, JITBROKER_VERSION);
    if (is_near(status->connections, status->connections_max))
        find(findings,
             "%" PRIu64 " connections of %" PRIu64 ": who comes next is refused soon. jitbrokerctl sessions "
             "says whose they are; sessions_max= is the limit.",
             status->connections, status->connections_max);
    if (is_near(status->reserved_bytes, status->bytes_max))
        find(findings,
             "%" PRIu64 " bytes of code memory of %" PRIu64 " are reserved: jitbrokerctl sessions says by "
             "whom; bytes_max= of [daemon] is the limit.",
             status->reserved_bytes, status->bytes_max);
}

/* Who is no operator is not told so by a complaint: most who ask are not. */
static void ask_daemon(struct findings *findings, const struct invocation *invocation)
{
    struct answer answer;

    findings->is_answered = ask_quietly(invocation, ADMIN__VERB__STATUS, &answer) == EXIT_YES;
    for (size_t i = 0; findings->is_answered && i < answer.count; i++) {
        if (answer.parts[i]->status != NULL)
            examine(findings, answer.parts[i]->status);
    }
    answer_free(&answer);
}

static void print_findings(const struct findings *findings, const struct invocation *invocation)
{
    if (!findings->is_answered)
        (void)printf("\nThe daemon is not examined: %s answers root and members of the group " ADMIN_GROUP
                     ", if it is there.\n",
                     invocation->admin);
    else if (findings->count == 0)
        (void)printf("\nThe daemon at %s: nothing is wrong.\n", invocation->admin);
    else
        (void)printf("\nThe daemon at %s:\n", invocation->admin);
    for (unsigned i = 0; i < findings->count; i++)
        (void)printf("  %s\n", findings->texts[i]);
}

/* ---- What is printed ------------------------------------------------------------------------ */

static void print_json(int status, const jitc_probe_result *probe, const struct findings *findings)
{
    json_open(NULL, '{');
    json_number("status", (uint64_t)status);
    json_text("status_text", jitc_strerror(status));
    json_text("detail", status == JITC_OK ? "" : jitc_error_detail());
    print_bits("can", probe->can, can_names, sizeof can_names / sizeof can_names[0]);
    print_bits("lockdown", probe->lockdown, lockdown_names, sizeof lockdown_names / sizeof lockdown_names[0]);
    json_text("report", probe->report);
    json_bool("daemon_answers", findings->is_answered);
    json_open("daemon_findings", '[');
    for (unsigned i = 0; i < findings->count; i++)
        json_text(NULL, findings->texts[i]);
    json_close(']');
    json_close('}');
    json_end();
}

int verb_doctor(const struct invocation *invocation)
{
    jitc_probe_result probe = {.struct_size = sizeof probe};
    struct findings findings = {.count = 0};
    jitc_options options;
    int status;

    jitc_options_init(&options);
    options.socket = invocation->socket;
    status = jitc_probe(&probe, &options);
    ask_daemon(&findings, invocation);
    if (invocation->json) {
        print_json(status, &probe, &findings);
    } else {
        (void)fputs(probe.report, stdout);
        print_findings(&findings, invocation);
    }
    return status == JITC_OK ? EXIT_YES : EXIT_NO;
}
