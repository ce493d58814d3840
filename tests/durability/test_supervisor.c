/* SPDX-License-Identifier: MIT */
/* jitbrokerd --supervise and a daemon that does what it is told (fake_daemon.c). */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/suite.h"
#include "tests/harness/supervised.h"

enum { TEXT_BYTES = 60000 };

static struct broker broker;
static char answer[TEXT_BYTES];

static void start(const char *config)
{
    supervised_start(&broker, FAKE_DAEMON, config);
}

/* Its folder has one file more than others, and the program may be gone. */
static void stop(void)
{
    char supervisor[160];

    (void)snprintf(supervisor, sizeof supervisor, "%s/supervisor", broker.folder);
    (void)unlink(supervisor);
    broker_stop(&broker);
    ck_assert_msg(access(broker.folder, F_OK) != 0, "something is left in %s", broker.folder);
}

static int send_command(const char *format, va_list args)
{
    char command[TEXT_BYTES];
    int connection = broker_socket(&broker);

    (void)vsnprintf(command, sizeof command, format, args);
    ck_assert_int_gt(send(connection, command, strlen(command), 0), 0);
    return connection;
}

/* Has the daemon do that, the one to come if there is none; what it says. */
__attribute__((format(printf, 1, 2))) static const char *ask(const char *format, ...)
{
    va_list args;
    ssize_t got;
    int connection;

    va_start(args, format);
    connection = send_command(format, args);
    va_end(args);
    got = recv(connection, answer, sizeof answer - 1, 0);
    ck_assert_int_ge(got, 0);
    answer[got] = '\0';
    (void)close(connection);
    return answer;
}

/* What it does not answer, as it ends by it. */
__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    va_list args;
    int connection;

    va_start(args, format);
    connection = send_command(format, args);
    va_end(args);
    ck_assert_int_eq(recv(connection, answer, sizeof answer, 0), 0);
    (void)close(connection);
}

static void kill_daemon(void)
{
    pid_t pid = supervised_await_daemon(&broker, 0);

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    (void)supervised_await_daemon(&broker, pid);
}

static unsigned await_log(const char *text, unsigned count)
{
    while (broker_log_count(&broker, text) < count)
        (void)usleep(1000);
    return broker_log_count(&broker, text);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- What it keeps ------------------------------------------------------------------------- */

START_TEST(what_was_handed_over_comes_back_under_its_name_and_nothing_else_is_open)
{
    start("");
    ck_assert_str_eq(ask("list"), "jitbroker=socket ");
    ck_assert_str_eq(ask("store a 2"), "ok");
    ck_assert_str_eq(ask("store b-1_2.X 1"), "ok");
    ck_assert_str_eq(ask("list"), "jitbroker=socket ");
    kill_daemon();
    ck_assert_str_eq(ask("list"), "jitbroker=socket a=a.0 a=a.1 b-1_2.X=b-1_2.X.0 ");
    kill_daemon();
    ck_assert_str_eq(ask("list"), "jitbroker=socket a=a.0 a=a.1 b-1_2.X=b-1_2.X.0 ");
    stop();
}
END_TEST

START_TEST(what_was_removed_is_closed_and_the_rest_stays)
{
    start("");
    (void)ask("store a 2");
    (void)ask("store b 2");
    (void)ask("store c 1");
    (void)ask("store a 1");
    ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2 + 6);
    ck_assert_str_eq(ask("remove a"), "ok");
    ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2 + 3);
    (void)ask("remove nobody");
    kill_daemon();
    (void)ask("list");
    ck_assert_msg(strstr(answer, "a=") == NULL && strstr(answer, " b=b.0 ") != NULL &&
                      strstr(answer, " b=b.1 ") != NULL && strstr(answer, " c=c.0 ") != NULL,
                  "%s", answer);
    (void)ask("store d 1");
    kill_daemon();
    ck_assert_ptr_nonnull(strstr(ask("list"), " d=d.0 "));
    (void)ask("remove b");
    (void)ask("remove c");
    (void)ask("remove d");
    ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2);
    stop();
}
END_TEST

