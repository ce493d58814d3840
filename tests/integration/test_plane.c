/* SPDX-License-Identifier: MIT */
/* libjitclient on the ring, as programs use it: from many threads, and while the daemon stops, dies, or
 * shares its CPU. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/client.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

enum {
    THREADS = 8,
    ROUNDS = 1500, /* of each thread */
    SPANS = 12,    /* live ones of a thread */
    SPAN_MAX_BYTES = 3000,
    LARGE_BYTES = 1 << 20, /* four times the staging */
    RESET_ROUNDS = 3000,
};

static struct broker broker;
static jitc_client *client;
static unsigned seed;

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void choose_seed(void)
{
    const char *given = getenv("JITBROKER_SEED");

    seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)(time(NULL) ^ getpid());
    (void)printf("JITBROKER_SEED=%u\n", seed);
}

static void start_with(const char *config)
{
    if (getenv("JITBROKER_TEST_RING") != NULL)
        skip("all of it is about the ring");
    choose_seed();
    broker_start(&broker, config);
}

static void start(void)
{
    start_with(NULL);
}

static void start_without_spinning(void)
{
    start_with("[daemon]\nspin_us=0\n");
}

static void start_spinning(void)
{
    start_with("[daemon]\nspin_us=10000\n");
}

static void start_direct(void)
{
    start_with("[class default]\nwrite=direct\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

/* The test has killed it. */
static void stop_killed(void)
{
    ck_assert_int_eq(waitpid(broker.pid, NULL, 0), broker.pid);
    broker.pid = 0;
    broker_stop(&broker);
}

static void connect_client(void)
{
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    ck_assert_ptr_nonnull(client->plane.memory);
}

static void close_client(void)
{
    client = jitc_close(client);
}

/* By who can stop the daemon, too. */
static void connect_impatient(uint32_t timeout_ms)
{
    jitc_options options = broker_options(&broker);

    options.timeout_ms = timeout_ms;
    client = broker_connect(&broker, &options);
}

static void assert_all_done(uint64_t spans)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    ck_assert_uint_eq(stats.allocation_count, spans);
}

/* ---- Many threads -------------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    unsigned random;
    unsigned rounds;
    jitc_span spans[SPANS];
    uint32_t values[SPANS];
    const char *failed; /* NULL: nothing did */
    char detail[256];
};

#define must(worker, condition)                                                                  \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            (void)snprintf((worker)->detail, sizeof(worker)->detail, "%s", jitc_error_detail()); \
            (worker)->failed = #condition;                                                       \
            return;                                                                              \
        }                                                                                        \
    } while (0)

static void make_content(uint32_t value, uint8_t *bytes, size_t size)
{
    memset(bytes, (int)(value * 31 >> 3), size);
    code_return(bytes, value);
}

static void check_content(struct worker *worker, unsigned i)
{
    uint8_t bytes[SPAN_MAX_BYTES + 64];

    make_content(worker->values[i], bytes, worker->spans[i].size);
    must(worker, memcmp(worker->spans[i].rx, bytes, worker->spans[i].size) == 0);
    must(worker, code_call(worker->spans[i].rx) == worker->values[i]);
}

static void replace_span(struct worker *worker, unsigned i)
{
    size_t size = (size_t)(CODE_RETURN_BYTES + (unsigned)rand_r(&worker->random) % SPAN_MAX_BYTES);
    jitc_span *span = &worker->spans[i];
    uint8_t bytes[SPAN_MAX_BYTES + 64];
    jitc_span same;

    if (size > SPAN_MAX_BYTES)
        size = SPAN_MAX_BYTES;
    if (span->rx != NULL)
        must(worker, jitc_release(client, span->rx) == JITC_OK);
    must(worker, jitc_alloc(client, span, size) == JITC_OK);
    worker->values[i] = (uint32_t)rand_r(&worker->random);
    make_content(worker->values[i], bytes, span->size);
    must(worker, jitc_write(client, span, 0, bytes, span->size, JITC_WRITE_DEFAULT) == JITC_OK);
    must(worker, jitc_query(client, &same, (const uint8_t *)span->rx + span->size - 1) == JITC_OK);
    must(worker, same.rx == span->rx && same.size == span->size);
}

