/* SPDX-License-Identifier: MIT */
/*
 * libjitclient in the handler of a fault: whoever runs into a page that has no code yet gets it there, in
 * several threads at once. Meanwhile one function of the heap fails, and none of its calls is counted: the
 * library makes none.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/faults/faults.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/fixture.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"

enum {
    PAGE = 4096,
    THREADS = 4,
    PAGES = 64, /* of each thread */
    STACK_BYTES = 64 << 10,
    STACK_MAX_BYTES = 8 << 10, /* what jitclient.h says */
    UNTOUCHED = 0xA5,
};

static jitc_client *client;

static struct worker {
    uint8_t *pages; /* nothing is there before it is run */
    jitc_scope *scope;
    jitc_span last; /* its size is 0: there is none */
    uint8_t *stack; /* the handler's ... */
    uint8_t *entry; /* ... and where in it the handler begins */
    unsigned served;
    unsigned right; /* pages that returned what they should */
    int status;     /* the first failure */
} workers[THREADS];

static pthread_barrier_t step; /* all threads are there, then the heap fails, then all is done */
static _Thread_local struct worker *me __attribute__((tls_model("initial-exec")));

/* ---- The handler ----------------------------------------------------------------------------- */

static void note(int status)
{
    if (me->status == JITC_OK)
        me->status = status;
}

static void write_code(jitc_span *span, size_t at, const uint8_t *code, size_t bytes, bool by_scope)
{
    if (by_scope) {
        note(jitc_scope_write(me->scope, span, at, code, bytes));
        note(jitc_scope_flush(me->scope));
    } else {
        note(jitc_write(client, span, at, code, bytes, JITC_WRITE_DEFAULT));
    }
}

/* A page that returns its number, in a span that the library places or, each fourth, the daemon. */
static void serve(size_t page)
{
    size_t bytes = page % 4 == 3 ? 17 * PAGE : 2 * PAGE;
    uint8_t code[CODE_RETURN_BYTES];
    jitc_span span;
    size_t skew;
    int status = jitc_alloc(client, &span, bytes);

    note(status);
    if (status != JITC_OK)
        return;
    skew = -(uintptr_t)span.rx % PAGE;
    code_return(code, (uint32_t)page);
    write_code(&span, skew, code, sizeof code, page % 2 == 1);
    note(jitc_map(client, &span, skew, PAGE, me->pages + page * PAGE, 0));
    if (me->last.size > 0)
        note(jitc_release(client, me->last.rx));
    note(jitc_alloc(client, &me->last, page % 4 == 2 ? 17 * PAGE : 1));
    if (jitc_alloc(client, &span, SIZE_MAX) != JITC_E_TOO_LARGE) /* and what fails says why */
        note(JITC_E_BAD_REPLY);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    size_t page = (size_t)((uint8_t *)info->si_addr - me->pages) / PAGE;
    int error = errno;

    (void)context;
    if (page >= PAGES || me->status != JITC_OK) { /* no page of ours, or it can't be helped */
        struct sigaction act = {.sa_handler = SIG_DFL};

        (void)sigaction(signal, &act, NULL);
        return;
    }
    me->entry = __builtin_frame_address(0);
    serve(page);
    me->served++;
    if (me->status != JITC_OK) /* it can be read at least */
        (void)mprotect(me->pages + page * PAGE, PAGE, PROT_READ | PROT_WRITE);
    errno = error;
}

static void use_own_stack(struct worker *worker)
{
    stack_t stack = {.ss_sp = worker->stack, .ss_size = STACK_BYTES};

    me = worker;
    (void)sigaltstack(&stack, NULL);
}

static void use_no_stack(void)
{
    const stack_t none = {.ss_flags = SS_DISABLE};

    (void)sigaltstack(&none, NULL);
}

/* ---- The threads ------------------------------------------------------------------------------ */

static void *run_all(void *argument)
{
    use_own_stack(argument);
    (void)pthread_barrier_wait(&step);
    (void)pthread_barrier_wait(&step);
    for (uint32_t page = 0; page < PAGES; page++)
        me->right += code_call(me->pages + page * PAGE) == page;
    (void)pthread_barrier_wait(&step);
    use_no_stack();
    return NULL;
}

