/* SPDX-License-Identifier: MIT */
/* Beginnings and ends: no daemon, a daemon that goes, hangs for a while or lies; forks; threads. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/fixture.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

static jitc_span publish(jitc_client *client, uint32_t value)
{
    jitc_span span;
    uint8_t code[CODE_RETURN_BYTES];

    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof code));
    code_return(code, value);
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return span;
}

/* ---- No daemon ------------------------------------------------------------------------ */

START_TEST(no_socket_is_told_with_its_path)
{
    jitc_options options;
    jitc_client *client;

    jitc_options_init(&options);
    options.socket = "/nonexistent/jitbroker/socket";
    assert_status(JITC_E_NO_BROKER, "/nonexistent/jitbroker/socket", jitc_connect(&client, &options));
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "is jitbrokerd running?"));
    options.socket = "/dev/null";
    assert_status(JITC_E_NO_BROKER, "/dev/null", jitc_connect(&client, &options));
}
END_TEST

START_TEST(the_environment_names_the_socket)
{
    jitc_client *client;

    (void)setenv("JITBROKER_SOCKET", "/nonexistent/from/environment", 1);
    assert_status(JITC_E_NO_BROKER, "/nonexistent/from/environment", jitc_connect(&client, NULL));
    (void)setenv("JITBROKER_SOCKET", broker.socket, 1);
    become(WORKER_UID);
    assert_status(JITC_OK, "", jitc_connect(&client, NULL));
    (void)jitc_close(client);
}
END_TEST

/* ---- Abstract sockets ------------------------------------------------------------------- */

/* Listens on a name that is filled up to so many bytes behind the @, which is written to `path`. */
static int listen_abstract(char path[128], size_t bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)memset(path, 0, 128);
    (void)snprintf(path, 128, "@jitbroker-test-%d-", (int)getpid());
    ck_assert_uint_le(strlen(path), bytes + 1);
    (void)memset(path + strlen(path), 'x', bytes + 1 - strlen(path));
    (void)memcpy(address.sun_path + 1, path + 1, bytes);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + bytes)),
                     0);
    ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

START_TEST(abstract_sockets_are_found_by_their_whole_name)
{
    static const size_t lengths[] = {40, 107};
    jitc_options options;
    char path[128];
    int fd;

    jitc_options_init(&options);
    options.socket = path;
    for (size_t i = 0; i < 2; i++) {
        int listening = listen_abstract(path, lengths[i]);
        int accepted;
        char byte;

        assert_status(JITC_OK, "", jitc_dial(&fd, &options));
        accepted = accept(listening, NULL, NULL);
        ck_assert_int_eq(send(accepted, "x", 1, 0), 1);
        ck_assert_int_eq(recv(fd, &byte, 1, 0), 1); /* connected to each other */
        (void)close(accepted);
        (void)close(fd);
        path[strlen(path) - 1] = 'y';
        assert_status(JITC_E_NO_BROKER, "is jitbrokerd running?", jitc_dial(&fd, &options));
        (void)close(listening);
    }
    (void)memset(path, 'x', 109);
    path[0] = '@';
    path[109] = '\0';
    assert_status(JITC_E_INVALID, "too long", jitc_dial(&fd, &options));
    (void)strcpy(path, "@");
    assert_status(JITC_E_INVALID, "connecting to @: Invalid", jitc_dial(&fd, &options));
}
END_TEST

START_TEST(a_path_has_room_for_107_bytes)
{
    jitc_options options;
    char path[128];
    int fd;

    jitc_options_init(&options);
    options.socket = path;
    (void)memset(path, 'x', sizeof path);
    (void)memcpy(path, "/nonexistent/", 13);
    path[107] = '\0';
    assert_status(JITC_E_NO_BROKER, "is jitbrokerd running?", jitc_dial(&fd, &options));
    path[107] = 'x';
    path[108] = '\0';
    assert_status(JITC_E_INVALID, "too long", jitc_dial(&fd, &options));
}
END_TEST

