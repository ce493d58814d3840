/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is killed again and again, at any moment, while clients of every kind work (crew.h): nothing
 * that they have may be lost, and nothing they asked for be done twice.
 *   stress_kills [--kills N] [--seed S]
 *
 * A round: clients work, the daemon is killed, now and then once or twice more while it adopts, each client
 * gets an answer, all stop and compare. It ends with how long they waited, from the kill to the first answer
 * to what they asked after it.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/durability/crew.h"
#include "tests/harness/attack.h"
#include "tests/harness/suite.h"

enum {
    KILLS = 60,
    KILLS_MAX = 100000,
    IN_A_ROW_MAX = 3,
    LOAD_MAX_US = 30000,
    ADOPTION_MAX_US = 6000,
};

static struct broker broker;
static unsigned kills = KILLS; /* wanted */
static unsigned seed;
static unsigned dice;      /* rand_r()'s, of who kills */
static uint64_t *waits_ns; /* CREWS for each round */

static void run_round(unsigned round)
{
    unsigned in_a_row = 1;
    pid_t pid;

    pid = crews_kill(0, SIGKILL, 1000 + (unsigned)rand_r(&dice) % LOAD_MAX_US);
    while (in_a_row++ < IN_A_ROW_MAX && rand_r(&dice) % 6 == 0)
        pid = crews_kill(pid, SIGKILL, (unsigned)rand_r(&dice) % ADOPTION_MAX_US);
    crews_await_answers(waits_ns + (size_t)round * CREWS);
    crews_compare();
    crews_go_on();
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *one = a;
    const uint64_t *other = b;

    return *one < *other ? -1 : *one > *other;
}

static void tell_waits(const char *who, uint64_t *ns, unsigned count)
{
    qsort(ns, count, sizeof *ns, by_value);
    (void)printf("  %-18s p50 %6.1f ms, p99 %6.1f ms, longest %6.1f ms\n", who, (double)ns[count / 2] / 1e6,
                 (double)ns[(uint64_t)count * 99 / 100] / 1e6, (double)ns[count - 1] / 1e6);
}

static void tell_result(unsigned rounds)
{
    struct crew_sum sum = crews_sum();
    uint64_t *own_ns = calloc(rounds, sizeof *own_ns);

    ck_assert_ptr_nonnull(own_ns);
    (void)printf("kills survived: %u, in %u rounds, by %u clients\n", atomic_load(&crew_table->kills), rounds,
                 (unsigned)CREWS);
    (void)printf("operations: %llu; spans compared: %llu, with %llu MiB of arenas; bytes lost: 0\n",
                 (unsigned long long)sum.acts, (unsigned long long)sum.spans,
                 (unsigned long long)sum.bytes >> 20);
    (void)printf("connections lost before they were served: %llu\n", (unsigned long long)sum.refused);
    (void)printf("from the kill to the next answer:\n");
    for (unsigned i = 0; i < CREWS; i++) {
        for (unsigned round = 0; round < rounds; round++)
            own_ns[round] = waits_ns[round * CREWS + i];
        tell_waits(crews_name(i), own_ns, rounds);
    }
    tell_waits("all", waits_ns, rounds * CREWS);
    free(own_ns);
}

START_TEST(nothing_is_lost_when_the_daemon_is_killed_at_any_moment)
{
    char met[64];
    unsigned rounds = 0;

    tries("kill-daemon");
    if (!are_we_root())
        skip("arenas of the daemon's own user can't change after a restart: it takes root, to be others");
    dice = seed;
    waits_ns = calloc((size_t)kills * CREWS, sizeof *waits_ns);
    ck_assert_ptr_nonnull(waits_ns);
    crews_start(&broker, seed);
    for (; atomic_load(&crew_table->kills) < kills; rounds++)
        run_round(rounds);
    crews_end();
    tell_result(rounds);
    (void)snprintf(met, sizeof met, "%u times: nothing was lost", atomic_load(&crew_table->kills));
    attack_met(met);
    free(waits_ns);
}
END_TEST

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"kills", required_argument, NULL, 'k'}, {"seed", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    Suite *suite = suite_create("stress_kills");
    TCase *tests = tcase_create("stress_kills");
    int option;

    seed = (unsigned)(time(NULL) ^ getpid());
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'k')
            kills = (unsigned)strtoul(optarg, NULL, 0);
        else if (option == 's')
            seed = (unsigned)strtoul(optarg, NULL, 0);
        else
            return 2;
    }
    if (kills == 0 || kills > KILLS_MAX) {
        (void)fprintf(stderr, "stress_kills: --kills: from 1 to %d\n", KILLS_MAX);
        return 2;
    }
    (void)printf("stress_kills --kills %u --seed %u\n", kills, seed);
    (void)fflush(stdout);
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, nothing_is_lost_when_the_daemon_is_killed_at_any_moment);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
