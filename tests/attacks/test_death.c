/* SPDX-License-Identifier: MIT */
/*
 * Clients that are killed at every point: after every system call of a whole life, by the ring and by
 * the socket, and after every instruction that puts an operation into the ring. Quotas are so small that what
 * a few of them left behind would keep the others out.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/ring_client.h"
#include "tests/harness/code.h"
#include "tests/harness/holdings.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"

#define SESSIONS_MAX 3
#define BYTES_MAX (256u << 10)
#define POLICY "[class default]\nsession_max=3\nbytes_max=256K\narena=1M\n"
#define SPAN UINT64_C(64) /* the first one in an arena */

static struct broker broker;
static struct holdings baseline;

static void start(const char *config)
{
    broker_start(&broker, config);
}

static void start_with_ring(void)
{
    start(POLICY);
}

static void start_without_ring(void)
{
    start(POLICY "ring=no\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

/* ---- Lives ---------------------------------------------------------------------------------------- */

static void must(int status)
{
    if (status != JITC_OK) {
        (void)fprintf(stderr, "client: %s: %s\n", jitc_strerror(status), jitc_error_detail());
        _exit(EXIT_FAILURE);
    }
}

/* Everything that there is, once. */
static void live(void)
{
    const jitc_options options = broker_options(&broker);
    jitc_stats stats = {.struct_size = sizeof stats};
    uint8_t code[CODE_RETURN_BYTES];
    jitc_client *client;
    jitc_scope *scope;
    jitc_span span;
    jitc_span other;

    must(jitc_connect(&client, &options));
    code_return(code, 21);
    must(jitc_alloc(client, &span, 1000));
    must(jitc_alloc(client, &other, 100000));
    must(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    if (code_call(span.rx) != 21)
        _exit(EXIT_FAILURE);
    must(jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    must(jitc_scope_write(scope, &other, 0, code, sizeof code));
    must(jitc_scope_end(scope));
    must(jitc_patch(client, &span, 0, 1, code[0], 0x90, NULL));
    must(jitc_query(client, &span, span.rx));
    must(jitc_shrink(client, &span, 500));
    must(jitc_seal(client, &span));
    must(jitc_statistics(client, &stats));
    must(jitc_release(client, other.rx));
    must(jitc_flush(client));
    must(jitc_reset(client, JITC_RESET_HARD));
    must(jitc_alloc(client, &span, 1000));
    (void)jitc_close(client);
}

static struct ring_client client;

/* A session with a span and a block on lease, to put one operation into the ring of. */
static void begin_life_at_the_ring(void)
{
    ring_client_start(&client, &broker, 0);
    (void)ring_client_alloc(&client, 128);
    (void)ring_client_run(&client, &(struct ring_entry){.operation = OPERATION_LEASE, .number = 64});
}

static void put_operation(enum operation operation)
{
    /* Numbers that are good for each of them. */
    const struct ring_entry entry = {
        .operation = (uint8_t)operation,
        .width = 1,
        .bytes = 16,
        .span = operation == OPERATION_CARVE    ? BLOCK_BYTES + SPAN
                : operation == OPERATION_RETURN ? BLOCK_BYTES
                                                : SPAN,
        .number = operation == OPERATION_ALLOC                                   ? 100000
                  : operation == OPERATION_RESET                                 ? RESET_HARD
                  : operation == OPERATION_WRITE || operation == OPERATION_PATCH ? 0
                                                                                 : 64,
    };

    ring_client_put(&client, &entry);
    ring_client_publish(&client);
}

/* ---- Deaths ------------------------------------------------------------------------------------------ */

/* Has the tracer see the next instruction. */
static void be_traced(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(EXIT_FAILURE);
    (void)raise(SIGSTOP);
}

static pid_t start_life(int operation)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid != 0)
        return pid;
    become(WORKER_UID);
    if (operation < 0) {
        be_traced();
        live();
    } else {
        begin_life_at_the_ring();
        be_traced();
        put_operation((enum operation)operation);
    }
    _exit(EXIT_SUCCESS);
}

/* Kills it after so many stops. False if its life was over before. */
static bool die_after(pid_t pid, enum __ptrace_request step, unsigned long stops)
{
    int status;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSTOPPED(status), "the client could not begin: status %x", (unsigned)status);
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL), 0);
    for (unsigned long i = 0; i < stops; i++) {
        ck_assert_int_eq(ptrace(step, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            ck_assert_int_eq(WEXITSTATUS(status), 0);
            return false;
        }
        ck_assert(WIFSTOPPED(status));
        ck_assert_msg(WSTOPSIG(status) == SIGTRAP, "the client met signal %d", WSTOPSIG(status));
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return true;
}

/* The daemon is as it was: holds nothing, and lets in, and gives, exactly as much as it may. */
static void check_quotas(void)
{
    const jitc_options options = broker_options(&broker);
    jitc_client *clients[SESSIONS_MAX + 1];
    jitc_span span;

    become(WORKER_UID);
    for (int i = 0; i < SESSIONS_MAX; i++)
        clients[i] = broker_connect(&broker, NULL);
    ck_assert_int_eq(jitc_connect(&clients[SESSIONS_MAX], &options), JITC_E_QUOTA_SESSIONS);
    for (int i = 0; i < 4; i++)
        assert_ok(jitc_alloc(clients[0], &span, BYTES_MAX / 4 - 64));
    ck_assert_int_eq(jitc_alloc(clients[1], &span, 1), JITC_E_QUOTA_BYTES);
    for (int i = 0; i < SESSIONS_MAX; i++)
        (void)jitc_close(clients[i]);
}

static unsigned long die_everywhere(int operation, enum __ptrace_request step)
{
    unsigned long stops = 0;

    while (die_after(start_life(operation), step, stops)) {
        holdings_await(&broker, &baseline);
        stops++;
    }
    holdings_await(&broker, &baseline);
    return stops;
}

START_TEST(after_every_system_call_of_a_life_nothing_is_left_behind)
{
    unsigned long points;

    tries("die");
    if (!are_we_root())
        skip("needs root, to see what the daemon holds");
    attack_is_a_workers();
    baseline = holdings_baseline(&broker);
    (void)fflush(NULL);
    points = die_everywhere(-1, PTRACE_SYSCALL);
    ck_assert_uint_ge(points, 50);
    (void)printf("killed at %lu points of a life\n", points);
    check_quotas();
    attack_met("nothing is left behind");
}
END_TEST

START_TEST(after_every_instruction_that_puts_an_operation_into_the_ring_nothing_is_left_behind)
{
    unsigned long points;

    tries("die");
    if (!are_we_root())
        skip("needs root, to see what the daemon holds");
    if (HAS_SANITIZER)
        skip("a sanitizer's own instructions are too many");
    attack_is_a_workers();
    baseline = holdings_baseline(&broker);
    (void)fflush(NULL);
    points = die_everywhere(_i, PTRACE_SINGLESTEP);
    ck_assert_uint_ge(points, 20);
    (void)printf("killed at %lu points of putting operation %d into the ring\n", points, _i);
    check_quotas();
    attack_met("nothing is left behind");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("death");
    TCase *ring = tcase_create("ring");
    TCase *socket = tcase_create("socket");

    tcase_add_unchecked_fixture(ring, start_with_ring, stop);
    tcase_set_timeout(ring, 0);
    tcase_add_test(ring, after_every_system_call_of_a_life_nothing_is_left_behind);
    tcase_add_loop_test(ring,
                        after_every_instruction_that_puts_an_operation_into_the_ring_nothing_is_left_behind,
                        0, OPERATION_COUNT);
    suite_add_tcase(suite, ring);
    tcase_add_unchecked_fixture(socket, start_without_ring, stop);
    tcase_set_timeout(socket, 0);
    tcase_add_test(socket, after_every_system_call_of_a_life_nothing_is_left_behind);
    suite_add_tcase(suite, socket);
    return suite_run(suite);
}
