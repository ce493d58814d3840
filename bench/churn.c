/* SPDX-License-Identifier: MIT */
#include "churn.h"

#include <stdio.h>
#include <stdlib.h>

#include "asmjit.h"
#include "broker.h"
#include "ours.h"
#include "process.h"
#include "trouble.h"

#define SIZE_MIN_BYTES 8u
#define SIZES 1024u
#define WRITE_MAX_BYTES 256u
#define MEAN_SPAN_BYTES 552u /* rounded up to granules of 64 */
#define SEED UINT64_C(0x9E3779B97F4A7C15)

#define MANY 100000u /* the most that asmjit is asked for, whose cost grows with it */
#define MILLION 1000000u
#define FEW 1000u
#define FILL_S 100.0
#define FILL_QUICK_S 4.0
#define DENSITY_MIN 10000u /* less is a few blocks only */

enum subject { SUBJECT_ASMJIT, SUBJECT_THROUGH, SUBJECT_DIRECT, SUBJECT_COUNT };

static const char *const churn_rows[] = {"churn.asmjit", "churn.through", "churn.direct"};
static const char *const density_rows[] = {"density.asmjit", "density.through", "density.direct"};

struct churn {
    struct allocator allocator;
    void **slots;
    unsigned live;
    uint64_t dice;
};

struct outcome {
    struct sample sample;
    double density; /* percent */
    const char *why_not;
};

/* p50 of what the aims are about, 0: not measured. */
struct summary {
    double few;
    double many;
    double million;
};

static uint64_t roll(struct churn *churn)
{
    churn->dice ^= churn->dice >> 12;
    churn->dice ^= churn->dice << 25;
    churn->dice ^= churn->dice >> 27;
    return churn->dice * UINT64_C(0x2545F4914F6CDD1D);
}

static void *publish(struct churn *churn, uint64_t dice)
{
    size_t size = SIZE_MIN_BYTES + (dice >> 54) % SIZES;

    return churn->allocator.publish(churn->allocator.self, size, allocator_code,
                                    size < WRITE_MAX_BYTES ? size : WRITE_MAX_BYTES);
}

static void step_churn(void *user)
{
    struct churn *churn = user;
    uint64_t dice = roll(churn);
    void **slot = &churn->slots[(dice & UINT32_MAX) * churn->live >> 32];

    churn->allocator.release(churn->allocator.self, *slot);
    *slot = publish(churn, dice);
}

/* False if it takes too long. */
static bool fill(struct churn *churn, double seconds)
{
    double end = clock_us() + seconds * 1e6;

    for (unsigned i = 0; i < churn->live; i++) {
        churn->slots[i] = publish(churn, roll(churn));
        if (i % 256 == 0 && clock_us() > end)
            return false;
    }
    return true;
}

/* Until each span has been another one about once, or for as long as there is time. */
static void settle(struct churn *churn, double seconds)
{
    double end = clock_us() + seconds * 1e6;

    for (unsigned i = 0; i < churn->live; i++) {
        step_churn(churn);
        if (i % 256 == 0 && clock_us() > end)
            return;
    }
}

static struct outcome run(const struct bench *bench, const struct allocator *allocator, unsigned live)
{
    struct churn churn = {*allocator, calloc(live, sizeof(void *)), live, SEED};
    struct outcome outcome = {.why_not = NULL};
    uint64_t used = 0;
    uint64_t reserved = 0;

    if (churn.slots == NULL)
        die("memory for the spans' addresses");
    if (!fill(&churn, bench->options.quick ? FILL_QUICK_S : FILL_S)) {
        outcome.why_not = "filling it took too long";
    } else {
        settle(&churn, bench->effort.seconds * 3);
        outcome.sample = sample_take(&bench->effort, BATCH_STEPS, step_churn, &churn);
        allocator->statistics(allocator->self, &used, &reserved);
        outcome.density = reserved == 0 ? 0 : 100 * (double)used / (double)reserved;
    }
    free(churn.slots);
    return outcome;
}

static struct outcome run_asmjit(struct bench *bench, unsigned live)
{
    struct outcome outcome = {.why_not = "built without libasmjit-dev"};
    struct allocator allocator;

    if (live > MANY)
        return (struct outcome){.why_not = "its cost grows with the live spans: not tried above 100,000"};
    if (!asmjit_init(&allocator))
        return outcome;
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    outcome = run(bench, &allocator, live);
    asmjit_deinit(&allocator);
    return outcome;
}

