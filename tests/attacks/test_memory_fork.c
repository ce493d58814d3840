/* SPDX-License-Identifier: MIT */
/*
 * A child after fork(): it runs its parent's code, but neither calls through its parent's
 * client nor finds the writable view; whatever it does, its parent goes on.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"

static struct broker through;
static struct broker direct;
static struct broker *broker; /* the one that this test's client is of */
static struct victim victim;
static jitc_client *client;
static jitc_span span; /* returns 21 */
static jitc_scope *scope;
static uint8_t code[CODE_RETURN_BYTES];

static void start_all(void)
{
    broker_start(&through, NULL);
    broker_start(&direct, "[class default]\nwrite=direct\n");
    victim_start(&victim, &through, OTHER_WORKER_UID);
}

static void stop_all(void)
{
    victim_stop(&victim);
    broker_stop(&through);
    broker_stop(&direct);
}

static void open_session(struct broker *to)
{
    broker = to;
    become(WORKER_UID);
    client = broker_connect(broker, NULL);
    code_return(code, 21);
    assert_ok(jitc_alloc(client, &span, sizeof code));
    assert_ok(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    assert_ok(jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
}

static void connect_through(void)
{
    open_session(&through);
}

static void connect_direct(void)
{
    open_session(&direct);
}

/* The parent's session, after all that the child did. */
static void check_session(void)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span fresh;
    uint8_t other[CODE_RETURN_BYTES];

    if (client == NULL)
        return;
    ck_assert_int_eq(jitc_scope_end(scope), JITC_OK);
    assert_ok(jitc_statistics(client, &stats));
    ck_assert_uint_eq(stats.allocation_count, 1);
    ck_assert_mem_eq(span.rx, code, sizeof code);
    ck_assert_uint_eq(code_call(span.rx), 21);
    code_return(other, 22);
    assert_ok(jitc_alloc(client, &fresh, sizeof other));
    assert_ok(jitc_write(client, &fresh, 0, other, sizeof other, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(fresh.rx), 22);
    victim_check(&victim);
    client = jitc_close(client);
}

/* ---- In the child: 0, or the line of what went wrong ------------------------------------- */

#define must(condition)                                                                 \
    do {                                                                                \
        if (!(condition)) {                                                             \
            (void)fprintf(stderr, "child: line %d: not %s: %s\n", __LINE__, #condition, \
                          jitc_error_detail());                                         \
            return 1;                                                                   \
        }                                                                               \
    } while (0)

#define must_be_refused(call) must((call) == JITC_E_FORKED)

static int never_called(jitc_span *given, void *user)
{
    (void)given, (void)user;
    _exit(2);
}

static int call_everything(const void *user)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_stats stats = {.struct_size = sizeof stats};
    const jitc_span before = span;
    jitc_scope *another = NULL;
    jitc_span found;

    (void)user;
    must_be_refused(jitc_describe(client, &info));
    must_be_refused(jitc_alloc(client, &found, 64));
    must_be_refused(jitc_query(client, &found, span.rx));
    must_be_refused(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    must_be_refused(jitc_write(client, &span, 0, code, 0, JITC_WRITE_DEFAULT));
    must_be_refused(jitc_write_fn(client, &span, never_called, NULL, JITC_WRITE_DEFAULT));
    must_be_refused(jitc_scope_begin(client, &another, JITC_WRITE_DEFAULT));
    must_be_refused(jitc_scope_write(scope, &span, 0, code, sizeof code));
    must_be_refused(jitc_scope_write_fn(scope, &span, never_called, NULL));
    must_be_refused(jitc_scope_flush(scope));
    must_be_refused(jitc_patch(client, &span, 0, 1, code[0], 0x90, NULL));
    must_be_refused(jitc_statistics(client, &stats));
    must_be_refused(jitc_reset(client, JITC_RESET_SOFT));
    must_be_refused(jitc_reset(client, JITC_RESET_HARD));
    must_be_refused(jitc_shrink(client, &span, 1));
    must_be_refused(jitc_shrink(client, &span, 0));
    must_be_refused(jitc_seal(client, &span));
    must_be_refused(jitc_release(client, span.rx));
    must(memcmp(&span, &before, sizeof span) == 0 && another == NULL);
    must(strstr(jitc_error_detail(), "parent") != NULL);
    must_be_refused(jitc_scope_end(scope));
    return 0;
}

static int close_client(const void *user)
{
    (void)user;
    (void)jitc_scope_end(scope);
    client = jitc_close(client);
    return 0;
}

static int run(const void *at)
{
    return (int)code_call(at);
}

static int close_and_run(const void *at)
{
    (void)close_client(NULL);
    return run(at);
}

static int fork_again_and_call(const void *user)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0)
        _exit(call_everything(user));
    must(waitpid(pid, &status, 0) == pid);
    return status == 0 ? 0 : 1;
}

