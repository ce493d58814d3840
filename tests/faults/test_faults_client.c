/* SPDX-License-Identifier: MIT */
/*
 * libjitclient when the system fails it: each call of a kind in turn, and all from one on. It
 * says what failed, leaves nothing behind in the process, and the next client is as good as any.
 */
#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/faults/faults.h"
#include "tests/faults/script.h"
#include "tests/harness/broker.h"
#include "tests/harness/suite.h"

static struct broker broker;

static const struct {
    const char *name;
    enum jitc_write_mode write_mode;
    uint32_t flags;
    bool spawns;
    bool near;
} kinds[] = {
    {"through", JITC_WRITE_THROUGH, JITC_IMMEDIATE_RELEASE, false, true},
    {"direct", JITC_WRITE_DIRECT, JITC_LARGE_PAGES, false, false},
    {"private", JITC_WRITE_THROUGH, 0, true, false},
};

static void start(void)
{
    broker_start(&broker, "[class default]\nwrite=direct\nhuge_pages=yes\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

/* ---- What a client must not leave behind --------------------------------------------------- */

struct state {
    long fds;
    long mappings; /* of the broker's memory */
    int64_t blocks;
};

static struct state look(void)
{
    struct state state = {.blocks = atomic_load(&faults->blocks)};
    DIR *folder = opendir("/proc/self/fd");
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    while (readdir(folder) != NULL)
        state.fds++;
    while (fgets(line, sizeof line, maps) != NULL)
        state.mappings += strstr(line, "jitbroker-") != NULL;
    (void)fclose(maps);
    (void)closedir(folder);
    return state;
}

/* ---- One process with one fault -------------------------------------------------------------- */

static bool ours_or_the_daemon_s(int status)
{
    return status == JITC_E_SYSTEM || status == JITC_E_DISCONNECTED || status == JITC_E_NO_BROKER ||
           status == JITC_E_NO_SPAN;
}

static bool has_fired(void)
{
    return atomic_load(&faults->fired) > 0;
}

static enum script_end run(unsigned kind, const jitc_options *options, enum fault fault, uint32_t passed,
                           bool lasts)
{
    enum script_end end;

    faults_arm(faults, fault, passed, lasts);
    end = script_run(options, kinds[kind].spawns, ours_or_the_daemon_s, lasts ? NULL : has_fired);
    (void)faults_disarm(faults);
    return end;
}

/* Twice: in a process that never had a client, and in one that has had them. */
static int run_in_child(unsigned kind, enum fault fault, uint32_t passed, bool lasts)
{
    jitc_options options = broker_options(&broker);
    struct state before;
    struct state after;
    bool fired;

    become(WORKER_UID);
    options.write_mode = kinds[kind].write_mode;
    options.flags = kinds[kind].flags;
    options.near_to = kinds[kind].near ? (const void *)(uintptr_t)&run_in_child : NULL;
    if (run(kind, &options, fault, passed, lasts) == SCRIPT_WRONG)
        return 2;
    if (script_run(&options, kinds[kind].spawns, ours_or_the_daemon_s, NULL) != SCRIPT_DONE) {
        (void)fprintf(stderr, "the next client fails: %s\n", jitc_error_detail());
        return 2;
    }
    before = look();
    if (run(kind, &options, fault, passed, lasts) == SCRIPT_WRONG)
        return 2;
    fired = has_fired();
    after = look();
    if (memcmp(&before, &after, sizeof before) != 0) {
        (void)fprintf(
            stderr, "%ld descriptors, not %ld; %ld mappings, not %ld; %" PRId64 " blocks, not %" PRId64 "\n",
            after.fds, before.fds, after.mappings, before.mappings, after.blocks, before.blocks);
        return 2;
    }
    return fired ? 1 : 0;
}

static unsigned run_all(unsigned kind, enum fault fault, bool lasts)
{
    for (uint32_t passed = 0;; passed++) {
        pid_t pid = fork();
        int status;

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            _exit(run_in_child(kind, fault, passed, lasts));
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "%s: %s no. %u%s: ended with status %x",
                      kinds[kind].name, fault_name(fault), (unsigned)passed + 1,
                      lasts ? " and all later ones" : "", (unsigned)status);
        if (WEXITSTATUS(status) == 0)
            return passed;
    }
}

START_TEST(each_call_that_fails_in_a_client_is_told_and_leaves_nothing_behind)
{
    unsigned kind = (unsigned)_i;
    unsigned sum = 0;

    (void)printf("%s:", kinds[kind].name);
    for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
        unsigned count = run_all(kind, (enum fault)fault, false) + run_all(kind, (enum fault)fault, true);

        sum += count;
        if (count > 0)
            (void)printf(" %s %u", fault_name((enum fault)fault), count);
    }
    (void)printf("; %u clients with faults\n", sum);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults_client");
    TCase *tests = tcase_create("faults_client");

    tcase_set_timeout(tests, 0);
    tcase_add_unchecked_fixture(tests, start, stop);
    tcase_add_loop_test(tests, each_call_that_fails_in_a_client_is_told_and_leaves_nothing_behind, 0,
                        (int)(sizeof kinds / sizeof kinds[0]));
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
