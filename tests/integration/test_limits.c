/* SPDX-License-Identifier: MIT */
/* Every limit of the configuration: met exactly, told clearly, free again afterwards. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/broker.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

static struct broker broker;

static void start_small(void)
{
    broker_start(&broker, "[daemon]\n"
                          "sessions_max=12\n"
                          "[class default]\n"
                          "uid=64902-64903 0-60000\n"
                          "session_max=4\n"
                          "span_max=10\n"
                          "arena=1M\n"
                          "arena_max=2M\n"
                          "bytes_max=256K\n");
}

static void start_slow(void)
{
    broker_start(&broker, "[class default]\nrate=1000\n");
}

static void start_default(void)
{
    broker_start(&broker, NULL);
}

static void start_refusing(void)
{
    broker_start(&broker, "[class default]\nwrite=none\n");
}

/* Comes last: this process may not be able to raise its limit again. */
static void start_few_descriptors(void)
{
    const struct rlimit limit = {100, 100};

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    broker_start(&broker, NULL);
}

static void stop(void)
{
    broker_stop(&broker);
}

START_TEST(the_tenth_span_passes_and_the_eleventh_is_refused)
{
    jitc_client *client;
    jitc_span spans[10];
    jitc_span one_more;

    tries("endless-spans");
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++)
            assert_status(JITC_OK, "", jitc_alloc(client, &spans[i], 100));
        assert_status(JITC_E_QUOTA_SPANS, "its 10 spans", jitc_alloc(client, &one_more, 1));
        for (int i = 0; i < 10; i++)
            assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    }
    (void)jitc_close(client);
}
END_TEST

START_TEST(code_memory_of_one_user_is_bounded_over_all_its_sessions)
{
    jitc_client *first;
    jitc_client *second;
    jitc_span span;

    tries("endless-blocks");
    become(WORKER_UID);
    first = broker_connect(&broker, NULL);
    second = broker_connect(&broker, NULL);
    assert_status(JITC_E_QUOTA_BYTES, "262144", jitc_alloc(first, &span, 262144));
    assert_status(JITC_OK, "", jitc_alloc(first, &span, 131072 - 64)); /* two blocks exactly */
    assert_status(JITC_E_QUOTA_BYTES, "", jitc_alloc(second, &span, 131072));
    assert_status(JITC_OK, "", jitc_alloc(second, &span, 131072 - 64));
    assert_status(JITC_E_QUOTA_BYTES, "", jitc_alloc(first, &span, 1));
    /* What one session gives up is there for the other. */
    (void)jitc_close(second);
    while (jitc_alloc(first, &span, 65536) == JITC_E_QUOTA_BYTES)
        (void)usleep(1000); /* the daemon has yet to see the end */
    assert_status(JITC_E_TOO_LARGE, "largest", jitc_alloc(first, &span, 1 << 20));
    (void)jitc_close(first);
}
END_TEST

START_TEST(an_arena_beyond_the_policys_is_refused)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;

    become(WORKER_UID);
    options.arena_bytes = 2 << 20;
    assert_status(JITC_OK, "", jitc_connect(&client, &options));
    (void)jitc_close(client);
    options.arena_bytes = (2 << 20) + 1;
    assert_status(JITC_E_TOO_LARGE, "the policy allows 2097152", jitc_connect(&client, &options));
}
END_TEST

static void connect_at_last(jitc_client **client, const jitc_options *options)
{
    int status;

    while ((status = jitc_connect(client, options)) == JITC_E_QUOTA_SESSIONS)
        (void)usleep(20000);
    assert_status(JITC_OK, "", status);
}

