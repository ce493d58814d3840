/* SPDX-License-Identifier: MIT */
/* jitc_descriptors(): what a program that closes all other descriptors has to leave open. */
#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/fixture.h"
#include "tests/harness/suite.h"

enum { FDS = 256, NOT_ONE = -2 };

/* ---- Which they are ------------------------------------------------------------------------ */

static void see_open(bool is_open[FDS])
{
    for (int fd = 0; fd < FDS; fd++)
        is_open[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* All that were opened since `before` are told, each once, and no other. */
static void check_all_told(jitc_client *client, bool before[FDS])
{
    bool is_open[FDS];
    int fds[8];
    size_t count = 0;

    assert_status(JITC_OK, "", jitc_descriptors(client, fds, 8, &count));
    ck_assert_uint_ge(count, 2);
    ck_assert_uint_le(count, 3);
    see_open(is_open);
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_ge(fds[i], 0);
        ck_assert_int_lt(fds[i], FDS);
        ck_assert(is_open[fds[i]] && !before[fds[i]]);
        ck_assert_int_ne(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, 0);
        before[fds[i]] = true;
    }
    for (int fd = 0; fd < FDS; fd++)
        ck_assert_msg(is_open[fd] == before[fd], "descriptor %d is not told", fd);
}

START_TEST(all_that_a_client_opens_are_told)
{
    bool before[FDS];
    jitc_client *client;

    become(WORKER_UID);
    see_open(before);
    client = broker_connect(&broker, NULL);
    check_all_told(client, before);
    (void)jitc_close(client);
}
END_TEST

START_TEST(all_that_an_executor_opens_are_told)
{
    bool before[FDS];
    jitc_client *owner;
    jitc_client *client;
    int end;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_open_executor(owner, &end));
    see_open(before);
    before[end] = false;
    assert_status(JITC_OK, "", jitc_attach(&client, end));
    check_all_told(client, before);
    (void)jitc_close(client);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(all_that_the_client_of_a_private_broker_opens_are_told)
{
    bool before[FDS];
    jitc_client *client;

    become(WORKER_UID);
    (void)setenv("JITBROKER_DAEMON", broker.program, 1);
    see_open(before);
    assert_status(JITC_OK, "", jitc_spawn(&client, NULL));
    check_all_told(client, before);
    (void)jitc_close(client);
}
END_TEST

START_TEST(as_many_are_written_as_there_is_room_for_and_all_are_counted)
{
    int fds[3] = {NOT_ONE, NOT_ONE, NOT_ONE};
    size_t count = 0;
    size_t all = 0;
    jitc_client *client;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_descriptors(client, NULL, 0, &all));
    ck_assert_uint_ge(all, 2);
    assert_status(JITC_OK, "", jitc_descriptors(client, fds, 1, &count));
    ck_assert_uint_eq(count, all);
    ck_assert_int_ge(fds[0], 0);
    ck_assert_int_eq(fds[1], NOT_ONE);
    assert_status(JITC_OK, "", jitc_descriptors(client, fds, all, &count));
    ck_assert_int_ge(fds[all - 1], 0);
    assert_status(JITC_E_INVALID, "count is NULL", jitc_descriptors(client, fds, 3, NULL));
    assert_status(JITC_E_INVALID, "fds is NULL", jitc_descriptors(client, NULL, 1, &count));
    assert_status(JITC_E_INVALID, "client is NULL", jitc_descriptors(NULL, fds, 3, &count));
    (void)jitc_close(client);
}
END_TEST

