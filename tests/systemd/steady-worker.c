/* SPDX-License-Identifier: MIT */
/*
 * A worker that never stops, for durability-inside.sh: a daemon may be restarted, killed, replaced under it.
 *   steady-worker            one session: a thread runs code without pause, another makes and releases it
 *   steady-worker crowd N    N sessions with a span each, which does nothing unless it is asked to check
 *
 * What it counts it writes over the beginning of its standard output, a file, ten times a second: a line of
 * NAME=NUMBER. SIGUSR1 begins a new epoch, in which the longest times start from 0; a crowd checks all of
 * its sessions then. It only counts: what is too many, or too long, is for who reads it to say.
 *
 * Every byte of a live span is known: a function that returns the span's number, then bytes that follow from
 * it. The runner calls the functions and compares what they return; after each round of changes the changer
 * compares the bytes of all spans, asks the daemon for each of them, and for how many there are.
 */
#include "client/jitclient.h"
#include "tests/harness/code.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LIVE_MAX 256u
#define SPAN_BYTES_MAX (96u * 1024) /* past 64 KiB the daemon is asked, and not the lease */
#define ROUND 64u
#define REPORT_BYTES 512

struct live {
    jitc_span span;
    uint32_t number;
};

/* The runner holds `lock` while it runs a function of `live`, the changer while it changes `live`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct live live[LIVE_MAX];
static atomic_uint live_count;

static atomic_ullong calls, wrong;       /* functions run, and how many returned something else */
static atomic_ullong operations, failed; /* asked of the library, and how many it could not do */
static atomic_ullong checks, mismatched; /* rounds after which all was compared, and what was not as known */
static atomic_ullong longest_call_us;    /* between the ends of two calls of the runner */
static atomic_ullong
    longest_idle_us; /* the same of a thread that only sleeps: what the machine is to blame for */
static atomic_ullong longest_operation_us;
static atomic_uint epoch, epoch_wanted;
static atomic_int last_failure;

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void longest(atomic_ullong *most, uint64_t since_us)
{
    uint64_t took_us = now_us() - since_us;

    if (took_us > atomic_load(most))
        atomic_store(most, took_us);
}

static int failed_by(int status)
{
    if (status != JITC_OK) {
        if (atomic_fetch_add(&failed, 1) < 10)
            (void)fprintf(stderr, "%s: %s\n", jitc_strerror(status), jitc_error_detail());
        atomic_store(&last_failure, status);
    }
    return status;
}

static void want_epoch(int signal_number)
{
    (void)signal_number;
    atomic_fetch_add(&epoch_wanted, 1);
}

/* The content of a span: whole, so that a byte which was lost, or never written, is seen. */
static void content(uint8_t *to, size_t size, uint32_t number)
{
    code_return(to, number);
    for (size_t i = CODE_RETURN_BYTES; i < size; i++)
        to[i] = (uint8_t)(number * 2654435761u >> 24) ^ (uint8_t)(i * 167u);
}

static size_t size_of(uint32_t number)
{
    uint32_t dice = number * 2246822519u >> 12;

    return dice % 16 == 0 ? SPAN_BYTES_MAX - dice % 4096 : 32 + dice % 2000;
}

static int make(jitc_client *client, struct live *made, uint32_t number)
{
    static uint8_t bytes[SPAN_BYTES_MAX + 4096];
    size_t size = size_of(number);

    if (failed_by(jitc_alloc(client, &made->span, size)) != JITC_OK)
        return -1;
    made->number = number;
    content(bytes, made->span.size, number);
    return failed_by(jitc_write(client, &made->span, 0, bytes, made->span.size, JITC_WRITE_DEFAULT)) ==
                   JITC_OK
               ? 0
               : -1;
}

