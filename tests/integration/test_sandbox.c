/* SPDX-License-Identifier: MIT */
/*
 * The daemon's own sandbox, seen from outside: however it was started, it makes no system call that
 * daemon/sandbox.c doesn't list, is refused none, and can neither gain capabilities nor make memory
 * executable. Tested with a real workload under ptrace. What the filter refuses: test_sandbox_filter.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "daemon/sandbox.h"
#include "proto/huge_page.h"
#include "proto/ring.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/tracer.h"
#include "tests/harness/wire.h"

#define SPANS 200u
#define LARGE_BYTES (3u << 20) /* more than a huge page */
#define POLICY                                                                   \
    "[daemon]\nhello_timeout_ms=300\n[class default]\nwrite=direct\narena=16M\n" \
    "huge_pages=yes\nsession_max=20\nspan_max=1000\nrate=100000\n"

/* The ways to start it. */
enum mode { AT_PATH, WITHOUT_RING, FOR_USER, ACTIVATED, PRIVATE, MODES };

static const char *const mode_names[MODES] = {"--socket", "--socket, no ring", "--user", "by systemd",
                                              "--fd"};

static struct tracer *tracer;
static struct broker broker;
static enum mode mode;
static int handed_fd; /* a listening socket from "systemd", or a private broker's connection */
static int client_fd;
static int notify_fd;

static void note_calls(void)
{
    tracer = tracer_new();
}

/* ---- Starting ------------------------------------------------------------------------- */

static int bound_socket(int type, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    ck_assert_int_lt((int)strlen(path), (int)sizeof address.sun_path);
    (void)strcpy(address.sun_path, path);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(chmod(path, 0666), 0);
    return fd;
}

/* In the child: as whoever the daemon is, with what its starter gives it. */
static void run(void *argument)
{
    const char *arguments[6] = {broker.program, "--config", broker.config};
    char text[128];
    int log = open(broker.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    (void)argument;
    (void)dup2(log, STDERR_FILENO);
    switch (mode) {
    case AT_PATH:
    case WITHOUT_RING:
        arguments[3] = "--socket";
        arguments[4] = broker.socket;
        break;
    case FOR_USER:
        arguments[3] = "--user";
        (void)setenv("XDG_RUNTIME_DIR", broker.folder, 1);
        break;
    case ACTIVATED:
        (void)dup2(handed_fd, 3);
        (void)snprintf(text, sizeof text, "%d", (int)getpid());
        (void)setenv("LISTEN_PID", text, 1);
        (void)setenv("LISTEN_FDS", "1", 1);
        (void)setenv("WATCHDOG_USEC", "100000", 1);
        (void)snprintf(text, sizeof text, "%s/n", broker.folder);
        (void)setenv("NOTIFY_SOCKET", text, 1);
        break;
    case PRIVATE:
        (void)dup2(handed_fd, 3);
        arguments[3] = "--fd=3";
        break;
    case MODES:
        break;
    }
    become(broker.uid);
    (void)execv(broker.program, (char *const *)(uintptr_t)arguments);
}

static void start(enum mode which)
{
    char notify[128];
    int ends[2];

    mode = which;
    broker_prepare(&broker, are_we_root() ? BROKER_UID : getuid(),
                   which == WITHOUT_RING ? POLICY "ring=no\n" : POLICY);
    (void)snprintf(notify, sizeof notify, "%s/n", broker.folder);
    if (which == ACTIVATED) {
        handed_fd = bound_socket(SOCK_SEQPACKET, broker.socket);
        ck_assert_int_eq(listen(handed_fd, 16), 0);
        notify_fd = bound_socket(SOCK_DGRAM, notify);
    } else if (which == PRIVATE) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        handed_fd = ends[0];
        client_fd = ends[1];
    } else if (which == FOR_USER) {
        (void)snprintf(broker.socket, sizeof broker.socket, "%s/jitbroker/socket", broker.folder);
    }
    tracer_start(tracer, run, NULL);
}

static void receive_notice(const char *what)
{
    char text[256] = "";

    ck_assert_int_gt(recv(notify_fd, text, sizeof text - 1, 0), 0);
    ck_assert_msg(strstr(text, what) != NULL, "the service manager is told %s, not %s", text, what);
}

