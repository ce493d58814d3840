/* SPDX-License-Identifier: MIT */
#include "crowd.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "ours.h"
#include "trouble.h"

#define CLIENTS 64u
#define TIMES 4096u /* the last ones of each client are kept */
#define POLL_US 1000
#define ENDED_POLL_US 20000 /* while it is measured */
#define PATIENCE_US 60e6    /* for all to connect, and again for all to end */

struct member {
    uint64_t steps;
    float times_us[TIMES];
};

/* Shared by the clients' processes. */
struct crowd {
    _Atomic unsigned ready;
    atomic_bool go;
    struct member members[CLIENTS];
};

struct rates {
    double total;
    double slowest;
    struct sample step;
};

static void publish_for(struct member *member, const struct allocator *allocator, size_t bytes, double us)
{
    double began = clock_us();
    double end = began + us;

    while (began < end) {
        double now;

        allocator->release(allocator->self,
                           allocator->publish(allocator->self, bytes, allocator_code, bytes));
        now = clock_us();
        member->times_us[member->steps++ % TIMES] = (float)(now - began);
        began = now;
    }
}

_Noreturn static void run_member(const struct bench *bench, const struct broker *broker, struct crowd *crowd,
                                 unsigned index)
{
    struct allocator allocator;
    jitc_client *client;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    client = broker_connect(broker, JITC_WRITE_THROUGH, 0);
    allocator = ours_by_write(client);
    (void)atomic_fetch_add(&crowd->ready, 1);
    while (!atomic_load(&crowd->go))
        sleep_us(POLL_US);
    publish_for(&crowd->members[index], &allocator, bench->options.bytes, bench->run_s * 1e6);
    (void)jitc_close(client);
    _exit(0);
}

/* One that ended too early has said why; the others go when this process does. */
static void look_after(pid_t *pids, unsigned count, unsigned *ended)
{
    for (unsigned i = 0; i < count; i++) {
        int status;

        if (pids[i] == 0 || waitpid(pids[i], &status, WNOHANG) != pids[i])
            continue;
        pids[i] = 0;
        ++*ended;
        if (status != 0)
            die_because("a client of the crowd ended with status %x", (unsigned)status);
    }
}

static void wait_for(struct crowd *crowd, pid_t *pids, unsigned count)
{
    double end = clock_us() + PATIENCE_US;
    unsigned ended = 0;

    while (atomic_load(&crowd->ready) < count && clock_us() < end) {
        look_after(pids, count, &ended);
        sleep_us(POLL_US);
    }
    atomic_store(&crowd->go, true);
    while (ended < count && clock_us() < end) {
        sleep_us(ENDED_POLL_US);
        look_after(pids, count, &ended);
    }
    if (ended < count)
        die_because("the crowd of %u clients does not come to its end", count);
}

static struct rates rates_of(const struct crowd *crowd, unsigned count, double seconds)
{
    double *times = calloc((size_t)count * TIMES, sizeof *times);
    struct rates rates = {0};
    size_t kept = 0;

    if (times == NULL)
        die("memory for readings");
    for (unsigned i = 0; i < count; i++) {
        const struct member *member = &crowd->members[i];
        double rate = (double)member->steps / seconds;

        rates.total += rate;
        rates.slowest = i == 0 || rate < rates.slowest ? rate : rates.slowest;
        for (unsigned k = 0; k < TIMES && k < member->steps; k++)
            times[kept++] = (double)member->times_us[k];
    }
    if (kept == 0)
        die_because("no client of the crowd got anything done");
    rates.step = sample_of(times, kept);
    free(times);
    return rates;
}

static struct rates measure(const struct bench *bench, const struct broker *broker, unsigned count)
{
    struct crowd *crowd =
        mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct rates rates;
    pid_t pids[CLIENTS];

    if (crowd == MAP_FAILED)
        die("memory for a crowd");
    cpus_pin(&bench->cpus, SIDE_SERVER); /* out of the clients' way */
    for (unsigned i = 0; i < count; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            die("fork");
        if (pids[i] == 0)
            run_member(bench, broker, crowd, i);
    }
    wait_for(crowd, pids, count);
    rates = rates_of(crowd, count, bench->run_s);
    (void)munmap(crowd, sizeof *crowd);
    return rates;
}

void crowd_report(struct bench *bench)
{
    struct broker broker;
    struct rates all;
    double one;

    report_heading(&bench->report, "A crowd: 64 clients on one processor, write-through");
    broker_start(&broker, bench, SIDE_SERVER);
    one = measure(bench, &broker, 1).total;
    all = measure(bench, &broker, CLIENTS);
    one = (one + measure(bench, &broker, 1).total) / 2; /* before and after: the machine drifts */
    broker_stop(&broker);
    report_figure(&bench->report, &(struct figure){.row = "crowd.one", .value = one});
    report_figure(&bench->report, &(struct figure){.row = "crowd.total", .value = all.total, .against = one});
    report_figure(
        &bench->report,
        &(struct figure){.row = "crowd.slowest", .value = all.slowest, .against = all.total / CLIENTS});
    report_sample(&bench->report, "crowd.step", &all.step);
}