static int connect_anew(const void *user)
{
    const jitc_options options = broker_options(broker);
    jitc_client *own;
    jitc_span mine;
    uint8_t other[CODE_RETURN_BYTES];

    (void)user;
    must(jitc_connect(&own, &options) == JITC_OK);
    code_return(other, 23);
    must(jitc_alloc(own, &mine, sizeof other) == JITC_OK);
    must(jitc_write(own, &mine, 0, other, sizeof other, JITC_WRITE_DEFAULT) == JITC_OK);
    must(code_call(mine.rx) == 23 && code_call(span.rx) == 21);
    must(jitc_release(own, span.rx) == JITC_E_FOREIGN_POINTER);
    must_be_refused(jitc_release(client, span.rx));
    must(jitc_reset(own, JITC_RESET_HARD) == JITC_OK);
    must(code_call(span.rx) == 21);
    (void)jitc_close(own);
    return 0;
}

static int read_byte(const void *at)
{
    return *(const volatile uint8_t *)at == 0 ? 0 : 1;
}

static int write_byte(const void *at)
{
    *(volatile uint8_t *)(uintptr_t)at = 0x90;
    return 0;
}

/* What the child maps there is its own, and jitc_close() must not take it for the view. */
static int map_over_the_view_and_close(const void *at)
{
    uint8_t *page = (uint8_t *)((uintptr_t)at & ~(uintptr_t)4095);
    uint8_t *own =
        mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    must(own == page);
    memset(own, 0x90, 4096);
    (void)close_client(NULL);
    must(own[0] == 0x90);
    return 0;
}

static bool maps_ring(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    bool found = false;

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        found = found || strstr(line, "memfd:jitbroker-ring") != NULL;
    if (maps != NULL)
        (void)fclose(maps);
    return found;
}

/* The ring is neither mapped here nor is its descriptor; the bell is, and rings for nothing. */
static int look_for_ring_and_ring_the_bell(const void *user)
{
    static const uint64_t most = UINT64_MAX - 1;
    unsigned bells = 0;

    (void)user;
    must(!maps_ring());
    for (int fd = 0; fd < 256; fd++) {
        char target[64] = "";
        uint64_t rings;

        (void)!readlink(fd_path(fd), target, sizeof target - 1);
        must(strstr(target, "jitbroker-ring") == NULL);
        if (strstr(target, "[eventfd]") == NULL)
            continue;
        bells++;
        for (int i = 0; i < 100000; i++) {
            (void)!write(fd, &most, sizeof most);
            if (i % 3 == 0)
                (void)!read(fd, &rings, sizeof rings);
        }
    }
    must(bells == 1);
    return 0;
}

/* ---- Both modes ------------------------------------------------------------------------------ */

START_TEST(every_call_is_refused_in_the_child)
{
    tries("fork-calls");
    ck_assert_int_eq(attempt(call_everything, NULL), 0);
    ck_assert_int_eq(attempt(fork_again_and_call, NULL), 0);
    attack_met_status(JITC_E_FORKED);
}
END_TEST