/* The number that the code returns is another one from here on. */
static void patch_span(struct worker *worker, unsigned i)
{
#if defined(__x86_64__)
    uint8_t old_code[8];
    uint8_t new_code[8];
    uint64_t old_word;
    uint64_t new_word;
    uint64_t found;

    memcpy(old_code, worker->spans[i].rx, sizeof old_code);
    memcpy(new_code, old_code, sizeof new_code);
    worker->values[i] ^= 0x55;
    code_return(new_code, worker->values[i]);
    memcpy(&old_word, old_code, sizeof old_word);
    memcpy(&new_word, new_code, sizeof new_word);
    must(worker,
         jitc_patch(client, &worker->spans[i], 0, 8, old_word + 1, new_word, &found) == JITC_E_MISMATCH);
    must(worker, found == old_word);
    must(worker, jitc_patch(client, &worker->spans[i], 0, 8, old_word, new_word, NULL) == JITC_OK);
    must(worker, code_call(worker->spans[i].rx) == worker->values[i]);
    worker->values[i] ^= 0x55; /* the rest of the content is made of it */
    must(worker, jitc_patch(client, &worker->spans[i], 0, 8, new_word, old_word, NULL) == JITC_OK);
#else
    (void)worker, (void)i;
#endif
}

static void work_a_round(struct worker *worker)
{
    unsigned i = (unsigned)rand_r(&worker->random) % SPANS;

    if (worker->spans[i].rx != NULL) {
        check_content(worker, i);
        if (worker->failed == NULL && rand_r(&worker->random) % 8 == 0)
            patch_span(worker, i);
    }
    if (worker->failed == NULL)
        replace_span(worker, i);
    if (worker->failed == NULL)
        check_content(worker, i);
}

static void *work(void *user)
{
    struct worker *worker = user;

    for (unsigned i = 0; i < worker->rounds && worker->failed == NULL; i++)
        work_a_round(worker);
    return NULL;
}

/* Returns the spans that they hold in the end. */
static uint64_t work_in_threads(unsigned threads, unsigned rounds)
{
    static struct worker workers[THREADS];
    uint64_t began_ms = now_ms();
    uint64_t spans = 0;

    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.random = seed + i, .rounds = rounds};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < threads; i++)
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < threads; i++) {
        ck_assert_msg(workers[i].failed == NULL, "not %s: %s", workers[i].failed, workers[i].detail);
        for (unsigned k = 0; k < SPANS; k++) {
            spans += workers[i].spans[k].rx != NULL;
            if (workers[i].spans[k].rx != NULL)
                check_content(&workers[i], k);
        }
        ck_assert_ptr_null(workers[i].failed);
    }
    (void)printf("%u threads, %u rounds each: %u ms\n", threads, rounds, (unsigned)(now_ms() - began_ms));
    return spans;
}

START_TEST(threads_that_share_a_client_each_run_what_they_wrote)
{
    assert_all_done(work_in_threads(THREADS, ROUNDS));
}
END_TEST

static void stay_on_cpu(pid_t pid, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    ck_assert_int_eq(sched_setaffinity(pid, sizeof set, &set), 0);
}

/* Whoever looks there for the other keeps it from what it is looked at for. */
static void work_on_cpus(int daemon_cpu, int client_cpu)
{
    if (!are_we_root())
        skip("needs root, to choose the daemon's CPU");
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip("needs two CPUs");
    stay_on_cpu(broker.pid, daemon_cpu);
    stay_on_cpu(0, client_cpu);
    connect_client();
    assert_all_done(work_in_threads(THREADS, ROUNDS / 4));
    close_client();
}

START_TEST(daemon_and_client_get_on_with_one_cpu)
{
    work_on_cpus(0, 0);
}
END_TEST

START_TEST(daemon_and_client_get_on_with_a_cpu_each)
{
    work_on_cpus(0, 1);
}
END_TEST

