/* SPDX-License-Identifier: MIT */
/*
 * What the daemon has in all is shared: whatever those before it hold, the n-th user to come
 * still gets 1/(n * (n + 1)) of it. Each user here takes all that it can get.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "proto/limits.h"
#include "tests/harness/broker.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

#define USERS 20
#define FIRST_UID 64910u
#define SESSIONS (2 * USERS * (USERS + 1))
/* One span each time, of a block of its own, with the arena's start and the reserve for more. */
#define SPAN_BYTES (BLOCK_BYTES - 64u)
#define BLOCKS (4 * USERS * (USERS + 1))

static struct broker broker;
static unsigned *got; /* by user; shared with the children */
static long fds_at_rest;

static void start(void)
{
    broker_start(&broker,
                 "[daemon]\nsessions_max=840\nbytes_max=107520K\n[class default]\nsession_max=100000\n"
                 "bytes_max=1G\n");
    got = mmap(NULL, USERS * sizeof *got, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(got, MAP_FAILED);
    fds_at_rest = broker_fds(&broker);
}

static void stop(void)
{
    broker_stop(&broker);
}

/* As a user of its own; holds what it gets until `done` is closed. */
static pid_t run_user(unsigned user, unsigned (*take)(const jitc_options *), const int *done)
{
    jitc_options options = broker_options(&broker);
    int ready[2];
    char byte;
    pid_t pid;

    ck_assert_int_eq(pipe(ready), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        become(FIRST_UID + user);
        (void)close(ready[0]);
        (void)close(done[1]);
        got[user] = take(&options);
        (void)close(ready[1]);
        (void)!read(done[0], &byte, 1);
        _exit(0);
    }
    (void)close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 0);
    (void)close(ready[0]);
    return pid;
}

static void assert_shares(unsigned (*take)(const jitc_options *), unsigned total)
{
    pid_t pids[USERS];
    unsigned all = 0;
    int done[2];

    if (!are_we_root())
        skip("only root can be many users");
    while (broker_fds(&broker) > fds_at_rest) /* those of the test before are still being closed */
        (void)usleep(10000);
    ck_assert_int_eq(pipe(done), 0);
    for (unsigned i = 0; i < USERS; i++) {
        pids[i] = run_user(i, take, done);
        (void)printf("user %u got %u of %u\n", i + 1, got[i], total);
        ck_assert_uint_ge(got[i], total / ((i + 1) * (i + 2)));
        all += got[i];
    }
    ck_assert_uint_eq(got[0], total / 2); /* and no more, although nobody else was there */
    ck_assert_uint_lt(all, total);
    (void)close(done[1]);
    for (unsigned i = 0; i < USERS; i++)
        ck_assert_int_eq(waitpid(pids[i], NULL, 0), pids[i]);
    (void)close(done[0]);
}

static unsigned take_sessions(const jitc_options *options)
{
    unsigned taken = 0;
    struct rlimit limit;
    jitc_client *client;

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    while (jitc_connect(&client, options) == JITC_OK)
        taken++;
    return taken;
}

START_TEST(each_user_finds_its_share_of_the_sessions)
{
    assert_shares(take_sessions, SESSIONS);
}
END_TEST

static unsigned take_blocks(const jitc_options *options)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    unsigned blocks = 0;
    jitc_client *client;
    jitc_span span;

    /* An arena reaches to its last block, so each of these fills one up. */
    for (unsigned i = 0; i < 8; i++) {
        if (jitc_connect(&client, options) != JITC_OK)
            _exit(1);
        while (jitc_alloc(client, &span, SPAN_BYTES) == JITC_OK)
            ;
        if (jitc_statistics(client, &stats) != JITC_OK)
            _exit(1);
        blocks += (unsigned)(stats.reserved_bytes / BLOCK_BYTES);
    }
    return blocks;
}

START_TEST(each_user_finds_its_share_of_the_code_memory)
{
    assert_shares(take_blocks, BLOCKS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shares");
    TCase *tcase = tcase_create("users");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, each_user_finds_its_share_of_the_sessions);
    tcase_add_test(tcase, each_user_finds_its_share_of_the_code_memory);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
