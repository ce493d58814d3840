/* SPDX-License-Identifier: MIT */
#include "audit.h"

#include <stdlib.h>

#include "allocator.h"
#include "broker.h"
#include "trouble.h"

/* Each by two daemons of its own, one after the other: what drifts, drifts for both. */
#define ROUNDS 9u
/* Warming up and both passes together stay below what a user may have recorded at once. */
#define STEPS 1800u

struct work {
    jitc_client *client;
    jitc_span span;
    size_t bytes;
};

static void step(void *user)
{
    struct work *work = user;

    check(jitc_write(work->client, &work->span, 0, allocator_code, work->bytes, JITC_WRITE_DEFAULT), "write");
}

/* The same daemon but for what is set. */
static struct sample measure(const struct bench *bench, size_t bytes, const char *audit)
{
    struct effort effort = {bench->effort.rounds < STEPS ? bench->effort.rounds : STEPS,
                            bench->effort.seconds};
    struct bench with = *bench;
    struct work work = {.bytes = bytes};
    struct broker broker;
    struct sample sample;

    if (with.options.settings_count + 2 > SETTINGS_MAX)
        die_because("too many --set");
    with.options.settings[with.options.settings_count++] = "[class default]write=through";
    with.options.settings[with.options.settings_count++] = audit;
    broker_start(&broker, &with, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    work.client = broker_connect(&broker, JITC_WRITE_THROUGH, 0);
    check(jitc_alloc(work.client, &work.span, bytes), "alloc");
    sample = sample_take(&effort, BATCH_STEPS, step, &work);
    (void)jitc_close(work.client);
    broker_stop(&broker);
    return sample;
}

static int by_ratio(const void *a, const void *b)
{
    const struct sample *left = a;
    const struct sample *right = b;
    double difference = left[1].p50_us / left[0].p50_us - right[1].p50_us / right[0].p50_us;

    return (difference > 0) - (difference < 0);
}

static void report(struct bench *bench, const char *row, size_t bytes)
{
    struct sample pairs[ROUNDS][2];
    const struct sample *median = pairs[ROUNDS / 2];

    for (unsigned i = 0; i < ROUNDS; i++) {
        pairs[i][0] = measure(bench, bytes, "[class default]audit=off");
        pairs[i][1] = measure(bench, bytes, "[class default]audit=file");
    }
    qsort(pairs, ROUNDS, sizeof pairs[0], by_ratio);
    report_compared(&bench->report, row, &median[1], &median[0], NULL);
}

void audit_report(struct bench *bench)
{
    report_heading(&bench->report, "Audit: writes that are recorded");
    if (report_wants(&bench->report, "audit.write-256"))
        report(bench, "audit.write-256", 256);
    if (report_wants(&bench->report, "audit.write-4k"))
        report(bench, "audit.write-4k", 4096);
}