/* Compares all that is live with what is known of it, the daemon's view as well. */
static void check(jitc_client *client, const struct live *spans, unsigned count)
{
    static uint8_t bytes[SPAN_BYTES_MAX + 4096];
    jitc_stats stats = {.struct_size = sizeof stats};
    uint64_t asked_us;

    for (unsigned i = 0; i < count; i++) {
        const struct live *one = &spans[i];
        jitc_span found;
        uint64_t since_us;
        int status;

        content(bytes, one->span.size, one->number);
        if (memcmp(one->span.rx, bytes, one->span.size) != 0) {
            (void)fprintf(stderr, "the bytes of span %" PRIu32 " are others\n", one->number);
            atomic_fetch_add(&mismatched, 1);
        }
        since_us = now_us();
        status = failed_by(jitc_query(client, &found, one->span.rx));
        longest(&longest_operation_us, since_us);
        if (status == JITC_OK && (found.rx != one->span.rx || found.size != one->span.size)) {
            (void)fprintf(stderr, "span %" PRIu32 " is not where it was\n", one->number);
            atomic_fetch_add(&mismatched, 1);
        }
    }
    asked_us = now_us();
    if (failed_by(jitc_statistics(client, &stats)) == JITC_OK && stats.allocation_count != count) {
        (void)fprintf(stderr, "%" PRIu64 " spans, not %u\n", stats.allocation_count, count);
        atomic_fetch_add(&mismatched, 1);
    }
    longest(&longest_operation_us, asked_us);
}

static void *run_forever(void *unused)
{
    uint64_t last_us = now_us();
    unsigned next = 0;

    (void)unused;
    for (;;) {
        (void)pthread_mutex_lock(&lock);
        for (unsigned i = 0; i < 1000; i++) {
            const struct live *one = &live[next++ % atomic_load(&live_count)];

            if (code_call(one->span.rx) != one->number)
                atomic_fetch_add(&wrong, 1);
            atomic_fetch_add(&calls, 1);
        }
        (void)pthread_mutex_unlock(&lock);
        longest(&longest_call_us, last_us);
        last_us = now_us();
        (void)usleep(1000);
    }
    return NULL;
}

static void *sleep_forever(void *unused)
{
    (void)unused;
    for (;;) {
        uint64_t since_us = now_us();

        (void)usleep(1000);
        longest(&longest_idle_us, since_us);
    }
    return NULL;
}

/* One span more, and one less once there are enough. Returns -1 where the library could not. */
static int change(jitc_client *client, uint32_t number)
{
    uint64_t since_us = now_us();
    struct live made, old;
    unsigned count = atomic_load(&live_count);
    unsigned place = number % LIVE_MAX;
    int status = make(client, &made, number);

    longest(&longest_operation_us, since_us);
    atomic_fetch_add(&operations, 2);
    if (status != 0)
        return -1;
    (void)pthread_mutex_lock(&lock);
    old = live[place];
    live[place] = made;
    if (count < LIVE_MAX)
        atomic_store(&live_count, count + 1);
    (void)pthread_mutex_unlock(&lock);
    if (count < LIVE_MAX)
        return 0;
    since_us = now_us();
    status = failed_by(jitc_release(client, old.span.rx));
    longest(&longest_operation_us, since_us);
    atomic_fetch_add(&operations, 1);
    return status == JITC_OK ? 0 : -1;
}

static void change_forever(jitc_client *client)
{
    uint32_t number = LIVE_MAX;

    for (;;) {
        for (unsigned i = 0; i < ROUND; i++) {
            if (change(client, number) == 0)
                number++;
            else
                (void)usleep(10000);
        }
        check(client, live, atomic_load(&live_count));
        atomic_fetch_add(&checks, 1);
        (void)usleep(5000);
    }
}