START_TEST(sessions_of_one_user_and_of_all_are_bounded)
{
    jitc_options options = broker_options(&broker);
    jitc_client *clients[4];
    jitc_client *one_more;
    int silent;
    int status;
    char byte;

    tries("endless-sessions");
    become(WORKER_UID);
    for (int i = 0; i < 4; i++)
        connect_at_last(&clients[i], &options);
    assert_status(JITC_E_QUOTA_SESSIONS, "its 4 sessions", jitc_connect(&one_more, &options));
    (void)jitc_close(clients[3]);
    connect_at_last(&clients[3], &options); /* the room is there again */
    (void)jitc_close(clients[3]);
    /* A connection counts before it has said a word: once this one is let in, there is no room. */
    do {
        silent = broker_socket(&broker);
        (void)usleep(10000);
        status = (int)recv(silent, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
        if (status >= 0)
            (void)close(silent); /* turned away: the last one's end was not seen yet */
    } while (status >= 0);
    assert_status(JITC_E_QUOTA_SESSIONS, "uid", jitc_connect(&one_more, &options));
    (void)close(silent);
    connect_at_last(&clients[3], &options);
    for (int i = 0; i < 4; i++)
        (void)jitc_close(clients[i]);
}
END_TEST

/* The kernel bounds the descriptors that a user has in flight: the daemon's, over all its clients. */
START_TEST(who_leaves_welcome_unread_stays_charged_until_it_reads_or_closes)
{
    const struct hello hello = {.version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION};
    jitc_options options = broker_options(&broker);
    struct wire *wires[4];
    jitc_client *client;

    tries("unread");
    become(WORKER_UID);
    connect_at_last(&client, &options); /* whoever came before is gone */
    (void)jitc_close(client);
    for (int i = 0; i < 4; i++) {
        struct buffer out;

        wires[i] = wire_new(broker_socket(&broker));
        out = wire_begin(wires[i]);
        ck_assert(codec_put_hello(&out, &hello));
        wire_send(wires[i], &out);
        wire_send_bytes(wires[i], "\xFF", 1); /* ends the session */
    }
    while (broker_log_count(&broker, "no request") < 4)
        (void)usleep(1000);
    assert_status(JITC_E_QUOTA_SESSIONS, "its 4 sessions", jitc_connect(&client, &options));
    wire_receive(wires[0]); /* Welcome */
    wire_expect_goodbye(wires[0], STATUS_MALFORMED, "no request");
    connect_at_last(&client, &options);
    assert_status(JITC_E_QUOTA_SESSIONS, "its 4 sessions", jitc_connect(&client, &options));
    (void)jitc_close(client);
    for (int i = 0; i < 4; i++)
        (void)wire_free(wires[i]);
}
END_TEST

START_TEST(another_user_is_not_affected_by_a_full_one)
{
    jitc_options options = broker_options(&broker);
    jitc_client *clients[4];
    jitc_client *other;
    int ready[2];
    int done[2];
    pid_t pid;
    char byte;

    if (!are_we_root())
        skip("only root can be two users");
    ck_assert_int_eq(pipe(ready), 0);
    ck_assert_int_eq(pipe(done), 0);
    pid = check_fork();
    if (pid == 0) {
        become(WORKER_UID);
        for (int i = 0; i < 4; i++)
            connect_at_last(&clients[i], &options);
        ck_assert_int_eq(write(ready[1], "", 1), 1);
        ck_assert_int_eq(read(done[0], &byte, 1), 1);
        for (int i = 0; i < 4; i++)
            (void)jitc_close(clients[i]);
        exit(0);
    }
    become(OTHER_WORKER_UID);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < 2; i++)
        assert_status(JITC_OK, "", jitc_connect(&clients[i], &options));
    /* Of the 8 that are left the second user may have a third. */
    assert_status(JITC_E_QUOTA_SESSIONS, "share of the daemon's 12 sessions", jitc_connect(&other, &options));
    ck_assert_int_eq(write(done[1], "", 1), 1);
    for (int i = 0; i < 2; i++)
        (void)jitc_close(clients[i]);
}
END_TEST

START_TEST(a_uid_that_is_not_served_is_told_so)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;

    if (!are_we_root())
        skip("only root can be another user");
    become(OTHER_WORKER_UID + 1);
    assert_status(JITC_E_REFUSED, "uid 64904 is in no class", jitc_connect(&client, &options));
    /* The log is bounded: what came before may have used this second's share. */
    while (broker_log_count(&broker, "session_refused: uid=64904") == 0) {
        (void)usleep(100000);
        ck_assert_int_eq(jitc_connect(&client, &options), JITC_E_REFUSED);
    }
}
END_TEST

/* The hog's sessions each send batches that take long; the other user's calls wait for one operation, not for
 * all. */
START_TEST(many_sessions_of_one_user_get_no_more_time_than_one)
{
    enum { HOGS = 40, CALLS = 30 };
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 8u << 20};
    jitc_client *client;
    jitc_span span;
    int ready[2];
    pid_t pid;
    char byte;
    int finished;

    if (!are_we_root())
        skip("only root can be two users");
    ck_assert_int_eq(pipe(ready), 0);
    pid = check_fork();
    if (pid == 0) {
        static struct wire *wires[HOGS];

        become(WORKER_UID);
        for (int i = 0; i < HOGS; i++) {
            struct buffer out;
            uint64_t at;

            wires[i] = wire_new(broker_socket(&broker));
            wire_hello(wires[i]);
            at = wire_run(wires[i], &alloc).offset;
            out = wire_begin(wires[i]);
            for (int n = 0; n < 16; n++) {
                ck_assert(
                    codec_put_operation(&out, &(struct request){.operation = OPERATION_RELEASE, .span = at}));
                ck_assert(codec_put_operation(&out, &alloc));
            }
            wire_send(wires[i], &out);
        }
        ck_assert_int_eq(write(ready[1], "", 1), 1);
        for (int i = 0; i < HOGS; i++) {
            wire_receive(wires[i]);
            ck_assert_uint_eq(wires[i]->reply.results_count, 32);
            (void)wire_free(wires[i]);
        }
        exit(0);
    }
    become(OTHER_WORKER_UID);
    client = broker_connect(&broker, NULL);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < CALLS; i++) {
        assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
        assert_status(JITC_OK, "", jitc_release(client, span.rx));
    }
    /* 1,280 operations of theirs against 60 of ours: we are done long before. */
    ck_assert_int_eq(waitpid(pid, &finished, WNOHANG), 0);
    (void)jitc_close(client);
}
END_TEST