static void stop(void)
{
    char path[160];
    int status;

    if (mode != PRIVATE) /* which ends with its client */
        ck_assert_int_eq(kill(tracer->program, SIGTERM), 0);
    status = tracer_wait(tracer);
    ck_assert_msg(status == 0, "%s: it ended with status %x", mode_names[mode], (unsigned)status);
    if (mode == AT_PATH || mode == WITHOUT_RING || mode == FOR_USER)
        ck_assert_msg(access(broker.socket, F_OK) != 0, "%s: its socket is left", mode_names[mode]);
    (void)snprintf(path, sizeof path, "%s/n", broker.folder);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/jitbroker", broker.folder);
    (void)rmdir(path);
    broker_stop(&broker);
}

/* ---- The workload ---------------------------------------------------------------------- */

static void use(jitc_client *client)
{
    static uint8_t bytes[LARGE_BYTES];
    static jitc_span spans[SPANS];
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_scope *scope;
    jitc_span large;
    jitc_span found;
    uint64_t seen;

    (void)usleep(10000); /* so that the daemon sleeps, and has to be woken */
    assert_status(JITC_OK, "", jitc_alloc(client, &large, sizeof bytes));
    assert_status(JITC_OK, "", jitc_write(client, &large, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    for (unsigned i = 0; i < SPANS; i++) {
        code_return(bytes, i);
        assert_status(JITC_OK, "", jitc_alloc(client, &spans[i], 1000));
        assert_status(JITC_OK, "", jitc_write(client, &spans[i], 0, bytes, 100, JITC_WRITE_DEFAULT));
        ck_assert_uint_eq(code_call(spans[i].rx), i);
    }
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    for (unsigned i = 0; i < SPANS; i++)
        assert_status(JITC_OK, "", jitc_scope_write(scope, &spans[i], 0, bytes, 100));
    assert_status(JITC_OK, "", jitc_scope_end(scope));
    assert_status(JITC_OK, "", jitc_patch(client, &spans[0], 0, 1, bytes[0], 0, &seen));
    assert_status(JITC_OK, "", jitc_shrink(client, &spans[0], 64));
    assert_status(JITC_OK, "", jitc_seal(client, &spans[1]));
    assert_status(JITC_E_SEALED, "", jitc_write(client, &spans[1], 0, bytes, 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_query(client, &found, spans[2].rx));
    for (unsigned i = 2; i < SPANS; i++)
        assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    assert_status(JITC_OK, "", jitc_release(client, large.rx));
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_E_TOO_LARGE, "", jitc_alloc(client, &large, UINT64_C(1) << 30));
    assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_SOFT));
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_HARD));
}

/* Each kind of arena: through, direct, and sealed if we have the daemon's uid. */
static void work_as_client(void)
{
    for (unsigned i = 0; i < 4; i++) {
        jitc_options options = broker_options(&broker);
        jitc_client *client;

        options.write_mode = i % 2 == 0 ? JITC_WRITE_THROUGH : JITC_WRITE_DIRECT;
        options.flags = i < 2 ? JITC_LARGE_PAGES : JITC_IMMEDIATE_RELEASE;
        client = broker_connect(&broker, &options);
        use(client);
        client = jitc_close(client);
    }
}

/* Ends as the first of the daemon's limits, and what is against the protocol, make it. */
static void misbehave(void)
{
    const struct hello hello = {.version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION};
    unsigned before = broker_log_count(&broker, "no request");
    struct wire *wires[10];
    struct buffer out;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    for (unsigned i = 0; i < 10; i++)
        wires[i] = wire_new(broker_socket(&broker));
    wire_hello(wires[0]);
    wire_send_bytes(wires[0], "\377\377", 2);
    wire_hello(wires[1]);
    out = wire_begin(wires[1]);
    ck_assert_int_eq(record_send(wires[1]->socket, true, out.bytes, out.used, &fd, 1), 0);
    /* Its session ends before it has read Welcome. */
    out = wire_begin(wires[3]);
    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wires[3], &out);
    wire_send_bytes(wires[3], "\377", 1);
    while (broker_log_count(&broker, "no request") < before + 2)
        (void)usleep(1000);
    wire_hello(wires[2]);
    /* Requests by the socket whose answers nobody reads, until none is taken any more. */
    for (unsigned i = 0; i < 100000; i++) {
        out = wire_begin(wires[2]);
        if (record_send(wires[2]->socket, false, out.bytes, out.used, NULL, 0) != 0)
            break;
    }
    wire_expect_goodbye(wires[9], STATUS_HELLO_TIMEOUT, "Hello");
    for (unsigned i = 0; i < 10; i++)
        wires[i] = wire_free(wires[i]);
    (void)close(fd);
}