#define D10 "0123456789"

/* Each with a descriptor, which must not stay. */
START_TEST(what_makes_no_sense_is_refused_whole_and_its_descriptors_closed)
{
    static const char *const nonsense[] = {
        "FDSTORE=1",                                              /* no name */
        "FDSTORE=1;FDNAME=",                                      /* an empty one */
        "FDSTORE=1;FDNAME=a b",                                   /* none */
        "FDSTORE=1;FDNAME=a:b",                                   /* two in $LISTEN_FDNAMES */
        "FDSTORE=1;FDNAME=a;FDNAME=b",                            /* which? */
        "FDSTORE=1;FDNAME=0123456789" D10 D10 D10 D10 D10 "012X", /* 64: one too many */
        "FDSTORE=1;FDSTOREREMOVE=1;FDNAME=a",                     /* what? */
        "FDNAME=a",                                               /* and? */
        "nonsense;FDSTORE=1;FDNAME=a",                            /* no line */
        "=1;FDSTORE=1;FDNAME=a",                                  /* no key */
        "fdstore=1;FDSTORE=1;FDNAME=a",                           /* no key either */
        "FDSTORE=1;;FDNAME=a",                                    /* an empty line */
    };
    unsigned count = sizeof nonsense / sizeof nonsense[0];
    const char *longest = D10 D10 D10 D10 D10 D10 "01X"; /* 63 */
    char longer[4097 - 3 + 1] = "";

    start("");
    memset(longer, 'x', sizeof longer - 1); /* 4,097 with the key: one too many */
    (void)ask("say X_=%s", longer + 1);
    ck_assert_uint_eq(broker_log_count(&broker, "what makes no sense"), 0);
    (void)ask("say X_=%s", longer);
    (void)await_log("what makes no sense", 1);
    for (unsigned i = 0; i < count; i++) {
        (void)ask("say %s", nonsense[i]);
        ck_assert_uint_eq(await_log("what makes no sense", i + 2), i + 2);
    }
    /* What others may say to a manager is no nonsense. */
    (void)ask("say STATUS=all is = well;X_MINE=;FDSTORE=0;MAINPID=1;");
    (void)ask("say FDSTORE=1;FDNAME=%s", longest);
    ck_assert_uint_eq(broker_log_count(&broker, "what makes no sense"), count + 1);
    ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2 + 1);
    kill_daemon();
    ck_assert_ptr_nonnull(strstr(ask("list"), longest));
    stop();
}
END_TEST

START_TEST(the_listening_socket_s_name_is_not_the_daemon_s_to_use)
{
    start("");
    (void)ask("store jitbroker 1");
    (void)ask("store jitbroker-admin 1");
    (void)ask("remove jitbroker");
    ck_assert_uint_eq(await_log("may not store or remove", 3), 3);
    ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2);
    kill_daemon();
    ck_assert_str_eq(ask("list"), "jitbroker=socket ");
    stop();
}
END_TEST

START_TEST(only_as_much_is_kept_as_can_be_handed_over)
{
    struct rlimit limit;
    struct rlimit many;
    long max;

    /* 253 descriptors of a message, and 16 that are not kept. */
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    many = (struct rlimit){300, 300};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
    start("");
    max = strtol(ask("ask FDSTORE"), NULL, 10);
    ck_assert_int_eq(max, 300 - 269);
    (void)ask("store a %ld", max - 2);
    (void)ask("store b 2"); /* all or nothing: with the listening socket that is one too many */
    ck_assert_uint_eq(await_log("no room for the descriptors of 'b'", 1), 1);
    ck_assert_int_eq(broker_fds(&broker), 3 + 2 + max - 1);
    (void)ask("store c 1");
    ck_assert_int_eq(broker_fds(&broker), 3 + 2 + max);
    kill_daemon();
    ck_assert_ptr_nonnull(strstr(ask("list"), " c=c.0 "));
    (void)ask("say FDSTOREREMOVE=1;FDNAME=a"); /* that comes with one, though all is full */
    ck_assert_int_eq(broker_fds(&broker), 3 + 2 + 2);
    stop();
}
END_TEST

