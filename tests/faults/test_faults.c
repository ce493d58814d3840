/* SPDX-License-Identifier: MIT */
/*
 * The daemon when the system fails it: each call of a kind in turn, and all from one on. Its
 * client is told, another one notices nothing, and nothing is left behind.
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/faults/faults.h"
#include "tests/faults/script.h"
#include "tests/harness/attack.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

#define CONFIG          \
    "[class default]\n" \
    "write=direct\n"    \
    "huge_pages=yes\n"  \
    "session_max=2\n"   \
    "bytes_max=4M\n"

/* A look at the daemon every 0.2 ms; what it has not let go of by then, it never will. */
#define LOOKS_MAX 50000u
#define LOOK_US 200u

static struct broker broker;
static char library[] = "/tmp/jitbroker-faults-XXXXXX";
static char control[] = "/tmp/jitbroker-control-XXXXXX";
static struct faults *shared;

/* ---- The daemon with its faults -------------------------------------------------------- */

static void begin(void)
{
    int fd;

    if (!are_we_root())
        skip("without root nobody sees the daemon's descriptors");
#ifdef __SANITIZE_THREAD__
    skip("under the thread sanitizer the daemon's heap is not ours to count");
#endif
    fd = mkstemp(library);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    broker_copy_program(FAULTS_LIBRARY, library);
    fd = mkstemp(control);
    ck_assert_int_eq(fchmod(fd, 0666), 0);
    ck_assert_int_eq(ftruncate(fd, sizeof *shared), 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    (void)close(fd);
}

static void end(void)
{
    (void)unlink(library);
    (void)unlink(control);
}

/* What is started from here on is the daemon, and no other program. */
static void preload(bool on)
{
    if (on) {
        (void)setenv("LD_PRELOAD", library, 1);
        (void)setenv("JITBROKER_FAULTS", control, 1);
        (void)setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
    } else {
        (void)unsetenv("LD_PRELOAD");
        (void)unsetenv("ASAN_OPTIONS");
    }
}

/* ---- Under a session -------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum jitc_write_mode write_mode;
    uint32_t flags;
    uid_t uid;
} kinds[] = {
    {"through", JITC_WRITE_THROUGH, JITC_IMMEDIATE_RELEASE, WORKER_UID},
    {"with huge pages", JITC_WRITE_THROUGH, JITC_LARGE_PAGES, WORKER_UID},
    {"direct", JITC_WRITE_DIRECT, 0, WORKER_UID},
    {"sealed", JITC_WRITE_THROUGH, 0, 0},
};

/* What a daemon that runs out of memory goes on to run out of. */
static const enum fault lasting[] = {FAULT_MALLOC,       FAULT_CALLOC, FAULT_REALLOC,   FAULT_MMAP,
                                     FAULT_MEMFD_CREATE, FAULT_PWRITE, FAULT_FTRUNCATE, FAULT_OPEN,
                                     FAULT_FALLOCATE,    FAULT_MADVISE};

/* Somebody who was there before. */
static struct {
    jitc_client *client;
    jitc_span span;
} bystander;

static bool the_daemon_s(int status)
{
    /* Who reads what the daemon has taken back does not know yet that the session is over. */
    if (status == JITC_E_NO_SPAN && strstr(jitc_error_detail(), "the session has ended") != NULL)
        return true;
    return status == JITC_E_NO_MEMORY || status == JITC_E_DISCONNECTED ||
           (status == JITC_E_REFUSED && strstr(jitc_error_detail(), "who the peer is") != NULL);
}

static bool has_fired(void)
{
    return atomic_load(&shared->fired) > 0;
}

static void write_code(jitc_span *span, uint32_t value)
{
    uint8_t code[CODE_RETURN_BYTES];

    code_return(code, value);
    assert_status(JITC_OK, "", jitc_alloc(bystander.client, span, sizeof code));
    assert_status(JITC_OK, "", jitc_write(bystander.client, span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span->rx), value);
}

static void check_bystander(void)
{
    jitc_span span;

    ck_assert_uint_eq(code_call(bystander.span.rx), 4711);
    write_code(&span, 17);
    assert_status(JITC_OK, "", jitc_release(bystander.client, span.rx));
    assert_status(JITC_OK, "", jitc_flush(bystander.client));
}

static pid_t start_session(unsigned kind, bool lasts)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        jitc_options options = broker_options(&broker);

        become(kinds[kind].uid);
        options.write_mode = kinds[kind].write_mode;
        options.flags = kinds[kind].flags;
        _exit((int)script_run(&options, false, the_daemon_s, lasts ? NULL : has_fired));
    }
    return pid;
}

/* What the daemon has, for nobody but the bystander. */
struct state {
    long fds;
    long shared_bytes;
    int64_t blocks; /* of its heap */
};

static struct state look(void)
{
    return (struct state){broker_fds(&broker), broker_shared_bytes(&broker), atomic_load(&shared->blocks)};
}