/* As that user, in a process of its own, which is killed in the end with a session that it uses. */
static void work_as(uid_t uid)
{
    pid_t worker = fork();
    int status;

    ck_assert_int_ge(worker, 0);
    if (worker == 0) {
        jitc_client *client;
        jitc_span span;

        become(uid);
        work_as_client();
        misbehave();
        client = broker_connect(&broker, NULL);
        if (jitc_alloc(client, &span, 100) == JITC_OK)
            (void)raise(SIGKILL);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(worker, &status, 0), worker);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: a worker ended with status %x",
                  mode_names[mode], (unsigned)status);
}

static void work_privately(void)
{
    jitc_client *client = NULL;

    (void)close(handed_fd);
    assert_status(JITC_OK, "", jitc_adopt(&client, client_fd, NULL));
    use(client);
    client = jitc_close(client);
}

static void work(void)
{
    if (mode == PRIVATE) {
        work_privately();
        return;
    }
    if (mode == ACTIVATED) {
        receive_notice("READY=1");
        receive_notice("WATCHDOG=1");
        /* Or the daemon waits for somebody to read the next ones. */
        ck_assert_int_eq(shutdown(notify_fd, SHUT_RD), 0);
    }
    /* A user's own socket is for nobody else. */
    if (mode != FOR_USER)
        work_as(WORKER_UID);
    work_as(broker.uid);
    ck_assert_int_eq(kill(tracer->program, SIGHUP), 0);
}

/* ---- What was made and what is listed ---------------------------------------------------- */

static const struct sandbox_call *listed(int number)
{
    for (size_t i = 0; i < sandbox_calls_count; i++) {
        if (sandbox_calls[i].number == number)
            return &sandbox_calls[i];
    }
    return NULL;
}

/* Whether the filter lets it pass whatever its arguments: then it was the kernel that refused it, as it does
 * libsystemd's wish for a larger buffer than others have. */
static bool is_free(int number)
{
    for (size_t i = 0; i < sandbox_calls_count; i++) {
        if (sandbox_calls[i].number == number && sandbox_calls[i].compares_count == 0)
            return true;
    }
    return false;
}

START_TEST(every_call_it_makes_is_listed_and_none_is_refused)
{
    start((enum mode)_i);
    work();
    stop();
    for (int number = 0; number < TRACER_CALLS_MAX; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

        ck_assert_msg(tracer->made[number] == 0 || listed(number) != NULL, "%s: it calls %s", mode_names[_i],
                      name);
        ck_assert_msg(tracer->refused[number] == 0 || is_free(number), "%s: it was refused %s",
                      mode_names[_i], name);
        free(name);
    }
}
END_TEST

/* After the above, in memory that all of them share. Those that say why they are seldom are printed. */
START_TEST(every_call_that_is_listed_is_made)
{
    for (size_t i = 0; i < sandbox_calls_count; i++) {
        const struct sandbox_call *call = &sandbox_calls[i];

        if (call->number < 0 || tracer->made[call->number] > 0)
            continue;
        ck_assert_msg(call->seldom != NULL, "it was not seen to call %s: why is it listed?", call->name);
        (void)printf("listed, and not seen: %s (%s)\n", call->name, call->seldom);
    }
}
END_TEST

/* ---- What the kernel says of the process ---------------------------------------------------- */

/* The lines of a file under /proc/PID that have all of these words in them. */
static unsigned count_lines(pid_t pid, const char *file, const char *word, const char *other)
{
    char path[64];
    char line[512];
    unsigned count = 0;
    FILE *lines;

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    lines = fopen(path, "re");
    if (lines == NULL && errno == EACCES)
        skip("only root sees what the kernel says of a process that is not dumpable");
    ck_assert_ptr_nonnull(lines);
    while (fgets(line, sizeof line, lines) != NULL)
        count += strstr(line, word) != NULL && strstr(line, other) != NULL;
    (void)fclose(lines);
    return count;
}