START_TEST(a_dialled_socket_is_adopted_later)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;
    int fd = -7;

    become(WORKER_UID);
    assert_status(JITC_OK, "", jitc_dial(&fd, &options));
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_status(JITC_OK, "", jitc_adopt(&client, fd, NULL));
    ck_assert_uint_eq(code_call(publish(client, 6).rx), 6);
    (void)jitc_close(client);
    (void)setenv("JITBROKER_SOCKET", broker.socket, 1);
    assert_status(JITC_OK, "", jitc_dial(&fd, NULL));
    (void)close(fd);
    assert_status(JITC_E_INVALID, "fd is NULL", jitc_dial(NULL, NULL));
    options.socket = "";
    assert_status(JITC_E_INVALID, "empty path", jitc_dial(&fd, &options));
}
END_TEST

START_TEST(a_dialled_socket_takes_no_standard_streams_number)
{
    jitc_options options = broker_options(&broker);
    int fd = -7;
    int status;

    become(WORKER_UID);
    (void)close(STDIN_FILENO);
    status = jitc_dial(&fd, &options);
    ck_assert_int_eq(status, JITC_OK);
    ck_assert_int_gt(fd, STDERR_FILENO);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFD), -1);
}
END_TEST

START_TEST(adopt_takes_only_a_seqpacket_socket)
{
    jitc_client *client;
    int stream[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    assert_status(JITC_E_INVALID, "SEQPACKET", jitc_adopt(&client, stream[0], NULL));
    ck_assert_int_eq(fcntl(stream[0], F_GETFD), -1); /* taken over, also on failure */
    assert_status(JITC_E_SYSTEM, "Socket operation on non-socket", jitc_adopt(&client, dup(0), NULL));
    assert_status(JITC_E_SYSTEM, "descriptor -1", jitc_adopt(&client, -1, NULL));
    (void)close(stream[1]);
}
END_TEST

START_TEST(adopt_serves_over_an_inherited_connection)
{
    jitc_client *client;

    become(WORKER_UID);
    assert_status(JITC_OK, "", jitc_adopt(&client, broker_socket(&broker), NULL));
    ck_assert_uint_eq(code_call(publish(client, 5).rx), 5);
    (void)jitc_close(client);
}
END_TEST

START_TEST(empty_names_are_no_names)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client = NULL;
    int status;

    /* An empty path would be an abstract address, which anyone may take. */
    options.socket = "";
    assert_status(JITC_E_INVALID, "empty path", jitc_connect(&client, &options));
    (void)setenv("JITBROKER_SOCKET", "", 1);
    (void)unsetenv("XDG_RUNTIME_DIR");
    status = jitc_connect(&client, NULL);
    if (status != JITC_OK)
        ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "/run/jitbroker/socket"));
    (void)jitc_close(client);
}
END_TEST

START_TEST(options_that_were_not_initialized_or_are_unknown_are_refused)
{
    jitc_options options = {.socket = broker.socket};
    jitc_stats stats = {0};
    jitc_info info = {0};
    jitc_client *client;
    struct {
        jitc_options known;
        uint64_t later;
    } longer;

    assert_status(JITC_E_INVALID, "jitc_options_init()", jitc_connect(&client, &options));
    options = broker_options(&broker);
    options.flags = 0x80000000u;
    assert_status(JITC_E_INVALID, "does not know", jitc_connect(&client, &options));
    memset(&longer, 0, sizeof longer);
    longer.known = broker_options(&broker);
    longer.known.struct_size = sizeof longer;
    longer.later = 1;
    assert_status(JITC_E_INVALID, "does not know", jitc_connect(&client, &longer.known));
    longer.later = 0;
    become(WORKER_UID);
    assert_status(JITC_OK, "", jitc_connect(&client, &longer.known));
    assert_status(JITC_E_INVALID, "jitc_stats.struct_size", jitc_statistics(client, &stats));
    assert_status(JITC_E_INVALID, "jitc_info.struct_size", jitc_describe(client, &info));
    (void)jitc_close(client);
}
END_TEST