START_TEST(names_are_kept_only_as_long_as_a_program_can_still_be_started_with_them)
{
    const char *name = D10 D10 D10 D10 D10 D10 "012";
    unsigned stored = 0;

    start("");
    /* 64 bytes each; the string with all of them may have 128 KiB. */
    for (; broker_log_count(&broker, "no room") == 0; stored++)
        (void)ask("store %s 100", name);
    ck_assert_uint_eq(stored - 1, (131072 - sizeof "LISTEN_FDNAMES=" - sizeof "jitbroker") / 6400);
    kill_daemon();
    ck_assert_uint_gt(strlen(ask("list")), 3000);
    stop();
}
END_TEST

/* ---- Whom it listens to ------------------------------------------------------------------ */

static void speak_for_the_daemon(void)
{
    char address[128];
    int fd = memfd_create("stranger", MFD_CLOEXEC);

    (void)snprintf(address, sizeof address, "%s.notify", broker.socket);
    (void)setenv("NOTIFY_SOCKET", address, 1);
    ck_assert_int_gt(sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=mine", &fd, 1), 0);
    ck_assert_int_gt(sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=a"), 0);
    (void)close(fd);
}

START_TEST(only_the_daemon_of_now_is_listened_to)
{
    char address[128];
    struct stat status;

    start("");
    (void)ask("store a 1");
    (void)snprintf(address, sizeof address, "%s.notify", broker.socket);
    ck_assert_int_eq(stat(address, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    speak_for_the_daemon();
    ck_assert_uint_eq(await_log("but speaks for it", 2), 2);
    ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2 + 1);
    kill_daemon();
    ck_assert_str_eq(ask("list"), "jitbroker=socket a=a.0 ");
    stop();
}
END_TEST

START_TEST(others_may_not_even_connect)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int status;
    int fd;

    if (!are_we_root())
        skip("it takes another user, and so root");
    start("");
    (void)ask("pid");
    if (fork() == 0) {
        become(WORKER_UID);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/socket.notify", broker.folder);
        _exit(connect(fd, (const struct sockaddr *)&address, sizeof address) == -1 && errno == EACCES ? 0
                                                                                                      : 1);
    }
    ck_assert_int_gt(wait(&status), 0);
    ck_assert_int_eq(status, 0);
    stop();
}
END_TEST

START_TEST(what_a_daemon_said_before_it_was_killed_counts)
{
    start("");
    for (int i = 0; i < 50; i++) {
        pid_t pid = supervised_await_daemon(&broker, 0);
        char name[16];

        (void)snprintf(name, sizeof name, " a%d=", i);
        /* The supervisor comes to it only when the daemon is dead. */
        ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
        (void)ask("hand more%d 1", i);
        (void)ask("hand most%d 1", i);
        (void)ask("hand a%d 1", i);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
        (void)supervised_await_daemon(&broker, pid);
        if (strstr(ask("list"), name) == NULL)
            ck_abort_msg("%d: %s", i, answer);
    }
    stop();
}
END_TEST

/* ---- When it starts the daemon again ------------------------------------------------------- */

START_TEST(whatever_a_daemon_ends_by_the_next_is_started)
{
    pid_t pid;

    start("");
    for (int status = 0; status < 3; status++) {
        pid = supervised_await_daemon(&broker, 0);
        tell("end %d", status);
        (void)supervised_await_daemon(&broker, pid);
    }
    ck_assert_uint_eq(broker_log_count(&broker, "ended with status 2"), 1);
    stop();
}
END_TEST

START_TEST(a_wrong_configuration_ends_it_only_where_nothing_is_kept)
{
    int status;

    start("");
    (void)ask("store a 1");
    supervised_configure(&broker, "end 78");
    tell("end 1");
    ck_assert_uint_ge(await_log("ended with status 78", 3), 3);
    supervised_configure(&broker, "");
    ck_assert_str_eq(ask("list"), "jitbroker=socket a=a.0 ");
    (void)ask("remove a");
    supervised_configure(&broker, "end 78");
    tell("end 1");
    ck_assert_int_eq(waitpid(broker.pid, &status, 0), broker.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 78);
    ck_assert_int_ne(access(broker.socket, F_OK), 0);
    broker.pid = 0;
    stop();
}
END_TEST

START_TEST(who_dies_before_he_is_ready_is_started_again_later_each_time)
{
    uint64_t began_ms = now_ms();

    start("end 1");
    (void)await_log("ended with status 1", 5);
    ck_assert_uint_ge(now_ms() - began_ms, 0 + 100 + 200 + 400);
    supervised_configure(&broker, "");
    ck_assert_str_ne(ask("pid"), "");
    stop();
}
END_TEST

START_TEST(a_daemon_that_hangs_is_killed_and_one_that_is_not_ready_is_not)
{
    pid_t pid;

    (void)setenv("WATCHDOG_USEC", "200000", 1);
    start("");
    ck_assert_str_eq(ask("ask WATCHDOG_USEC"), "200000");
    pid = supervised_await_daemon(&broker, 0);
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    ck_assert_int_ne(supervised_await_daemon(&broker, pid), pid);
    ck_assert_uint_ge(broker_log_count(&broker, "hangs"), 1);
    supervised_configure(&broker, "mute");
    pid = supervised_await_daemon(&broker, 0);
    (void)kill(pid, SIGKILL);
    pid = supervised_await_daemon(&broker, pid);
    (void)usleep(500000);
    ck_assert_int_eq(supervised_daemon(&broker), pid);
    stop();
}
END_TEST

/* ---- Signals --------------------------------------------------------------------------------- */

START_TEST(a_reload_is_passed_on_and_waits_for_one_that_is_not_ready)
{
    pid_t pid;

    start("");
    (void)ask("pid");
    (void)ask("say READY=1"); /* and so the first was heard */
    ck_assert_int_eq(kill(broker.pid, SIGHUP), 0);
    while (strcmp(ask("hups"), "1") != 0)
        (void)usleep(1000);
    supervised_configure(&broker, "mute");
    pid = supervised_await_daemon(&broker, 0);
    (void)kill(pid, SIGKILL);
    (void)supervised_await_daemon(&broker, pid);
    (void)ask("pid");
    ck_assert_int_eq(kill(broker.pid, SIGHUP), 0);
    (void)usleep(50000);
    ck_assert_str_eq(ask("hups"), "0");
    (void)ask("say READY=1");
    while (strcmp(ask("hups"), "1") != 0)
        (void)usleep(1000);
    stop();
}
END_TEST

START_TEST(when_it_is_stopped_all_is_closed_and_the_paths_are_gone)
{
    char address[128];
    pid_t pid;

    start("");
    (void)ask("store a 1");
    pid = supervised_await_daemon(&broker, 0);
    (void)snprintf(address, sizeof address, "%s.notify", broker.socket);
    stop(); /* with status 0, and an empty folder */
    ck_assert_int_ne(access(address, F_OK), 0);
    ck_assert_int_eq(kill(pid, 0), -1);
}
END_TEST

/* ---- Upgrades ----------------------------------------------------------------------------------- */

START_TEST(a_program_that_is_none_or_does_not_like_its_configuration_is_not_taken)
{
    pid_t pid;

    start("");
    (void)ask("store a 1");
    pid = supervised_await_daemon(&broker, 0);
    supervised_configure(&broker, "refuse");
    ck_assert_int_eq(kill(broker.pid, SIGUSR2), 0);
    (void)await_log("--check-config fails", 1);
    supervised_configure(&broker, "");
    ck_assert_int_eq(chmod(broker.program, 0644), 0);
    ck_assert_int_eq(kill(broker.pid, SIGUSR2), 0);
    (void)await_log("--check-config fails", 2);
    ck_assert_int_eq(chmod(broker.program, 0755), 0);
    ck_assert_int_eq(supervised_daemon(&broker), pid);
    ck_assert_int_eq(strtol(ask("pid"), NULL, 10), pid);
    stop();
}
END_TEST

START_TEST(a_good_program_takes_over_with_all_that_is_kept)
{
    pid_t pid;

    start("");
    (void)ask("store a 2");
    for (unsigned i = 1; i <= 3; i++) {
        pid = supervised_await_daemon(&broker, 0);
        (void)unlink(broker.program);
        broker_copy_program(FAKE_DAEMON, broker.program);
        ck_assert_int_eq(kill(broker.pid, SIGUSR2), 0);
        (void)await_log("upgrade:", i);
        (void)supervised_await_daemon(&broker, pid);
        ck_assert_str_eq(ask("list"), "jitbroker=socket a=a.0 a=a.1 ");
        (void)ask("store b%u 1", i);
        (void)ask("remove b%u", i);
        ck_assert_int_eq(broker_fds(&broker), 3 + 1 + 2 + 2);
    }
    stop();
}
END_TEST

START_TEST(a_program_that_can_t_be_executed_after_all_leaves_the_old_one)
{
    pid_t pid;

    start("deaf");
    (void)ask("store a 1");
    pid = supervised_await_daemon(&broker, 0);
    ck_assert_int_eq(kill(broker.pid, SIGUSR2), 0);
    (void)await_log("upgrade:", 1);
    ck_assert_int_eq(chmod(broker.program, 0644), 0);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    (void)await_log("no upgrade:", 1);
    (void)await_log("ended with status 127", 1);
    supervised_configure(&broker, "");
    ck_assert_int_eq(chmod(broker.program, 0755), 0);
    ck_assert_str_eq(ask("list"), "jitbroker=socket a=a.0 ");
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("supervisor");
    TCase *tests = tcase_create("supervisor");

    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, what_was_handed_over_comes_back_under_its_name_and_nothing_else_is_open);
    tcase_add_test(tests, what_was_removed_is_closed_and_the_rest_stays);
    tcase_add_test(tests, what_makes_no_sense_is_refused_whole_and_its_descriptors_closed);
    tcase_add_test(tests, the_listening_socket_s_name_is_not_the_daemon_s_to_use);
    tcase_add_test(tests, only_as_much_is_kept_as_can_be_handed_over);
    tcase_add_test(tests, names_are_kept_only_as_long_as_a_program_can_still_be_started_with_them);
    tcase_add_test(tests, only_the_daemon_of_now_is_listened_to);
    tcase_add_test(tests, others_may_not_even_connect);
    tcase_add_test(tests, what_a_daemon_said_before_it_was_killed_counts);
    tcase_add_test(tests, whatever_a_daemon_ends_by_the_next_is_started);
    tcase_add_test(tests, a_wrong_configuration_ends_it_only_where_nothing_is_kept);
    tcase_add_test(tests, who_dies_before_he_is_ready_is_started_again_later_each_time);
    tcase_add_test(tests, a_daemon_that_hangs_is_killed_and_one_that_is_not_ready_is_not);
    tcase_add_test(tests, a_reload_is_passed_on_and_waits_for_one_that_is_not_ready);
    tcase_add_test(tests, when_it_is_stopped_all_is_closed_and_the_paths_are_gone);
    tcase_add_test(tests, a_program_that_is_none_or_does_not_like_its_configuration_is_not_taken);
    tcase_add_test(tests, a_good_program_takes_over_with_all_that_is_kept);
    tcase_add_test(tests, a_program_that_can_t_be_executed_after_all_leaves_the_old_one);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
