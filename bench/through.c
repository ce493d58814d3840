/* SPDX-License-Identifier: MIT */
#include "through.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "baseline.h"
#include "broker.h"
#include "ours.h"
#include "pair.h"
#include "trouble.h"

#define SCOPE_SPANS 64u
#define LARGE_ARENA_BYTES (UINT64_C(128) << 20)
#define CONNECT_GAP_US 200.0
#define FIRST_CALLS_MAX 500u

/* ---- One function ------------------------------------------------------------------------ */

static struct sample measure_awake(const struct bench *bench, void *user)
{
    const struct allocator allocator = ours_by_write(user);

    return allocator_cycle(&allocator, bench->options.bytes, &bench->effort, BATCH_STEPS);
}

static struct sample measure_asleep(const struct bench *bench, void *user)
{
    const struct allocator allocator = ours_by_write(user);

    return allocator_cycle_paused(&allocator, bench->options.bytes, &bench->slow_effort);
}

/* By a client of a daemon of its own. */
static struct pair take_pair(struct bench *bench, enum side daemon_side, pair_measure measure,
                             enum baseline against)
{
    struct broker broker;
    jitc_client *client;
    struct pair pair;

    broker_start(&broker, bench, daemon_side);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    client = broker_connect(&broker, JITC_WRITE_THROUGH, 0);
    pair = pair_take(bench, measure, client, against);
    (void)jitc_close(client);
    broker_stop(&broker);
    return pair;
}

static void report_awake(struct bench *bench)
{
    struct pair pair = take_pair(bench, SIDE_SERVER, measure_awake, BASELINE_POLLED);
    const struct sample *mprotect_cycle = baseline_get(bench, BASELINE_MPROTECT);
    const struct figure p99 = {
        .row = "through.cycle-p99",
        .value = pair.ours.p99_us,
        .against = pair.theirs.p50_us,
        .note = pair.ratio > 0 ? NULL : baseline_why_not(BASELINE_POLLED),
    };

    pair_report(bench, "through.cycle", &pair, BASELINE_POLLED);
    report_figure(&bench->report, &p99);
    report_compared(&bench->report, "through.cycle-mprotect", &pair.ours, mprotect_cycle, NULL);
}

static void report_cycles(struct bench *bench)
{
    struct pair pair;

    if (report_wants(&bench->report, "through.cycle"))
        report_awake(bench);
    if (report_wants(&bench->report, "through.asleep")) {
        pair = take_pair(bench, SIDE_SERVER, measure_asleep, BASELINE_SOCKET_PAUSED);
        pair_report(bench, "through.asleep", &pair, BASELINE_SOCKET_PAUSED);
    }
    if (report_wants(&bench->report, "through.one-cpu")) {
        pair = take_pair(bench, SIDE_CLIENT, measure_awake, BASELINE_SOCKET_ONE_CPU);
        pair_report(bench, "through.one-cpu", &pair, BASELINE_SOCKET_ONE_CPU);
    }
}

/* ---- Many in one scope ------------------------------------------------------------------- */

struct batch {
    jitc_client *client;
    jitc_span spans[SCOPE_SPANS];
    size_t bytes;
    double *scope_us; /* where the next time goes, per span; NULL: nowhere */
};

static void write_scope(struct batch *batch)
{
    jitc_scope *scope;

    check(jitc_scope_begin(batch->client, &scope, JITC_WRITE_DEFAULT), "beginning a scope");
    for (unsigned i = 0; i < SCOPE_SPANS; i++)
        check(jitc_scope_write(scope, &batch->spans[i], 0, allocator_code, batch->bytes), "scope write");
    check(jitc_scope_flush(scope), "scope flush");
    check(jitc_scope_end(scope), "ending a scope");
}

static void step_batch(void *user)
{
    struct batch *batch = user;
    double began;

    for (unsigned i = 0; i < SCOPE_SPANS; i++)
        check(jitc_alloc(batch->client, &batch->spans[i], batch->bytes), "alloc");
    began = clock_us();
    write_scope(batch);
    if (batch->scope_us != NULL)
        *batch->scope_us++ = (clock_us() - began) / SCOPE_SPANS;
    for (unsigned i = 0; i < SCOPE_SPANS; i++)
        check(jitc_release(batch->client, batch->spans[i].rx), "release");
}

/* Times become those of one span. */
static struct sample per_span(struct sample sample)
{
    sample.p50_us /= SCOPE_SPANS;
    sample.p99_us /= SCOPE_SPANS;
    sample.mean_us /= SCOPE_SPANS;
    sample.batch = SCOPE_SPANS;
    return sample;
}

static void report_scope(struct bench *bench, const struct broker *broker)
{
    struct effort effort = {bench->effort.rounds / SCOPE_SPANS + 10, bench->effort.seconds};
    struct batch batch = {.bytes = bench->options.bytes};
    double *times = calloc(effort.rounds, sizeof *times);
    struct sample sample;
    size_t count = 0;

    if (times == NULL)
        die("memory for readings");
    batch.client = broker_connect(broker, JITC_WRITE_THROUGH, 0);
    sample = per_span(sample_take(&effort, 1, step_batch, &batch));
    report_sample(&bench->report, "through.scope", &sample);
    batch.scope_us = times;
    for (double end = clock_us() + effort.seconds * 1e6; count < effort.rounds; count++) {
        if (count > 0 && clock_us() > end)
            break;
        step_batch(&batch);
    }
    sample = sample_of(times, count);
    report_sample(&bench->report, "through.scope-writes", &sample);
    (void)jitc_close(batch.client);
    free(times);
}