START_TEST(they_are_where_the_options_want_them_and_elsewhere_where_that_cannot_be)
{
    jitc_options options = broker_options(&broker);
    const struct rlimit few = {.rlim_cur = 100, .rlim_max = 100};
    int fds[8];
    size_t count;
    jitc_client *client;

    become(WORKER_UID);
    options.fd_min = 60;
    client = broker_connect(&broker, &options);
    assert_status(JITC_OK, "", jitc_descriptors(client, fds, 8, &count));
    for (size_t i = 0; i < count; i++)
        ck_assert_int_ge(fds[i], 60);
    (void)jitc_close(client);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    options.fd_min = 100;
    client = broker_connect(&broker, &options);
    assert_status(JITC_OK, "", jitc_descriptors(client, fds, 8, &count));
    for (size_t i = 0; i < count; i++)
        ck_assert(fds[i] > 2 && fds[i] < 100);
    (void)jitc_close(client);
    options.struct_size = offsetof(jitc_options, fd_min); /* of who was built before there was one */
    client = broker_connect(&broker, &options);
    (void)jitc_close(client);
}
END_TEST

/* ---- Without all others ---------------------------------------------------------------------- */

static bool is_one_of(int fd, const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] == fd)
            return true;
    }
    return false;
}

/* Returns what it ran into, or what its code returned. */
static int close_all_others_and_run(jitc_client *client)
{
    uint8_t code[CODE_RETURN_BYTES];
    jitc_span large;
    jitc_span span;
    int fds[8];
    size_t count = 0;
    int status = jitc_descriptors(client, fds, 8, &count);

    for (int fd = 0; fd < FDS; fd++) {
        if (!is_one_of(fd, fds, count))
            (void)close(fd);
    }
    code_return(code, 77);
    if (status == JITC_OK)
        status = jitc_alloc(client, &large, 200000);
    if (status == JITC_OK)
        status = jitc_alloc(client, &span, sizeof code);
    if (status == JITC_OK)
        status = jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT);
    if (status == JITC_OK)
        status = jitc_seal(client, &span);
    if (status == JITC_OK)
        status = jitc_flush(client);
    return status == JITC_OK ? (int)code_call(span.rx) : status;
}

START_TEST(who_closes_all_others_goes_on)
{
    int ended = 0;
    pid_t child;

    become(WORKER_UID);
    child = fork(); /* which may close those that the test speaks by */
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(close_all_others_and_run(broker_connect(&broker, NULL)));
    ck_assert_int_eq(waitpid(child, &ended, 0), child);
    ck_assert(WIFEXITED(ended));
    ck_assert_int_eq(WEXITSTATUS(ended), 77);
}
END_TEST

START_TEST(a_child_is_told_none)
{
    int ended = 0;
    jitc_client *client;
    pid_t child;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        size_t count = 42;
        int status = jitc_descriptors(client, NULL, 0, &count);

        _exit(count == 42 ? status : JITC_OK);
    }
    ck_assert_int_eq(waitpid(child, &ended, 0), child);
    ck_assert(WIFEXITED(ended));
    ck_assert_int_eq(WEXITSTATUS(ended), JITC_E_FORKED);
    (void)jitc_close(client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("descriptors");
    TCase *through = tcase_create("through");
    TCase *direct = tcase_create("direct");

    tcase_add_unchecked_fixture(through, start, stop);
    tcase_set_timeout(through, 0);
    tcase_add_test(through, all_that_a_client_opens_are_told);
    tcase_add_test(through, all_that_an_executor_opens_are_told);
    tcase_add_test(through, all_that_the_client_of_a_private_broker_opens_are_told);
    tcase_add_test(through, as_many_are_written_as_there_is_room_for_and_all_are_counted);
    tcase_add_test(through, they_are_where_the_options_want_them_and_elsewhere_where_that_cannot_be);
    tcase_add_test(through, who_closes_all_others_goes_on);
    tcase_add_test(through, a_child_is_told_none);
    suite_add_tcase(suite, through);
    tcase_add_unchecked_fixture(direct, start_direct, stop);
    tcase_set_timeout(direct, 0);
    tcase_add_test(direct, all_that_a_client_opens_are_told);
    tcase_add_test(direct, who_closes_all_others_goes_on);
    suite_add_tcase(suite, direct);
    return suite_run(suite);
}
