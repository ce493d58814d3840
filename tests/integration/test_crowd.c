/* SPDX-License-Identifier: MIT */
/*
 * Many clients at once, and clients that are killed in the middle of anything: each has
 * its own results, and the daemon is left as it was before them.
 */
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/holdings.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

enum {
    CROWD = 200,        /* clients at once */
    CROWD_ROUNDS = 300, /* of each */
    KILLS = 300,
    KILLED_AT_ONCE = 12, /* workers to choose a victim from */
    STEADY = 4,          /* that nobody kills */
    REPETITIONS = 6,
    SPANS = 16,                 /* live ones of a client */
    LOG_LINES_PER_SECOND = 200, /* LOG_BURST: what is beyond is counted only */
};

/* What RSS may differ by after the same load again: the allocator's caches. */
#define RSS_GROWTH_MAX_BYTES (1L << 20)

static struct broker broker;
static unsigned seed;

static void start(void)
{
    broker_start(&broker, NULL);
}

static void stop(void)
{
    broker_stop(&broker);
}

static void choose_seed(void)
{
    const char *given = getenv("JITBROKER_SEED");

    seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)(time(NULL) ^ getpid());
    (void)printf("JITBROKER_SEED=%u\n", seed);
}

/* ---- A client ----------------------------------------------------------------------- */

#define must(condition)                                                                                    \
    do {                                                                                                   \
        if (!(condition)) {                                                                                \
            (void)fprintf(stderr, "client %d: line %d: not %s: %s\n", (int)getpid(), __LINE__, #condition, \
                          jitc_error_detail());                                                            \
            _exit(EXIT_FAILURE);                                                                           \
        }                                                                                                  \
    } while (0)

struct load {
    jitc_client *client;
    unsigned random; /* rand_r()'s */
    jitc_span spans[SPANS];
    uint32_t values[SPANS];
};

static void make_content(uint32_t value, uint8_t *bytes, size_t size)
{
    memset(bytes, (int)(value * 31 >> 3), size);
    code_return(bytes, value);
}

static void check_span(const struct load *load, unsigned i)
{
    uint8_t bytes[2048];

    make_content(load->values[i], bytes, load->spans[i].size);
    must(memcmp(load->spans[i].rx, bytes, load->spans[i].size) == 0);
    must(code_call(load->spans[i].rx) == load->values[i]);
}

/* One span goes, after it was checked, and another comes. */
static void load_step(struct load *load)
{
    unsigned i = (unsigned)rand_r(&load->random) % SPANS;
    jitc_span *span = &load->spans[i];
    uint8_t bytes[2048];

    if (span->rx != NULL) {
        check_span(load, i);
        must(jitc_release(load->client, span->rx) == JITC_OK);
    }
    load->values[i] = (uint32_t)rand_r(&load->random);
    must(jitc_alloc(load->client, span, (size_t)(1 + rand_r(&load->random) % 2048)) == JITC_OK);
    make_content(load->values[i], bytes, span->size);
    must(jitc_write(load->client, span, 0, bytes, span->size, JITC_WRITE_DEFAULT) == JITC_OK);
    check_span(load, i);
}

static void load_begin(struct load *load, unsigned number)
{
    const jitc_options options = broker_options(&broker);

    *load = (struct load){.random = seed + number};
    must(jitc_connect(&load->client, &options) == JITC_OK);
}

static void load_end(struct load *load)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    uint64_t live = 0;

    for (unsigned i = 0; i < SPANS; i++) {
        if (load->spans[i].rx == NULL)
            continue;
        check_span(load, i);
        live++;
    }
    must(jitc_statistics(load->client, &stats) == JITC_OK && stats.allocation_count == live);
    load->client = jitc_close(load->client);
}

/* ---- Its log ------------------------------------------------------------------------------ */

struct tally {
    unsigned started;
    unsigned ended;
    unsigned unlogged; /* lines that the daemon held back, and counted */
};

/* Counts the lines of each session; `by_id` has room for `ids_max` + 1 numbers of sessions. */
static struct tally read_log(uint8_t *by_id, uint64_t ids_max)
{
    FILE *log = fopen(broker.log, "re");
    struct tally tally = {0};
    char line[1024];

    ck_assert_ptr_nonnull(log);
    memset(by_id, 0, ids_max + 1);
    while (fgets(line, sizeof line, log) != NULL) {
        const char *text = line[0] == '<' ? line + 3 : line;
        char event[16];
        unsigned count;
        uint64_t id;

        if (sscanf(text, "session_%15[a-z]: session=%" SCNu64, event, &id) == 2) {
            bool is_end = strcmp(event, "ended") == 0;

            ck_assert_msg(is_end || strcmp(event, "started") == 0, "%s", line);
            ck_assert_uint_le(id, ids_max);
            /* 1: started, 2: ended, in that order. */
            ck_assert_msg(tally.unlogged > 0 || by_id[id] == (is_end ? 1 : 0), "%s", line);
            by_id[id]++;
            if (is_end)
                tally.ended++;
            else
                tally.started++;
        } else if (sscanf(text, "%u more lines about clients were not logged", &count) == 1) {
            tally.unlogged += count;
        }
    }
    (void)fclose(log);
    return tally;
}