START_TEST(null_is_refused_where_something_must_be)
{
    jitc_client *client;
    jitc_scope *scope;
    jitc_span span;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    assert_status(JITC_E_INVALID, "client is NULL", jitc_alloc(NULL, &span, 64));
    assert_status(JITC_E_INVALID, "client is NULL", jitc_release(NULL, &span));
    assert_status(JITC_E_INVALID, "span is NULL", jitc_alloc(client, NULL, 64));
    span = publish(client, 1);
    assert_status(JITC_E_INVALID, "span is NULL", jitc_query(client, NULL, span.rx));
    assert_status(JITC_E_INVALID, "src is NULL", jitc_write(client, &span, 0, NULL, 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, NULL, 0, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_INVALID, "callback", jitc_write_fn(client, &span, NULL, NULL, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_INVALID, "policy", jitc_write(client, &span, 0, "", 1, (jitc_write_policy)99));
    assert_status(JITC_E_INVALID, "policy", jitc_scope_begin(client, &scope, (jitc_write_policy)99));
    ck_assert_ptr_null(jitc_close(NULL));
    assert_status(JITC_OK, "", jitc_scope_end(NULL));
    (void)jitc_close(client);
}
END_TEST

START_TEST(the_socket_takes_no_standard_streams_number)
{
    jitc_client *client;

    become(WORKER_UID);
    (void)close(STDIN_FILENO);
    client = broker_connect(&broker, NULL);
    ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFD), -1);
    ck_assert_uint_eq(code_call(publish(client, 6).rx), 6);
    (void)jitc_close(client);
}
END_TEST

START_TEST(a_failed_connection_leaves_the_others_as_they_are)
{
    jitc_options options = broker_options(&broker);
    jitc_info info = {.struct_size = sizeof info};
    jitc_client *client;
    jitc_client *other;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    options.near_to = (const void *)(uintptr_t)(UINT64_C(1) << 62); /* no address at all */
    options.flags = JITC_NEAR_REQUIRED;
    assert_status(JITC_E_NOT_NEAR, "2 GiB", jitc_connect(&other, &options));
    assert_status(JITC_OK, "", jitc_describe(client, &info));
    if (jitc_lockdown(JITC_LOCKDOWN_SEAL_ARENAS) != 0)
        skip("this kernel has no mseal");
    ck_assert_int_eq(munmap((void *)(uintptr_t)info.base, info.arena_bytes), -1);
    ck_assert_int_eq(errno, EPERM);
    (void)jitc_close(client);
}
END_TEST

static int touch(jitc_span *span, void *user)
{
    (void)user;
    memset(span->rw, 0, 1);
    return 0;
}

START_TEST(a_stale_span_is_refused_and_read_by_nobody)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;
    jitc_span span;
    jitc_span forged;

    become(WORKER_UID);
    options.flags = JITC_IMMEDIATE_RELEASE;
    client = broker_connect(&broker, &options);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 200000));
    forged = span;
    forged.size = (size_t)1 << 40;
    assert_status(JITC_E_OUT_OF_RANGE, "beyond the arena",
                  jitc_write_fn(client, &forged, touch, NULL, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    assert_status(JITC_E_NO_SPAN, "", jitc_write_fn(client, &span, touch, NULL, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_NO_SPAN, "", jitc_write(client, &span, 0, "", 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 4 << 20));
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_HARD));
    assert_status(JITC_E_NO_SPAN, "", jitc_write_fn(client, &span, touch, NULL, JITC_WRITE_DEFAULT));
    (void)jitc_close(client);
}
END_TEST

/* ---- A daemon that goes ------------------------------------------------------------------ */

static void expect_all_disconnected(jitc_client *client, jitc_span *span)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span other;

    for (int i = 0; i < 3; i++) {
        /* The first call that asks the daemon finds it out; until then spans may be had from a lease. */
        assert_status(JITC_E_DISCONNECTED, "disconnected",
                      jitc_write(client, span, 0, "", 1, JITC_WRITE_DEFAULT));
        assert_status(JITC_E_DISCONNECTED, "disconnected", jitc_alloc(client, &other, 64));
        assert_status(JITC_E_DISCONNECTED, "disconnected", jitc_release(client, span->rx));
        assert_status(JITC_E_DISCONNECTED, "disconnected", jitc_statistics(client, &stats));
    }
}

