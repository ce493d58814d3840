/* SPDX-License-Identifier: MIT */
/* Whatever ends the daemon, or replaces it: its sessions are there afterwards, and what runs runs on. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/supervised.h"

#define FOR_ALL "[class default]\n"

static struct broker broker;

static void start(const char *config)
{
    if (!are_we_root())
        skip("arenas of the daemon's own user can't change after a restart: it takes root, to be another");
    supervised_start(&broker, NULL, config);
}

static uint8_t code[CODE_RETURN_BYTES];

static jitc_span write_code(jitc_client *client, uint32_t value)
{
    jitc_span span;

    code_return(code, value);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof code));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), value);
    return span;
}

/* A client in a process of its own, which does what it does after each byte that it is sent. */
static void await_turn(int turns)
{
    char byte;

    if (read(turns, &byte, 1) != 1)
        _exit(EXIT_FAILURE);
}

static void works_on(jitc_client *client, const jitc_span *span, uint32_t value)
{
    ck_assert_uint_eq(code_call(span->rx), value);
    (void)write_code(client, value + 1);
}

static void end_with(int number, bool is_upgrade)
{
    pid_t daemon = supervised_await_daemon(&broker, 0);

    ck_assert_int_eq(kill(is_upgrade ? broker.pid : daemon, number), 0);
    (void)supervised_await_daemon(&broker, daemon);
}

/*
 * Runs `meanwhile` while a worker has a session, and has the worker prove before and after it that the
 * session lives. As its last step the worker does `afterwards`, if there is one.
 */
static void with_a_worker(uid_t uid, void (*meanwhile)(void), void (*afterwards)(jitc_client *, jitc_span *))
{
    int turns[2];
    int ready[2];
    int status;
    char byte;
    pid_t worker;

    ck_assert_int_eq(pipe(turns), 0);
    ck_assert_int_eq(pipe(ready), 0);
    worker = fork();
    ck_assert_int_ge(worker, 0);
    if (worker == 0) {
        jitc_client *client;
        jitc_span span;

        become(uid);
        client = broker_connect(&broker, NULL);
        span = write_code(client, 4711);
        (void)!write(ready[1], "", 1);
        await_turn(turns[0]);
        if (afterwards != NULL)
            afterwards(client, &span);
        else
            works_on(client, &span, 4711);
        (void)jitc_close(client);
        _exit(EXIT_SUCCESS);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    meanwhile();
    ck_assert_int_eq(write(turns[1], "", 1), 1);
    ck_assert_int_eq(waitpid(worker, &status, 0), worker);
    ck_assert_int_eq(status, 0);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(turns[i]);
        (void)close(ready[i]);
    }
}

/* ---- Ends ----------------------------------------------------------------------------------------- */

static void kill_it(void)
{
    end_with(SIGKILL, false);
}

static void stop_it(void)
{
    end_with(SIGTERM, false);
}

static void do_nothing(void)
{
}

START_TEST(a_session_outlives_a_daemon_that_is_killed)
{
    start(FOR_ALL);
    with_a_worker(WORKER_UID, kill_it, NULL);
    stop_it();
    with_a_worker(WORKER_UID, do_nothing, NULL);
    broker_stop(&broker);
}
END_TEST

START_TEST(a_session_outlives_a_daemon_that_is_stopped)
{
    start(FOR_ALL);
    with_a_worker(WORKER_UID, stop_it, NULL);
    broker_stop(&broker);
}
END_TEST

static void stop_both(void)
{
    broker_stop(&broker);
}

static void is_on_its_own(jitc_client *client, jitc_span *span)
{
    ck_assert_uint_eq(code_call(span->rx), 4711);
    assert_status(JITC_E_DISCONNECTED, "",
                  jitc_write(client, span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span->rx), 4711);
}

START_TEST(when_the_supervisor_is_stopped_the_session_ends_and_its_code_runs_on)
{
    start(FOR_ALL);
    with_a_worker(WORKER_UID, stop_both, is_on_its_own);
}
END_TEST

/* Nobody can write there any more, the next daemon neither. */
static void is_frozen(jitc_client *client, jitc_span *span)
{
    ck_assert_uint_eq(code_call(span->rx), 4711);
    assert_status(JITC_E_FROZEN, "", jitc_write(client, span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span->rx), 4711);
}

START_TEST(the_arena_of_the_daemons_own_user_stays_as_it_was_when_the_daemon_ended)
{
    start(FOR_ALL);
    with_a_worker(BROKER_UID, kill_it, is_frozen);
    broker_stop(&broker);
}
END_TEST

static void kill_it_and_wait(void)
{
    kill_it();
    (void)usleep(300000); /* three times what the policy gives a connection to say Hello */
}