/* Of `sessions` in all since the daemon started. */
static void assert_logged(uint64_t sessions)
{
    uint8_t *by_id = malloc(sessions + 1);
    struct tally tally = read_log(by_id, sessions);

    ck_assert_uint_eq(tally.started + tally.ended + tally.unlogged, 2 * sessions);
    for (uint64_t id = 1; tally.unlogged == 0 && id <= sessions; id++)
        ck_assert_uint_eq(by_id[id], 2);
    if (tally.unlogged > 0)
        (void)printf("%u lines of the log were held back, as more than %d came within a second\n",
                     tally.unlogged, LOG_LINES_PER_SECOND);
    free(by_id);
}

/* A second in which nothing else is logged, so that the burst before it is over. */
static void let_a_second_pass(void)
{
    (void)usleep(1100000);
}

/* ---- Crowds -------------------------------------------------------------------------------- */

/* What the clients of a crowd and their parent wait for one another with; shared memory. */
struct gate {
    _Atomic unsigned connected;
    _Atomic unsigned done;
    _Atomic bool may_work;
    _Atomic bool may_go;
};

static struct gate *gate_new(void)
{
    struct gate *gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(gate, MAP_FAILED);
    return gate;
}

static void wait_for(const _Atomic bool *open)
{
    while (!*open)
        (void)usleep(2000);
}

static void be_one_of_crowd(struct gate *gate, unsigned number, unsigned rounds)
{
    struct load load;

    become(number % 2 == 0 ? WORKER_UID : OTHER_WORKER_UID);
    load_begin(&load, number);
    gate->connected++;
    wait_for(&gate->may_work);
    for (unsigned i = 0; i < rounds; i++)
        load_step(&load);
    gate->done++;
    wait_for(&gate->may_go);
    load_end(&load);
    _exit(EXIT_SUCCESS);
}

/* Waits until `count` is `target`, and notices who fails meanwhile. */
static void await(const _Atomic unsigned *count, unsigned target)
{
    while (*count < target) {
        siginfo_t gone = {0};

        (void)waitid(P_ALL, 0, &gone, WEXITED | WNOHANG | WNOWAIT);
        ck_assert_msg(gone.si_pid == 0, "a client ended early, with %d", gone.si_status);
        (void)usleep(5000);
    }
}

static void run_crowd(unsigned clients, unsigned rounds)
{
    struct gate *gate = gate_new();
    pid_t pids[CROWD];

    (void)fflush(NULL);
    for (unsigned i = 0; i < clients; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0)
            be_one_of_crowd(gate, i, rounds);
    }
    await(&gate->connected, clients); /* all of them at once */
    let_a_second_pass();
    gate->may_work = true;
    await(&gate->done, clients);
    gate->may_go = true;
    for (unsigned i = 0; i < clients; i++) {
        int status = -1;

        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(status == 0, "client %u ended with status %x", i, (unsigned)status);
    }
    (void)munmap(gate, sizeof *gate);
}

START_TEST(two_hundred_clients_at_once_have_each_their_own_results)
{
    struct holdings baseline = holdings_baseline(&broker);

    choose_seed();
    let_a_second_pass();
    run_crowd(CROWD, CROWD_ROUNDS);
    holdings_await(&broker, &baseline);
    let_a_second_pass();
    (void)jitc_close(broker_connect(&broker, NULL)); /* has the daemon tell what it did not log */
    holdings_await(&broker, &baseline);
    assert_logged(CROWD + 2);
}
END_TEST

START_TEST(the_daemon_does_not_grow_with_the_clients_it_had)
{
    struct holdings baseline = holdings_baseline(&broker);
    long rss_bytes = 0;

    choose_seed();
    for (int i = 0; i < REPETITIONS; i++) {
        run_crowd(CROWD / 8, CROWD_ROUNDS / 3);
        holdings_await(&broker, &baseline);
        if (i == 0)
            rss_bytes =
                broker_memory_bytes(&broker, "RssAnon"); /* what the first one needed is kept for the next */
    }
    if (HAS_SANITIZER)
        skip("in part: a sanitizer keeps what was freed");
    ck_assert_int_gt(rss_bytes, 0);
    ck_assert_int_le(broker_memory_bytes(&broker, "RssAnon") - rss_bytes, RSS_GROWTH_MAX_BYTES);
}
END_TEST

/* ---- Killing -------------------------------------------------------------------------------- */

static pid_t start_victim(unsigned number)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct load load;

        become(WORKER_UID);
        load_begin(&load, number);
        for (;;)
            load_step(&load);
    }
    return pid;
}

