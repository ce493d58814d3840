/* SPDX-License-Identifier: MIT */
/* metrics: the daemon's figures as OpenMetrics text. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/buckets.h"
#include "tools/ask.h"

/* Of a power of two of nanoseconds each: from 128 ns to 1 s. */
#define BITS_FIRST 7u
#define BITS_LAST 30u

static void print_family(const char *name, const char *type, const char *unit, const char *help)
{
    (void)printf("# TYPE jitbroker_%s %s\n", name, type);
    if (unit != NULL)
        (void)printf("# UNIT jitbroker_%s %s\n", name, unit);
    (void)printf("# HELP jitbroker_%s %s\n", name, help);
}

static void print_gauge(const char *name, const char *unit, uint64_t value, const char *help)
{
    print_family(name, "gauge", unit, help);
    (void)printf("jitbroker_%s %" PRIu64 "\n", name, value);
}

static void print_status(const Admin__Status *status)
{
    /* No "info": node_exporter's textfile collector does not know it. */
    print_family("build_info", "gauge", NULL, "The daemon's version.");
    (void)printf("jitbroker_build_info{version=\"%s\"} 1\n", status->version);
    print_gauge("start_time_seconds", "seconds", status->started_s, "When the daemon started, since 1970.");
    print_gauge("policy_in_force", NULL, status->policy_mistake[0] == '\0',
                "1 if the policy files are in force as they were read last, 0 if they had a mistake.");
    print_gauge("store", NULL, status->has_store != 0, "1 if sessions outlive the daemon.");
    print_gauge("sessions", NULL, status->sessions, "Sessions with their owner.");
    print_gauge("executors", NULL, status->executors, "Executors.");
    print_gauge("connections", NULL, status->connections, "Connections of clients.");
    print_gauge("connections_max", NULL, status->connections_max, "Connections that the policy allows.");
    print_gauge("users", NULL, status->users, "Users who hold anything.");
    print_gauge("spans", NULL, status->spans, "Live spans.");
    print_gauge("used_bytes", "bytes", status->used_bytes, "Code memory that spans take.");
    print_gauge("reserved_bytes", "bytes", status->reserved_bytes, "Code memory that sessions hold.");
    print_gauge("reserved_max_bytes", "bytes", status->bytes_max, "Code memory that sessions may hold.");
    print_gauge("queued_bytes", "bytes", status->queued_bytes, "Requests and answers that wait.");
    print_gauge("adopted_sessions", NULL, status->sessions_adopted,
                "Sessions that this daemon has from the one before it.");
    print_family("sessions_started", "counter", NULL, "Sessions since the daemon started.");
    (void)printf("jitbroker_sessions_started_total %" PRIu64 "\n", status->sessions_started);
    print_family("events", "counter", NULL, "Events by their names in the log, told there or not.");
    for (size_t i = 0; i < status->n_events; i++)
        (void)printf("jitbroker_events_total{event=\"%s\"} %" PRIu64 "\n", status->events[i]->name,
                     status->events[i]->count);
}

static void print_outcomes(const struct answer *answer)
{
    print_family("operations", "counter", NULL, "Operations of clients.");
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_operations; j++) {
            const Admin__Operation *of = answer->parts[i]->operations[j];

            (void)printf("jitbroker_operations_total{operation=\"%s\",outcome=\"done\"} %" PRIu64 "\n",
                         of->name, of->done);
            (void)printf("jitbroker_operations_total{operation=\"%s\",outcome=\"refused\"} %" PRIu64 "\n",
                         of->name, of->refused);
        }
    }
}

static void print_histogram(const Admin__Operation *of)
{
    uint64_t count = 0;
    uint32_t bucket = 0;

    for (uint32_t bits = BITS_FIRST; bits <= BITS_LAST; bits++) {
        uint64_t end_ns = UINT64_C(1) << bits;

        for (; bucket < of->n_buckets && bucket_from_ns(bucket) < end_ns; bucket++)
            count += of->buckets[bucket];
        (void)printf("jitbroker_operation_duration_seconds_bucket{operation=\"%s\",le=\"%.9g\"} %" PRIu64
                     "\n",
                     of->name, (double)end_ns / 1e9, count);
    }
    for (; bucket < of->n_buckets; bucket++)
        count += of->buckets[bucket];
    (void)printf("jitbroker_operation_duration_seconds_bucket{operation=\"%s\",le=\"+Inf\"} %" PRIu64 "\n",
                 of->name, count);
    (void)printf("jitbroker_operation_duration_seconds_count{operation=\"%s\"} %" PRIu64 "\n", of->name,
                 count);
    (void)printf("jitbroker_operation_duration_seconds_sum{operation=\"%s\"} %.9f\n", of->name,
                 (double)of->sum_ns / 1e9);
}

static void print_histograms(const struct answer *answer)
{
    print_family("operation_duration_seconds", "histogram", "seconds",
                 "How long the daemon works on an operation, by a sample of them.");
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_operations; j++)
            print_histogram(answer->parts[i]->operations[j]);
    }
}

int verb_metrics(const struct invocation *invocation)
{
    struct answer status_answer = {.count = 0};
    struct answer operations = {.count = 0};
    struct ask ask;
    int status = ask_open(&ask, invocation);

    if (status == EXIT_YES)
        status = ask_for(&ask, ADMIN__VERB__STATUS, 0, 0, 0, &status_answer);
    if (status == EXIT_YES)
        status = ask_for(&ask, ADMIN__VERB__OPERATIONS, 0, 0, 0, &operations);
    if (status == EXIT_YES) {
        for (size_t i = 0; i < status_answer.count; i++) {
            if (status_answer.parts[i]->status != NULL)
                print_status(status_answer.parts[i]->status);
        }
        print_outcomes(&operations);
        print_histograms(&operations);
        (void)fputs("# EOF\n", stdout);
    }
    answer_free(&operations);
    answer_free(&status_answer);
    ask_close(&ask);
    return status;
}
