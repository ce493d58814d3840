/* SPDX-License-Identifier: MIT */
/* Who sleeps at the ring, and who is woken, step by step: test_ring_stress.c has both sides race. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/ring.h"
#include "tests/harness/suite.h"

#define LONG_MS 10000u

static struct ring ring;
static struct ring_header *header;

static void map_ring(void)
{
    void *memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(memory, MAP_FAILED);
    ring_attach(&ring, memory);
    header = ring.header;
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(unsigned ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&pause, NULL);
}

/* ---- Sleeping: the daemon ------------------------------------------------------------ */

START_TEST(a_daemon_that_is_awake_needs_no_bell)
{
    ck_assert(!ring_is_asleep(&ring));
    ck_assert(!ring_publish(&ring, 1));
    ck_assert(!ring_publish(&ring, 2));
    ck_assert_uint_eq(atomic_load(&header->tail), 2);
}
END_TEST

START_TEST(a_daemon_that_sleeps_is_rung_for_once)
{
    for (uint64_t head = 0; head < 4; head += 2) {
        ck_assert(ring_sleep(&ring, head));
        ck_assert(ring_is_asleep(&ring));
        ck_assert(ring_publish(&ring, head + 1));
        ck_assert(!ring_is_asleep(&ring));
        ck_assert(!ring_publish(&ring, head + 2));
    }
}
END_TEST

START_TEST(a_daemon_with_work_does_not_sleep)
{
    (void)ring_publish(&ring, 3);
    for (uint64_t head = 0; head < 3; head++) {
        ck_assert(!ring_sleep(&ring, head));
        ck_assert(!ring_is_asleep(&ring));
    }
    ck_assert(ring_sleep(&ring, 3));
    ck_assert(ring_is_asleep(&ring));
}
END_TEST

START_TEST(a_daemon_does_not_sleep_over_a_tail_that_is_nonsense)
{
    (void)ring_publish(&ring, 3);
    ck_assert(!ring_sleep(&ring, 4));
    ck_assert(!ring_is_asleep(&ring));
}
END_TEST

START_TEST(a_daemon_that_something_else_woke_needs_no_bell)
{
    ck_assert(ring_sleep(&ring, 0));
    ring_stay_awake(&ring);
    ck_assert(!ring_is_asleep(&ring));
    ck_assert(!ring_publish(&ring, 1));
}
END_TEST

/* ---- Sleeping: the client ------------------------------------------------------------ */

START_TEST(a_completion_is_seen_with_its_refusals)
{
    ck_assert_uint_eq(ring_head(&ring), 0);
    ck_assert_uint_eq(ring_refused(&ring), 0);
    ck_assert(!ring_complete(&ring, 5, 2));
    ck_assert_uint_eq(ring_head(&ring), 5);
    ck_assert_uint_eq(ring_refused(&ring), 2);
}
END_TEST

START_TEST(the_end_leaves_the_refusals_as_they_were)
{
    (void)ring_complete(&ring, 5, 2);
    ring_end(&ring);
    ck_assert_uint_eq(ring_head(&ring), RING_ENDED);
    ck_assert_uint_eq(ring_refused(&ring), 2);
}
END_TEST

START_TEST(a_head_that_moved_is_not_waited_for)
{
    int64_t start = now_ms();

    (void)ring_complete(&ring, 5, 0);
    ck_assert(ring_wait(&ring, 4, LONG_MS));
    ck_assert(ring_wait(&ring, 6, LONG_MS));
    ck_assert(ring_wait(&ring, 5 + (UINT64_C(1) << 32), LONG_MS)); /* the whole number is what counts */
    ck_assert_int_lt(now_ms() - start, LONG_MS);
}
END_TEST

START_TEST(a_wait_ends_with_its_timeout)
{
    const uint32_t timeouts_ms[] = {0, 1, 50, 1100};

    for (size_t i = 0; i < sizeof timeouts_ms / sizeof timeouts_ms[0]; i++) {
        int64_t start = now_ms();

        ck_assert(!ring_wait(&ring, 0, timeouts_ms[i]));
        ck_assert_int_ge(now_ms() - start + 1, timeouts_ms[i]);
    }
}
END_TEST

START_TEST(who_waited_is_to_be_woken_once)
{
    ck_assert(!ring_complete(&ring, 1, 0));
    ck_assert(!ring_wait(&ring, 1, 1));
    ck_assert(ring_complete(&ring, 2, 0));
    ck_assert(!ring_complete(&ring, 3, 0));
    ck_assert(!ring_wait(&ring, 3, 1));
    ck_assert(!ring_wait(&ring, 3, 1));
    ck_assert(ring_complete(&ring, 4, 0));
    ck_assert(!ring_complete(&ring, 5, 0));
    ring_wake(&ring); /* nobody there: no matter */
}
END_TEST

static void on_alarm(int signal)
{
    (void)signal;
}

START_TEST(a_signal_ends_a_wait_as_a_wakeup_does)
{
    const struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    const struct itimerval timer = {.it_value = {.tv_usec = 50000}};

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &timer, NULL), 0);
    ck_assert(ring_wait(&ring, 0, LONG_MS));
}
END_TEST

#define WAITERS 4

static _Atomic unsigned returns;

/* Waits until the head is another; yields whether it was awaited in time. */
static void *wait_for_another(void *argument)
{
    uint64_t seen = *(const uint64_t *)argument;

    while (ring_head(&ring) == seen) {
        if (!ring_wait(&ring, seen, LONG_MS))
            return NULL;
        atomic_fetch_add(&returns, 1);
    }
    return &returns;
}