START_TEST(after_a_crash_of_the_daemon_code_runs_on_and_calls_fail)
{
    jitc_client *client = broker_connect(&broker, NULL);
    jitc_span span = publish(client, 77);
    struct broker copy = broker;

    (void)signal(SIGPIPE, SIG_DFL); /* would end this test */
    (void)kill(copy.pid, SIGKILL);
    while (kill(copy.pid, 0) == 0 && broker_fds(&copy) > 0)
        (void)usleep(1000);
    expect_all_disconnected(client, &span);
    ck_assert_uint_eq(code_call(span.rx), 77);
    ck_assert_ptr_null(jitc_close(client));
}
END_TEST

START_TEST(a_daemon_that_stops_says_so)
{
    jitc_client *client = broker_connect(&broker, NULL);
    jitc_span span = publish(client, 78);

    (void)kill(broker.pid, SIGTERM);
    while (broker_fds(&broker) > 0)
        (void)usleep(1000);
    expect_all_disconnected(client, &span);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "the daemon stops"));
    ck_assert_uint_eq(code_call(span.rx), 78);
    (void)jitc_close(client);
}
END_TEST

START_TEST(a_daemon_that_hangs_costs_the_timeout_and_no_more)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span span;

    options.timeout_ms = 200;
    client = broker_connect(&broker, &options);
    span = publish(client, 79);
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    assert_status(JITC_E_TIMEOUT, "200 ms", jitc_statistics(client, &stats));
    assert_status(JITC_E_TIMEOUT, "200 ms", jitc_statistics(client, &stats));
    ck_assert_uint_eq(code_call(span.rx), 79);
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    ck_assert_uint_eq(stats.allocation_count, 1);
    (void)jitc_close(client);
}
END_TEST

static void ignore_signal(int number)
{
    (void)number;
}

START_TEST(signals_without_restart_neither_break_nor_prolong_a_call)
{
    const struct sigaction action = {.sa_handler = ignore_signal};
    jitc_options options = broker_options(&broker);
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_client *client;
    jitc_span span;
    pid_t parent = getpid();
    pid_t pid;

    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    options.timeout_ms = 300;
    client = broker_connect(&broker, &options);
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3000 && kill(parent, SIGUSR1) == 0; i++)
            (void)usleep(1000);
        _exit(0);
    }
    for (int i = 0; i < 1000; i++) {
        assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
        assert_status(JITC_OK, "", jitc_statistics(client, &stats));
        assert_status(JITC_OK, "", jitc_release(client, span.rx));
    }
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    assert_status(JITC_E_TIMEOUT, "300 ms", jitc_statistics(client, &stats));
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    (void)jitc_close(client);
}
END_TEST

/* A server that is none of ours: what it says must not be followed. */
static void answer_hello(int socket, const struct welcome *welcome, unsigned fds)
{
    struct wire *wire = wire_new(socket);
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};
    int null[RECORD_FDS_MAX];

    for (unsigned i = 0; i < fds; i++)
        null[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)recv(socket, wire->in_bytes, sizeof wire->in_bytes, 0);
    ck_assert(codec_put_reply(&out, 1) && codec_put_welcome(&out, welcome));
    ck_assert_int_eq(record_send(socket, true, out.bytes, out.used, null, fds), 0);
    for (unsigned i = 0; i < fds; i++)
        (void)close(null[i]);
    (void)wire_free(wire);
}

START_TEST(a_welcome_that_makes_no_sense_is_refused)
{
    const struct welcome good = {
        .version = 1, .arena_bytes = 65536, .granularity = 64, .write_mode = WRITE_THROUGH};
    const struct {
        struct welcome welcome;
        unsigned fds;
        int status;
    } cases[] = {
        {{.version = 2, .arena_bytes = 65536, .granularity = 64, .write_mode = WRITE_THROUGH},
         1,
         JITC_E_VERSION},
        {{.version = 1, .arena_bytes = 0, .granularity = 64, .write_mode = WRITE_THROUGH},
         1,
         JITC_E_BAD_REPLY},
        {{.version = 1, .arena_bytes = UINT64_MAX, .granularity = 64}, 1, JITC_E_BAD_REPLY},
        {{.version = 1, .arena_bytes = 65536, .granularity = 0}, 1, JITC_E_BAD_REPLY},
        {{.version = 1, .arena_bytes = 65536, .granularity = 96}, 1, JITC_E_BAD_REPLY},
        {good, 0, JITC_E_BAD_REPLY},
        {good, 2, JITC_E_BAD_REPLY},
        {good, 4, JITC_E_BAD_REPLY},
        {good, 1, JITC_E_SYSTEM}, /* /dev/null can't be mapped executable as a file of that size */
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        jitc_client *client;
        int pair[2];
        pid_t pid;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        pid = check_fork();
        if (pid == 0) {
            (void)close(pair[0]);
            answer_hello(pair[1], &cases[i].welcome, cases[i].fds);
            _exit(0);
        }
        (void)close(pair[1]);
        ck_assert_msg(jitc_adopt(&client, pair[0], NULL) == cases[i].status, "case %zu: %s", i,
                      jitc_error_detail());
        (void)waitpid(pid, NULL, 0);
    }
}
END_TEST