/* ---- Large writes ------------------------------------------------------------------------ */

struct large {
    jitc_client *client;
    jitc_span span;
    void *to; /* memcpy's destination */
    void *from;
    size_t bytes;
};

static void step_large(void *user)
{
    struct large *large = user;

    check(jitc_write(large->client, &large->span, 0, large->from, large->bytes, JITC_WRITE_DEFAULT),
          "large write");
}

static void step_memcpy(void *user)
{
    struct large *large = user;

    memcpy(large->to, large->from, large->bytes);
    __asm__ volatile("" ::"r"(large->to) : "memory");
}

static void *new_buffer(size_t bytes)
{
    void *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (buffer == MAP_FAILED)
        die("memory for a large write");
    memset(buffer, 0xCC, bytes);
    return buffer;
}

/* GB/s for a time: the ratio is of bandwidths. */
static double bandwidth(size_t bytes, double us)
{
    return (double)bytes / us / 1e3;
}

static void report_large(struct bench *bench, const struct broker *broker, const char *row, size_t bytes)
{
    struct effort effort = bench->slow_effort;
    struct large large = {.bytes = bytes};
    struct figure figure = {.row = row, .note = "p99 and mean are microseconds"};
    struct sample copied;
    struct sample written;

    if (!report_wants(&bench->report, row))
        return;
    large.client = broker_connect(broker, JITC_WRITE_THROUGH, LARGE_ARENA_BYTES);
    check(jitc_alloc(large.client, &large.span, bytes), "large alloc");
    large.to = new_buffer(bytes);
    large.from = new_buffer(bytes);
    copied = sample_take(&effort, 1, step_memcpy, &large);
    written = sample_take(&effort, 1, step_large, &large);
    figure.value = bandwidth(bytes, written.p50_us);
    figure.against = bandwidth(bytes, copied.p50_us);
    figure.sample = &written;
    report_figure(&bench->report, &figure);
    (void)munmap(large.from, bytes);
    (void)munmap(large.to, bytes);
    (void)jitc_close(large.client);
}

/* ---- The first function ------------------------------------------------------------------ */

/* A function that returns FIRST_VALUE. */
#define FIRST_VALUE 42u
#if defined(__x86_64__) || defined(__i386__)
#define HAS_FIRST_CODE true
static const uint8_t first_code[] = {0xB8, FIRST_VALUE, 0, 0, 0, 0xC3}; /* mov eax, 42; ret */
#elif defined(__aarch64__)
#define HAS_FIRST_CODE true
static const uint32_t first_code[] = {0x52800000u | FIRST_VALUE << 5, 0xD65F03C0u}; /* mov w0, 42; ret */
#else
#define HAS_FIRST_CODE false
static const uint8_t first_code[1];
#endif

static uint32_t call(const void *rx)
{
    uint32_t (*function)(void);

    memcpy(&function, &rx, sizeof function);
    return function();
}

static double time_first_call(const struct broker *broker)
{
    double began = clock_us();
    jitc_client *client = broker_connect(broker, JITC_WRITE_THROUGH, 0);
    jitc_span span;
    double ended;

    check(jitc_alloc(client, &span, sizeof first_code), "first alloc");
    check(jitc_write(client, &span, 0, first_code, sizeof first_code, JITC_WRITE_DEFAULT), "first write");
    if (call(jitc_span_rx(&span)) != FIRST_VALUE)
        die_because("the first function did not return what it should");
    ended = clock_us();
    (void)jitc_close(client);
    return ended - began;
}

static struct sample measure_first_call(const struct bench *bench, void *user)
{
    double end = clock_us() + bench->effort.seconds * 1e6;
    double times[FIRST_CALLS_MAX];
    size_t count = 0;

    (void)time_first_call(user);
    while (count < FIRST_CALLS_MAX && (count == 0 || clock_us() < end)) {
        /* So that the end of the last session is over; without sleeping, which the floor does not. */
        spin_us(CONNECT_GAP_US);
        times[count++] = time_first_call(user);
    }
    return sample_of(times, count);
}

static void report_first_call(struct bench *bench, struct broker *broker)
{
    struct pair pair;

    if (!report_wants(&bench->report, "through.first-call"))
        return;
    if (!HAS_FIRST_CODE) {
        report_absent(&bench->report, "through.first-call", 0, "no machine code for this architecture");
        return;
    }
    pair = pair_take(bench, measure_first_call, broker, BASELINE_SOCKET);
    pair_report(bench, "through.first-call", &pair, BASELINE_SOCKET);
}

void through_report(struct bench *bench)
{
    struct broker broker;

    report_heading(&bench->report, "Ours, write-through: only the daemon writes");
    report_cycles(bench);
    broker_start(&broker, bench, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    if (report_wants(&bench->report, "through.scope"))
        report_scope(bench, &broker);
    report_large(bench, &broker, "through.write-1m", (size_t)1 << 20);
    report_large(bench, &broker, "through.write-16m", (size_t)16 << 20);
    report_first_call(bench, &broker);
    broker_stop(&broker);
}
