/* SPDX-License-Identifier: MIT */
#include "tools/session_list.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/json.h"

static int by_session(const void *a, const void *b)
{
    const struct session_row *left = a;
    const struct session_row *right = b;

    if (left->end->session != right->end->session)
        return left->end->session < right->end->session ? -1 : 1;
    return (int)left->end->executor - (int)right->end->executor; /* the owner first */
}

/* One row for each session, which were in order. */
static void merge(struct session_list *list)
{
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++) {
        bool is_same = count > 0 && list->rows[count - 1].end->session == list->rows[i].end->session;

        if (!is_same)
            list->rows[count++] = (struct session_row){.end = list->rows[i].end};
        list->rows[count - 1].executors += list->rows[i].end->executor != 0;
    }
    list->count = count;
}

bool session_list_init(struct session_list *list, const struct answer *answer)
{
    size_t ends = 0;

    for (size_t i = 0; i < answer->count; i++)
        ends += answer->parts[i]->n_ends;
    *list = (struct session_list){.rows = calloc(ends + 1, sizeof *list->rows)};
    if (list->rows == NULL) {
        (void)fputs("jitbrokerctl: no memory\n", stderr);
        return false;
    }
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_ends; j++) {
            if (answer->parts[i]->ends[j]->usage != NULL)
                list->rows[list->count++].end = answer->parts[i]->ends[j];
        }
    }
    qsort(list->rows, list->count, sizeof *list->rows, by_session);
    merge(list);
    return true;
}

void session_list_deinit(struct session_list *list)
{
    free(list->rows);
    *list = (struct session_list){.count = 0};
}

char *session_flags(char *to, const struct session_row *row)
{
    const Admin__Usage *usage = row->end->usage;
    const struct {
        bool is_set;
        const char *name;
    } flags[] = {
        {usage->sealed, "sealed"},         {usage->frozen, "frozen"},        {usage->large, "large"},
        {usage->write_once, "write-once"}, {row->end->executor, "orphaned"},
    };
    size_t used = 0;

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (flags[i].is_set && used < SESSION_FLAGS_BYTES)
            used += (size_t)snprintf(to + used, SESSION_FLAGS_BYTES - used, "%s%s", used > 0 ? "," : "",
                                     flags[i].name);
    }
    if (used == 0)
        (void)snprintf(to, SESSION_FLAGS_BYTES, "-");
    return to;
}

void session_print_json(const char *key, const struct session_row *row)
{
    const Admin__End *end = row->end;
    const Admin__Usage *usage = end->usage;

    json_open(key, '{');
    json_number("session", end->session);
    json_number("uid", end->uid);
    json_number("pid", (uint64_t)end->pid);
    json_text("unit", end->unit);
    json_text("class", end->class_);
    json_text("mode", usage->direct ? "direct" : "through");
    json_text("plane", usage->ring ? "ring" : "socket");
    json_number("granularity", usage->granularity);
    json_number("spans", usage->spans);
    json_number("spans_max", usage->spans_max);
    json_number("used_bytes", usage->used_bytes);
    json_number("leased_bytes", usage->leased_bytes);
    json_number("reserved_bytes", usage->reserved_bytes);
    json_number("reserved_peak_bytes", usage->reserved_peak_bytes);
    json_number("arena_bytes", usage->arena_bytes);
    json_number("blocks", usage->blocks);
    json_number("free_runs", usage->free_runs);
    json_number("operations", end->operations);
    json_number("refusals", end->refusals);
    json_number("findings", usage->findings);
    json_real("age_seconds", (double)usage->age_ms / 1000);
    json_number("executors", row->executors);
    json_bool("sealed", usage->sealed);
    json_bool("frozen", usage->frozen);
    json_bool("large", usage->large);
    json_bool("write_once", usage->write_once);
    json_bool("orphaned", end->executor);
    json_close('}');
}