static pid_t start_steady(struct gate *gate, unsigned number)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct load load;

        become(OTHER_WORKER_UID);
        load_begin(&load, number);
        gate->connected++;
        while (!gate->may_go)
            load_step(&load);
        load_end(&load);
        _exit(EXIT_SUCCESS);
    }
    return pid;
}

static void kill_and_reap(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status), "it ended by itself, with status %x", (unsigned)status);
}

START_TEST(clients_that_are_killed_leave_nothing_behind)
{
    struct holdings baseline = holdings_baseline(&broker);
    struct gate *gate = gate_new();
    pid_t victims[KILLED_AT_ONCE];
    pid_t steady[STEADY];
    unsigned random;
    unsigned started = 0;

    choose_seed();
    random = seed;
    (void)fflush(NULL);
    for (unsigned i = 0; i < STEADY; i++)
        steady[i] = start_steady(gate, i);
    await(&gate->connected, STEADY);
    for (; started < KILLED_AT_ONCE; started++)
        victims[started] = start_victim(started);
    for (int i = 0; i < KILLS; i++) {
        unsigned which = (unsigned)rand_r(&random) % KILLED_AT_ONCE;

        /* The youngest may not even have said Hello. */
        if (i % 3 == 0)
            which = (started - 1) % KILLED_AT_ONCE;
        (void)usleep((useconds_t)(rand_r(&random) % 20000));
        kill_and_reap(victims[which]);
        victims[which] = victims[started % KILLED_AT_ONCE];
        victims[started % KILLED_AT_ONCE] = start_victim(started);
        started++;
    }
    for (unsigned i = 0; i < KILLED_AT_ONCE; i++)
        kill_and_reap(victims[i]);
    gate->may_go = true;
    for (unsigned i = 0; i < STEADY; i++) {
        int status = -1;

        ck_assert_int_eq(waitpid(steady[i], &status, 0), steady[i]);
        ck_assert_int_eq(status, 0);
    }
    holdings_await(&broker, &baseline);
    (void)munmap(gate, sizeof *gate);
}
END_TEST

/* Each session that the log knows has its start and its end there, in this order. */
static void assert_log_is_complete(uint64_t sessions_max, const struct holdings *baseline)
{
    uint8_t *by_id = malloc(sessions_max + 1);
    struct tally tally;

    ck_assert_ptr_nonnull(by_id);
    (void)jitc_close(broker_connect(&broker, NULL)); /* who connected earlier has been accepted by then */
    holdings_await(&broker, baseline);
    if (baseline->fds < 0)
        let_a_second_pass();
    tally = read_log(by_id, sessions_max);
    ck_assert_uint_eq(tally.unlogged, 0);
    ck_assert_uint_ge(tally.started, 1);
    ck_assert_uint_eq(tally.started, tally.ended);
    for (uint64_t id = 0; id <= sessions_max; id++)
        ck_assert_uint_ne(by_id[id], 1);
    free(by_id);
}

START_TEST(killed_sessions_are_all_logged_to_their_end)
{
    struct holdings baseline = holdings_baseline(&broker);
    unsigned random;

    choose_seed();
    random = seed;
    for (unsigned i = 0; i < KILLS / 10; i++) {
        pid_t pid = start_victim(i);

        (void)usleep((useconds_t)(rand_r(&random) % 20000));
        kill_and_reap(pid);
    }
    assert_log_is_complete(KILLS, &baseline);
}
END_TEST

START_TEST(a_client_that_is_gone_before_its_welcome_is_logged_like_any_other)
{
    const struct hello hello = {.version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION};
    struct holdings baseline = holdings_baseline(&broker);

    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0); /* it finds Hello and end together */
    for (unsigned i = 0; i < KILLS / 10; i++) {
        struct wire *wire = wire_new(broker_socket(&broker));
        struct buffer out = wire_begin(wire);

        ck_assert(codec_put_hello(&out, &hello));
        wire_send(wire, &out);
        (void)wire_free(wire);
    }
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
    assert_log_is_complete(KILLS, &baseline);
}
END_TEST

int main(void)
{
    const struct {
        const char *name;
        const TTest *test;
    } cases[] = {
        {"at once", two_hundred_clients_at_once_have_each_their_own_results},
        {"again and again", the_daemon_does_not_grow_with_the_clients_it_had},
        {"killed", clients_that_are_killed_leave_nothing_behind},
        {"logged", killed_sessions_are_all_logged_to_their_end},
        {"gone", a_client_that_is_gone_before_its_welcome_is_logged_like_any_other},
    };
    Suite *suite = suite_create("crowd");

    /* A daemon each: its log and what it holds are looked at from the beginning. */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        TCase *tcase = tcase_create(cases[i].name);

        tcase_add_unchecked_fixture(tcase, start, stop);
        tcase_set_timeout(tcase, 0);
        tcase_add_test(tcase, cases[i].test);
        suite_add_tcase(suite, tcase);
    }

    return suite_run(suite);
}