static void *map_pages(size_t bytes, int protection)
{
    void *memory = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

static void set_up(void)
{
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    client = broker_connect(&broker, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.pages = map_pages(PAGES * PAGE, PROT_NONE),
                                     .stack = map_pages(STACK_BYTES, PROT_READ | PROT_WRITE)};
        memset(workers[i].stack, UNTOUCHED, STACK_BYTES);
        assert_status(JITC_OK, "", jitc_scope_begin(client, &workers[i].scope, JITC_WRITE_DEFAULT));
    }
    ck_assert_int_eq(sigaction(SIGSEGV, &act, NULL), 0);
}

/* By all that the handler called. */
static size_t used_bytes(const struct worker *worker)
{
    size_t untouched = 0;

    while (worker->stack[untouched] == UNTOUCHED)
        untouched++;
    return (size_t)(worker->entry - worker->stack) - untouched;
}

static void check_stack(const struct worker *worker)
{
    if (!HAS_SANITIZER)
        ck_assert_uint_le(used_bytes(worker), STACK_MAX_BYTES);
}

static void check(struct worker *worker)
{
    assert_status(JITC_OK, "", worker->status);
    ck_assert_uint_eq(worker->served, PAGES);
    ck_assert_uint_eq(worker->right, PAGES);
    check_stack(worker);
    assert_status(JITC_OK, "", jitc_scope_end(worker->scope));
}

static void run_without(enum fault fault)
{
    pthread_t threads[THREADS];

    become(WORKER_UID);
    set_up();
    ck_assert_int_eq(pthread_barrier_init(&step, NULL, THREADS + 1), 0);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_all, &workers[i]), 0);
    (void)pthread_barrier_wait(&step);
    faults_arm(faults, fault, 0, true);
    (void)pthread_barrier_wait(&step);
    (void)pthread_barrier_wait(&step);
    ck_assert_uint_eq(faults_disarm(faults), 0); /* not earlier: it allocates */
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        check(&workers[i]);
    (void)pthread_barrier_destroy(&step);
    (void)jitc_close(client);
}

START_TEST(faults_are_served_without_malloc)
{
    run_without(FAULT_MALLOC);
}
END_TEST

START_TEST(faults_are_served_without_calloc)
{
    run_without(FAULT_CALLOC);
}
END_TEST

START_TEST(faults_are_served_without_realloc)
{
    run_without(FAULT_REALLOC);
}
END_TEST

static void run_when_ended_by(int signal)
{
    volatile const uint8_t *page;

    set_up();
    use_own_stack(&workers[0]);
    page = me->pages;
    (void)kill(broker.pid, signal);
    while (broker_fds(&broker) > 0)
        (void)usleep(1000);
    faults_arm(faults, FAULT_MALLOC, 0, true);
    (void)*page;
    ck_assert_uint_eq(faults_disarm(faults), 0);
    use_no_stack();
    ck_assert_uint_eq(me->served, 1);
    assert_status(JITC_E_DISCONNECTED, "", me->status);
    check_stack(me);
    for (unsigned i = 0; i < THREADS; i++)
        (void)jitc_scope_end(workers[i].scope);
    (void)jitc_close(client);
}

START_TEST(a_crash_of_the_daemon_is_told_without_malloc)
{
    run_when_ended_by(SIGKILL);
}
END_TEST

START_TEST(the_daemons_last_word_is_told_without_malloc)
{
    run_when_ended_by(SIGTERM);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "the daemon stops"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handler");
    TCase *tcase = tcase_create("handler");
    TCase *crash = tcase_create("crash");
    TCase *stopped = tcase_create("stopped");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, faults_are_served_without_malloc);
    tcase_add_test(tcase, faults_are_served_without_calloc);
    tcase_add_test(tcase, faults_are_served_without_realloc);
    suite_add_tcase(suite, tcase);
    tcase_add_unchecked_fixture(crash, start, bury);
    tcase_set_timeout(crash, 0);
    tcase_add_test(crash, a_crash_of_the_daemon_is_told_without_malloc);
    suite_add_tcase(suite, crash);
    tcase_add_unchecked_fixture(stopped, start, bury);
    tcase_set_timeout(stopped, 0);
    tcase_add_test(stopped, the_daemons_last_word_is_told_without_malloc);
    suite_add_tcase(suite, stopped);
    return suite_run(suite);
}
