/* SPDX-License-Identifier: MIT */
/* sessions: all of them, one a line. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/json.h"
#include "tools/figures.h"
#include "tools/session_list.h"

static void print_json(const struct session_list *list)
{
    json_open(NULL, '{');
    json_open("sessions", '[');
    for (size_t i = 0; i < list->count; i++)
        session_print_json(NULL, &list->rows[i]);
    json_close(']');
    json_close('}');
    json_end();
}

static void print_row(const struct session_row *row)
{
    const Admin__End *end = row->end;
    char used[FIGURE_BYTES];
    char reserved[FIGURE_BYTES];
    char age[FIGURE_BYTES];
    char flags[SESSION_FLAGS_BYTES];
    char unit[FIGURE_NAME_BYTES];

    (void)printf("%-8" PRIu64 " %-7" PRIu32 " %-8" PRId64 " %-7s %-6s %8" PRIu64 " %7s %7s %10" PRIu64
                 " %8" PRIu64 " %7s %5u  %-16s %-10s %s\n",
                 end->session, end->uid, end->pid, end->usage->direct ? "direct" : "through",
                 end->usage->ring ? "ring" : "socket", end->usage->spans,
                 figure_bytes(used, end->usage->used_bytes),
                 figure_bytes(reserved, end->usage->reserved_bytes), end->operations, end->refusals,
                 figure_age(age, end->usage->age_ms), row->executors, session_flags(flags, row), end->class_,
                 figure_name(unit, end->unit));
}

int verb_sessions(const struct invocation *invocation)
{
    struct session_list list = {.count = 0};
    struct answer answer;
    int status = ask_once(invocation, ADMIN__VERB__SESSIONS, 0, &answer);

    if (status == EXIT_YES && !session_list_init(&list, &answer))
        status = EXIT_NO;
    if (status == EXIT_YES && invocation->json) {
        print_json(&list);
    } else if (status == EXIT_YES) {
        (void)printf("%-8s %-7s %-8s %-7s %-6s %8s %7s %7s %10s %8s %7s %5s  %-16s %-10s %s\n", "SESSION",
                     "UID", "PID", "MODE", "PLANE", "SPANS", "USED", "RESERVED", "OPERATIONS", "REFUSALS",
                     "AGE", "EXECS", "FLAGS", "CLASS", "UNIT");
        for (size_t i = 0; i < list.count; i++)
            print_row(&list.rows[i]);
    }
    session_list_deinit(&list);
    answer_free(&answer);
    return status;
}