/* ---- What does not fit at once ------------------------------------------------------------- */

START_TEST(a_write_larger_than_the_staging_arrives_whole)
{
    uint8_t *bytes = malloc(LARGE_BYTES);
    jitc_span span;

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, LARGE_BYTES));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, bytes, LARGE_BYTES, JITC_WRITE_DEFAULT));
    ck_assert(memcmp(span.rx, bytes, LARGE_BYTES) == 0);
    assert_all_done(1);
    free(bytes);
}
END_TEST

/* The daemon stands still until the ring has been full for a while. */
START_TEST(a_full_ring_is_waited_for)
{
    jitc_span spans[3 * RING_ENTRIES];
    pid_t waker;

    connect_impatient(60000);
    (void)fflush(NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &spans[0], 64)); /* there is a lease */
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    waker = fork();
    ck_assert_int_ge(waker, 0);
    if (waker == 0) {
        (void)usleep(300000);
        _exit(kill(broker.pid, SIGCONT) == 0 ? 0 : 1);
    }
    for (unsigned i = 1; i < 3 * RING_ENTRIES; i++)
        assert_status(JITC_OK, "", jitc_alloc(client, &spans[i], 64));
    assert_all_done(3 * RING_ENTRIES);
    for (unsigned i = 0; i < 3 * RING_ENTRIES; i++)
        assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    assert_all_done(0);
    ck_assert_int_eq(waitpid(waker, NULL, 0), waker);
    close_client();
}
END_TEST

/* ---- What nobody waited for ------------------------------------------------------------------- */

/* By a request of which this library knows nothing: the daemon has the span no more, the library has it
 * still. */
static void release_behind_its_back(const jitc_span *span)
{
    const struct request request = {.operation = OPERATION_RELEASE,
                                    .span = (uint64_t)((const uint8_t *)span->rx - client->map.rx)};
    struct result result;

    assert_status(JITC_OK, "", client_lock(client));
    assert_status(JITC_OK, "", plane_reserve(client, 1, 0));
    assert_status(JITC_OK, "", plane_run(client, &request, &result));
    client_unlock(client);
}

START_TEST(a_refusal_that_nobody_waited_for_is_told_once_at_the_next_flush)
{
    jitc_span span;

    assert_status(JITC_OK, "", jitc_alloc(client, &span, 100));
    release_behind_its_back(&span);
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    assert_status(JITC_E_NO_SPAN, "an earlier operation was refused", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_all_done(0);
}
END_TEST

START_TEST(a_scope_tells_of_it_too)
{
    jitc_span spans[2];
    jitc_scope *scope;

    for (int i = 0; i < 2; i++)
        assert_status(JITC_OK, "", jitc_alloc(client, &spans[i], 100));
    release_behind_its_back(&spans[0]);
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_scope_write(scope, &spans[1], 0, "abc", 3));
    assert_status(JITC_OK, "", jitc_release(client, spans[0].rx));
    assert_status(JITC_E_NO_SPAN, "an earlier operation was refused", jitc_scope_flush(scope));
    assert_status(JITC_OK, "", jitc_scope_end(scope));
    ck_assert(memcmp(spans[1].rx, "abc", 3) == 0);
    assert_all_done(1);
}
END_TEST

START_TEST(a_refused_write_of_a_scope_keeps_nothing_of_its_later_ones_back)
{
    uint8_t *bytes = malloc(LARGE_BYTES);
    jitc_span sealed;
    jitc_span span;
    jitc_scope *scope;

    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 0x5A, LARGE_BYTES);
    assert_status(JITC_OK, "", jitc_alloc(client, &sealed, 100));
    assert_status(JITC_OK, "", jitc_alloc(client, &span, LARGE_BYTES));
    assert_status(JITC_OK, "", jitc_seal(client, &sealed));
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_scope_write(scope, &sealed, 0, bytes, 10));
    assert_status(JITC_OK, "", plane_flush(client)); /* so that it has been refused by now */
    assert_status(JITC_OK, "", jitc_scope_write(scope, &span, 0, bytes, LARGE_BYTES));
    assert_status(JITC_E_SEALED, "sealed", jitc_scope_end(scope));
    ck_assert(memcmp(span.rx, bytes, LARGE_BYTES) == 0);
    free(bytes);
}
END_TEST

