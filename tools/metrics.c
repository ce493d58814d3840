/* SPDX-License-Identifier: MIT */
/* metrics: the daemon's figures as OpenMetrics text, or the same as JSON. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/buckets.h"
#include "proto/json.h"
#include "tools/ask.h"

/* Of a power of two of nanoseconds each: from 128 ns to 1 s. */
#define BITS_FIRST 7u
#define BITS_LAST 30u

struct label {
    const char *name;
    const char *value;
};

/* A family is open until the next one; its samples are in the same form, text or JSON. */
static bool is_json;
static bool has_family;

static void end_family(void)
{
    if (is_json && has_family) {
        json_close(']');
        json_close('}');
    }
    has_family = false;
}

static void begin_family(const char *name, const char *type, const char *unit, const char *help)
{
    char full_name[64];

    end_family();
    has_family = true;
    (void)snprintf(full_name, sizeof full_name, "jitbroker_%s", name);
    if (is_json) {
        json_open(NULL, '{');
        json_text("name", full_name);
        json_text("type", type);
        json_text("unit", unit != NULL ? unit : "");
        json_text("help", help);
        json_open("samples", '[');
        return;
    }
    (void)printf("# TYPE %s %s\n", full_name, type);
    if (unit != NULL)
        (void)printf("# UNIT %s %s\n", full_name, unit);
    (void)printf("# HELP %s %s\n", full_name, help);
}

/* The labels end with one that has no name. The value is a number as both forms have it. */
static void print_sample(const char *name, const struct label *labels, const char *value)
{
    const char *before = "{";

    if (is_json) {
        json_open(NULL, '{');
        json_text("name", name);
        json_open("labels", '{');
        for (; labels->name != NULL; labels++)
            json_text(labels->name, labels->value);
        json_close('}');
        json_literal("value", value);
        json_close('}');
        return;
    }
    (void)fputs(name, stdout);
    for (; labels->name != NULL; labels++) {
        (void)printf("%s%s=\"%s\"", before, labels->name, labels->value);
        before = ",";
    }
    (void)printf("%s %s\n", before[0] == ',' ? "}" : "", value);
}

static void print_count(const char *name, const struct label *labels, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    print_sample(name, labels, text);
}

static void print_gauge(const char *name, const char *unit, uint64_t value, const char *help)
{
    char full_name[64];

    begin_family(name, "gauge", unit, help);
    (void)snprintf(full_name, sizeof full_name, "jitbroker_%s", name);
    print_count(full_name, &(struct label){NULL, NULL}, value);
}

static void print_status(const Admin__Status *status)
{
    /* No "info": node_exporter's textfile collector does not know it. */
    begin_family("build_info", "gauge", NULL, "The daemon's version.");
    print_count("jitbroker_build_info", (struct label[]){{"version", status->version}, {NULL, NULL}}, 1);
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
    begin_family("sessions_started", "counter", NULL, "Sessions since the daemon started.");
    print_count("jitbroker_sessions_started_total", &(struct label){NULL, NULL}, status->sessions_started);
    begin_family("events", "counter", NULL, "Events by their names in the log, told there or not.");
    for (size_t i = 0; i < status->n_events; i++)
        print_count("jitbroker_events_total",
                    (struct label[]){{"event", status->events[i]->name}, {NULL, NULL}},
                    status->events[i]->count);
}

static void print_outcome(const Admin__Operation *of, const char *outcome, uint64_t count)
{
    const struct label labels[] = {{"operation", of->name}, {"outcome", outcome}, {NULL, NULL}};

    print_count("jitbroker_operations_total", labels, count);
}

static void print_outcomes(const struct answer *answer)
{
    begin_family("operations", "counter", NULL, "Operations of clients.");
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_operations; j++) {
            const Admin__Operation *of = answer->parts[i]->operations[j];

            print_outcome(of, "done", of->done);
            print_outcome(of, "refused", of->refused);
        }
    }
}

#define DURATION "jitbroker_operation_duration_seconds"

static void print_bucket(const Admin__Operation *of, const char *end_s, uint64_t count)
{
    const struct label labels[] = {{"operation", of->name}, {"le", end_s}, {NULL, NULL}};

    print_count(DURATION "_bucket", labels, count);
}

static void print_histogram(const Admin__Operation *of)
{
    const struct label labels[] = {{"operation", of->name}, {NULL, NULL}};
    char seconds[32];
    uint64_t count = 0;
    uint32_t bucket = 0;

    for (uint32_t bits = BITS_FIRST; bits <= BITS_LAST; bits++) {
        uint64_t end_ns = UINT64_C(1) << bits;

        for (; bucket < of->n_buckets && bucket_from_ns(bucket) < end_ns; bucket++)
            count += of->buckets[bucket];
        (void)snprintf(seconds, sizeof seconds, "%.9g", (double)end_ns / 1e9);
        print_bucket(of, seconds, count);
    }
    for (; bucket < of->n_buckets; bucket++)
        count += of->buckets[bucket];
    print_bucket(of, "+Inf", count);
    print_count(DURATION "_count", labels, count);
    (void)snprintf(seconds, sizeof seconds, "%.9f", (double)of->sum_ns / 1e9);
    print_sample(DURATION "_sum", labels, seconds);
}

static void print_histograms(const struct answer *answer)
{
    begin_family("operation_duration_seconds", "histogram", "seconds",
                 "How long the daemon works on an operation, by a sample of them.");
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_operations; j++)
            print_histogram(answer->parts[i]->operations[j]);
    }
}

static void print_all(const struct answer *status, const struct answer *operations)
{
    if (is_json) {
        json_open(NULL, '{');
        json_open("metrics", '[');
    }
    for (size_t i = 0; i < status->count; i++) {
        if (status->parts[i]->status != NULL)
            print_status(status->parts[i]->status);
    }
    print_outcomes(operations);
    print_histograms(operations);
    end_family();
    if (!is_json) {
        (void)fputs("# EOF\n", stdout);
        return;
    }
    json_close(']');
    json_close('}');
    json_end();
}

int verb_metrics(const struct invocation *invocation)
{
    struct answer status_answer = {.count = 0};
    struct answer operations = {.count = 0};
    struct ask ask = {.is_quiet = false};
    int status = ask_open(&ask, invocation);

    is_json = invocation->json;
    if (status == EXIT_YES)
        status = ask_for(&ask, ADMIN__VERB__STATUS, 0, 0, 0, &status_answer);
    if (status == EXIT_YES)
        status = ask_for(&ask, ADMIN__VERB__OPERATIONS, 0, 0, 0, &operations);
    if (status == EXIT_YES)
        print_all(&status_answer, &operations);
    answer_free(&operations);
    answer_free(&status_answer);
    ask_close(&ask);
    return status;
}
