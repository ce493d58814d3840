/* SPDX-License-Identifier: MIT */
/* doctor: whether a process started here can run generated code. */
#include <stdio.h>

#include <jitclient.h>

#include "tools/invocation.h"
#include "tools/json.h"

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
    (void)printf("  \"%s\": {", key);
    for (size_t i = 0; i < count; i++) {
        const char *no = (bits & (names[i].bit << JITC_PROBE_UNKNOWN_SHIFT)) != 0 ? "null" : "false";

        (void)printf("%s\"%s\": %s", i > 0 ? ", " : "", names[i].name,
                     (bits & names[i].bit) != 0 ? "true" : no);
    }
    (void)printf("},\n");
}

static void print_json(int status, const jitc_probe_result *probe)
{
    (void)printf("{\n  \"status\": %d,\n  \"status_text\": ", status);
    json_print_string(jitc_strerror(status));
    (void)printf(",\n  \"detail\": ");
    json_print_string(status == JITC_OK ? "" : jitc_error_detail());
    (void)printf(",\n");
    print_bits("can", probe->can, can_names, sizeof can_names / sizeof can_names[0]);
    print_bits("lockdown", probe->lockdown, lockdown_names, sizeof lockdown_names / sizeof lockdown_names[0]);
    (void)printf("  \"report\": ");
    json_print_string(probe->report);
    (void)printf("\n}\n");
}

int verb_doctor(const struct invocation *invocation)
{
    jitc_probe_result probe = {.struct_size = sizeof probe};
    jitc_options options;
    int status;

    jitc_options_init(&options);
    options.socket = invocation->socket;
    status = jitc_probe(&probe, &options);
    if (invocation->json)
        print_json(status, &probe);
    else
        (void)fputs(probe.report, stdout);
    return status == JITC_OK ? EXIT_YES : EXIT_NO;
}