START_TEST(who_said_hello_to_an_earlier_daemon_need_not_say_it_again)
{
    start("[daemon]\nhello_timeout_ms=100\n" FOR_ALL);
    with_a_worker(WORKER_UID, kill_it_and_wait, NULL);
    broker_stop(&broker);
}
END_TEST

/* ---- Upgrades ---------------------------------------------------------------------------------------- */

static void upgrade_it(void)
{
    pid_t supervisor = broker.pid;

    (void)unlink(broker.program);
    broker_copy_program(getenv("JITBROKER_DAEMON"), broker.program);
    end_with(SIGUSR2, true);
    ck_assert_int_eq(broker.pid, supervisor);
    ck_assert_int_eq(kill(supervisor, 0), 0);
}

static void refuse_upgrade(void)
{
    unsigned before = broker_log_count(&broker, "no upgrade:");
    pid_t daemon = supervised_await_daemon(&broker, 0);

    ck_assert_int_eq(kill(broker.pid, SIGUSR2), 0);
    while (broker_log_count(&broker, "no upgrade:") == before)
        (void)usleep(1000);
    ck_assert_int_eq(supervised_daemon(&broker), daemon);
}

static void try_what_can_t_be_executed(void)
{
    ck_assert_int_eq(chmod(broker.program, 0644), 0);
    refuse_upgrade();
    ck_assert_int_eq(chmod(broker.program, 0755), 0);
}

static void try_a_wrong_configuration(void)
{
    supervised_configure(&broker, "nonsense\n");
    refuse_upgrade();
    supervised_configure(&broker, FOR_ALL);
}

START_TEST(a_session_outlives_upgrades)
{
    start(FOR_ALL);
    with_a_worker(WORKER_UID, upgrade_it, NULL);
    with_a_worker(WORKER_UID, upgrade_it, NULL);
    broker_stop(&broker);
}
END_TEST

START_TEST(an_upgrade_that_would_not_work_changes_nothing)
{
    start(FOR_ALL);
    with_a_worker(WORKER_UID, try_what_can_t_be_executed, NULL);
    with_a_worker(WORKER_UID, try_a_wrong_configuration, NULL);
    broker_stop(&broker);
}
END_TEST

/* ---- A policy that is wrong when the next daemon starts -------------------------------------------- */

static void restart_with_a_wrong_configuration(void)
{
    supervised_configure(&broker, "nonsense\n");
    kill_it();
}

static void is_served_and_others_are_not(jitc_client *client, jitc_span *span)
{
    jitc_options options = broker_options(&broker);
    jitc_client *other;

    works_on(client, span, 4711);
    assert_status(JITC_E_REFUSED, "", jitc_connect(&other, &options));
}

static bool is_served(void)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client = NULL;
    bool is = jitc_connect(&client, &options) == JITC_OK;

    (void)jitc_close(client);
    return is;
}

START_TEST(with_a_wrong_policy_those_who_were_there_are_served_and_no_others_until_it_is_right)
{
    start(FOR_ALL);
    with_a_worker(WORKER_UID, restart_with_a_wrong_configuration, is_served_and_others_are_not);
    supervised_configure(&broker, FOR_ALL);
    ck_assert_int_eq(kill(broker.pid, SIGHUP), 0);
    while (!is_served())
        (void)usleep(1000);
    with_a_worker(WORKER_UID, do_nothing, NULL);
    broker_stop(&broker);
}
END_TEST

/* ---- A supervisor that is slow ------------------------------------------------------------------------ */

/* So that nothing the daemon has to say finds room. */
static void silence_the_supervisor(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.99s.notify", broker.socket);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    while (send(fd, "", 1, 0) > 0)
        continue;
    ck_assert_int_eq(errno, EAGAIN);
    (void)close(fd);
}

START_TEST(an_executor_that_was_ended_stays_so_where_the_supervisor_did_not_come_to_hear_of_it)
{
    jitc_client *owner;
    uint8_t goodbye[512];
    pid_t daemon;
    int end;
    int status;

    start(FOR_ALL);
    owner = broker_connect(&broker, NULL);
    (void)write_code(owner, 1);
    assert_status(JITC_OK, "", jitc_open_executor(owner, &end));
    silence_the_supervisor();
    ck_assert_int_eq(send(end, "\xff", 1, 0), 1);
    ck_assert_int_gt(recv(end, goodbye, sizeof goodbye, 0), 0);
    ck_assert_int_eq(recv(end, goodbye, sizeof goodbye, 0), 0); /* it has ended, not only said so */
    daemon = supervised_daemon(&broker);
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    (void)supervised_await_daemon(&broker, daemon);
    (void)jitc_close(broker_connect(&broker, NULL));            /* the next one has adopted what there was */
    ck_assert_int_le(recv(end, goodbye, sizeof goodbye, 0), 0); /* or ECONNRESET, once */
    ck_assert_int_eq(send(end, "\xff", 1, MSG_NOSIGNAL), -1);
    (void)close(end);
    (void)jitc_close(owner);
    ck_assert_int_eq(waitpid(broker.pid, &status, WNOHANG), 0);
    broker_stop(&broker);
}
END_TEST

