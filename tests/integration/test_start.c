/* SPDX-License-Identifier: MIT */
/* How the daemon is started: its command line, where its sockets come from, and what it tells its manager. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/broker.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

#define ARGUMENTS_MAX 6

static char folder[64];
static char program[128];
static char path[128]; /* of the socket */
static char output[128];
static char said[8192];

static void begin(void)
{
    (void)strcpy(folder, "/tmp/jitbroker-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chmod(folder, 0777), 0);
    (void)snprintf(program, sizeof program, "%s/jitbrokerd", folder);
    (void)snprintf(path, sizeof path, "%s/socket", folder);
    (void)snprintf(output, sizeof output, "%s/output", folder);
    broker_copy_program(getenv("JITBROKER_DAEMON"), program);
}

static void end(void)
{
    static const char *const names[] = {"jitbrokerd", "socket", "output",          "conf",
                                        "for-all",    "notify", "jitbroker/socket"};
    char name[128];

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        (void)unlink(name);
    }
    (void)snprintf(name, sizeof name, "%s/jitbroker", folder);
    (void)rmdir(name);
    (void)rmdir(folder);
}

/* Starts it with these arguments, the last of which is NULL, after `prepare` in its process. */
static pid_t start(void (*prepare)(void), const char *const *arguments)
{
    const char *all[ARGUMENTS_MAX + 2] = {program};
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int out = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
        for (unsigned i = 0; arguments[i] != NULL; i++)
            all[i + 1] = arguments[i];
        become(BROKER_UID);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (prepare != NULL)
            prepare();
        (void)execv(program, (char *const *)(uintptr_t)all);
        _exit(127);
    }
    return pid;
}

/* Waits for its end, and returns its status; what it has said is in `said`. */
static int await(pid_t pid)
{
    int fd;
    ssize_t got;
    int status;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    fd = open(output, O_RDONLY | O_CLOEXEC);
    got = read(fd, said, sizeof said - 1);
    said[got < 0 ? 0 : got] = '\0';
    (void)close(fd);
    return WEXITSTATUS(status);
}

static int stop(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    return await(pid);
}

#define ARGUMENTS(...) ((const char *const[]){__VA_ARGS__, NULL})

#define assert_ends(expected, part, prepare, arguments)                                                  \
    do {                                                                                                 \
        int ended_ = await(start(prepare, arguments));                                                   \
        ck_assert_msg(ended_ == (expected) && strstr(said, part) != NULL, "ended with %d, and said: %s", \
                      ended_, said);                                                                     \
    } while (0)

static int bound(const char *at, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", at);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(chmod(at, 0777), 0);
    return fd;
}

/* Waits until it serves there. */
static void await_service(pid_t pid, const char *at)
{
    jitc_options options;
    jitc_client *client = NULL;

    jitc_options_init(&options);
    options.socket = at;
    while (jitc_connect(&client, &options) != JITC_OK) {
        ck_assert_msg(waitpid(pid, NULL, WNOHANG) == 0, "it has ended");
        (void)usleep(1000);
    }
    (void)jitc_close(client);
}

/* ---- The command line ----------------------------------------------------------------------- */

START_TEST(a_wrong_command_line_is_told_with_status_2)
{
    assert_ends(2, "Try 'jitbrokerd --help'", NULL, ARGUMENTS("--nonsense"));
    assert_ends(2, "unexpected argument 'more'", NULL, ARGUMENTS("more"));
    assert_ends(2, "--fd=2: not a file descriptor above 2", NULL, ARGUMENTS("--fd=2"));
    assert_ends(2, "--fd=3x: not a file descriptor", NULL, ARGUMENTS("--fd=3x"));
    assert_ends(2, "exclude one another", NULL, ARGUMENTS("--user", "--fd=3"));
    assert_ends(2, "--supervise needs", NULL, ARGUMENTS("--supervise"));
    assert_ends(2, "--supervise needs", NULL, ARGUMENTS("--supervise", "--fd=3"));
}
END_TEST

START_TEST(help_and_version_are_no_errors)
{
    assert_ends(0, "Exit status:", NULL, ARGUMENTS("--help"));
    assert_ends(0, "jitbrokerd " JITBROKER_VERSION, NULL, ARGUMENTS("--version"));
}
END_TEST

