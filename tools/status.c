/* SPDX-License-Identifier: MIT */
/* status: what the daemon is, and has. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/json.h"
#include "tools/ask.h"
#include "tools/figures.h"

static void print_json(const Admin__Status *status)
{
    json_open(NULL, '{');
    json_text("version", status->version);
    json_number("pid", (uint64_t)status->pid);
    json_real("uptime_seconds", (double)status->uptime_ms / 1000);
    json_number("started", status->started_s);
    json_number("sessions", status->sessions);
    json_number("executors", status->executors);
    json_number("connections", status->connections);
    json_number("connections_max", status->connections_max);
    json_number("sessions_started", status->sessions_started);
    json_number("sessions_adopted", status->sessions_adopted);
    json_bool("store", status->has_store);
    json_number("supervisor", (uint64_t)status->supervisor);
    json_number("users", status->users);
    json_number("spans", status->spans);
    json_number("used_bytes", status->used_bytes);
    json_number("reserved_bytes", status->reserved_bytes);
    json_number("bytes_max", status->bytes_max);
    json_number("queued_bytes", status->queued_bytes);
    json_open("policy_files", '[');
    for (size_t i = 0; i < status->n_policy_files; i++)
        json_text(NULL, status->policy_files[i]);
    json_close(']');
    json_number("classes", status->classes);
    json_text("policy_mistake", status->policy_mistake);
    json_text("log_level", admin_level_name(status->log_level));
    json_open("events", '{');
    for (size_t i = 0; i < status->n_events; i++)
        json_number(status->events[i]->name, status->events[i]->count);
    json_close('}');
    json_close('}');
    json_end();
}

static void print_policy(const Admin__Status *status)
{
    (void)printf("policy:       %" PRIu64 " class%s", status->classes, status->classes == 1 ? "" : "es");
    for (size_t i = 0; i < status->n_policy_files; i++)
        (void)printf("%s%s", i == 0 ? ", of " : " ", status->policy_files[i]);
    (void)putchar('\n');
    if (status->policy_mistake[0] != '\0')
        (void)printf("              NOT in force, by a mistake: %s\n", status->policy_mistake);
}

static void print_text(const Admin__Status *status)
{
    char age[FIGURE_BYTES];
    char used[FIGURE_BYTES];
    char reserved[FIGURE_BYTES];
    char limit[FIGURE_BYTES];
    char queued[FIGURE_BYTES];

    (void)printf("jitbrokerd %s, process %" PRId64 ", for %s\n", status->version, status->pid,
                 figure_age(age, status->uptime_ms));
    (void)printf("sessions:     %" PRIu64 ", and %" PRIu64 " executors; %" PRIu64 " started, %" PRIu64
                 " adopted\n",
                 status->sessions, status->executors, status->sessions_started, status->sessions_adopted);
    (void)printf("connections:  %" PRIu64 " of %" PRIu64 ", of %" PRIu64 " user%s\n", status->connections,
                 status->connections_max, status->users, status->users == 1 ? "" : "s");
    (void)printf("code memory:  %s used by %" PRIu64 " spans, %s reserved of %s\n",
                 figure_bytes(used, status->used_bytes), status->spans,
                 figure_bytes(reserved, status->reserved_bytes), figure_bytes(limit, status->bytes_max));
    (void)printf("waiting:      %s of requests and answers\n", figure_bytes(queued, status->queued_bytes));
    print_policy(status);
    (void)printf("restarts:     %s\n", status->has_store
                                           ? "sessions outlive the daemon, by its manager's store"
                                           : "sessions end with the daemon: nobody keeps their descriptors");
    (void)printf("log level:    %s\n", admin_level_name(status->log_level));
}

int verb_status(const struct invocation *invocation)
{
    struct answer answer;
    int status = ask_once(invocation, ADMIN__VERB__STATUS, 0, &answer);

    for (size_t i = 0; status == EXIT_YES && i < answer.count; i++) {
        if (answer.parts[i]->status == NULL)
            continue;
        if (invocation->json)
            print_json(answer.parts[i]->status);
        else
            print_text(answer.parts[i]->status);
    }
    answer_free(&answer);
    return status;
}