/* ---- Rates ----------------------------------------------------------------------------------------- */

#define LARGE_BYTES (32u << 10)

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* By each of them a write of so many bytes is followed by the next one half a second later; 0.1 s is a burst.
 */
static const char *const rates[] = {FOR_ALL "rate=2\n", FOR_ALL "rate=0 64K\n"};

static void write_large(jitc_client *client, jitc_span *span)
{
    static const uint8_t bytes[LARGE_BYTES];

    assert_status(JITC_OK, "", jitc_write(client, span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
}

START_TEST(who_is_ahead_of_its_rate_is_so_for_the_next_daemon)
{
    jitc_client *client;
    jitc_client *other;
    jitc_span span;
    uint64_t began_ms;

    start(rates[_i]);
    ck_assert_int_eq(seteuid(WORKER_UID), 0);
    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, LARGE_BYTES));
    (void)sleep(2); /* by then the alloc is paid for */
    began_ms = now_ms();
    write_large(client, &span);
    write_large(client, &span);
    other = broker_connect(&broker, NULL); /* whose turn comes after the one that did it */
    ck_assert_int_eq(seteuid(0), 0);
    end_with(SIGKILL, false);
    write_large(client, &span);
    ck_assert_uint_ge(now_ms() - began_ms, 800);
    (void)jitc_close(other);
    (void)jitc_close(client);
    broker_stop(&broker);
}
END_TEST

#define SHARED_MAX 60

/* How many more of them the user may have, which it gives back. */
static unsigned fill(jitc_client *client, size_t bytes, int expected)
{
    jitc_span spans[SHARED_MAX];
    unsigned count = 0;
    int status;

    while ((status = jitc_alloc(client, &spans[count], bytes)) == JITC_OK)
        ck_assert_uint_lt(++count, SHARED_MAX);
    ck_assert_msg(status == expected, "%s: %s", jitc_strerror(status), jitc_error_detail());
    for (unsigned i = 0; i < count; i++)
        assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    assert_status(JITC_OK, "", jitc_flush(client));
    return count;
}

/* What one session has is charged to the user, and so to the other one as well, before either asks for more.
 */
START_TEST(two_sessions_of_a_user_share_its_quota_exactly_as_before)
{
    jitc_client *one;
    jitc_client *other;
    jitc_span span;
    unsigned spans;
    unsigned large;

    start(FOR_ALL "span_max=50\nbytes_max=2M\n");
    ck_assert_int_eq(seteuid(WORKER_UID), 0);
    one = broker_connect(&broker, NULL);
    other = broker_connect(&broker, NULL);
    ck_assert_int_eq(seteuid(0), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_status(JITC_OK, "", jitc_alloc(one, &span, 80 << 10));
    (void)fill(other, 80 << 10, JITC_E_QUOTA_BYTES);
    spans = fill(other, 64, JITC_E_QUOTA_SPANS);
    large = fill(other, 80 << 10, JITC_E_QUOTA_BYTES);
    ck_assert_uint_eq(spans, 50);
    ck_assert_uint_gt(large, 0);
    end_with(SIGKILL, false);
    ck_assert_uint_eq(fill(other, 64, JITC_E_QUOTA_SPANS), spans);
    ck_assert_uint_eq(fill(other, 80 << 10, JITC_E_QUOTA_BYTES), large);
    (void)jitc_close(one);
    (void)jitc_close(other);
    broker_stop(&broker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kept");
    TCase *tests = tcase_create("kept");

    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, who_said_hello_to_an_earlier_daemon_need_not_say_it_again);
    tcase_add_test(tests, a_session_outlives_a_daemon_that_is_killed);
    tcase_add_test(tests, a_session_outlives_a_daemon_that_is_stopped);
    tcase_add_test(tests, when_the_supervisor_is_stopped_the_session_ends_and_its_code_runs_on);
    tcase_add_test(tests, the_arena_of_the_daemons_own_user_stays_as_it_was_when_the_daemon_ended);
    tcase_add_test(tests, a_session_outlives_upgrades);
    tcase_add_test(tests, an_upgrade_that_would_not_work_changes_nothing);
    tcase_add_test(tests,
                   with_a_wrong_policy_those_who_were_there_are_served_and_no_others_until_it_is_right);
    tcase_add_test(tests,
                   an_executor_that_was_ended_stays_so_where_the_supervisor_did_not_come_to_hear_of_it);
    tcase_add_loop_test(tests, who_is_ahead_of_its_rate_is_so_for_the_next_daemon, 0,
                        (int)(sizeof rates / sizeof rates[0]));
    tcase_add_test(tests, two_sessions_of_a_user_share_its_quota_exactly_as_before);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
