/* SPDX-License-Identifier: MIT */
#include "direct.h"

#include "broker.h"
#include "ours.h"
#include "pair.h"

static struct sample measure(const struct bench *bench, void *user)
{
    return allocator_cycle(user, bench->options.bytes, &bench->effort, BATCH_STEPS);
}

static void report(struct bench *bench, const char *row, struct allocator allocator)
{
    struct pair pair;

    if (!report_wants(&bench->report, row))
        return;
    pair = pair_take(bench, measure, &allocator, BASELINE_ASMJIT);
    pair_report(bench, row, &pair, BASELINE_ASMJIT);
}

void direct_report(struct bench *bench)
{
    struct broker broker;
    jitc_client *client;

    report_heading(&bench->report, "Ours, direct: the client stores by a second mapping");
    broker_start(&broker, bench, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    client = broker_connect(&broker, JITC_WRITE_DIRECT, 0);
    report(bench, "direct.cycle", ours_by_store(client));
    report(bench, "direct.cycle-write", ours_by_write(client));
    (void)jitc_close(client);
    broker_stop(&broker);
}
