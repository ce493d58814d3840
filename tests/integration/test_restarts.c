/* SPDX-License-Identifier: MIT */
/*
 * A daemon that dies under whatever its client does, and is started again by jitbrokerd --supervise at once,
 * later than the client waits, or never; and another one in its place that knows nothing of the client.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/supervised.h"
#include "tests/integration/comeback_steps.h"

enum {
    GAP_US = 20000,
    HUGE_BYTES = 4 << 20, /* a write of many parts */
    PAGE = 4096,
};

static void start_supervised(void)
{
    if (!are_we_root())
        skip("arenas of the daemon's own user can't change after a restart: it takes root, to be another");
    supervised_start(&broker, NULL, NULL);
}

/* Who connects is a user without rights; who kills the daemon is not. */
static void take_uid(uid_t uid)
{
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(uid), 0);
}

static jitc_client *connect_as_worker(uint32_t flags)
{
    jitc_options options = broker_options(&broker);
    jitc_client *connected;

    options.flags = flags;
    take_uid(WORKER_UID);
    connected = broker_connect(&broker, &options);
    take_uid(0);
    return connected;
}

/* ---- The gap ------------------------------------------------------------------------------ */

static bool is_dead(pid_t pid)
{
    char path[64];
    char state = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return true;
    if (fscanf(file, "%*d (jitbrokerd) %c", &state) != 1)
        state = 0;
    (void)fclose(file);
    return state == 'Z';
}

/* The daemon is dead, and none is started. */
static void begin_gap(void)
{
    pid_t daemon = supervised_await_daemon(&broker, 0);

    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    while (!is_dead(daemon))
        (void)usleep(200);
}

static void end_gap(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
}

static void *end_gap_later(void *unused)
{
    (void)usleep(GAP_US);
    end_gap();
    return unused;
}

static pthread_t gap;

/* One that ends while the caller waits. */
static void pass_gap(void)
{
    begin_gap();
    ck_assert_int_eq(pthread_create(&gap, NULL, end_gap_later, NULL), 0);
}

static void after_gap(void)
{
    ck_assert_int_eq(pthread_join(gap, NULL), 0);
}

/* ---- Each call, of one who waits for long enough -------------------------------------------- */

static void in_alloc(void)
{
    jitc_span spans[2];

    pass_gap();
    assert_status(JITC_OK, "", jitc_alloc(client, &spans[0], LARGE_BYTES));
    assert_status(JITC_OK, "", jitc_alloc(client, &spans[1], SMALL_BYTES));
    assert_spans(2);
}

static void in_release(void)
{
    jitc_span span = publish(LARGE_BYTES, 1);

    pass_gap();
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    assert_spans(0);
}

static void in_write_of_many_parts(void)
{
    static uint8_t bytes[HUGE_BYTES];
    jitc_span span;

    memset(bytes, 0x90, sizeof bytes);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof bytes));
    pass_gap();
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq(span.rx, bytes, sizeof bytes);
}

static int die_and_write(jitc_span *span, void *user)
{
    pass_gap();
    code_return(span->rw, *(const uint32_t *)user);
    span->size = 64;
    return 0;
}

static void in_write_callback(void)
{
    jitc_span span = publish(LARGE_BYTES, 1);
    uint32_t value = 2;

    assert_status(JITC_OK, "", jitc_write_fn(client, &span, die_and_write, &value, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 2);
    ck_assert_uint_eq(span.size, 64);
    assert_status(JITC_OK, "", jitc_query(client, &span, span.rx));
    ck_assert_uint_eq(span.size, 64);
}

static void in_scope(void)
{
    jitc_span spans[3];
    uint8_t code[CODE_RETURN_BYTES];
    jitc_scope *scope;

    for (uint32_t i = 0; i < 3; i++)
        spans[i] = publish(SMALL_BYTES, 0);
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    for (uint32_t i = 0; i < 3; i++) {
        code_return(code, i + 1);
        assert_status(JITC_OK, "", jitc_scope_write(scope, &spans[i], 0, code, sizeof code));
        if (i == 1)
            pass_gap();
    }
    assert_status(JITC_OK, "", jitc_scope_end(scope));
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(code_call(spans[i].rx), i + 1);
}

static void in_patch(void)
{
    jitc_span span;
    uint64_t found = 0;

    assert_status(JITC_OK, "", jitc_alloc(client, &span, SMALL_BYTES));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, "\1\0\0\0", 4, JITC_WRITE_DEFAULT));
    pass_gap();
    assert_status(JITC_OK, "", jitc_patch(client, &span, 0, 4, 1, 2, &found));
    ck_assert_uint_eq(found, 1);
    assert_status(JITC_E_MISMATCH, "", jitc_patch(client, &span, 0, 4, 1, 2, &found)); /* it was done once */
    ck_assert_uint_eq(found, 2);
}

