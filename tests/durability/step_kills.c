/* SPDX-License-Identifier: MIT */
/*
 * The daemon as it is released, killed after any instruction of any operation: it runs step by step from
 * where it takes an operation up until it has answered and waits again, and one of these steps is its last.
 * The next daemon adopts; of some kills it dies too, after any instruction between its first look at what it
 * adopts and its own wait. Then the client has its answer, and compares all that there is with what it knows.
 *   step_kills [--seed S]
 *   step_kills --every N [--class C] [--operation O]    after each Nth instruction, one after another
 *   step_kills --at N [--adopting M] [--serving M] --class C --operation O    once more what one of these
 * printed
 *
 * No kill is within a system call: to the kernel they are one step.
 */
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/durability/chores.h"
#include "tests/durability/stepper.h"
#include "tests/harness/attack.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"

enum {
    /* Standard streams, the supervisor's two, its socket, a session and its executor. */
    FDS_AT_REST = 3 + 2 + 1 + 2,
    /* Each so many-th operation is sampled, others the next time: a step takes 3 us, or 20 in a guest. */
    SHARE = 12
};

static const struct class
{
    const char *name;
    const char *policy;
    bool is_once;
    bool keeps_all; /* its arena only grows: to fill it is millions of steps */
} classes[] = {
    {"ring", "", false, false},
    {"socket", "ring=no\n", false, false},
    {"ring-once", "write_once=yes\n", true, false},
    {"socket-once", "ring=no\nwrite_once=yes\n", true, false},
    {"direct", "write=direct\n", false, true},
};

enum { CLASSES = sizeof classes / sizeof classes[0] };

enum part { PART_PREPARE, PART_RUN, PART_TIDY, PART_CHECK, PART_END };

/* What the worker is to do when it goes on. */
struct order {
    _Atomic enum part part;
    _Atomic unsigned chore;
};

/* After how many steps the daemon is killed; 0: not at all. */
struct moment {
    uint64_t at;       /* since it took the operation up */
    uint64_t adopting; /* the next one, since it looked at what it adopts; */
    uint64_t serving;  /* or since it did nothing else any more */
};

static struct {
    unsigned seed;
    uint64_t every;
    struct moment moment;
    const char *class;
    const char *operation;
} wanted;

static struct broker broker;
static struct stepper stepper;
static struct order *order;
static unsigned dice; /* rand_r()'s */

/* ---- Who asks ------------------------------------------------------------------------------- */

static void run_worker(const struct class *class)
{
    struct chores chores;

    become(WORKER_UID);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    chores_init(&chores, &broker, wanted.seed, class->is_once);
    for (;;) {
        const struct chore *chore;

        (void)raise(SIGSTOP);
        chore = &chores_all[atomic_load(&order->chore)];
        switch (atomic_load(&order->part)) {
        case PART_PREPARE:
            chores_prepare(&chores, chore);
            break;
        case PART_RUN:
            chore->run(&chores);
            break;
        case PART_TIDY:
            chores_tidy(&chores);
            break;
        case PART_CHECK:
            chores_check(&chores);
            break;
        default:
            chores_deinit(&chores);
            _exit(EXIT_SUCCESS);
        }
    }
}

static void have_done(enum part part)
{
    atomic_store(&order->part, part);
    stepper_wake_worker(&stepper);
    stepper_await_worker(&stepper);
}

/* ---- Who kills ------------------------------------------------------------------------------ */

/* Kills it after so many steps, if there are as many; returns how many there were. */
static uint64_t step_and_kill(uint64_t most)
{
    uint64_t steps = stepper_step(&stepper, most);

    if (steps == most)
        stepper_kill(&stepper);
    return steps;
}

