/* SPDX-License-Identifier: MIT */
/*
 * The lockdown of a program that knows nothing of it: libraries load, programs start, and what is refused
 * is trapped, so that a handler can serve it.
 */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "jitclient.h"
#include "tests/harness/attack.h"
#include "tests/harness/suite.h"
#include "tests/integration/escapes.h"
#include "tests/integration/subject.h"

#define LENIENT (JITC_LOCKDOWN_ALLOW_EXEC | JITC_LOCKDOWN_ALLOW_LIBRARIES)

/* ---- Libraries and programs ----------------------------------------------------------------- */

static int open_library(void)
{
    void *self = dlopen(NULL, RTLD_NOW);
    Dl_info info;

    ck_assert_ptr_nonnull(self);
    ck_assert_int_ne(dladdr(dlsym(self, "getppid"), &info), 0);
    return open(info.dli_fname, O_RDONLY | O_CLOEXEC);
}

/* Of a page of libc. 0 or errno. */
static int map_library(int protection)
{
    int fd = open_library();

    ck_assert_int_ge(fd, 0);
    return result(mmap(NULL, page, protection, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

START_TEST(with_allow_libraries_only_files_become_executable)
{
    if (!become_user(_i))
        return;
    int memfd = memfd_create("as an arena", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(memfd, (off_t)page), 0);
    lock_down(JITC_LOCKDOWN_ALLOW_LIBRARIES);
    ck_assert_int_eq(map_library(PROT_READ | PROT_EXEC), 0);
    ck_assert_int_eq(map_library(PROT_EXEC), 0);
    ck_assert_ptr_ne(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, memfd, 0), MAP_FAILED);
    ck_assert_int_eq(map_library(PROT_READ | PROT_WRITE | PROT_EXEC), EPERM);
    ck_assert_int_eq(map_library(PROT_WRITE | PROT_EXEC), EPERM);
    ck_assert_int_eq(map_anonymous_executable(), EPERM);
    ck_assert_int_eq(execute_program(), EPERM);
}
END_TEST

/* Runs it, and returns its exit status, or KILLED_BY(signal). */
static int run_program(const char *path)
{
    char *const arguments[] = {(char *)(uintptr_t)path, NULL};
    char *const environment[] = {NULL};
    pid_t pid;
    int status;

    ck_assert_int_eq(posix_spawn(&pid, path, NULL, NULL, arguments, environment), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? KILLED_BY(WTERMSIG(status)) : WEXITSTATUS(status);
}

START_TEST(with_allow_exec_and_libraries_programs_start)
{
    if (!become_user(_i))
        return;
    lock_down(LENIENT);
    ck_assert_int_eq(run_program("/bin/true"), 0);
    ck_assert_int_eq(run_program("/bin/false"), 1);
}
END_TEST

START_TEST(libraries_are_allowed_until_they_are_denied)
{
    if (!become_user(_i))
        return;
    lock_down(LENIENT);
    lock_down(JITC_LOCKDOWN_ALLOW_EXEC);
    ck_assert_int_eq(map_library(PROT_READ | PROT_EXEC), EPERM);
    ck_assert_int_eq(spawn_program("/bin/true"), 0); /* which then can't load libc */
    uint32_t missing = jitc_lockdown(JITC_LOCKDOWN_ALL | LENIENT);
    ck_assert_uint_eq(missing, JITC_LOCKDOWN_ALLOW_LIBRARIES | kernel_lacks());
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "ALLOW_LIBRARIES"));
}
END_TEST

/* ---- Trapped calls -------------------------------------------------------------------------- */

#ifdef __x86_64__
#define RESULT_REGISTER(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define RESULT_REGISTER(context) ((context)->uc_mcontext.regs[0])
#endif

#define SERVED 77

static volatile int trapped_call;
static volatile int trap_code;

static void serve(int number, siginfo_t *info, void *context)
{
    (void)number;
    trapped_call = info->si_syscall;
    trap_code = info->si_code;
    RESULT_REGISTER((ucontext_t *)context) = SERVED;
}

static void serve_traps(void)
{
    struct sigaction action = {.sa_sigaction = serve, .sa_flags = SA_SIGINFO};

    ck_assert_int_eq(sigaction(SIGSYS, &action, NULL), 0);
}

#define assert_trapped(number, call)                    \
    do {                                                \
        trapped_call = -1;                              \
        trap_code = 0;                                  \
        ck_assert_int_eq((long)(call), SERVED);         \
        ck_assert_int_eq(trapped_call, number);         \
        ck_assert_int_eq(trap_code, 1 /*SYS_SECCOMP*/); \
    } while (0)

static void assert_all_are_trapped(void)
{
    void *pages = written_page();

    assert_trapped(SYS_mprotect, syscall(SYS_mprotect, pages, page, PROT_READ | PROT_EXEC));
    assert_trapped(SYS_mprotect, mprotect(pages, page, PROT_EXEC));
    assert_trapped(SYS_pkey_mprotect, syscall(SYS_pkey_mprotect, pages, page, PROT_READ | PROT_EXEC, -1));
    assert_trapped(SYS_mmap, mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    assert_trapped(SYS_mmap,
                   mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    assert_trapped(SYS_mmap, mmap(NULL, page, PROT_WRITE | PROT_EXEC, MAP_PRIVATE, open_library(), 0));
}

START_TEST(refused_calls_are_trapped_and_a_handler_answers_them)
{
    if (!become_user(_i))
        return;
    serve_traps();
    lock_down(LENIENT | JITC_LOCKDOWN_TRAP);
    assert_all_are_trapped();
    ck_assert_int_eq(map_library(PROT_READ | PROT_EXEC), 0);
}
END_TEST

START_TEST(all_else_fails_with_an_errno_as_ever)
{
    if (!become_user(_i))
        return;
    serve_traps();
    lock_down(JITC_LOCKDOWN_TRAP);
    assert_trapped(SYS_mmap, mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, open_library(), 0));
    trapped_call = -1;
    ck_assert_int_eq(memfd_create("after", MFD_CLOEXEC), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(execute_program(), EPERM);
    ck_assert_int_eq(mprotect(written_page(), page, PROT_READ), 0);
    ck_assert_int_eq(trapped_call, -1);
}
END_TEST

START_TEST(a_trap_without_a_handler_ends_the_process)
{
    if (!become_user(_i))
        return;
    lock_down(LENIENT | JITC_LOCKDOWN_TRAP);
    ck_assert_int_eq(in_child(map_anonymous_executable), KILLED_BY(SIGSYS));
}
END_TEST

/* As a service manager's MemoryDenyWriteExecute= does. */
static void refuse_by_another_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    ck_assert_ptr_nonnull(filter);
    ck_assert_int_eq(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1,
                                      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)),
                     0);
    ck_assert_int_eq(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(pkey_mprotect), 1,
                                      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)),
                     0);
    ck_assert_int_eq(
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1,
                         SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC | PROT_WRITE)),
        0);
    ck_assert_int_eq(seccomp_load(filter), 0);
    seccomp_release(filter);
}