static void in_shrink(void)
{
    jitc_span span = publish(LARGE_BYTES, 3);

    pass_gap();
    assert_status(JITC_OK, "", jitc_shrink(client, &span, 64));
    assert_status(JITC_OK, "", jitc_query(client, &span, span.rx));
    ck_assert_uint_eq(span.size, 64);
    ck_assert_uint_eq(code_call(span.rx), 3);
}

static void in_seal(void)
{
    jitc_span span = publish(SMALL_BYTES, 4);

    pass_gap();
    assert_status(JITC_OK, "", jitc_seal(client, &span));
    assert_status(JITC_E_SEALED, "", jitc_write(client, &span, 0, "", 1, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 4);
}

static void in_query(void)
{
    jitc_span span = publish(LARGE_BYTES, 5);
    jitc_span found;

    pass_gap();
    assert_status(JITC_OK, "", jitc_query(client, &found, (uint8_t *)span.rx + 70000));
    ck_assert_ptr_eq(found.rx, span.rx);
}

static void in_statistics(void)
{
    (void)publish(LARGE_BYTES, 6);
    pass_gap();
    assert_spans(1);
}

static void in_reset(void)
{
    (void)publish(LARGE_BYTES, 7);
    pass_gap();
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_SOFT));
    assert_spans(0);
}

static void in_open_executor(void)
{
    jitc_span span = publish(SMALL_BYTES, 8);
    jitc_info ours = {.struct_size = sizeof ours};
    jitc_info theirs = {.struct_size = sizeof theirs};
    jitc_client *executor;
    int fd = -1;

    assert_status(JITC_OK, "", jitc_describe(client, &ours));
    pass_gap();
    assert_status(JITC_OK, "", jitc_open_executor(client, &fd));
    after_gap();
    pass_gap();
    assert_status(JITC_OK, "", jitc_attach(&executor, fd));
    after_gap();
    assert_status(JITC_OK, "", jitc_describe(executor, &theirs));
    pass_gap();
    assert_status(
        JITC_OK, "",
        jitc_query(executor, &span,
                   (const uint8_t *)theirs.base + ((const uint8_t *)span.rx - (const uint8_t *)ours.base)));
    ck_assert_uint_eq(code_call(span.rx), 8);
    (void)jitc_close(executor);
}

static void in_connect(void)
{
    jitc_client *first = client;

    pass_gap();
    client = connect_as_worker(0);
    ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 9).rx), 9);
    (void)jitc_close(client);
    client = first;
}

static void in_dial(void)
{
    jitc_options options = broker_options(&broker);
    jitc_client *first = client;
    int fd;

    pass_gap();
    take_uid(WORKER_UID);
    assert_status(JITC_OK, "", jitc_dial(&fd, &options));
    take_uid(0);
    assert_status(JITC_OK, "", jitc_adopt(&client, fd, &options));
    ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 10).rx), 10);
    (void)jitc_close(client);
    client = first;
}

/* Nobody has to be asked for it. */
static void in_map(void)
{
    void *place = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    jitc_span span = publish((size_t)2 * PAGE, 0);
    size_t skew = -(uintptr_t)span.rx % PAGE;
    uint8_t code[CODE_RETURN_BYTES];

    code_return(code, 11);
    assert_status(JITC_OK, "", jitc_write(client, &span, skew, code, sizeof code, JITC_WRITE_DEFAULT));
    begin_gap();
    assert_status(JITC_OK, "", jitc_map(client, &span, skew, PAGE, place, 0));
    ck_assert_uint_eq(code_call(place), 11);
    assert_status(JITC_OK, "", jitc_sync(client, &span));
    ck_assert_int_eq(pthread_create(&gap, NULL, end_gap_later, NULL), 0);
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    assert_spans(0);
}