/* ---- Scopes from several threads ---------------------------------------------------------------- */

static void *write_scopes(void *user)
{
    struct worker *worker = user;
    jitc_scope *scope;

    if (jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT) != JITC_OK) {
        worker->failed = "a scope";
        return NULL;
    }
    for (unsigned round = 0; round < worker->rounds && worker->failed == NULL; round++) {
        uint8_t bytes[SPAN_MAX_BYTES + 64];

        for (unsigned i = 0; i < SPANS; i++) {
            worker->values[i] = (uint32_t)rand_r(&worker->random);
            make_content(worker->values[i], bytes, worker->spans[i].size);
            if (jitc_scope_write(scope, &worker->spans[i], 0, bytes, worker->spans[i].size) != JITC_OK)
                worker->failed = "a write";
        }
        if (jitc_scope_flush(scope) != JITC_OK)
            worker->failed = "a flush";
        for (unsigned i = 0; i < SPANS && worker->failed == NULL; i++)
            check_content(worker, i);
    }
    if (jitc_scope_end(scope) != JITC_OK)
        worker->failed = "the end of a scope";
    return NULL;
}

START_TEST(scopes_of_several_threads_do_not_mix)
{
    static struct worker workers[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.random = seed + i, .rounds = ROUNDS / 10};
        for (unsigned k = 0; k < SPANS; k++)
            assert_status(JITC_OK, "", jitc_alloc(client, &workers[i].spans[k], 100 + 200 * k));
    }
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, write_scopes, &workers[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_msg(workers[i].failed == NULL, "%s failed", workers[i].failed);
    assert_all_done((uint64_t)THREADS * SPANS);
}
END_TEST

/* ---- Resets in the middle ------------------------------------------------------------------------ */

static _Atomic bool is_over;

static void *reset_often(void *user)
{
    struct worker *worker = user;

    for (unsigned i = 0; i < RESET_ROUNDS && worker->failed == NULL; i++) {
        if (jitc_reset(client, JITC_RESET_SOFT) != JITC_OK)
            worker->failed = "a reset";
    }
    is_over = true;
    return NULL;
}

/* Small ones that are carved here, and large ones that the daemon places; each may be gone by the time it is
 * released. */
static void *allocate_meanwhile(void *user)
{
    struct worker *worker = user;
    jitc_span span;

    for (unsigned i = 0; !is_over && worker->failed == NULL; i++) {
        int status = jitc_alloc(client, &span, i % 4 == 0 ? 100 : 70000);

        if (status == JITC_OK)
            status = jitc_release(client, span.rx);
        if (status != JITC_OK && status != JITC_E_NO_SPAN)
            worker->failed = jitc_strerror(status);
    }
    return NULL;
}

START_TEST(resets_by_another_thread_leave_room_for_what_comes_after_them)
{
    static struct worker workers[THREADS];

    ck_assert_int_eq(pthread_create(&workers[0].thread, NULL, reset_often, &workers[0]), 0);
    for (unsigned i = 1; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, allocate_meanwhile, &workers[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_msg(workers[i].failed == NULL, "%s", workers[i].failed);
    (void)jitc_flush(client); /* what was released may have been gone by a reset */
    assert_all_done(client->lessee.heap.spans + (uint64_t)client->lessee.foreign);
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_SOFT));
    assert_all_done(0);
}
END_TEST

/* ---- Fork ------------------------------------------------------------------------------------------ */