START_TEST(a_configuration_is_checked_and_a_wrong_one_keeps_it_from_starting)
{
    char conf[128];
    FILE *file;

    (void)snprintf(conf, sizeof conf, "%s/conf", folder);
    assert_ends(78, "No such file", NULL, ARGUMENTS("--check-config", "--config", conf));
    file = fopen(conf, "we");
    ck_assert_int_gt(fprintf(file, "[daemon]\nsessions_max=7\n"), 0);
    (void)fclose(file);
    assert_ends(0, ": ok", NULL, ARGUMENTS("--check-config", "--config", conf));
    file = fopen(conf, "ae");
    ck_assert_int_gt(fprintf(file, "nonsense=7\n"), 0);
    (void)fclose(file);
    assert_ends(78, "conf:3: ", NULL, ARGUMENTS("--check-config", "--config", conf));
    assert_ends(78, "conf:3: ", NULL, ARGUMENTS("--socket", path, "--config", conf));
}
END_TEST

START_TEST(a_descriptor_that_is_no_connection_is_not_served)
{
    assert_ends(1, "--fd=77: not a connected or listening SOCK_SEQPACKET socket", NULL, ARGUMENTS("--fd=77"));
}
END_TEST

static int private_ends[2];

static void pass_private_end(void)
{
    (void)dup2(private_ends[1], 9);
}

START_TEST(a_private_broker_with_a_policy_of_no_class_says_so_and_ends)
{
    char conf[128];
    char told[256] = "";

    (void)snprintf(conf, sizeof conf, "--config=%s/conf", folder);
    (void)close(open(conf + strlen("--config="), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, private_ends), 0);
    assert_ends(1, "", pass_private_end, ARGUMENTS("--fd=9", conf));
    ck_assert_int_gt(recv(private_ends[0], told, sizeof told, 0), 0);
    ck_assert_ptr_nonnull(memmem(told, sizeof told, "is in no class of the policy", 28));
    (void)close(private_ends[0]);
    (void)close(private_ends[1]);
}
END_TEST

/* ---- A private broker of many --------------------------------------------------------------- */

static int private_listener;
static int private_pipe[2];

static void pass_listener_and_pipe(void)
{
    (void)dup2(private_listener, 9);
    (void)dup2(private_pipe[0], STDIN_FILENO);
}

static void pass_listener_and_null(void)
{
    (void)dup2(private_listener, 9);
    (void)dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDIN_FILENO);
}

static pid_t start_for_many(void)
{
    pid_t pid;

    private_listener = bound(path, SOCK_SEQPACKET);
    ck_assert_int_eq(listen(private_listener, 8), 0);
    ck_assert_int_eq(pipe2(private_pipe, O_CLOEXEC), 0);
    pid = start(pass_listener_and_pipe, ARGUMENTS("--fd=9"));
    (void)close(private_listener);
    (void)close(private_pipe[0]);
    return pid;
}

static jitc_client *connect_there(void)
{
    jitc_options options;
    jitc_client *client = NULL;

    jitc_options_init(&options);
    options.socket = path;
    ck_assert_msg(jitc_connect(&client, &options) == JITC_OK, "%s", jitc_error_detail());
    return client;
}

