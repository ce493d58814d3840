/* SPDX-License-Identifier: MIT */
#include "baseline.h"

#include <stdio.h>

#include "asmjit.h"
#include "floors.h"
#include "peers.h"
#include "trouble.h"

#define DRIFT_NOISY 0.1

static const struct source {
    struct sample (*measure)(const struct bench *bench);
    const char *row;
    bool needs_two_cpus;
} sources[BASELINE_COUNT] = {
    [BASELINE_POLLED] = {floor_polled, "floor.polled", true},
    [BASELINE_FUTEX] = {floor_futex, "floor.futex", false},
    [BASELINE_SOCKET] = {floor_socket, "floor.socket", false},
    [BASELINE_SOCKET_PAUSED] = {floor_socket_paused, "floor.socket-paused", false},
    [BASELINE_SOCKET_ONE_CPU] = {floor_socket_one_cpu, "floor.socket-one-cpu", false},
    [BASELINE_MPROTECT] = {peer_mprotect, "peer.mprotect", false},
    [BASELINE_MMAP] = {peer_mmap, "peer.mmap", false},
    [BASELINE_DUAL] = {peer_dual, "peer.dual", false},
    [BASELINE_ASMJIT] = {NULL, "peer.asmjit", false},
};

bool baseline_measure(const struct bench *bench, enum baseline which, struct sample *sample)
{
    const struct source *source = &sources[which];
    struct allocator allocator;

    if (source->needs_two_cpus && !bench->cpus.two)
        return false;
    if (source->measure != NULL) {
        *sample = source->measure(bench);
        return true;
    }
    if (!asmjit_init(&allocator))
        return false;
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    *sample = allocator_cycle(&allocator, bench->options.bytes, &bench->effort, BATCH_STEPS);
    asmjit_deinit(&allocator);
    return true;
}

const struct sample *baseline_get(struct bench *bench, enum baseline which)
{
    if (!bench->has_baseline[which])
        bench->has_baseline[which] = baseline_measure(bench, which, &bench->baselines[which]);
    return bench->has_baseline[which] ? &bench->baselines[which] : NULL;
}

const char *baseline_why_not(enum baseline which)
{
    return which == BASELINE_ASMJIT ? "built without libasmjit-dev" : "polling needs two processors";
}

static void report(struct bench *bench, enum baseline which)
{
    const struct sample *sample = baseline_get(bench, which);

    if (sample != NULL)
        report_sample(&bench->report, sources[which].row, sample);
    else
        report_absent(&bench->report, sources[which].row, 0, baseline_why_not(which));
}

void baseline_report_floors(struct bench *bench)
{
    struct sample clock = floor_clock(bench);

    report_heading(&bench->report, "Floors");
    report_sample(&bench->report, "floor.clock", &clock);
    for (enum baseline which = BASELINE_POLLED; which <= BASELINE_SOCKET_PAUSED; which++)
        report(bench, which);
}

void baseline_report_peers(struct bench *bench)
{
    report_heading(&bench->report, "Peers: other ways, in one process");
    for (enum baseline which = BASELINE_MPROTECT; which <= BASELINE_ASMJIT; which++)
        report(bench, which);
}

void baseline_report_drift(struct bench *bench)
{
    static const struct {
        enum baseline which;
        const char *row;
    } drifts[] = {
        {BASELINE_POLLED, "drift.polled"},
        {BASELINE_SOCKET, "drift.socket"},
        {BASELINE_MPROTECT, "drift.mprotect"},
    };
    double worst = 0;

    report_heading(&bench->report, "Drift: floors measured again at the end");
    for (size_t i = 0; i < sizeof drifts / sizeof drifts[0]; i++) {
        const struct sample *first = baseline_get(bench, drifts[i].which);
        struct sample again;
        double drift;

        if (first == NULL || !baseline_measure(bench, drifts[i].which, &again)) {
            report_absent(&bench->report, drifts[i].row, 0, baseline_why_not(drifts[i].which));
            continue;
        }
        drift = again.p50_us / first->p50_us - 1;
        if (drift < 0)
            drift = 1 - first->p50_us / again.p50_us;
        worst = drift > worst ? drift : -drift > worst ? -drift : worst;
        report_compared(&bench->report, drifts[i].row, &again, first, NULL);
    }
    if (worst > DRIFT_NOISY)
        report_remark(
            &bench->report,
            "  NOISY: a floor drifted by %.0f %% within this run; the ratios are no better than that.",
            worst * 100);
}
