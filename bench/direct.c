/* SPDX-License-Identifier: MIT */
#include "direct.h"

#include "baseline.h"
#include "broker.h"
#include "ours.h"

static void report(struct bench *bench, const char *row, const struct allocator *allocator)
{
    const struct sample *against = baseline_get(bench, BASELINE_ASMJIT);
    struct sample sample;

    cpus_pin(&bench->cpus, SIDE_CLIENT);
    sample = allocator_cycle(allocator, bench->options.bytes, &bench->effort, BATCH_STEPS);
    report_compared(&bench->report, row, &sample, against, baseline_why_not(BASELINE_ASMJIT));
}

void direct_report(struct bench *bench)
{
    struct allocator by_store;
    struct allocator by_write;
    struct broker broker;
    jitc_client *client;

    report_heading(&bench->report, "Ours, direct: the client stores through a second mapping");
    broker_start(&broker, bench, SIDE_SERVER);
    client = broker_connect(&broker, JITC_WRITE_DIRECT, 0);
    by_store = ours_by_store(client);
    by_write = ours_by_write(client);
    report(bench, "direct.cycle", &by_store);
    report(bench, "direct.cycle-write", &by_write);
    (void)jitc_close(client);
    broker_stop(&broker);
}