/* ---- Forks --------------------------------------------------------------------------------------- */

START_TEST(a_child_is_refused_and_harms_nothing)
{
    jitc_client *client;
    jitc_span span;
    int status;
    pid_t pid;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    span = publish(client, 81);
    pid = check_fork();
    if (pid == 0) {
        jitc_stats stats = {.struct_size = sizeof stats};
        jitc_info info = {.struct_size = sizeof info};
        jitc_client *own;
        jitc_scope *scope;
        jitc_span other;

        ck_assert_uint_eq(code_call(span.rx), 81); /* inherited code runs */
        assert_status(JITC_E_FORKED, "parent", jitc_alloc(client, &other, 64));
        assert_status(JITC_E_FORKED, "parent", jitc_release(client, span.rx));
        assert_status(JITC_E_FORKED, "parent", jitc_shrink(client, &span, 64));
        assert_status(JITC_E_FORKED, "parent", jitc_query(client, &other, span.rx));
        assert_status(JITC_E_FORKED, "parent", jitc_write(client, &span, 0, "", 1, JITC_WRITE_DEFAULT));
        assert_status(JITC_E_FORKED, "parent", jitc_patch(client, &span, 0, 1, 0, 0, NULL));
        assert_status(JITC_E_FORKED, "parent", jitc_seal(client, &span));
        assert_status(JITC_E_FORKED, "parent", jitc_reset(client, JITC_RESET_HARD));
        assert_status(JITC_E_FORKED, "parent", jitc_statistics(client, &stats));
        assert_status(JITC_E_FORKED, "parent", jitc_describe(client, &info));
        assert_status(JITC_E_FORKED, "parent", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
        own = broker_connect(&broker, NULL);
        ck_assert_uint_eq(code_call(publish(own, 82).rx), 82);
        ck_assert_ptr_null(jitc_close(client));
        ck_assert_uint_eq(code_call(publish(own, 83).rx), 83);
        (void)jitc_close(own);
        exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(code_call(span.rx), 81);
    ck_assert_uint_eq(code_call(publish(client, 84).rx), 84);
    (void)jitc_close(client);
}
END_TEST

/* ---- Threads ---------------------------------------------------------------------------------------- */

struct work {
    jitc_client *client;
    uint32_t seed;
    char failed[256];
};

static void *work(void *user)
{
    enum { SPANS = 16, ROUNDS = 200 };
    struct work *own = user;
    jitc_span spans[SPANS] = {0};
    uint32_t values[SPANS] = {0};

    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t slot = (round * 7 + own->seed) % SPANS;
        uint8_t code[CODE_RETURN_BYTES];
        int status = JITC_OK;

        if (spans[slot].rx != NULL && code_call(spans[slot].rx) != values[slot])
            (void)snprintf(own->failed, sizeof own->failed, "another thread's code");
        if (spans[slot].rx != NULL)
            status = jitc_release(own->client, spans[slot].rx);
        values[slot] = own->seed << 16 | round;
        code_return(code, values[slot]);
        if (status == JITC_OK)
            status = jitc_alloc(own->client, &spans[slot], 1 + round % 300);
        if (status == JITC_OK)
            status = jitc_write(own->client, &spans[slot], 0, code, sizeof code, JITC_WRITE_DEFAULT);
        if (status != JITC_OK) {
            (void)snprintf(own->failed, sizeof own->failed, "%s: %s", jitc_strerror(status),
                           jitc_error_detail());
            break;
        }
    }
    return NULL;
}

START_TEST(threads_share_a_client)
{
    enum { THREADS = 8 };
    struct work works[THREADS] = {0};
    pthread_t threads[THREADS];
    jitc_client *client;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    for (uint32_t i = 0; i < THREADS; i++) {
        works[i] = (struct work){.client = client, .seed = i + 1};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &works[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_str_eq(works[i].failed, "");
    }
    (void)jitc_close(client);
}
END_TEST

static void *call_forever(void *client)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    while (jitc_statistics(client, &stats) == JITC_OK)
        pthread_testcancel();
    return NULL;
}

START_TEST(a_cancelled_thread_leaves_the_client_usable)
{
    jitc_client *client;
    pthread_t thread;

    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, call_forever, client), 0);
        (void)usleep((useconds_t)(i * 37));
        ck_assert_int_eq(pthread_cancel(thread), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_uint_eq(code_call(publish(client, 7).rx), 7);
    }
    (void)jitc_close(client);
}
END_TEST