/* It ends the session some time after the client is gone. */
static void await_state(const struct state *before, const char *what)
{
    struct state now = look();
    int status;

    for (unsigned looks = 0; looks < LOOKS_MAX && memcmp(&now, before, sizeof now) != 0; looks++) {
        if (waitpid(broker.pid, &status, WNOHANG) == broker.pid)
            ck_abort_msg("%s: the daemon ended with status %x", what, (unsigned)status);
        (void)usleep(LOOK_US);
        now = look();
    }
    ck_assert_msg(now.fds == before->fds, "%s: %ld descriptors, not %ld", what, now.fds, before->fds);
    ck_assert_msg(now.shared_bytes == before->shared_bytes, "%s: %ld bytes of shared memory, not %ld", what,
                  now.shared_bytes, before->shared_bytes);
    ck_assert_msg(now.blocks == before->blocks, "%s: %" PRId64 " blocks of memory, not %" PRId64, what,
                  now.blocks, before->blocks);
}

/* One session in which one call fails, or all from it on. Returns how many did. */
static uint32_t run_one(unsigned kind, enum fault fault, uint32_t passed, bool lasts,
                        const struct state *before)
{
    char what[128];
    uint32_t fired;
    int status;
    pid_t pid;

    (void)snprintf(what, sizeof what, "%s: %s no. %u%s", kinds[kind].name, fault_name(fault),
                   (unsigned)passed + 1, lasts ? " and all later ones" : "");
    faults_arm(shared, fault, passed, lasts);
    pid = start_session(kind, lasts);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    await_state(before, what);
    fired = faults_disarm(shared);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) != SCRIPT_WRONG,
                  "%s: the client ended with status %x", what, (unsigned)status);
    ck_assert_msg(fired > 0 || WEXITSTATUS(status) == SCRIPT_DONE, "%s: failed for no reason", what);
    check_bystander();
    return fired;
}

/* Each call of the kind in turn, until there are no more. */
static unsigned run_all(unsigned kind, enum fault fault, bool lasts, const struct state *before)
{
    uint32_t passed = 0;

    while (run_one(kind, fault, passed, lasts, before) > 0)
        passed++;
    return passed;
}

START_TEST(each_call_that_fails_under_a_session_is_told_and_leaves_nothing_behind)
{
    unsigned kind = (unsigned)_i;
    unsigned counts[FAULT_COUNT] = {0};
    unsigned sum = 0;
    struct state before;

    preload(true);
    broker_start(&broker, CONFIG);
    preload(false);
    bystander.client = broker_connect(&broker, NULL);
    write_code(&bystander.span, 4711);
    check_bystander();
    before = look();
    ck_assert(before.fds > 0 && before.shared_bytes > 0 && before.blocks > 0);

    for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++)
        counts[fault] += run_all(kind, (enum fault)fault, false, &before);
    for (unsigned i = 0; i < sizeof lasting / sizeof lasting[0]; i++)
        counts[lasting[i]] += run_all(kind, lasting[i], true, &before);

    (void)printf("%s:", kinds[kind].name);
    for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
        sum += counts[fault];
        if (counts[fault] > 0)
            (void)printf(" %s %u", fault_name((enum fault)fault), counts[fault]);
    }
    (void)printf("; %u sessions with faults\n", sum);
    tries("faults");
    attack_met("a clear error, the others served on");
    (void)jitc_close(bystander.client);
    broker_stop(&broker);
}
END_TEST

/* ---- What waits ---------------------------------------------------------------------------- */

static struct wire *start_with_wire(struct state *before)
{
    struct wire *wire;

    preload(true);
    broker_start(&broker, NULL);
    preload(false);
    wire = wire_new(broker_socket(&broker));
    wire_hello(wire);
    wire_close_fds(wire);
    /* With this answer it has done all that follows Welcome, and let go of who waited for its start. */
    ck_assert_int_eq(wire_run(wire, &(struct request){.operation = OPERATION_STATISTICS}).status, STATUS_OK);
    *before = look();
    return wire;
}

static void end_with_wire(struct wire *wire, const struct state *before)
{
    struct wire *next = wire_new(broker_socket(&broker));

    ck_assert_uint_gt(faults_disarm(shared), 0);
    wire = wire_free(wire);
    wire_hello(next);
    wire_close_fds(next);
    await_state(before, "one session");
    (void)wire_free(next);
    broker_stop(&broker);
}

START_TEST(a_reply_that_can_t_wait_ends_the_session)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    struct state before;
    struct wire *wire = start_with_wire(&before);
    struct buffer out;

    faults_arm(shared, FAULT_MALLOC, 0, false);
    while (!has_fired()) {
        out = wire_begin(wire);
        ck_assert(codec_put_operation(&out, &statistics));
        (void)record_send(wire->socket, false, out.bytes, out.used, NULL, 0);
    }
    end_with_wire(wire, &before);
}
END_TEST

