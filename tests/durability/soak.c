/* SPDX-License-Identifier: MIT */
/*
 * Mixed load for as long as it is told, on a daemon that ends every second or two, by SIGKILL, SIGTERM or an
 * upgrade in turn; all is compared after each (crew.h). Writes what it costs, a line each interval, to a file
 * that soak_plot.py reads.
 *   soak SECONDS FILE [SEED]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/durability/crew.h"
#include "tests/harness/suite.h"

enum { INTERVAL_MS = 10000, LOAD_MIN_MS = 600, LOAD_MORE_MS = 1400 };

static struct broker broker;
static unsigned seconds;
static unsigned seed;
static unsigned dice;
static FILE *csv;
static uint64_t longest_wait_ns; /* of this interval */

static const struct {
    const char *name;
    int number;
} ends[] = {{"kill", SIGKILL}, {"stop", SIGTERM}, {"upgrade", SIGUSR2}};

static void end_daemon(unsigned kind)
{
    uint64_t waits_ns[CREWS];
    pid_t pid = supervised_await_daemon(&broker, 0);

    if (ends[kind].number == SIGUSR2) {
        (void)unlink(broker.program);
        broker_copy_program(getenv("JITBROKER_DAEMON"), broker.program);
    }
    (void)crews_kill(0, ends[kind].number, 0);
    /* An upgrade is checked first, and so the old one answers for a while. */
    (void)supervised_await_daemon(&broker, pid);
    crews_await_answers(waits_ns);
    for (unsigned i = 0; i < CREWS; i++)
        longest_wait_ns = waits_ns[i] > longest_wait_ns ? waits_ns[i] : longest_wait_ns;
}

static long memory_of(pid_t pid)
{
    struct broker process = {.pid = pid};

    return broker_memory_bytes(&process, "RssAnon");
}

/* Takes the times of all since the last call, and tells which is longer than that many in a thousand, in us.
 */
static void take_times(double *p50_us, double *p99_us)
{
    static uint32_t last[CREW_TIMES];
    uint32_t now[CREW_TIMES] = {0};
    uint64_t all = 0;
    uint64_t below = 0;

    *p50_us = *p99_us = 0;
    for (unsigned t = 0; t < CREW_TIMES; t++) {
        for (unsigned i = 0; i < CREWS; i++)
            now[t] += atomic_load(&crew_table->seats[i].times[t]);
        all += now[t] - last[t];
    }
    for (unsigned t = 0; t < CREW_TIMES; t++) {
        double us = (double)(UINT64_C(1) << t / 4) * (4 + t % 4) / 4 / 1000;

        below += now[t] - last[t];
        if (*p50_us == 0 && below * 2 >= all)
            *p50_us = us;
        if (*p99_us == 0 && below * 100 >= all * 99)
            *p99_us = us;
    }
    memcpy(last, now, sizeof last);
}

/* While all stand still. */
static void note(uint64_t began_ns)
{
    struct broker daemon = {.pid = supervised_await_daemon(&broker, 0)};
    struct crew_sum sum = crews_sum();
    double p50_us;
    double p99_us;
    long clients = 0;

    for (unsigned i = 0; i < CREWS; i++)
        clients += memory_of(crews_process(i));
    take_times(&p50_us, &p99_us);
    (void)fprintf(csv, "%.1f,%u,%llu,%ld,%ld,%ld,%ld,%ld,%ld,%.2f,%.2f,%.2f\n",
                  (double)(crew_now_ns() - began_ns) / 1e9, atomic_load(&crew_table->kills),
                  (unsigned long long)sum.acts, memory_of(daemon.pid), broker_fds(&daemon),
                  memory_of(broker.pid), broker_fds(&broker), broker_shared_bytes(&daemon), clients, p50_us,
                  p99_us, (double)longest_wait_ns / 1e6);
    (void)fflush(csv);
    longest_wait_ns = 0;
}

START_TEST(what_it_costs_stays_what_it_was)
{
    uint64_t began_ns;
    uint64_t noted_ns;
    unsigned kind = 0;

    if (!are_we_root())
        skip("arenas of the daemon's own user can't change after a restart: it takes root, to be others");
    dice = seed;
    crews_start(&broker, seed);
    began_ns = noted_ns = crew_now_ns();
    (void)fputs("seconds,ends,operations,daemon_anon,daemon_fds,supervisor_anon,supervisor_fds,shared_bytes,"
                "clients_anon,p50_us,p99_us,longest_wait_ms\n",
                csv);
    while (crew_now_ns() - began_ns < (uint64_t)seconds * 1000000000) {
        (void)usleep((LOAD_MIN_MS + (unsigned)rand_r(&dice) % LOAD_MORE_MS) * 1000);
        end_daemon(kind++ % 3);
        crews_compare();
        if (crew_now_ns() - noted_ns >= INTERVAL_MS * UINT64_C(1000000)) {
            noted_ns = crew_now_ns();
            note(began_ns);
        }
        crews_go_on();
    }
    crews_end();
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("soak");
    TCase *tests = tcase_create("soak");

    seconds = argc > 2 ? (unsigned)strtoul(argv[1], NULL, 0) : 0;
    csv = argc > 2 ? fopen(argv[2], "we") : NULL;
    seed = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : (unsigned)getpid();
    if (seconds == 0 || csv == NULL) {
        (void)fputs("usage: soak SECONDS FILE [SEED]\n", stderr);
        return 2;
    }
    (void)printf("soak: seed %u\n", seed);
    (void)fflush(stdout);
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, what_it_costs_stays_what_it_was);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