/* Returns how many steps there were of the last part of it. */
static uint64_t try_kill(unsigned chore, const struct moment *moment)
{
    uint64_t steps = 0;

    atomic_store(&order->chore, chore);
    have_done(PART_PREPARE);
    atomic_store(&order->part, PART_RUN);
    if (stepper_await_request(&stepper))
        steps = step_and_kill(moment->at == 0 ? UINT64_MAX : moment->at);
    if (steps == moment->at && moment->adopting != 0) {
        stepper_await_adoption(&stepper);
        steps = step_and_kill(moment->adopting);
    } else if (steps == moment->at && moment->serving != 0) {
        stepper_await_filter(&stepper);
        steps = step_and_kill(moment->serving);
    }
    stepper_await_worker(&stepper);
    have_done(PART_TIDY);
    do {
        stepper_await_rest(&stepper);
    } while (broker_fds(&broker) != FDS_AT_REST);
    have_done(PART_CHECK);
    return steps;
}

static void start(const struct class *class)
{
    char config[256];
    pid_t worker;

    /* It need not look for more when there is nothing more: such steps are like one another. */
    (void)snprintf(config, sizeof config,
                   "[daemon]\nspin_us=0\nhello_timeout_ms=600000\n[class default]\n" CHORES_CLASS "%s",
                   class->policy);
    supervised_start(&broker, NULL, config);
    worker = fork();
    ck_assert_int_ge(worker, 0);
    if (worker == 0)
        run_worker(class);
    if (!stepper_init(&stepper, &broker, worker)) {
        (void)kill(worker, SIGKILL);
        broker_stop(&broker);
        skip("ptrace(2) is not allowed, or has no PTRACE_SEIZE");
    }
    stepper_await_worker(&stepper);
}

static void stop(void)
{
    int status;

    stepper_deinit(&stepper);
    atomic_store(&order->part, PART_END);
    stepper_wake_worker(&stepper);
    ck_assert_int_eq(waitpid(stepper.worker, &status, 0), stepper.worker);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(broker_log_count(&broker, "was killed by signal 9"), stepper.kills);
    while (broker_fds(&broker) != FDS_AT_REST - 2)
        (void)usleep(100);
    broker_stop(&broker);
}

static uint64_t any(uint64_t most)
{
    return 1 + ((uint64_t)rand_r(&dice) << 31 | (uint64_t)rand_r(&dice)) % most;
}

/* How many steps there are from the first look at what is adopted to the end of that. */
static uint64_t count_adoption(void)
{
    enum { STRIDE = 256 };
    unsigned adoptions = broker_log_count(&broker, "adopted: ");
    uint64_t steps = 0;

    stepper_kill(&stepper);
    stepper_await_adoption(&stepper);
    while (broker_log_count(&broker, "adopted: ") == adoptions)
        steps += stepper_step(&stepper, STRIDE);
    stepper_kill(&stepper);
    stepper_await_rest(&stepper); /* of this class perhaps nothing is sampled */
    return steps;
}

/* Says so before, so that it can be tried once more. */
static uint64_t try_and_tell(const struct class *class, unsigned chore, const struct moment *moment)
{
    (void)fprintf(stderr, "step_kills --class %s --operation %s --at %llu --adopting %llu --serving %llu\n",
                  class->name, chores_all[chore].name, (unsigned long long)moment->at,
                  (unsigned long long)moment->adopting, (unsigned long long)moment->serving);
    return try_kill(chore, moment);
}

/*
 * At any step, and the next daemon too if that is wanted. How many there are is different now and then, so
 * what was not reached is tried again. Returns how many there may be.
 */
static uint64_t try_any(const struct class *class, unsigned chore, uint64_t most, struct moment next)
{
    unsigned kills = stepper.kills;

    while (stepper.kills == kills && most > 0) {
        uint64_t steps;

        next.at = any(most);
        steps = try_and_tell(class, chore, &next);
        if (stepper.kills == kills)
            most = steps;
    }
    return most;
}