/* What it has of its parent is not its own; what it asks for itself it gets. */
static void in_a_child(void)
{
    jitc_span span = publish(SMALL_BYTES, 12);
    int status;
    pid_t pid;

    pass_gap();
    pid = check_fork();
    if (pid == 0) {
        assert_status(JITC_E_FORKED, "", jitc_write(client, &span, 0, "", 1, JITC_WRITE_DEFAULT));
        ck_assert_uint_eq(code_call(span.rx), 12);
        (void)jitc_close(client);
        client = connect_as_worker(0);
        ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 13).rx), 13);
        (void)jitc_close(client);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 14).rx), 14);
    assert_spans(2);
}

static void (*const calls[])(void) = {
    in_alloc, in_release, in_write_of_many_parts, in_write_callback, in_scope,         in_patch,   in_shrink,
    in_seal,  in_query,   in_statistics,          in_reset,          in_open_executor, in_connect, in_dial,
    in_map,   in_a_child,
};

START_TEST(a_call_under_which_the_daemon_dies_takes_longer_and_nothing_else)
{
    client = connect_as_worker(0);
    calls[_i]();
    after_gap();
    client = jitc_close(client);
}
END_TEST

START_TEST(what_was_dialled_is_lost_with_the_daemon_that_accepted_it)
{
    jitc_options options = broker_options(&broker);
    jitc_client *adopted;
    int fd;

    assert_status(JITC_OK, "", jitc_dial(&fd, &options));
    client = connect_as_worker(0); /* who came later is served: it was accepted */
    pass_gap();
    assert_status(JITC_E_DISCONNECTED, "", jitc_adopt(&adopted, fd, &options));
    ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 15).rx), 15);
    after_gap();
    client = jitc_close(client);
}
END_TEST

static void ignore_signal(int number)
{
    (void)number;
}

START_TEST(signals_do_not_end_the_wait_for_the_next_daemon)
{
    const struct sigaction action = {.sa_handler = ignore_signal};
    pid_t parent = getpid();
    pid_t pid;

    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    client = connect_as_worker(0);
    pid = check_fork();
    if (pid == 0) {
        while (kill(parent, SIGUSR1) == 0)
            (void)usleep(500);
        _exit(0);
    }
    for (int i = 0; i < 5; i++) {
        pass_gap();
        (void)publish(LARGE_BYTES, 1);
        after_gap();
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    assert_spans(5);
    client = jitc_close(client);
}
END_TEST

/* ---- A gap that is longer than anybody waits ------------------------------------------------- */

START_TEST(who_has_waited_in_vain_is_served_again_when_the_session_was_adopted)
{
    uint32_t flags = _i == 0 ? 0 : JITC_FAIL_FAST;
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_options options = broker_options(&broker);
    jitc_client *other;
    jitc_span kept;
    jitc_span released;
    jitc_span span;
    int status;
    int fd = -1;

    client = connect_as_worker(flags);
    kept = publish(LARGE_BYTES, 20);
    released = publish(LARGE_BYTES, 21);
    begin_gap();
    wait_at_most(TIMEOUT_MS);
    for (int i = 0; i < 3; i++) {
        assert_late(jitc_statistics(client, &stats));
        assert_status(JITC_E_TIMEOUT, "no answer within",
                      jitc_write(client, &kept, 64, "", 1, JITC_WRITE_DEFAULT));
        assert_late(jitc_alloc(client, &span, LARGE_BYTES));
        assert_late(jitc_open_executor(client, &fd));
        ck_assert_uint_eq(code_call(kept.rx), 20);
    }
    assert_late(jitc_release(client, released.rx));
    options.timeout_ms = TIMEOUT_MS;
    assert_late(jitc_connect(&other, &options));
    wait_at_most(PATIENT_MS);
    end_gap();
    while (jitc_flush(client) == JITC_E_TIMEOUT) /* at once, where it fails fast */
        (void)usleep(1000);
    while ((status = jitc_statistics(client, &stats)) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_status(JITC_OK, "", status);
    assert_spans(1);
    assert_status(JITC_OK, "", jitc_write(client, &kept, 64, "", 1, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(kept.rx), 20);
    client = jitc_close(client);
}
END_TEST

/* ---- For ever ---------------------------------------------------------------------------------- */

static void *make_and_wait(void *status)
{
    jitc_span span;

    *(int *)status = jitc_alloc(client, &span, LARGE_BYTES);
    return NULL;
}

/* By who would wait for a minute. */
START_TEST(when_what_keeps_the_sessions_ends_too_those_who_wait_are_told)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    int statuses[THREADS];
    jitc_span span;

    client = connect_as_worker(0);
    span = publish(SMALL_BYTES, 30);
    begin_gap();
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, make_and_wait, &statuses[i]), 0);
    (void)usleep(GAP_US);
    broker_kill(&broker);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_int_eq(statuses[i], JITC_E_DISCONNECTED);
    }
    ck_assert_uint_eq(code_call(span.rx), 30);
    assert_status(JITC_E_DISCONNECTED, "the daemon is gone", jitc_flush(client));
    client = jitc_close(client);
}
END_TEST