static struct outcome run_ours(struct bench *bench, enum subject subject, unsigned live)
{
    const uint64_t unit = UINT64_C(64) << 20;
    uint64_t arena_bytes = ((uint64_t)live * MEAN_SPAN_BYTES * 5 / 4 / unit + 1) * unit;
    struct allocator allocator;
    struct outcome outcome;
    struct broker broker;
    jitc_client *client;

    if (system_memory_kib("MemAvailable:") * 1024 < 1.5 * MEAN_SPAN_BYTES * live)
        return (struct outcome){.why_not = "not enough memory is free"};
    broker_start(&broker, bench, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    if (subject == SUBJECT_DIRECT) {
        client = broker_connect(&broker, JITC_WRITE_DIRECT, arena_bytes);
        allocator = ours_by_store(client);
    } else {
        client = broker_connect(&broker, JITC_WRITE_THROUGH, arena_bytes);
        allocator = ours_by_write(client);
    }
    outcome = run(bench, &allocator, live);
    (void)jitc_close(client);
    broker_stop(&broker);
    return outcome;
}

static void report(struct bench *bench, enum subject subject, unsigned live, const struct outcome *outcome)
{
    const struct figure cost = {.row = churn_rows[subject],
                                .live = live,
                                .value = outcome->sample.p50_us,
                                .sample = &outcome->sample};
    const struct figure density = {.row = density_rows[subject], .live = live, .value = outcome->density};

    if (outcome->why_not != NULL) {
        report_absent(&bench->report, cost.row, live, outcome->why_not);
        if (live >= DENSITY_MIN)
            report_absent(&bench->report, density.row, live, outcome->why_not);
        return;
    }
    report_figure(&bench->report, &cost);
    if (live >= DENSITY_MIN)
        report_figure(&bench->report, &density);
}

static void report_aim(struct bench *bench, const char *row, double value, double against)
{
    const struct figure figure = {.row = row, .value = value, .against = against};

    if (value > 0 && against > 0)
        report_figure(&bench->report, &figure);
    else
        report_absent(&bench->report, row, 0, "one of both was not measured");
}

/* asmjit also for those who are compared with it. */
static bool is_wanted(const struct bench *bench, enum subject subject)
{
    const struct report *report = &bench->report;

    return report_wants(report, churn_rows[subject]) || report_wants(report, density_rows[subject]) ||
           (subject == SUBJECT_ASMJIT &&
            (report_wants(report, "churn.through-asmjit") || report_wants(report, "churn.direct-asmjit")));
}

void churn_report(struct bench *bench)
{
    struct summary all[SUBJECT_COUNT] = {0};

    report_heading(&bench->report, "Churn: release one, alloc 8-1031 B, write <= 256 B");
    for (size_t i = 0; i < bench->options.live_count; i++) {
        unsigned live = bench->options.live[i];

        for (enum subject subject = SUBJECT_ASMJIT; subject < SUBJECT_COUNT; subject++) {
            struct outcome outcome;

            if (!is_wanted(bench, subject))
                continue;
            outcome = subject == SUBJECT_ASMJIT ? run_asmjit(bench, live) : run_ours(bench, subject, live);

            if (live == FEW)
                all[subject].few = outcome.sample.p50_us;
            else if (live == MANY)
                all[subject].many = outcome.sample.p50_us;
            else if (live == MILLION)
                all[subject].million = outcome.sample.p50_us;
            report(bench, subject, live, &outcome);
        }
    }
    report_aim(bench, "churn.through-100k", all[SUBJECT_THROUGH].many, all[SUBJECT_THROUGH].few);
    report_aim(bench, "churn.direct-100k", all[SUBJECT_DIRECT].many, all[SUBJECT_DIRECT].few);
    report_aim(bench, "churn.through-1m", all[SUBJECT_THROUGH].million, all[SUBJECT_THROUGH].few);
    report_aim(bench, "churn.direct-1m", all[SUBJECT_DIRECT].million, all[SUBJECT_DIRECT].few);
    report_aim(bench, "churn.through-asmjit", all[SUBJECT_THROUGH].many, all[SUBJECT_ASMJIT].many);
    report_aim(bench, "churn.direct-asmjit", all[SUBJECT_DIRECT].many, all[SUBJECT_ASMJIT].many);
}
