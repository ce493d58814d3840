/* SPDX-License-Identifier: MIT */
/* How an event looks in the log, what of it is counted, and where it goes. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/peer.h"
#include "tests/harness/suite.h"

static int pipes[2];
static char said[65536];

static void start(void)
{
    ck_assert_int_eq(pipe2(pipes, O_NONBLOCK | O_CLOEXEC), 0);
    ck_assert_int_eq(dup2(pipes[1], STDERR_FILENO), STDERR_FILENO);
}

/* All that was said since. */
static const char *heard(void)
{
    ssize_t got = read(pipes[0], said, sizeof said - 1);

    said[got < 0 ? 0 : got] = '\0';
    return said;
}

static const struct peer peer = {.uid = 1000, .pid = 712, .unit = "web.service"};

START_TEST(a_line_says_what_of_whom_and_why)
{
    log_event(LOG_SESSION_ENDED, &(struct log_subject){7, &peer, "default"}, "closed by the client",
              "operations=%d", 3);
    ck_assert_str_eq(heard(), "<6>session_ended: session=7 uid=1000 pid=712 unit=web.service class=default "
                              "operations=3 reason=\"closed by the client\"\n");
}
END_TEST

START_TEST(what_is_not_known_is_left_out)
{
    static const struct peer nameless = {.uid = 0, .pid = 1};

    log_event(LOG_POLICY_LOADED, NULL, NULL, "classes=%d", 2);
    ck_assert_str_eq(heard(), "<5>policy_loaded: classes=2\n");
    log_event(LOG_CONNECTION_ENDED, &(struct log_subject){.peer = &nameless}, NULL, "status=%d", 19);
    ck_assert_str_eq(heard(), "<5>connection_ended: uid=0 pid=1 status=19\n");
}
END_TEST

START_TEST(what_a_client_named_can_be_no_other_field_or_line)
{
    static const struct peer liar = {.uid = 1, .pid = 2, .unit = "a b=\"c\"\n<3>x\x7f"};

    log_event(LOG_SESSION_STARTED, &(struct log_subject){.peer = &liar, .class = "x"}, "say \"\\\t\"",
              "ring=%s", "yes");
    ck_assert_str_eq(heard(), "<6>session_started: uid=1 pid=2 unit=\"a b=\\\"c\\\"\\x0a<3>x\\x7f\" class=x "
                              "ring=yes reason=\"say \\\"\\\\\\x09\\\"\"\n");
}
END_TEST

START_TEST(what_is_too_long_is_cut_and_stays_a_line)
{
    char reason[5000];

    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    log_event(LOG_ADMIN_DONE, NULL, reason, "verb=%s", "x");
    ck_assert_uint_eq(strlen(heard()), 3 + 1023 + 1); /* <5>, and a newline */
    ck_assert_int_eq(said[strlen(said) - 1], '\n');
}
END_TEST

START_TEST(every_event_has_a_name_and_is_counted_told_or_not)
{
    log_set_level(LOG_ERROR);
    for (int i = 0; i < LOG_EVENT_COUNT; i++) {
        enum log_event event = (enum log_event)i;

        ck_assert_ptr_nonnull(log_event_name(event));
        ck_assert_uint_eq(log_count(event), 0);
        log_event(event, NULL, NULL, "n=%d", i);
        ck_assert_uint_eq(log_count(event), 1);
    }
    ck_assert_str_eq(heard(), "<3>policy_refused: n=4\n"); /* nothing else is that urgent */
    ck_assert_int_eq(LOG_POLICY_REFUSED, 4);
}
END_TEST

START_TEST(the_level_is_exact)
{
    ck_assert_int_eq(log_level(), LOG_INFO);
    log_event(LOG_REQUEST_PUT_OFF, NULL, NULL, "operation=%s", "write");
    ck_assert_str_eq(heard(), "");
    log_set_level(LOG_DEBUG);
    log_event(LOG_REQUEST_PUT_OFF, NULL, NULL, "operation=%s", "write");
    ck_assert_str_eq(heard(), "<7>request_put_off: operation=write\n");
    log_set_level(LOG_NOTICE);
    log_event(LOG_SESSION_ENDED, NULL, NULL, "operations=%d", 1);
    ck_assert_str_eq(heard(), "");
    log_event(LOG_SESSION_REFUSED, NULL, NULL, "status=%d", 6);
    ck_assert_str_eq(heard(), "<5>session_refused: status=6\n");
}
END_TEST

static unsigned count_lines(const char *text)
{
    unsigned count = 0;

    for (; (text = strstr(text, "session_ended:")) != NULL; text++)
        count++;
    return count;
}

START_TEST(what_clients_cause_is_bounded_and_what_the_daemon_does_is_not)
{
    struct timespec now;

    do { /* all in one second */
        (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    } while (now.tv_nsec > 300000000);
    for (unsigned i = 0; i < LOG_BURST + 50; i++)
        log_event(LOG_SESSION_ENDED, NULL, NULL, "n=%u", i);
    log_event(LOG_POLICY_LOADED, NULL, NULL, "classes=%d", 1);
    ck_assert_uint_eq(count_lines(heard()), LOG_BURST);
    ck_assert_ptr_nonnull(strstr(said, "policy_loaded"));
    ck_assert_uint_eq(log_count(LOG_SESSION_ENDED), LOG_BURST + 50);
}
END_TEST

START_TEST(who_does_not_read_the_log_holds_nobody_up)
{
    for (unsigned i = 0; i < 10000; i++)
        log_event(LOG_POLICY_LOADED, NULL, NULL, "classes=%u", i);
    ck_assert_uint_eq(log_count(LOG_POLICY_LOADED), 10000);
}
END_TEST

START_TEST(a_variable_that_names_another_stderr_is_no_journal)
{
    struct stat status;
    char stream[64];

    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino + 1);
    ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_init();
    log_line(LOG_NOTICE, "still here");
    ck_assert_str_eq(heard(), "<5>still here\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tests = tcase_create("log");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, start, NULL);
    tcase_add_test(tests, a_line_says_what_of_whom_and_why);
    tcase_add_test(tests, what_is_not_known_is_left_out);
    tcase_add_test(tests, what_a_client_named_can_be_no_other_field_or_line);
    tcase_add_test(tests, what_is_too_long_is_cut_and_stays_a_line);
    tcase_add_test(tests, every_event_has_a_name_and_is_counted_told_or_not);
    tcase_add_test(tests, the_level_is_exact);
    tcase_add_test(tests, what_clients_cause_is_bounded_and_what_the_daemon_does_is_not);
    tcase_add_test(tests, who_does_not_read_the_log_holds_nobody_up);
    tcase_add_test(tests, a_variable_that_names_another_stderr_is_no_journal);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
