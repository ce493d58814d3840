/* SPDX-License-Identifier: MIT */
/* Private brokers, which the library starts itself. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/fixture.h"
#include "tests/harness/suite.h"

static jitc_span publish(jitc_client *client, uint32_t value)
{
    jitc_span span;
    uint8_t code[CODE_RETURN_BYTES];

    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof code));
    code_return(code, value);
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return span;
}

static jitc_client *spawn(enum jitc_write_mode mode)
{
    jitc_options options;
    jitc_client *client = NULL;

    jitc_options_init(&options);
    options.daemon = broker.program;
    options.write_mode = mode;
    assert_status(JITC_OK, "", jitc_spawn(&client, &options));
    return client;
}

START_TEST(a_private_broker_serves_and_is_no_child_that_anyone_meets)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_client *client;
    jitc_span span;
    int status;

    become(WORKER_UID);
    client = spawn(JITC_WRITE_ANY);
    assert_status(JITC_OK, "", jitc_describe(client, &info));
    ck_assert_int_eq(info.write_mode, JITC_WRITE_THROUGH);
    ck_assert_int_eq(info.is_sealed, 1);
    ck_assert_int_eq(waitpid(-1, &status, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    span = publish(client, 80);
    ck_assert_uint_eq(code_call(span.rx), 80);
    (void)jitc_close(client);
    ck_assert_int_eq(waitpid(-1, &status, __WALL), -1); /* and it is reaped */
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(a_private_broker_writes_directly_only_if_asked)
{
    jitc_client *client;
    jitc_span span;

    become(WORKER_UID);
    client = spawn(JITC_WRITE_DIRECT);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    ck_assert_ptr_nonnull(span.rw);
    code_return(span.rw, 3);
    ck_assert_uint_eq(code_call(span.rx), 3);
    (void)jitc_close(client);
}
END_TEST

START_TEST(a_private_broker_inherits_no_descriptor)
{
    int pipe_ends[2];
    jitc_client *client;
    char byte;

    become(WORKER_UID);
    ck_assert_int_eq(pipe(pipe_ends), 0); /* not close-on-exec, on purpose */
    client = spawn(JITC_WRITE_ANY);
    (void)close(pipe_ends[1]);
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 0); /* end of file: nobody else holds it */
    (void)jitc_close(client);
}
END_TEST

START_TEST(a_private_broker_ends_with_its_process)
{
    int pipe_ends[2];
    pid_t pid;
    char byte;

    become(WORKER_UID);
    ck_assert_int_eq(pipe(pipe_ends), 0);
    pid = fork();
    if (pid == 0) {
        /* Its stderr is the one thing of ours that the broker keeps. */
        (void)dup2(pipe_ends[1], STDERR_FILENO);
        (void)close(pipe_ends[1]);
        (void)spawn(JITC_WRITE_ANY);
        (void)kill(getpid(), SIGKILL);
    }
    (void)close(pipe_ends[1]);
    (void)waitpid(pid, NULL, 0);
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 0); /* closed: the broker has ended, in silence */
}
END_TEST

START_TEST(a_daemon_that_cannot_be_started_is_told_with_its_path)
{
    jitc_options options;
    jitc_client *client;

    jitc_options_init(&options);
    options.daemon = "/nonexistent/jitbrokerd";
    assert_status(JITC_E_SYSTEM, "/nonexistent/jitbrokerd: No such file", jitc_spawn(&client, &options));
    options.daemon = "/bin/true"; /* starts, and says nothing */
    assert_status(JITC_E_DISCONNECTED, "", jitc_spawn(&client, &options));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spawn");
    TCase *served = tcase_create("spawn");

    tcase_add_unchecked_fixture(served, start, stop);
    tcase_set_timeout(served, 0);
    tcase_add_test(served, a_private_broker_serves_and_is_no_child_that_anyone_meets);
    tcase_add_test(served, a_private_broker_writes_directly_only_if_asked);
    tcase_add_test(served, a_private_broker_inherits_no_descriptor);
    tcase_add_test(served, a_private_broker_ends_with_its_process);
    tcase_add_test(served, a_daemon_that_cannot_be_started_is_told_with_its_path);
    suite_add_tcase(suite, served);
    return suite_run(suite);
}