START_TEST(each_thread_has_its_own_last_error)
{
    jitc_client *client;

    ck_assert_int_ne(jitc_connect(&client, &(jitc_options){.struct_size = sizeof(jitc_options),
                                                           .socket = "/nonexistent/mine"}),
                     JITC_OK);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "/nonexistent/mine"));
    ck_assert_str_ne(jitc_strerror(JITC_E_NO_BROKER), jitc_strerror(-1));
    ck_assert_str_eq(jitc_strerror(JITC_OK), "success");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lifetime");
    TCase *served = tcase_create("served");
    TCase *crash = tcase_create("crash");
    TCase *stopped = tcase_create("stopped");

    tcase_add_unchecked_fixture(served, start, stop);
    tcase_set_timeout(served, 0);
    tcase_add_test(served, no_socket_is_told_with_its_path);
    tcase_add_test(served, the_environment_names_the_socket);
    tcase_add_test(served, abstract_sockets_are_found_by_their_whole_name);
    tcase_add_test(served, a_path_has_room_for_107_bytes);
    tcase_add_test(served, a_dialled_socket_is_adopted_later);
    tcase_add_test(served, a_dialled_socket_takes_no_standard_streams_number);
    tcase_add_test(served, adopt_takes_only_a_seqpacket_socket);
    tcase_add_test(served, adopt_serves_over_an_inherited_connection);
    tcase_add_test(served, a_daemon_that_hangs_costs_the_timeout_and_no_more);
    tcase_add_test(served, signals_without_restart_neither_break_nor_prolong_a_call);
    tcase_add_test(served, a_welcome_that_makes_no_sense_is_refused);
    tcase_add_test(served, a_child_is_refused_and_harms_nothing);
    tcase_add_test(served, threads_share_a_client);
    tcase_add_test(served, empty_names_are_no_names);
    tcase_add_test(served, options_that_were_not_initialized_or_are_unknown_are_refused);
    tcase_add_test(served, null_is_refused_where_something_must_be);
    tcase_add_test(served, the_socket_takes_no_standard_streams_number);
    tcase_add_test(served, a_failed_connection_leaves_the_others_as_they_are);
    tcase_add_test(served, a_stale_span_is_refused_and_read_by_nobody);
    tcase_add_test(served, a_cancelled_thread_leaves_the_client_usable);
    tcase_add_test(served, each_thread_has_its_own_last_error);
    suite_add_tcase(suite, served);
    tcase_add_unchecked_fixture(crash, start, bury);
    tcase_set_timeout(crash, 0);
    tcase_add_test(crash, after_a_crash_of_the_daemon_code_runs_on_and_calls_fail);
    suite_add_tcase(suite, crash);
    tcase_add_unchecked_fixture(stopped, start, bury);
    tcase_set_timeout(stopped, 0);
    tcase_add_test(stopped, a_daemon_that_stops_says_so);
    suite_add_tcase(suite, stopped);

    return suite_run(suite);
}
