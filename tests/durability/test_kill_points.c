/* SPDX-License-Identifier: MIT */
/*
 * A daemon that kills itself at its first point, at its second, and so on, until it has none left, while a
 * client does each operation there is, on each plane; and once more at the first point, or the second, of the
 * daemon that comes next. A point is where a kill is told apart from one elsewhere: before and after each
 * change of what must survive (LEDGER_STEP() in the daemon).
 *   test_kill_points [--pairs]
 * Second kills are tried at each eighth point only, unless --pairs says at each.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/durability/chores.h"
#include "tests/durability/witness.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"
#include "tests/harness/supervised.h"

enum { LARGE_BYTES = 900 << 10, SEED = 4711, FAILURES_MAX = 20 };

static struct broker broker;
/*
 * By a sanitizer a start takes too long for all of them. Which points there are is the source's doing: by the
 * second compiler some are enough.
 */
#if HAS_SANITIZER
#define STRIDE 39u
#elif defined(__clang__)
#define STRIDE 5u
#else
#define STRIDE 1u
#endif

static bool tries_pairs;
static bool is_once;
static unsigned failures; /* all points are tried, so that one sees which of them have it in common */

static void tell_kills(const char *numbers)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof path, "%s/kills", broker.folder);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fchmod(fd, 0666), 0);
    ck_assert_int_eq(write(fd, numbers, strlen(numbers)), (ssize_t)strlen(numbers));
    (void)close(fd);
}

static void start(const char *class)
{
    char config[256];

    (void)snprintf(config, sizeof config, "[class default]\n%s", class);
    (void)setenv("JITBROKER_DAEMON", JITBROKERD_KILLED, 1);
    supervised_start(&broker, KILLED_DAEMON, config);
}

static void stop(void)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%s/kills", broker.folder);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/supervisor", broker.folder);
    (void)unlink(path);
    broker_stop(&broker);
}

/* ---- What is done each time ----------------------------------------------------------------- */

/* Takes several blocks, and steps of more than one piece. */
static void do_large(struct witness *witness, jitc_client *executor)
{
    jitc_span span;
    uint8_t *bytes = malloc(LARGE_BYTES);
    uint8_t *rx;

    must(bytes != NULL);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 9));
    must(jitc_alloc(witness->client, &span, LARGE_BYTES) == JITC_OK);
    rx = span.rx;
    must(jitc_write(witness->client, &span, 0, bytes, LARGE_BYTES, JITC_WRITE_DEFAULT) == JITC_OK);
    must(memcmp(rx, bytes, LARGE_BYTES) == 0);
    must(jitc_shrink(witness->client, &span, LARGE_BYTES / 2) == JITC_OK);
    must(jitc_flush(witness->client) == JITC_OK);
    must(memcmp(rx, bytes, LARGE_BYTES / 2) == 0);
    for (size_t i = LARGE_BYTES / 2; i < LARGE_BYTES / 2 + 4096; i += 4)
        must(memcmp(rx + i, &witness->fill, 4) == 0);
    must(jitc_release(witness->client, rx) == JITC_OK);
    witness_check_session(witness, executor);
    free(bytes);
}

static void run_script(void)
{
    static const enum witness_act acts[] = {
        WITNESS_ALLOC,  WITNESS_ALLOC,    WITNESS_ALLOC,   WITNESS_ALLOC, WITNESS_WRITE,   WITNESS_WRITE,
        WITNESS_PATCH,  WITNESS_PATCH,    WITNESS_COUNT,   WITNESS_COUNT, WITNESS_SCOPE,   WITNESS_WRITE_FN,
        WITNESS_SHRINK, WITNESS_QUERY,    WITNESS_RELEASE, WITNESS_ALLOC, WITNESS_SEAL,    WITNESS_SHRINK,
        WITNESS_ALLOC,  WITNESS_EXECUTOR, WITNESS_RELEASE, WITNESS_COUNT, WITNESS_RELEASE, WITNESS_CALL,
    };
    struct witness witness;
    jitc_client *client;
    jitc_client *executor;
    int fd;

    become(WORKER_UID);
    client = chores_connect(&broker);
    witness_init(&witness, client, SEED, is_once);
    must(jitc_open_executor(client, &fd) == JITC_OK);
    must(jitc_attach(&executor, fd) == JITC_OK);
    for (unsigned i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        witness_do(&witness, acts[i]);
        if (i % 4 == 3)
            witness_check_session(&witness, executor);
    }
    do_large(&witness, executor);
    for (int i = 0; i < 2; i++) { /* once soft, once hard */
        must(jitc_reset(client, i == 0 ? JITC_RESET_SOFT : JITC_RESET_HARD) == JITC_OK);
        witness_deinit(&witness);
        witness_init(&witness, client, SEED + 1u, is_once);
        witness_check_session(&witness, executor);
        witness_do(&witness, WITNESS_ALLOC);
        witness_check_session(&witness, executor);
    }
    witness_deinit(&witness);
    (void)jitc_close(executor);
    (void)jitc_close(client);
    _exit(EXIT_SUCCESS);
}