static void start(pthread_t *threads, const uint64_t *seen)
{
    for (unsigned i = 0; i < WAITERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_another, (void *)(uintptr_t)seen), 0);
    pause_ms(100); /* most likely they sleep, and it holds if they do not */
}

static void assert_all_return(const pthread_t *threads)
{
    for (unsigned i = 0; i < WAITERS; i++) {
        void *in_time;

        ck_assert_int_eq(pthread_join(threads[i], &in_time), 0);
        ck_assert_ptr_nonnull(in_time);
    }
}

START_TEST(all_who_wait_see_the_end)
{
    const uint64_t seen[] = {0, 77, UINT32_MAX}; /* the last has a lower half like the end's */

    for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++) {
        pthread_t threads[WAITERS];

        (void)ring_complete(&ring, seen[i], 0);
        start(threads, &seen[i]);
        ring_end(&ring);
        assert_all_return(threads);
        ck_assert_uint_eq(ring_head(&ring), RING_ENDED);
    }
}
END_TEST

START_TEST(all_who_wait_see_a_completion)
{
    const uint64_t seen = UINT32_MAX;
    pthread_t threads[WAITERS];

    (void)ring_complete(&ring, seen, 0);
    start(threads, &seen);
    if (ring_complete(&ring, seen + 1, 0))
        ring_wake(&ring);
    assert_all_return(threads);
}
END_TEST

START_TEST(all_who_wait_can_be_woken_by_their_own)
{
    const uint64_t seen = 0;
    pthread_t threads[WAITERS];

    start(threads, &seen);
    ring_wake_all(&ring);
    pause_ms(100);
    ck_assert_uint_eq(atomic_load(&returns), WAITERS); /* and no more: they sleep again */
    if (ring_complete(&ring, 1, 0))
        ring_wake(&ring);
    assert_all_return(threads);
}
END_TEST

START_TEST(who_sleeps_again_is_not_woken_again_by_those_whom_it_woke)
{
    const uint64_t seen = 0;
    pthread_t threads[WAITERS];

    start(threads, &seen);
    ck_assert(ring_complete(&ring, 0, 0)); /* nothing that they wait for */
    ring_wake(&ring);
    pause_ms(200);
    ck_assert_uint_ge(atomic_load(&returns), WAITERS);
    ck_assert_uint_le(atomic_load(&returns), 2 * WAITERS);
    if (ring_complete(&ring, 1, 0))
        ring_wake(&ring);
    assert_all_return(threads);
}
END_TEST

/* Where the child, which is traced, is about to make that system call. */
static void run_up_to(pid_t child, uint64_t number)
{
    struct __ptrace_syscall_info info;
    int status;

    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSTOPPED(status));
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)PTRACE_O_TRACESYSGOOD), 0);
    do {
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSTOPPED(status));
        ck_assert_int_ge(ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof info, &info), 0);
    } while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != number);
}

/*
 * The daemon has made head 5, and looks now whether anybody waits; a client that has seen that 5 already
 * does, but does not sleep yet. This wakeup is spent on nobody, and must not be the one for 6.
 */
START_TEST(a_wakeup_between_the_last_look_and_the_sleep_is_not_lost)
{
    pid_t child;
    int status;

    (void)ring_complete(&ring, 5, 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
            _exit(2);
        while (ring_head(&ring) == 5)
            if (!ring_wait(&ring, 5, LONG_MS))
                _exit(1);
        _exit(0);
    }
    run_up_to(child, SYS_futex);
    ck_assert(ring_complete(&ring, 5, 0));
    ring_wake(&ring);
    ck_assert_int_eq(ptrace(PTRACE_DETACH, child, NULL, NULL), 0);
    pause_ms(100); /* until it sleeps */
    if (ring_complete(&ring, 6, 0))
        ring_wake(&ring);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring: sleeping");
    TCase *sleeping = tcase_create("sleeping");

    tcase_set_timeout(sleeping, 6 * LONG_MS / 1000);
    tcase_add_checked_fixture(sleeping, map_ring, NULL);
    tcase_add_test(sleeping, a_daemon_that_is_awake_needs_no_bell);
    tcase_add_test(sleeping, a_daemon_that_sleeps_is_rung_for_once);
    tcase_add_test(sleeping, a_daemon_with_work_does_not_sleep);
    tcase_add_test(sleeping, a_daemon_does_not_sleep_over_a_tail_that_is_nonsense);
    tcase_add_test(sleeping, a_daemon_that_something_else_woke_needs_no_bell);
    tcase_add_test(sleeping, a_completion_is_seen_with_its_refusals);
    tcase_add_test(sleeping, the_end_leaves_the_refusals_as_they_were);
    tcase_add_test(sleeping, a_head_that_moved_is_not_waited_for);
    tcase_add_test(sleeping, a_wait_ends_with_its_timeout);
    tcase_add_test(sleeping, who_waited_is_to_be_woken_once);
    tcase_add_test(sleeping, a_signal_ends_a_wait_as_a_wakeup_does);
    tcase_add_test(sleeping, all_who_wait_see_the_end);
    tcase_add_test(sleeping, all_who_wait_see_a_completion);
    tcase_add_test(sleeping, all_who_wait_can_be_woken_by_their_own);
    tcase_add_test(sleeping, who_sleeps_again_is_not_woken_again_by_those_whom_it_woke);
    tcase_add_test(sleeping, a_wakeup_between_the_last_look_and_the_sleep_is_not_lost);
    suite_add_tcase(suite, sleeping);
    return suite_run(suite);
}
