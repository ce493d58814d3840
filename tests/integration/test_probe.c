/* SPDX-License-Identifier: MIT */
/* What jitc_probe() says of a process, without a broker. */
#include <check.h>
#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "jitclient.h"
#include "tests/harness/suite.h"
#include "tests/integration/subject.h"

static jitc_probe_result probe_without_broker(int *status)
{
    jitc_options options;
    jitc_options_init(&options);
    options.socket = "/nonexistent/socket";
    options.daemon = "/nonexistent/jitbrokerd";
    jitc_probe_result probe = {.struct_size = sizeof probe};
    *status = jitc_probe(&probe, &options);
    return probe;
}

#define CAN_BY_ITSELF (JITC_CAN_WRITE_EXECUTE | JITC_CAN_FLIP | JITC_CAN_DUAL_MAP | JITC_CAN_MAP_READ_ONLY)

START_TEST(probe_tells_what_the_lockdown_refuses)
{
    if (!become_user(_i))
        return;
    int status;
    jitc_probe_result probe = probe_without_broker(&status);
    ck_assert_int_ne(status, JITC_OK);
    ck_assert_uint_eq(probe.can, CAN_BY_ITSELF);
    ck_assert_uint_eq(probe.lockdown, JITC_LOCKDOWN_ALL & ~kernel_lacks());
    uint32_t lockdown = probe.lockdown;
    lock_down(0);
    probe = probe_without_broker(&status);
    ck_assert_int_ne(status, JITC_OK);
    ck_assert_uint_eq(probe.can, 0);
    ck_assert_uint_eq(probe.lockdown, lockdown);
    ck_assert_uint_lt(strlen(probe.report), sizeof probe.report - 1);
    ck_assert_int_eq(waitpid(-1, NULL, __WALL), -1); /* no child is left */
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(probe_survives_a_filter_that_kills)
{
    if (!become_user(_i))
        return;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    struct scmp_arg_cmp exec = {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC};
    ck_assert_int_eq(seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(mmap), 1, &exec), 0);
    ck_assert_int_eq(seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(seccomp), 0), 0);
    ck_assert_int_eq(seccomp_load(filter), 0);
    seccomp_release(filter);
    int status;
    jitc_probe_result probe = probe_without_broker(&status);
    ck_assert_uint_eq(probe.can, JITC_CAN_FLIP);
    ck_assert_ptr_nonnull(strstr(probe.report, "a seccomp filter kills it"));
    ck_assert_ptr_nonnull(strstr(probe.report, "kills whoever asks for seccomp"));
}
END_TEST

START_TEST(probe_fills_no_more_than_it_was_given)
{
    if (!become_user(_i))
        return;
    jitc_probe_result probe;
    memset(&probe, 0x5a, sizeof probe);
    probe.struct_size = offsetof(jitc_probe_result, report) + 10;
    jitc_options options;
    jitc_options_init(&options);
    options.socket = options.daemon = "/nonexistent";
    jitc_probe(&probe, &options);
    ck_assert_int_eq(probe.report[9], '\0');
    ck_assert_int_eq(probe.report[10], 0x5a);
}
END_TEST

int main(void)
{
    if (has_thread_out_of_reach())
        return EXIT_SKIPPED;
    Suite *suite = suite_create("probe");
    TCase *tcase = tcase_create("probe");
    tcase_add_loop_test(tcase, probe_tells_what_the_lockdown_refuses, 0, USER_COUNT);
    tcase_add_loop_test(tcase, probe_survives_a_filter_that_kills, 0, USER_COUNT);
    tcase_add_loop_test(tcase, probe_fills_no_more_than_it_was_given, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