START_TEST(the_ring_is_not_in_the_child_and_its_bell_rings_for_nothing)
{
    tries("fork-ring");
    ck_assert(maps_ring());
    ck_assert_int_eq(attempt(look_for_ring_and_ring_the_bell, NULL), 0);
    attack_met("not there; the bell had no effect");
}
END_TEST

START_TEST(closing_in_the_child_leaves_the_parent_alone)
{
    ck_assert_int_eq(attempt(close_client, NULL), 0);
    ck_assert_int_eq(attempt(close_and_run, span.rx), -SIGSEGV); /* closed is closed, for the child */
}
END_TEST

START_TEST(code_keeps_running_in_the_child)
{
    ck_assert_int_eq(attempt(run, span.rx), 21);
}
END_TEST

START_TEST(the_child_connects_a_session_of_its_own)
{
    ck_assert_int_eq(attempt(connect_anew, NULL), 0);
}
END_TEST

START_TEST(code_is_not_writable_in_the_child_either)
{
    tries("fork-view");
    ck_assert_int_eq(attempt(write_byte, span.rx), -SIGSEGV);
    ck_assert_int_ne(mprotect((void *)((uintptr_t)span.rx & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE),
                     0);
}
END_TEST

/* A child that waits, with all that it inherited, until it is ended. */
static pid_t start_idle_child(void)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    return pid;
}

static void end_child(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(a_killed_child_leaves_the_parent_alone)
{
    end_child(start_idle_child());
}
END_TEST

/* As a server does that forks its workers and then needs no more code itself. */
START_TEST(closing_ends_the_session_though_a_child_lives)
{
    pid_t pid = start_idle_child();
    unsigned before = broker_log_count(broker, "session_ended: ");
    unsigned after = before;

    assert_ok(jitc_scope_end(scope));
    client = jitc_close(client);
    for (int i = 0; i < 300 && after == before; i++) {
        (void)usleep(10000);
        after = broker_log_count(broker, "session_ended: ");
    }
    end_child(pid);
    ck_assert_msg(after > before, "the session went on until the child ended");
}
END_TEST

/* ---- Direct: the writable view ------------------------------------------------------------------ */

START_TEST(the_writable_view_is_not_in_the_child)
{
    tries("fork-view");
    ck_assert_ptr_nonnull(span.rw);
    ck_assert_int_eq(attempt(read_byte, span.rw), -SIGSEGV);
    ck_assert_int_eq(attempt(write_byte, span.rw), -SIGSEGV);
}
END_TEST

START_TEST(closing_unmaps_nothing_of_the_childs_own)
{
    ck_assert_int_eq(attempt(map_over_the_view_and_close, span.rw), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory: after fork");
    TCase *modes[2] = {tcase_create("through"), tcase_create("direct")};

    for (int i = 0; i < 2; i++) {
        tcase_add_unchecked_fixture(modes[i], start_all, stop_all);
        tcase_add_checked_fixture(modes[i], i == 0 ? connect_through : connect_direct, check_session);
        tcase_set_timeout(modes[i], 0);
        tcase_add_test(modes[i], every_call_is_refused_in_the_child);
        tcase_add_test(modes[i], the_ring_is_not_in_the_child_and_its_bell_rings_for_nothing);
        tcase_add_test(modes[i], closing_in_the_child_leaves_the_parent_alone);
        tcase_add_test(modes[i], code_keeps_running_in_the_child);
        tcase_add_test(modes[i], the_child_connects_a_session_of_its_own);
        tcase_add_test(modes[i], code_is_not_writable_in_the_child_either);
        tcase_add_test(modes[i], a_killed_child_leaves_the_parent_alone);
        tcase_add_test(modes[i], closing_ends_the_session_though_a_child_lives);
        suite_add_tcase(suite, modes[i]);
    }
    tcase_add_test(modes[1], the_writable_view_is_not_in_the_child);
    tcase_add_test(modes[1], closing_unmaps_nothing_of_the_childs_own);

    return suite_run(suite);
}