static void check_confinement(pid_t pid)
{
    static const char *const sets[] = {"CapInh:", "CapPrm:", "CapEff:", "CapAmb:"};

    ck_assert_uint_eq(count_lines(pid, "status", "NoNewPrivs:", "1"), 1);
    ck_assert_uint_eq(count_lines(pid, "status", "Seccomp:", "2"), 1);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        ck_assert_msg(count_lines(pid, "status", sets[i], "\t0000000000000000") == 1, "it has %s", sets[i]);
}

START_TEST(it_is_confined_and_has_no_capabilities)
{
    broker_start(&broker, NULL);
    use(broker_connect(&broker, NULL));
    check_confinement(broker.pid);
    broker_stop(&broker);
}
END_TEST

START_TEST(as_root_it_has_no_capabilities_either_nor_gets_them_back)
{
    if (!are_we_root())
        skip("needs root");
    broker_start_as(&broker, 0, NULL);
    use(broker_connect(&broker, NULL));
    check_confinement(broker.pid);
    ck_assert_uint_eq(count_lines(broker.pid, "status", "CapBnd:", "\t0000000000000000"), 1);
    broker_stop(&broker);
}
END_TEST

START_TEST(its_address_space_is_what_the_policy_can_take)
{
    char bytes[32];
    uint64_t arena = UINT64_C(16) << 20;

    /* As process.c reckons it, said once more. */
    (void)snprintf(bytes, sizeof bytes, " %" PRIu64 " ",
                   3 * (arena + arena / 8 + HUGE_PAGE_BYTES + 2 * RING_BYTES) + (UINT64_C(1) << 30));
    broker_start(&broker, "[daemon]\nsessions_max=3\n[class default]\narena=16M\narena_max=16M\n");
    ck_assert_uint_eq(count_lines(broker.pid, "limits", "Max address space", bytes), 1);
    broker_stop(&broker);
}
END_TEST

/* One user may have half of them. */
START_TEST(all_sessions_of_the_policy_fit_into_its_address_space)
{
    jitc_client *clients[3];

    broker_start(&broker, "[daemon]\nsessions_max=6\n[class default]\narena=64G\narena_max=64G\n");
    for (unsigned i = 0; i < 3; i++)
        clients[i] = broker_connect(&broker, NULL);
    for (unsigned i = 0; i < 3; i++)
        clients[i] = jitc_close(clients[i]);
    broker_stop(&broker);
}
END_TEST

START_TEST(nothing_becomes_executable_by_what_it_does)
{
    unsigned before;

    broker_start(&broker, POLICY);
    before = count_lines(broker.pid, "maps", "r-xp", "") + count_lines(broker.pid, "maps", "--xp", "");
    ck_assert_uint_gt(before, 0);
    work_as_client();
    ck_assert_uint_eq(
        count_lines(broker.pid, "maps", "r-xp", "") + count_lines(broker.pid, "maps", "--xp", ""), before);
    ck_assert_uint_eq(count_lines(broker.pid, "maps", "wx", ""), 0);
    ck_assert_uint_eq(count_lines(broker.pid, "maps", "xs ", ""), 0);
    broker_stop(&broker);
}
END_TEST

int main(void)
{
    Suite *suite;
    TCase *calls;
    TCase *state;

#ifdef JITBROKER_INSTRUMENTED
    (void)printf("skipped: this build is instrumented, and not confined\n");
    return 77;
#endif
    suite = suite_create("sandbox");
    calls = tcase_create("calls");
    state = tcase_create("state");
    tcase_add_unchecked_fixture(calls, note_calls, NULL);
    tcase_add_loop_test(calls, every_call_it_makes_is_listed_and_none_is_refused, 0, MODES);
    tcase_add_test(calls, every_call_that_is_listed_is_made);
    tcase_add_test(state, it_is_confined_and_has_no_capabilities);
    tcase_add_test(state, as_root_it_has_no_capabilities_either_nor_gets_them_back);
    tcase_add_test(state, its_address_space_is_what_the_policy_can_take);
    tcase_add_test(state, all_sessions_of_the_policy_fit_into_its_address_space);
    tcase_add_test(state, nothing_becomes_executable_by_what_it_does);
    tcase_set_timeout(calls, 0);
    tcase_set_timeout(state, 0);
    suite_add_tcase(suite, calls);
    suite_add_tcase(suite, state);
    return suite_run(suite);
}