START_TEST(traps_come_before_what_another_filter_refuses)
{
    if (!become_user(_i % USER_COUNT))
        return;
    serve_traps();
    if (_i / USER_COUNT == 0) {
        lock_down(JITC_LOCKDOWN_NO_NEW_PRIVS);
        refuse_by_another_filter();
        lock_down(LENIENT | JITC_LOCKDOWN_TRAP);
    } else {
        lock_down(LENIENT | JITC_LOCKDOWN_TRAP);
        refuse_by_another_filter();
    }
    assert_all_are_trapped();
}
END_TEST

START_TEST(a_later_call_adds_traps)
{
    if (!become_user(_i))
        return;
    serve_traps();
    lock_down(LENIENT);
    ck_assert_int_eq(map_anonymous_executable(), EPERM);
    lock_down(LENIENT | JITC_LOCKDOWN_TRAP);
    assert_all_are_trapped();
    lock_down(LENIENT); /* takes none away */
    assert_all_are_trapped();
    lock_down(0); /* denies more, of which it traps none */
    assert_all_are_trapped();
    ck_assert_int_eq(map_library(PROT_READ | PROT_EXEC), EPERM);
    lock_down(JITC_LOCKDOWN_TRAP);
    assert_trapped(SYS_mmap, mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, open_library(), 0));
}
END_TEST

/* ---- Ways out -------------------------------------------------------------------------------- */

/* What these flags leave: files that are executable, and programs. */
static bool is_left(const struct escape *escape)
{
    return strcmp(escape->row, "lockdown-execute") == 0 ||
           (strcmp(escape->row, "lockdown-file") == 0 && strstr(escape->name, "writable") == NULL);
}

START_TEST(no_other_escape_works_for_a_program_that_may_start_others)
{
    const struct escape *escape = &escapes[_i / USER_COUNT];
    int outcome;

    if (!become_user(_i % USER_COUNT))
        return;
    if (kernel_lacks() & escape->step) {
        printf("skipped %s: this kernel lacks what stops it\n", escape->name);
        return;
    }
    lock_down(LENIENT | JITC_LOCKDOWN_TRAP);
    outcome = in_child(escape->attack);
    if (is_left(escape))
        ck_assert_msg(outcome == 0, "%s gave %d", escape->name, outcome);
    else
        ck_assert_msg(outcome == escape->refusal || outcome == KILLED_BY(SIGSYS), "%s gave %d, not %d",
                      escape->name, outcome, escape->refusal);
}
END_TEST

int main(void)
{
    if (has_thread_out_of_reach())
        return EXIT_SKIPPED;
    Suite *suite = suite_create("lockdown: program");
    TCase *tcase = tcase_create("libraries");
    tcase_add_loop_test(tcase, with_allow_libraries_only_files_become_executable, 0, USER_COUNT);
    tcase_add_loop_test(tcase, with_allow_exec_and_libraries_programs_start, 0, USER_COUNT);
    tcase_add_loop_test(tcase, libraries_are_allowed_until_they_are_denied, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("traps");
    tcase_add_loop_test(tcase, refused_calls_are_trapped_and_a_handler_answers_them, 0, USER_COUNT);
    tcase_add_loop_test(tcase, all_else_fails_with_an_errno_as_ever, 0, USER_COUNT);
    tcase_add_loop_test(tcase, a_trap_without_a_handler_ends_the_process, 0, USER_COUNT);
    tcase_add_loop_test(tcase, traps_come_before_what_another_filter_refuses, 0, 2 * USER_COUNT);
    tcase_add_loop_test(tcase, a_later_call_adds_traps, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("escapes");
    tcase_add_loop_test(tcase, no_other_escape_works_for_a_program_that_may_start_others, 0,
                        escapes_count * USER_COUNT);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
