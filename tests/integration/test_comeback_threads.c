/* SPDX-License-Identifier: MIT */
/* Threads that do whatever comes to their mind while the daemon is away now and then; seed printed. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/integration/comeback_steps.h"

enum {
    THREADS = 8,
    SPANS = 6, /* live ones of a thread */
    ABSENCES = 12,
};

struct worker {
    pthread_t thread;
    unsigned random;
    jitc_span spans[SPANS];
    uint32_t values[SPANS]; /* 0: no span */
    unsigned late;
    char failed[256];
};

static atomic_bool is_over;

static unsigned roll(struct worker *worker, unsigned sides)
{
    return (unsigned)rand_r(&worker->random) % sides;
}

static void note_failure(struct worker *worker, const char *what)
{
    (void)snprintf(worker->failed, sizeof worker->failed, "%s: %s", what, jitc_error_detail());
}

/* True if it was done; TIMEOUT is no failure. */
static bool went_well(struct worker *worker, const char *what, int status)
{
    worker->late += status == JITC_E_TIMEOUT;
    if (status != JITC_OK && status != JITC_E_TIMEOUT)
        note_failure(worker, what);
    return status == JITC_OK;
}

static void drop(struct worker *worker, unsigned slot)
{
    (void)went_well(worker, "release", jitc_release(client, worker->spans[slot].rx));
    worker->values[slot] = 0;
}

static void make(struct worker *worker, unsigned slot)
{
    size_t size = roll(worker, 20) == 0 ? 70000 : 64 + roll(worker, 3000);
    uint32_t value = 1 + roll(worker, 1u << 30);
    jitc_span *span = &worker->spans[slot];
    uint8_t code[CODE_RETURN_BYTES];
    int status;

    if (!went_well(worker, "alloc", jitc_alloc(client, span, size)))
        return;
    worker->values[slot] = value;
    code_return(code, value);
    do {
        status = jitc_write(client, span, 0, code, sizeof code, JITC_WRITE_DEFAULT);
        worker->late += status == JITC_E_TIMEOUT;
    } while (status == JITC_E_TIMEOUT);
    (void)went_well(worker, "write", status);
}

static void change(struct worker *worker, unsigned slot)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span *span = &worker->spans[slot];
    jitc_scope *scope;
    jitc_span found = {.size = 0};

    switch (roll(worker, 5)) {
    case 0:
        (void)went_well(worker, "shrink", jitc_shrink(client, span, 64));
        break;
    case 1:
        (void)went_well(worker, "query", jitc_query(client, &found, (uint8_t *)span->rx + 1));
        break;
    case 2:
        (void)went_well(worker, "statistics", jitc_statistics(client, &stats));
        break;
    case 3:
        if (jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT) != JITC_OK)
            note_failure(worker, "scope");
        else if (went_well(worker, "scope_write", jitc_scope_write(scope, span, 32, &found, 32)))
            (void)went_well(worker, "scope_end", jitc_scope_end(scope));
        break;
    default:
        (void)went_well(worker, "write_fn",
                        jitc_write_fn(client, span, write_return, &worker->values[slot], JITC_WRITE_DEFAULT));
        break;
    }
}

static void *work(void *user)
{
    struct worker *worker = user;

    while (!is_over && worker->failed[0] == '\0') {
        unsigned slot = roll(worker, SPANS);

        if (worker->values[slot] == 0) {
            make(worker, slot);
        } else if (code_call(worker->spans[slot].rx) != worker->values[slot]) {
            note_failure(worker, "another's code");
        } else if (roll(worker, 2) == 0) {
            drop(worker, slot);
        } else {
            change(worker, slot);
        }
    }
    return NULL;
}

static uint64_t count_live(const struct worker *workers)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned slot = 0; slot < SPANS; slot++) {
            if (workers[i].values[slot] == 0)
                continue;
            live++;
            ck_assert_uint_eq(code_call(workers[i].spans[slot].rx), workers[i].values[slot]);
        }
    }
    return live;
}

static void run_threads(uint32_t flags)
{
    static struct worker workers[THREADS];
    const char *given = getenv("JITBROKER_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)getpid();
    unsigned late = 0;

    (void)printf("JITBROKER_SEED=%u\n", seed);
    connect_with(flags);
    wait_at_most(10);
    is_over = false;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.random = seed + i};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < ABSENCES; i++) {
        (void)usleep(20000);
        stop_daemon();
        (void)usleep(40000);
        continue_daemon();
    }
    is_over = true;
    for (unsigned i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
        late += workers[i].late;
    }
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_str_eq(workers[i].failed, "");
    (void)printf("%u calls timed out\n", late);
    ck_assert_uint_gt(late, 0);
    wait_at_most(PATIENT_MS);
    while (jitc_flush(client) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_spans(count_live(workers));
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_SOFT));
    assert_spans(0);
    close_client();
}

START_TEST(threads_go_on_when_it_is_back)
{
    run_threads(_i == 0 ? 0 : JITC_FAIL_FAST);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("comeback of threads");
    TCase *away = add_case(suite, "away", start, stop);
    TCase *direct = add_case(suite, "direct", start_direct, stop);

    tcase_add_loop_test(away, threads_go_on_when_it_is_back, 0, 2);
    tcase_add_loop_test(direct, threads_go_on_when_it_is_back, 0, 2);
    return suite_run(suite);
}