static void *report_forever(void *unused)
{
    char line[REPORT_BYTES + 1];

    (void)unused;
    for (;;) {
        unsigned wanted = atomic_load(&epoch_wanted);
        int length =
            snprintf(line, sizeof line,
                     "epoch=%u calls=%llu wrong=%llu longest_call_us=%llu longest_idle_us=%llu "
                     "operations=%llu failed=%llu "
                     "longest_operation_us=%llu checks=%llu mismatched=%llu spans=%u last_failure=%d end=1",
                     atomic_load(&epoch), atomic_load(&calls), atomic_load(&wrong),
                     atomic_load(&longest_call_us), atomic_load(&longest_idle_us), atomic_load(&operations),
                     atomic_load(&failed), atomic_load(&longest_operation_us), atomic_load(&checks),
                     atomic_load(&mismatched), atomic_load(&live_count), atomic_load(&last_failure));

        memset(line + length, ' ', sizeof line - (size_t)length);
        line[REPORT_BYTES - 1] = '\n';
        if (pwrite(STDOUT_FILENO, line, REPORT_BYTES, 0) != REPORT_BYTES)
            perror("pwrite");
        if (wanted != atomic_load(&epoch)) {
            atomic_store(&longest_call_us, 0);
            atomic_store(&longest_idle_us, 0);
            atomic_store(&longest_operation_us, 0);
            atomic_store(&epoch, wanted);
        }
        (void)usleep(100000);
    }
    return NULL;
}

static void start(void *(*function)(void *))
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, function, NULL) != 0) {
        perror("pthread_create");
        exit(EXIT_FAILURE);
    }
}

static jitc_client *connect_or_exit(void)
{
    jitc_client *client = NULL;
    jitc_options options;

    jitc_options_init(&options);
    options.arena_bytes = 16u << 20;
    options.timeout_ms = 60000; /* a test on a busy machine: what takes long is counted, not given up */
    if (jitc_connect(&client, &options) != JITC_OK) {
        (void)fprintf(stderr, "%s\n", jitc_error_detail());
        exit(EXIT_FAILURE);
    }
    return client;
}

/* What is idle must outlive the daemon too, and it is what a restart costs that grows with it. */
static void crowd(unsigned count)
{
    jitc_client **clients = calloc(count, sizeof(jitc_client *));
    struct live *spans = calloc(count, sizeof *spans);
    unsigned checked = 0;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (!clients || !spans)
        exit(EXIT_FAILURE);
    for (unsigned i = 0; i < count; i++) {
        clients[i] = connect_or_exit();
        if (make(clients[i], &spans[i], i * 16 + 1) != 0)
            exit(EXIT_FAILURE);
        atomic_fetch_add(&operations, 1);
    }
    start(report_forever);
    for (;;) {
        if (checked == atomic_load(&epoch)) {
            (void)usleep(1000);
            continue;
        }
        for (unsigned i = 0; i < count; i++) {
            uint64_t since_us = now_us();
            struct live more;

            if (code_call(spans[i].span.rx) != spans[i].number)
                atomic_fetch_add(&wrong, 1);
            atomic_fetch_add(&calls, 1);
            check(clients[i], &spans[i], 1);
            if (make(clients[i], &more, i * 16 + 3) == 0)
                (void)failed_by(jitc_release(clients[i], more.span.rx));
            longest(&longest_operation_us, since_us);
        }
        atomic_fetch_add(&checks, 1);
        checked = atomic_load(&epoch);
    }
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = want_epoch, .sa_flags = SA_RESTART};
    jitc_client *client = NULL;
    uint32_t missing;

    if (sigaction(SIGUSR1, &action, NULL) != 0)
        return EXIT_FAILURE;
    if (argc == 3 && strcmp(argv[1], "crowd") == 0)
        crowd((unsigned)strtoul(argv[2], NULL, 10));

    client = connect_or_exit();
    missing = jitc_lockdown(0);
    if (missing != 0)
        (void)fprintf(stderr, "not locked down: 0x%x: %s\n", missing, jitc_error_detail());
    for (uint32_t i = 0; i < LIVE_MAX; i++) {
        if (change(client, i) != 0)
            return EXIT_FAILURE;
    }
    start(run_forever);
    start(sleep_forever);
    start(report_forever);
    change_forever(client);
}