/* Returns how many steps there were in the operation without a kill. */
static uint64_t sample(const struct class *class, unsigned chore, uint64_t adoption_steps)
{
    uint64_t most = try_kill(chore, &(struct moment){.at = 0});

    if (most == 0)
        return 0;
    most = try_any(class, chore, most, (struct moment){.at = 0});
    most = try_any(class, chore, most, (struct moment){.serving = any(most)});
    if (any(2) == 1)
        (void)try_any(class, chore, most, (struct moment){.adopting = any(adoption_steps)});
    return most;
}

/* At each one, or each so many-th. */
static uint64_t exhaust(const struct class *class, unsigned chore)
{
    struct moment moment = {.at = wanted.every};
    uint64_t steps;

    while ((steps = try_and_tell(class, chore, &moment)) == moment.at)
        moment.at += wanted.every;
    return steps;
}

static bool is_wanted(const struct class *class, const struct chore *chore)
{
    if (class->keeps_all && chore->fills_all)
        return false;
    if (wanted.operation != NULL)
        return strcmp(wanted.operation, chore->name) == 0;
    return wanted.every != 0 || any(SHARE) == 1;
}

START_TEST(a_kill_after_any_instruction_loses_nothing_and_repeats_nothing)
{
    const struct class *class = &classes[_i];
    uint64_t adoption_steps;

    tries("kill-daemon");
    if (wanted.class != NULL && strcmp(wanted.class, class->name) != 0)
        return;
    if (!are_we_root())
        skip("arenas of the daemon's own user can't change after a restart: it takes root, to be another");
    if (HAS_SANITIZER)
        skip("this is about the instructions of the daemon that is released");
    dice = wanted.seed + (unsigned)_i;
    order = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(order != MAP_FAILED);
    start(class);
    adoption_steps = count_adoption();
    for (unsigned chore = 0; chore < chores_count; chore++) {
        unsigned before = stepper.kills;
        uint64_t steps;

        if (!is_wanted(class, &chores_all[chore]))
            continue;
        if (wanted.moment.at != 0)
            steps = try_kill(chore, &wanted.moment);
        else
            steps = wanted.every != 0 ? exhaust(class, chore) : sample(class, chore, adoption_steps);
        (void)printf("%-12s %-15s %7llu instructions, %6u kills\n", class->name, chores_all[chore].name,
                     (unsigned long long)steps, stepper.kills - before);
        (void)fflush(stdout);
    }
    (void)printf("%-12s its adoption    %7llu instructions\n", class->name,
                 (unsigned long long)adoption_steps);
    stop();
    attack_met("nothing was lost or done twice");
}
END_TEST

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},      {"every", required_argument, NULL, 'e'},
        {"at", required_argument, NULL, 'a'},        {"adopting", required_argument, NULL, 'd'},
        {"serving", required_argument, NULL, 'v'},   {"class", required_argument, NULL, 'c'},
        {"operation", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
    Suite *suite = suite_create("step_kills");
    TCase *tests = tcase_create("step_kills");
    int option;

    wanted.seed = (unsigned)(time(NULL) ^ getpid());
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            wanted.seed = (unsigned)strtoul(optarg, NULL, 0);
        else if (option == 'e')
            wanted.every = strtoull(optarg, NULL, 0);
        else if (option == 'a')
            wanted.moment.at = strtoull(optarg, NULL, 0);
        else if (option == 'd')
            wanted.moment.adopting = strtoull(optarg, NULL, 0);
        else if (option == 'v')
            wanted.moment.serving = strtoull(optarg, NULL, 0);
        else if (option == 'c')
            wanted.class = optarg;
        else if (option == 'o')
            wanted.operation = optarg;
        else
            return 2;
    }
    (void)printf("step_kills --seed %u\n", wanted.seed);
    (void)fflush(stdout);
    tcase_set_timeout(tests, 0);
    tcase_add_loop_test(tests, a_kill_after_any_instruction_loses_nothing_and_repeats_nothing, 0, CLASSES);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