START_TEST(a_fork_in_the_middle_leaves_the_ring_to_the_parent)
{
    static struct worker workers[2];

    for (unsigned i = 0; i < 2; i++) {
        workers[i] = (struct worker){.random = seed + i, .rounds = ROUNDS};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        jitc_span span;
        int status = -1;
        pid_t child = fork();

        ck_assert_int_ge(child, 0);
        if (child == 0) { /* where no lock may be waited for that another thread held */
            bool refused =
                jitc_alloc(client, &span, 100) == JITC_E_FORKED && jitc_flush(client) == JITC_E_FORKED &&
                jitc_write(client, &workers[0].spans[0], 0, "", 1, JITC_WRITE_DEFAULT) == JITC_E_FORKED;

            _exit(refused && jitc_close(client) == NULL ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
    }
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_msg(workers[i].failed == NULL, "not %s: %s", workers[i].failed, workers[i].detail);
    assert_status(JITC_OK, "", jitc_flush(client));
}
END_TEST

/* ---- A daemon that stands still, or dies -------------------------------------------------------------- */

/* What a call that waits for the daemon returns, and when. */
struct call {
    pthread_t thread;
    int status;
    uint64_t took_ms;
};

static void *flush_by_query(void *user)
{
    struct call *call = user;
    uint64_t began_ms = now_ms();
    jitc_span span;

    call->status = jitc_query(client, &span, client->map.rx + client->map.bytes - 1);
    call->took_ms = now_ms() - began_ms;
    return NULL;
}

static void call_in_threads(struct call *calls, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(pthread_create(&calls[i].thread, NULL, flush_by_query, &calls[i]), 0);
}

/* All of them, within so many milliseconds more or less. */
static void expect_of_calls(const struct call *calls, unsigned count, uint64_t least_ms, uint64_t most_ms)
{
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(pthread_join(calls[i].thread, NULL), 0);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_msg(calls[i].status == JITC_E_DISCONNECTED || calls[i].status == JITC_E_TIMEOUT, "%s",
                      jitc_strerror(calls[i].status));
        ck_assert_uint_ge(calls[i].took_ms, least_ms);
        ck_assert_uint_le(calls[i].took_ms, most_ms);
    }
}

static int write_return(jitc_span *written, void *user)
{
    code_return(written->rw, *(const uint32_t *)user);
    return 0;
}

START_TEST(who_writes_directly_waits_for_nobody)
{
    jitc_scope *scope;
    jitc_span spans[2];
    uint32_t value = 83;

    connect_impatient(300);
    assert_status(JITC_OK, "", jitc_alloc(client, &spans[0], 64)); /* there is a lease */
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    assert_status(JITC_OK, "", jitc_alloc(client, &spans[1], 64));
    assert_status(JITC_OK, "", jitc_write_fn(client, &spans[0], write_return, &value, JITC_WRITE_DEFAULT));
    value++;
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_scope_write_fn(scope, &spans[1], write_return, &value));
    assert_status(JITC_OK, "", jitc_scope_end(scope));
    ck_assert_uint_eq(code_call(spans[0].rx), 83);
    ck_assert_uint_eq(code_call(spans[1].rx), 84);
    assert_status(JITC_OK, "", jitc_release(client, spans[0].rx));
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    assert_all_done(1);
    close_client();
}
END_TEST

START_TEST(a_daemon_that_stands_still_is_waited_for_no_longer_than_asked)
{
    static struct call calls[THREADS];

    connect_impatient(500);
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    call_in_threads(calls, THREADS);
    expect_of_calls(calls, THREADS, 400, 5000);
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    assert_all_done(0);
    close_client();
}
END_TEST

START_TEST(a_daemon_that_dies_is_noticed_within_a_second_or_two)
{
    static struct call calls[THREADS];

    connect_impatient(60000);
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    call_in_threads(calls, THREADS);
    (void)usleep(200000);
    ck_assert_int_eq(kill(broker.pid, SIGKILL), 0);
    expect_of_calls(calls, THREADS, 0, 3000);
    close_client();
}
END_TEST

static void on_tick(int number)
{
    (void)number;
}

/* A profiler's, say: no sleep of the library lasts to its end. */
static void tick(void)
{
    const struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    const struct itimerval often = {.it_interval = {.tv_usec = 5000}, .it_value = {.tv_usec = 5000}};

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
}