START_TEST(a_private_broker_of_many_ends_with_its_pipe_and_the_last_of_them)
{
    pid_t pid = start_for_many();
    jitc_client *clients[3];

    if (geteuid() == 0)
        become(BROKER_UID);
    for (unsigned i = 0; i < 3; i++)
        clients[i] = connect_there();
    for (unsigned i = 0; i < 3; i++) {
        (void)jitc_close(clients[i]); /* at last nobody is connected, and the pipe goes on */
        ck_assert_int_eq(write(private_pipe[1], "words", 5), 5); /* mean nothing */
    }
    clients[0] = connect_there();
    clients[1] = connect_there();
    (void)close(private_pipe[1]);
    (void)jitc_close(clients[0]);
    clients[2] = connect_there(); /* as long as anybody is there, others may come */
    (void)jitc_close(clients[1]);
    (void)jitc_close(clients[2]);
    ck_assert_int_eq(await(pid), 0);
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(a_private_broker_of_many_is_not_ended_by_a_signal_to_the_whole_unit)
{
    pid_t pid = start_for_many();

    if (geteuid() == 0)
        become(BROKER_UID);
    (void)jitc_close(connect_there());
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    ck_assert_int_eq(kill(pid, SIGINT), 0);
    (void)jitc_close(connect_there());
    (void)jitc_close(connect_there());
    (void)close(private_pipe[1]);
    ck_assert_int_eq(await(pid), 0);
}
END_TEST

START_TEST(a_private_broker_of_many_ends_if_nobody_ever_comes)
{
    pid_t pid = start_for_many();

    (void)close(private_pipe[1]);
    ck_assert_int_eq(await(pid), 0);
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(a_private_broker_of_many_serves_no_other_user)
{
    jitc_options options;
    jitc_client *client = NULL;
    pid_t pid;

    if (!are_we_root())
        skip("needs root, to be two users");
    pid = start_for_many();
    jitc_options_init(&options);
    options.socket = path;
    become(WORKER_UID);
    ck_assert_int_eq(jitc_connect(&client, &options), JITC_E_REFUSED);
    (void)close(private_pipe[1]);
    ck_assert_int_eq(await(pid), 0);
}
END_TEST

START_TEST(a_private_broker_of_many_needs_a_pipe)
{
    private_listener = bound(path, SOCK_SEQPACKET);
    ck_assert_int_eq(listen(private_listener, 8), 0);
    assert_ends(1, "standard input has to be a pipe", pass_listener_and_null, ARGUMENTS("--fd=9"));
    (void)close(private_listener);
}
END_TEST

/* ---- Sockets of its own ------------------------------------------------------------------- */

/* A configuration that serves everyone. */
static const char *for_all(void)
{
    static char conf[128];
    FILE *file;

    (void)snprintf(conf, sizeof conf, "%s/for-all", folder);
    file = fopen(conf, "we");
    ck_assert_int_gt(fprintf(file, "[class default]\n"), 0);
    (void)fclose(file);
    return conf;
}

START_TEST(a_socket_that_nobody_listens_on_is_replaced_and_one_that_is_in_use_is_not)
{
    pid_t pid;

    (void)close(bound(path, SOCK_SEQPACKET));
    pid = start(NULL, ARGUMENTS("--socket", path, "--config", for_all()));
    await_service(pid, path);
    (void)unlink(output);
    assert_ends(1, "Address already in use", NULL, ARGUMENTS("--socket", path, "--config", for_all()));
    await_service(pid, path);
    ck_assert_int_eq(stop(pid), 0);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(a_daemon_without_a_supervisor_is_told_to_replace_itself_and_goes_on)
{
    pid_t pid = start(NULL, ARGUMENTS("--socket", path, "--config", for_all()));
    jitc_options options;
    jitc_client *client;
    jitc_span span;

    await_service(pid, path);
    jitc_options_init(&options);
    options.socket = path;
    assert_status(JITC_OK, "", jitc_connect(&client, &options));
    ck_assert_int_eq(kill(pid, SIGUSR2), 0);
    for (unsigned i = 0; i < 100; i++)
        assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    (void)jitc_close(client);
    await_service(pid, path);
    ck_assert_int_eq(stop(pid), 0);
    ck_assert_msg(strstr(said, "is for a supervisor") != NULL, "it said: %s", said);
}
END_TEST

START_TEST(what_is_no_socket_is_not_replaced)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    (void)close(fd);
    assert_ends(1, "Address already in use", NULL, ARGUMENTS("--socket", path));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_path_that_is_no_address_is_told)
{
    char longer[200];

    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_ends(1, "File name too long", NULL, ARGUMENTS("--socket", longer));
    assert_ends(1, "Invalid argument", NULL, ARGUMENTS("--socket", ""));
    assert_ends(1, "No such file", NULL, ARGUMENTS("--socket", "/nonexistent/socket"));
}
END_TEST

static void have_runtime_folder(void)
{
    (void)setenv("XDG_RUNTIME_DIR", folder, 1);
}

static void have_long_runtime_folder(void)
{
    char longer[5000];

    memset(longer, '/', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    (void)setenv("XDG_RUNTIME_DIR", longer, 1);
}

static void have_no_runtime_folder(void)
{
    (void)unsetenv("XDG_RUNTIME_DIR");
}

START_TEST(a_user_s_own_is_only_for_that_user)
{
    char own[128];
    struct stat status;
    pid_t pid = start(have_runtime_folder, ARGUMENTS("--user"));

    (void)snprintf(own, sizeof own, "%s/jitbroker/socket", folder);
    await_service(pid, own);
    ck_assert_int_eq(stat(own, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(stop(pid), 0);
    assert_ends(1, "$XDG_RUNTIME_DIR", have_no_runtime_folder, ARGUMENTS("--user"));
    assert_ends(1, "File name too long", have_long_runtime_folder, ARGUMENTS("--user"));
}
END_TEST

/* ---- Sockets and wishes of a manager -------------------------------------------------------- */

static int passed = -1; /* the socket that it is passed */
static unsigned passed_count;
static int notify = -1; /* where the manager is told */
static char notify_path[128];

static void pass_sockets(void)
{
    char text[32];
    int high = fcntl(passed, F_DUPFD_CLOEXEC, 100);

    for (unsigned i = 0; i < passed_count; i++)
        (void)dup2(high, 3 + (int)i);
    (void)snprintf(text, sizeof text, "%u", passed_count);
    (void)setenv("LISTEN_FDS", text, 1);
    (void)snprintf(text, sizeof text, "%d", (int)getpid());
    (void)setenv("LISTEN_PID", text, 1);
}

/* A manager that has a socket for it, and is told there. */
static void begin_manager(void)
{
    (void)snprintf(notify_path, sizeof notify_path, "%s/notify", folder);
    notify = bound(notify_path, SOCK_DGRAM);
    passed = bound(path, SOCK_SEQPACKET);
    passed_count = 1;
    ck_assert_int_eq(listen(passed, 10), 0);
}

static void end_manager(void)
{
    (void)close(notify);
    (void)close(passed);
}

static void pass_sockets_and_watch(void)
{
    pass_sockets();
    (void)setenv("NOTIFY_SOCKET", notify_path, 1);
    (void)setenv("WATCHDOG_USEC", "100000", 1);
}

static void pass_sockets_and_watch_wrongly(void)
{
    pass_sockets();
    (void)setenv("WATCHDOG_USEC", "often", 1);
    (void)setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
}

/* The next of its messages that is not "all is well". */
static void assert_notified(const char *expected, bool may_be_well)
{
    char text[128];
    ssize_t got;

    do {
        got = recv(notify, text, sizeof text - 1, 0);
        ck_assert_int_gt(got, 0);
        text[got] = '\0';
    } while (may_be_well && strcmp(text, "WATCHDOG=1") == 0);
    ck_assert_str_eq(text, expected);
}

START_TEST(a_manager_s_socket_is_served_and_the_manager_told)
{
    pid_t pid;

    begin_manager();
    pid = start(pass_sockets_and_watch, ARGUMENTS("--config", "/dev/null/none"));
    ck_assert_int_eq(await(pid), 78);
    pid = start(pass_sockets_and_watch, ARGUMENTS("--user"));
    assert_notified("READY=1", false);
    assert_notified("WATCHDOG=1", false);
    await_service(pid, path);
    assert_notified("FDSTORE=1\nFDPOLL=0\nFDNAME=session-1", true);
    assert_notified("FDSTOREREMOVE=1\nFDNAME=session-1", true);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    assert_notified("STOPPING=1", true);
    ck_assert_int_eq(await(pid), 0);
    ck_assert_int_eq(access(path, F_OK), 0); /* the manager's */
    end_manager();
}
END_TEST

/* As any process may do that can reach a manager's socket; until there is no room. */
static void fill(const char *at)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.100s", at);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    while (send(fd, "WATCHDOG=1", 10, 0) > 0)
        continue;
    ck_assert_int_eq(errno, EAGAIN);
    (void)close(fd);
}

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec now;

    ck_assert_int_eq(clock_gettime(clock, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

START_TEST(a_manager_that_does_not_listen_holds_up_nobody_but_who_is_to_be_stored)
{
    int status;
    pid_t pid;
    pid_t late;
    clockid_t clock;
    uint64_t used_ns;
    jitc_options options;
    jitc_client *client = NULL;
    jitc_span span;

    begin_manager();
    pid = start(pass_sockets_and_watch, ARGUMENTS("--user"));
    assert_notified("READY=1", false);
    jitc_options_init(&options);
    options.socket = path;
    ck_assert_int_eq(jitc_connect(&client, &options), JITC_OK);

    fill(notify_path);
    late = fork();
    ck_assert_int_ge(late, 0);
    if (late == 0) {
        jitc_client *other = NULL;

        _exit(jitc_connect(&other, &options) == JITC_OK ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    ck_assert_int_eq(clock_getcpuclockid(pid, &clock), 0);
    used_ns = nanoseconds(clock);
    (void)usleep(500000); /* of which it has to say five times that all is well */
    ck_assert_uint_lt(nanoseconds(clock) - used_ns, 25000000);
    ck_assert_int_eq(waitpid(late, &status, WNOHANG), 0);
    ck_assert_int_eq(jitc_alloc(client, &span, 100), JITC_OK);

    assert_notified("FDSTORE=1\nFDPOLL=0\nFDNAME=session-1", true);
    assert_notified("FDSTORE=1\nFDPOLL=0\nFDNAME=session-2", true);
    ck_assert_int_eq(waitpid(late, &status, 0), late);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    ck_assert_int_eq(await(pid), 0);
    (void)jitc_close(client);
    end_manager();
}
END_TEST

static void pass_sockets_and_keep_one(void)
{
    pass_sockets_and_watch();
    (void)setenv("FDSTORE", "1", 1);
}

/* The first one is the next daemon's. */
START_TEST(a_session_that_the_manager_has_no_place_for_ends_with_the_daemon_and_is_told)
{
    pid_t pid;
    jitc_options options;
    jitc_client *kept = NULL;
    jitc_client *other = NULL;
    jitc_span span;

    begin_manager();
    pid = start(pass_sockets_and_keep_one, ARGUMENTS("--user"));
    jitc_options_init(&options);
    options.socket = path;
    ck_assert_int_eq(jitc_connect(&kept, &options), JITC_OK);
    ck_assert_int_eq(jitc_connect(&other, &options), JITC_OK);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    ck_assert_int_eq(await(pid), 0);
    ck_assert_msg(strstr(said, "session 2: the service manager does not keep it") != NULL, "said: %s", said);
    ck_assert_int_eq(jitc_alloc(other, &span, 100), JITC_E_DISCONNECTED);
    ck_assert_msg(strstr(jitc_error_detail(), "the daemon stops") != NULL, "%s", jitc_error_detail());
    (void)jitc_close(other);
    (void)jitc_close(kept);
    end_manager();
}
END_TEST

START_TEST(a_wrong_wish_for_a_watchdog_does_not_keep_it_from_serving)
{
    pid_t pid;

    passed = bound(path, SOCK_SEQPACKET);
    passed_count = 2;
    ck_assert_int_eq(listen(passed, 10), 0);
    pid = start(pass_sockets_and_watch_wrongly, ARGUMENTS("--user"));
    await_service(pid, path);
    ck_assert_int_eq(stop(pid), 0);
    ck_assert_msg(strstr(said, "$WATCHDOG_USEC") != NULL && strstr(said, "$NOTIFY_SOCKET") != NULL &&
                      strstr(said, "sockets=2") != NULL,
                  "said: %s", said);
    (void)close(passed);
}
END_TEST

START_TEST(sockets_of_another_kind_none_and_too_many_are_refused)
{
    assert_ends(1, "no socket to serve", NULL, (const char *const[]){NULL});
    passed = bound(path, SOCK_STREAM);
    passed_count = 1;
    ck_assert_int_eq(listen(passed, 10), 0);
    assert_ends(1, "descriptor 3 from systemd", pass_sockets, (const char *const[]){NULL});
    (void)close(passed);
    (void)unlink(path);
    passed = bound(path, SOCK_SEQPACKET);
    passed_count = 9; /* SERVER_LISTENERS_MAX is 8 */
    ck_assert_int_eq(listen(passed, 10), 0);
    assert_ends(1, "descriptor 11 from systemd", pass_sockets, (const char *const[]){NULL});
    (void)close(passed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("start");
    TCase *tests = tcase_create("start");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, a_wrong_command_line_is_told_with_status_2);
    tcase_add_test(tests, help_and_version_are_no_errors);
    tcase_add_test(tests, a_configuration_is_checked_and_a_wrong_one_keeps_it_from_starting);
    tcase_add_test(tests, a_descriptor_that_is_no_connection_is_not_served);
    tcase_add_test(tests, a_private_broker_with_a_policy_of_no_class_says_so_and_ends);
    tcase_add_test(tests, a_private_broker_of_many_ends_with_its_pipe_and_the_last_of_them);
    tcase_add_test(tests, a_private_broker_of_many_is_not_ended_by_a_signal_to_the_whole_unit);
    tcase_add_test(tests, a_private_broker_of_many_ends_if_nobody_ever_comes);
    tcase_add_test(tests, a_private_broker_of_many_serves_no_other_user);
    tcase_add_test(tests, a_private_broker_of_many_needs_a_pipe);
    tcase_add_test(tests, a_socket_that_nobody_listens_on_is_replaced_and_one_that_is_in_use_is_not);
    tcase_add_test(tests, a_daemon_without_a_supervisor_is_told_to_replace_itself_and_goes_on);
    tcase_add_test(tests, what_is_no_socket_is_not_replaced);
    tcase_add_test(tests, a_path_that_is_no_address_is_told);
    tcase_add_test(tests, a_user_s_own_is_only_for_that_user);
    tcase_add_test(tests, a_manager_s_socket_is_served_and_the_manager_told);
    tcase_add_test(tests, a_manager_that_does_not_listen_holds_up_nobody_but_who_is_to_be_stored);
    tcase_add_test(tests, a_session_that_the_manager_has_no_place_for_ends_with_the_daemon_and_is_told);
    tcase_add_test(tests, a_wrong_wish_for_a_watchdog_does_not_keep_it_from_serving);
    tcase_add_test(tests, sockets_of_another_kind_none_and_too_many_are_refused);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