/* ---- Point by point ---------------------------------------------------------------------------- */

/* With a daemon for each of these kills and one more. Returns how many of them have happened. */
static unsigned try_kills(const char *numbers)
{
    unsigned before;
    int status;
    pid_t daemon = supervised_await_daemon(&broker, 0);
    pid_t worker;

    tell_kills(numbers);
    before = broker_log_count(&broker, "was killed by signal 9");
    ck_assert_int_eq(kill(daemon, SIGTERM), 0);
    (void)supervised_await_daemon(&broker, daemon);
    worker = fork();
    ck_assert_int_ge(worker, 0);
    if (worker == 0)
        run_script();
    ck_assert_int_eq(waitpid(worker, &status, 0), worker);
    if (status != 0) {
        (void)fprintf(stderr, "killed at %s: the client ended with %x; see %s\n", numbers, (unsigned)status,
                      broker.log);
        failures++;
    }
    tell_kills("");
    /* That it ended counts too, and may be what kills it. */
    while (broker_fds(&broker) != 3 + 2 + 1)
        (void)usleep(200);
    return broker_log_count(&broker, "was killed by signal 9") - before;
}

static void try_all_points(const char *what, const char *class)
{
    static const char *const more[] = {"", " 1", " 2"};
    unsigned happened = 1;
    unsigned kills = 0;
    unsigned point;

    if (!are_we_root())
        skip("arenas of the daemon's own user can't change after a restart: it takes root, to be another");
    start(class);
    for (point = 1; happened > 0 && failures < FAILURES_MAX; point += STRIDE) {
        unsigned tries = tries_pairs || point % 8 == 0 ? sizeof more / sizeof more[0] : 1;

        for (unsigned i = 0; i < tries && happened > 0; i++) {
            char numbers[32];

            (void)snprintf(numbers, sizeof numbers, "%u%s", point, more[i]);
            happened = try_kills(numbers);
            kills += happened;
        }
    }
    (void)printf("%s: %u points, every %u of them tried, %u kills\n", what, point - STRIDE - 1, STRIDE,
                 kills);
    (void)fflush(stdout);
    ck_assert_uint_gt(point, 20); /* or there are none in this build */
    ck_assert_uint_eq(failures, 0);
    stop();
}

START_TEST(no_point_of_the_ring_loses_or_repeats_anything)
{
    try_all_points("ring", "");
}
END_TEST

START_TEST(no_point_of_the_socket_loses_or_repeats_anything)
{
    try_all_points("socket", "ring=no\n");
}
END_TEST

START_TEST(no_point_of_a_direct_session_loses_or_repeats_anything)
{
    try_all_points("direct", "write=direct\n");
}
END_TEST

START_TEST(no_point_of_a_write_once_session_loses_or_repeats_anything)
{
    is_once = true;
    try_all_points("write-once", "write_once=yes\n");
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("kill_points");
    TCase *tests = tcase_create("kill_points");

    tries_pairs = argc > 1 && strcmp(argv[1], "--pairs") == 0;
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, no_point_of_the_ring_loses_or_repeats_anything);
    tcase_add_test(tests, no_point_of_the_socket_loses_or_repeats_anything);
    tcase_add_test(tests, no_point_of_a_direct_session_loses_or_repeats_anything);
    tcase_add_test(tests, no_point_of_a_write_once_session_loses_or_repeats_anything);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
