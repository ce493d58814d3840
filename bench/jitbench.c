/* SPDX-License-Identifier: MIT */
/*
 * What a function costs through the broker, against this machine's floors and against other ways,
 * in one run: figures of one machine drift, so only their ratios say something.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "audit.h"
#include "baseline.h"
#include "broker.h"
#include "churn.h"
#include "crowd.h"
#include "direct.h"
#include "hostile.h"
#include "idle.h"
#include "rows.h"
#include "scan.h"
#include "threads.h"
#include "through.h"
#include "trouble.h"

#define QUICK_LIMIT_S 180u
#define LIMIT_S 3600u

static const struct section {
    const char *rows[2]; /* how their names begin */
    void (*report)(struct bench *bench);
} sections[] = {
    {{"floor."}, baseline_report_floors},
    {{"peer."}, baseline_report_peers},
    {{"through."}, through_report},
    {{"scan."}, scan_report},
    {{"audit."}, audit_report},
    {{"direct."}, direct_report},
    {{"churn.", "density."}, churn_report},
    {{"sessions."}, sessions_report},
    {{"crowd."}, crowd_report},
    {{"threads."}, threads_report},
    {{"hostile."}, hostile_report},
    {{"idle."}, idle_report},
    {{"drift."}, baseline_report_drift},
};

static void bench_init(struct bench *bench)
{
    const struct options *options = &bench->options;

    bench->report = (struct report){.json = options->json, .only = options->only};
    bench->effort = (struct effort){options->rounds, options->quick ? 0.2 : 2};
    bench->slow_effort = (struct effort){options->quick ? 50 : 500, options->quick ? 0.5 : 5};
    if (bench->slow_effort.rounds > options->rounds)
        bench->slow_effort.rounds = options->rounds;
    bench->run_s = options->quick ? 0.5 : 3;
    cpus_init(&bench->cpus, options->one_cpu);
}

static void report_machine(const struct bench *bench)
{
    struct utsname system;

    if (uname(&system) != 0)
        die("uname");
    if (bench->report.json) {
        (void)printf("{\"run\":\"jitbench\",\"version\":\"%s\",\"system\":\"%s %s %s\",\"bytes\":%u,"
                     "\"rounds\":%u,\"daemon_cpu\":%u,\"client_cpu\":%u}\n",
                     jitc_version(), system.sysname, system.release, system.machine, bench->options.bytes,
                     bench->options.rounds, bench->cpus.server, bench->cpus.client);
        (void)fflush(stdout);
        return;
    }
    report_remark(
        &bench->report,
        "jitbench %s on %s %s %s; a function is %u bytes; microseconds unless said.\n"
        "Daemon on CPU %u, clients on CPU %u%s.\n"
        "Rows of less than some microseconds: p50 and mean of %u steps a reading, p99 of one step a "
        "reading;\neach reading holds one reading of the clock.",
        jitc_version(), system.sysname, system.release, system.machine, bench->options.bytes,
        bench->cpus.server, bench->cpus.client,
        bench->cpus.two ? "" : ": one processor, so nothing is polled against", BATCH_STEPS);
}

static bool is_wanted(const struct section *section, const char *only)
{
    for (size_t i = 0; i < sizeof section->rows / sizeof section->rows[0]; i++) {
        if (section->rows[i] != NULL && rows_match_any(section->rows[i], only))
            return true;
    }
    return false;
}

static int list_rows(const char *only)
{
    for (size_t i = 0; i < rows_count; i++) {
        if (rows_matches(&rows[i], only))
            (void)puts(rows[i].id);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    unsigned sections_done = 0;
    int status;

    if (!options_parse(&bench.options, argc, argv, &status))
        return status;
    if (bench.options.list)
        return list_rows(bench.options.only);

    broker_guard(bench.options.quick ? QUICK_LIMIT_S : LIMIT_S);
    bench_init(&bench);
    report_machine(&bench);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (!is_wanted(&sections[i], bench.options.only))
            continue;
        sections[i].report(&bench);
        sections_done++;
    }
    if (sections_done == 0)
        die_because("--only=%s: no row has that in its name; --list shows them all", bench.options.only);
    report_remark(&bench.report, "\n%u met, %u missed, %u n/a", bench.report.met, bench.report.missed,
                  bench.report.absent);
    return EXIT_SUCCESS;
}