START_TEST(write_none_grants_nothing)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;

    become(WORKER_UID);
    assert_status(JITC_E_REFUSED, "no code memory", jitc_connect(&client, &options));
}
END_TEST

static double seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

START_TEST(a_flood_is_held_to_its_rate_and_loses_nothing)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_client *client;
    double began;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    began = seconds();
    for (int i = 0; i < 600; i++)
        assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    /* 600 operations at 1,000 a second, of which the first 100 may come at once. */
    ck_assert_double_ge(seconds() - began, 0.45);
    (void)jitc_close(client);
}
END_TEST

START_TEST(the_daemon_serves_no_more_sessions_than_it_has_descriptors_for)
{
    enum { SESSIONS = (100 - 64) / 2 / 5 };
    jitc_options options = broker_options(&broker);
    jitc_client *clients[SESSIONS];
    jitc_client *one_more;
    jitc_span span;

    tries("endless-sessions");
    become(WORKER_UID);
    for (int i = 0; i < SESSIONS; i++)
        connect_at_last(&clients[i], &options);
    for (int i = 0; i < 100; i++)
        assert_status(JITC_E_QUOTA_SESSIONS, "share of the daemon's 36 descriptors",
                      jitc_connect(&one_more, &options));
    for (int i = 0; i < SESSIONS; i++) {
        assert_status(JITC_OK, "", jitc_alloc(clients[i], &span, 64));
        (void)jitc_close(clients[i]);
    }
    ck_assert_uint_eq(broker_log_count(&broker, "fewer descriptors than sessions_max= needs: 100;"), 1);
}
END_TEST

/* A request of the largest kind by each of many sessions, and all of them there at once. */
START_TEST(many_long_requests_of_one_user_wait_for_each_other_and_are_all_answered)
{
    enum { SESSIONS = 300 };
    static const uint8_t data[58000];
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = sizeof data};
    const struct request small = {.operation = OPERATION_ALLOC, .size = 100};
    const struct request write = {
        .operation = OPERATION_WRITE, .span = 64, .data = data, .data_bytes = sizeof data};
    struct wire *wire = wire_new(broker_socket(&broker));
    int sockets[SESSIONS] = {wire->socket};
    struct buffer out;

    for (int i = 0; i < SESSIONS; i++) {
        if (i > 0)
            wire->socket = sockets[i] = broker_socket(&broker);
        wire_hello(wire);
        ck_assert_int_eq(wire_run(wire, &alloc).status, STATUS_OK);
    }
    out = wire_begin(wire);
    ck_assert(codec_put_operation(&out, &write) && codec_put_operation(&out, &write));
    for (unsigned i = 2; i < OPERATIONS_MAX; i++)
        ck_assert(codec_put_operation(&out, &small));
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    for (int i = 0; i < SESSIONS; i++) {
        wire->socket = sockets[i];
        wire_send(wire, &out);
    }
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    for (int i = 0; i < SESSIONS; i++) {
        wire->socket = sockets[i];
        wire_receive(wire);
        ck_assert_msg(!wire->reply.has_error, "session %d: %s", i, wire->reply.error.text);
        ck_assert_uint_eq(wire->reply.results_count, OPERATIONS_MAX);
    }
    for (int i = 0; i < SESSIONS - 1; i++)
        (void)close(sockets[i]);
    wire = wire_free(wire);
}
END_TEST

static void add_case(Suite *suite, const char *name, void (*start)(void), const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 0);
    for (; *tests != NULL; tests++)
        tcase_add_test(tcase, *tests);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    const TTest *const small[] = {the_tenth_span_passes_and_the_eleventh_is_refused,
                                  code_memory_of_one_user_is_bounded_over_all_its_sessions,
                                  an_arena_beyond_the_policys_is_refused,
                                  sessions_of_one_user_and_of_all_are_bounded,
                                  who_leaves_welcome_unread_stays_charged_until_it_reads_or_closes,
                                  another_user_is_not_affected_by_a_full_one,
                                  a_uid_that_is_not_served_is_told_so,
                                  NULL};
    const TTest *const slow[] = {a_flood_is_held_to_its_rate_and_loses_nothing, NULL};
    const TTest *const refusing[] = {write_none_grants_nothing, NULL};
    const TTest *const crowded[] = {many_sessions_of_one_user_get_no_more_time_than_one,
                                    many_long_requests_of_one_user_wait_for_each_other_and_are_all_answered,
                                    NULL};
    const TTest *const few[] = {the_daemon_serves_no_more_sessions_than_it_has_descriptors_for, NULL};
    Suite *suite = suite_create("limits");

    add_case(suite, "small", start_small, small);
    add_case(suite, "slow", start_slow, slow);
    add_case(suite, "refusing", start_refusing, refusing);
    add_case(suite, "crowded", start_default, crowded);
    if (getenv("JITBROKER_TEST_BY_TOOL") == NULL)
        add_case(suite, "few descriptors", start_few_descriptors, few);
    else
        (void)printf("skipped: the tool that runs this keeps the limit of descriptors to itself\n");
    return suite_run(suite);
}