START_TEST(a_batch_that_can_t_wait_ends_the_session_and_is_told)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 16u << 20};
    const struct request reset = {.operation = OPERATION_RESET};
    struct state before;
    struct wire *wire = start_with_wire(&before);
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_operation(&out, &alloc)); /* more than a slice of time */
    ck_assert(codec_put_operation(&out, &reset));
    faults_arm(shared, FAULT_MALLOC, 0, false);
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_NO_MEMORY, "no room for a request of many parts");
    end_with_wire(wire, &before);
}
END_TEST

/* ---- Many sessions ------------------------------------------------------------------------- */

#define CROWD 100

/* libuv grows a table with the highest descriptor, and ends the process where it can't. */
START_TEST(many_sessions_come_while_no_memory_is_to_be_had)
{
    jitc_client *clients[CROWD];

    preload(true);
    broker_start(&broker, NULL);
    preload(false);
    faults_arm(shared, FAULT_REALLOC, 0, true);
    for (unsigned i = 0; i < CROWD; i++)
        clients[i] = broker_connect(&broker, NULL);
    (void)faults_disarm(shared);
    for (unsigned i = 0; i < CROWD; i++)
        (void)jitc_close(clients[i]);
    broker_stop(&broker);
}
END_TEST

/* ---- At the start ------------------------------------------------------------------------- */

static pid_t start_daemon(const char *socket, const char *log)
{
    const char *const arguments[] = {broker.program, "--socket", socket, "--config", broker.config, NULL};
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        (void)dup2(fd, STDERR_FILENO);
        become(broker.uid);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        preload(true);
        (void)execv(broker.program, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    return pid;
}

/*
 * Tells it to stop when it has answered a client, or might have, and waits for its end. Returns its status.
 * At its end nothing fails any more: there are tools at work that can't stand it.
 */
static int await_end(pid_t pid, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int status;

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        bool serves = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
        char answer[64];

        if (serves && send(fd, "nonsense", 8, MSG_NOSIGNAL) == 8)
            (void)recv(fd, answer, sizeof answer, 0);
        (void)close(fd);
        if (serves) {
            atomic_store(&shared->armed, FAULT_NONE);
            (void)kill(pid, SIGTERM);
            ck_assert_int_eq(waitpid(pid, &status, 0), pid);
            break;
        }
        (void)usleep(LOOK_US);
    }
    return status;
}

/* What it said, for who has no other sign of what went wrong. */
static void read_log(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, text, bytes - 1);

    text[got < 0 ? 0 : got] = '\0';
    (void)close(fd);
}

/* Returns whether a call has failed. */
static bool start_with(enum fault fault, uint32_t passed, const char *socket, const char *log,
                       unsigned *refused)
{
    char said[4096];
    int status;

    faults_arm(shared, fault, passed, false);
    status = await_end(start_daemon(socket, log), socket);
    read_log(log, said, sizeof said);
    (void)unlink(socket);
    ck_assert_msg(WIFEXITED(status), "%s no. %u: ended with status %x: %s", fault_name(fault),
                  (unsigned)passed + 1, (unsigned)status, said);
    if (WEXITSTATUS(status) != 0) {
        ck_assert_msg(strstr(said, "<3>") != NULL, "%s no. %u: ended with %d, and said \"%s\"",
                      fault_name(fault), (unsigned)passed + 1, WEXITSTATUS(status), said);
        ++*refused;
    }
    return faults_disarm(shared) > 0;
}

START_TEST(a_call_that_fails_at_the_start_is_told_or_does_no_harm)
{
    char socket[128];
    char log[128];
    unsigned served = 0;
    unsigned refused = 0;

    broker_start(&broker, CONFIG);
    (void)snprintf(socket, sizeof socket, "%s/faulty", broker.folder);
    (void)snprintf(log, sizeof log, "%s/faulty-log", broker.folder);
    for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
        for (uint32_t passed = 0; start_with((enum fault)fault, passed, socket, log, &refused); passed++)
            served++;
    }
    served -= refused;
    (void)printf("at the start: %u faults, in spite of which it served %u times\n", served + refused, served);
    (void)unlink(log);
    broker_stop(&broker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults");
    TCase *tests = tcase_create("faults");

    tcase_set_timeout(tests, 0);
    tcase_add_unchecked_fixture(tests, begin, end);
    tcase_add_loop_test(tests, each_call_that_fails_under_a_session_is_told_and_leaves_nothing_behind, 0,
                        (int)(sizeof kinds / sizeof kinds[0]));
    tcase_add_test(tests, a_reply_that_can_t_wait_ends_the_session);
    tcase_add_test(tests, a_batch_that_can_t_wait_ends_the_session_and_is_told);
    tcase_add_test(tests, many_sessions_come_while_no_memory_is_to_be_had);
    tcase_add_test(tests, a_call_that_fails_at_the_start_is_told_or_does_no_harm);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
