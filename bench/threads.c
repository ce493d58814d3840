/* SPDX-License-Identifier: MIT */
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>

#include "broker.h"
#include "ours.h"
#include "trouble.h"

#define THREADS 8u

struct team {
    struct allocator allocator;
    size_t bytes;
    atomic_bool stop;
};

struct worker {
    pthread_t thread;
    struct team *team;
    uint64_t steps;
};

static void *work(void *user)
{
    struct worker *worker = user;
    const struct allocator *allocator = &worker->team->allocator;
    size_t bytes = worker->team->bytes;
    uint64_t steps = 0;

    while (!atomic_load_explicit(&worker->team->stop, memory_order_relaxed)) {
        allocator->release(allocator->self,
                           allocator->publish(allocator->self, bytes, allocator_code, bytes));
        steps++;
    }
    worker->steps = steps;
    return NULL;
}

/* Steps a second of all threads together. */
static double measure(const struct bench *bench, jitc_client *client, unsigned count)
{
    struct team team = {ours_by_write(client), bench->options.bytes, false};
    struct worker workers[THREADS];
    double began = clock_us();
    double seconds;
    double steps = 0;

    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){.team = &team};
        errno = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        if (errno != 0)
            die("pthread_create");
    }
    sleep_us(bench->run_s * 1e6);
    atomic_store(&team.stop, true);
    seconds = (clock_us() - began) / 1e6;
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        steps += (double)workers[i].steps;
    }
    return steps / seconds;
}

static void report(struct bench *bench, const struct broker *broker, enum jitc_write_mode mode,
                   const char *one_row, const char *all_row)
{
    jitc_client *client = broker_connect(broker, mode, 0);
    double one = measure(bench, client, 1);
    double all = measure(bench, client, THREADS);

    one = (one + measure(bench, client, 1)) / 2; /* before and after: the machine drifts */
    (void)jitc_close(client);
    report_figure(&bench->report, &(struct figure){.row = one_row, .value = one});
    report_figure(&bench->report, &(struct figure){.row = all_row, .value = all, .against = one});
}

void threads_report(struct bench *bench)
{
    enum side side = bench->options.one_cpu ? SIDE_CLIENT : SIDE_ANY;
    struct broker broker;

    report_heading(&bench->report, "Threads: 8 that share a client");
    broker_start(&broker, bench, side);
    cpus_pin(&bench->cpus, side);
    report(bench, &broker, JITC_WRITE_THROUGH, "threads.through-one", "threads.through");
    report(bench, &broker, JITC_WRITE_DIRECT, "threads.direct-one", "threads.direct");
    broker_stop(&broker);
}