START_TEST(another_daemon_in_its_place_that_knows_nothing_of_the_session_serves_who_connects_anew)
{
    pid_t first = broker.pid;
    char *arguments[] = {broker.program, (char *)(uintptr_t) "--socket",
                         broker.socket,  (char *)(uintptr_t) "--config",
                         broker.config,  NULL};
    jitc_options options = broker_options(&broker);
    jitc_client *old;
    jitc_span span;
    int status;
    int fd;

    old = client = connect_as_worker(0);
    span = publish(LARGE_BYTES, 40);
    ck_assert_int_eq(kill(first, SIGKILL), 0);
    ck_assert_int_eq(waitpid(first, NULL, 0), first);
    broker.pid = check_fork();
    if (broker.pid == 0) {
        become(broker.uid);
        (void)execv(broker.program, arguments);
        _exit(127);
    }
    while (jitc_connect(&client, &options) != JITC_OK)
        (void)usleep(1000);
    assert_status(JITC_E_DISCONNECTED, "", jitc_write(old, &span, 0, "", 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_DISCONNECTED, "", jitc_release(old, span.rx));
    assert_status(JITC_E_DISCONNECTED, "", jitc_open_executor(old, &fd));
    ck_assert_uint_eq(code_call(span.rx), 40);
    ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 41).rx), 41);
    assert_spans(1);
    (void)jitc_close(old);
    client = jitc_close(client);
    ck_assert_int_eq(kill(broker.pid, SIGTERM), 0);
    ck_assert_int_eq(waitpid(broker.pid, &status, 0), broker.pid);
    ck_assert_int_eq(status, 0);
    broker.pid = 0;
}
END_TEST

static TCase *add_tests(Suite *suite, const char *name, void (*starter)(void), void (*stopper)(void))
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, starter, stopper);
    tcase_set_timeout(tcase, 0);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("restarts");
    TCase *kept = add_tests(suite, "kept", start_supervised, stop);
    TCase *lost = add_tests(suite, "lost", start, stop);

    tcase_add_loop_test(kept, a_call_under_which_the_daemon_dies_takes_longer_and_nothing_else, 0,
                        (int)(sizeof calls / sizeof calls[0]));
    tcase_add_test(kept, what_was_dialled_is_lost_with_the_daemon_that_accepted_it);
    tcase_add_test(kept, signals_do_not_end_the_wait_for_the_next_daemon);
    tcase_add_loop_test(kept, who_has_waited_in_vain_is_served_again_when_the_session_was_adopted, 0, 2);
    tcase_add_test(kept, when_what_keeps_the_sessions_ends_too_those_who_wait_are_told);
    tcase_add_test(lost,
                   another_daemon_in_its_place_that_knows_nothing_of_the_session_serves_who_connects_anew);
    return suite_run(suite);
}