START_TEST(signals_that_come_often_keep_nobody_from_noticing)
{
    struct call call = {0};

    connect_impatient(700);
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    tick();
    (void)flush_by_query(&call);
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    ck_assert_int_eq(call.status, JITC_E_TIMEOUT);
    ck_assert_uint_le(call.took_ms, 5000);
    close_client();
}
END_TEST

/* Its sink was on the stack of a thread that has given up. */
START_TEST(what_a_late_daemon_answers_is_given_to_nobody)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    struct call call = {0};
    int status;

    connect_impatient(300);
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    (void)flush_by_query(&call);
    ck_assert_int_eq(call.status, JITC_E_TIMEOUT);
    ck_assert_uint_eq(client->plane.wanted, 0);
    /* As a thread that was on its way meanwhile: it holds the lock, and needs room. */
    client_relock(client);
    while (client->plane.tail - client->plane.collected < RING_ENTRIES)
        (void)plane_put(client, &statistics, NULL);
    plane_publish(&client->plane);
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    while (ring_head(&client->plane.ring) < client->plane.tail)
        (void)usleep(1000);
    status = plane_reserve(client, 1, 0);
    client_unlock(client);
    ck_assert_int_eq(status, JITC_OK);
    ck_assert_uint_eq(client->plane.refused, 1); /* the query's, which found no span, and nobody was told */
    ck_assert_int_eq(client->plane.unanswered.failure.status, JITC_OK);
    assert_all_done(0);
    close_client();
}
END_TEST

/* ---- The suite --------------------------------------------------------------------------------------- */

static void add_case(Suite *suite, const char *name, void (*starter)(void), void (*stopper)(void),
                     bool connects, const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, starter, stopper);
    if (connects)
        tcase_add_checked_fixture(tcase, connect_client, close_client);
    tcase_set_timeout(tcase, 0);
    for (; *tests != NULL; tests++)
        tcase_add_test(tcase, *tests);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    const TTest *const connected[] = {
        threads_that_share_a_client_each_run_what_they_wrote,
        a_write_larger_than_the_staging_arrives_whole,
        a_refusal_that_nobody_waited_for_is_told_once_at_the_next_flush,
        a_scope_tells_of_it_too,
        a_refused_write_of_a_scope_keeps_nothing_of_its_later_ones_back,
        scopes_of_several_threads_do_not_mix,
        resets_by_another_thread_leave_room_for_what_comes_after_them,
        a_fork_in_the_middle_leaves_the_ring_to_the_parent,
        NULL,
    };
    const TTest *const spinning[] = {
        threads_that_share_a_client_each_run_what_they_wrote,
        NULL,
    };
    const TTest *const cpus[] = {
        daemon_and_client_get_on_with_one_cpu,
        daemon_and_client_get_on_with_a_cpu_each,
        NULL,
    };
    const TTest *const stopped[] = {
        a_daemon_that_stands_still_is_waited_for_no_longer_than_asked,
        signals_that_come_often_keep_nobody_from_noticing,
        what_a_late_daemon_answers_is_given_to_nobody,
        NULL,
    };
    const TTest *const direct[] = {who_writes_directly_waits_for_nobody, NULL};
    const TTest *const full[] = {a_full_ring_is_waited_for, NULL};
    const TTest *const killed[] = {a_daemon_that_dies_is_noticed_within_a_second_or_two, NULL};
    Suite *suite = suite_create("plane");

    add_case(suite, "connected", start, stop, true, connected);
    add_case(suite, "spin_us=0", start_without_spinning, stop, true, spinning);
    add_case(suite, "spin_us=10000", start_spinning, stop, true, spinning);
    add_case(suite, "CPUs", start, stop, false, cpus);
    add_case(suite, "CPUs, spin_us=10000", start_spinning, stop, false, cpus);
    add_case(suite, "CPUs, spin_us=0", start_without_spinning, stop, false, cpus);
    add_case(suite, "stopped", start, stop, false, stopped);
    add_case(suite, "direct", start_direct, stop, false, direct);
    add_case(suite, "full", start, stop, false, full);
    add_case(suite, "killed", start, stop_killed, false, killed);
    return suite_run(suite);
}
