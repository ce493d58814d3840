/* SPDX-License-Identifier: MIT */
#include "idle.h"

#include <stdio.h>
#include <sys/resource.h>

#include "broker.h"
#include "ours.h"
#include "process.h"
#include "trouble.h"

#define SESSIONS 1000u
#define IDLE_SESSIONS 100u
#define FIRST_BLOCK_KIB 64.0
#define FD_RESERVE 64u
#define FDS_PER_CLIENT 8u
#define SETTLE_US 500000
#define IDLE_S 2.0

struct group {
    jitc_client *clients[SESSIONS];
    unsigned count;
    int status; /* why there is not one more */
    char detail[128];
};

/* As many as there may be, up to `wanted`. */
static void group_connect(struct group *group, const struct broker *broker, unsigned wanted)
{
    group->status = JITC_OK;
    for (group->count = 0; group->count < wanted; group->count++) {
        group->status = broker_try_connect(broker, &group->clients[group->count], JITC_WRITE_THROUGH, 0);
        if (group->status == JITC_OK)
            continue;
        (void)snprintf(group->detail, sizeof group->detail, "%u sessions only: %s", group->count,
                       jitc_strerror(group->status));
        return;
    }
}

static void group_close(struct group *group)
{
    for (unsigned i = 0; i < group->count; i++)
        (void)jitc_close(group->clients[i]);
}

static void allow_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < SESSIONS * FDS_PER_CLIENT + FD_RESERVE) {
        limit.rlim_cur = SESSIONS * FDS_PER_CLIENT + FD_RESERVE;
        if (limit.rlim_max < limit.rlim_cur)
            limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* A function that stays. */
static void publish_in_each(const struct bench *bench, const struct group *group)
{
    for (unsigned i = 0; i < group->count; i++) {
        struct allocator allocator = ours_by_write(group->clients[i]);

        (void)allocator.publish(allocator.self, bench->options.bytes, allocator_code, bench->options.bytes);
    }
}

void sessions_report(struct bench *bench)
{
    static struct group group;
    const char *note;
    struct broker broker;
    jitc_client *first;
    double before;
    double before_shared;
    double idle;
    double shared;
    double used;

    report_heading(&bench->report, "Memory of 1,000 sessions, each");
    allow_descriptors();
    broker_start(&broker, bench, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    /* What the daemon needs once is not the sessions'. */
    first = broker_connect(&broker, JITC_WRITE_THROUGH, 0);
    before = process_memory_kib(broker.pid);
    before_shared = system_memory_kib("Shmem:");
    group_connect(&group, &broker, SESSIONS);
    if (group.count == 0)
        die_of_status(group.status, "connecting for the sessions' memory");
    note = group.count < SESSIONS ? group.detail : NULL;
    idle = (process_memory_kib(broker.pid) - before) / group.count;
    shared = (system_memory_kib("Shmem:") - before_shared) / group.count;
    publish_in_each(bench, &group);
    used = (process_memory_kib(broker.pid) - before) / group.count - FIRST_BLOCK_KIB;
    group_close(&group);
    (void)jitc_close(first);
    broker_stop(&broker);
    report_figure(&bench->report, &(struct figure){.row = "sessions.idle", .value = idle, .note = note});
    report_figure(&bench->report,
                  &(struct figure){.row = "sessions.used", .value = used > 0 ? used : 0, .note = note});
    report_figure(&bench->report, &(struct figure){.row = "sessions.shared", .value = shared, .note = note});
}

void idle_report(struct bench *bench)
{
    static struct group group;
    struct broker broker;
    double switches;
    double cpu_us;

    report_heading(&bench->report, "A daemon with nothing to do");
    broker_start(&broker, bench, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    group_connect(&group, &broker, IDLE_SESSIONS);
    if (group.count < IDLE_SESSIONS)
        die_of_status(group.status, "connecting for the idle daemon");
    publish_in_each(bench, &group);
    sleep_us(SETTLE_US);
    switches = process_switches(broker.pid);
    cpu_us = process_cpu_us(broker.pid);
    sleep_us(IDLE_S * 1e6);
    switches = process_switches(broker.pid) - switches;
    cpu_us = process_cpu_us(broker.pid) - cpu_us;
    group_close(&group);
    broker_stop(&broker);
    report_figure(&bench->report, &(struct figure){.row = "idle.wakeups", .value = switches / IDLE_S});
    report_figure(&bench->report, &(struct figure){.row = "idle.cpu", .value = cpu_us / IDLE_S});
}
