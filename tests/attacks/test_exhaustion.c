/* SPDX-License-Identifier: MIT */
/*
 * A daemon that runs out of descriptors, of address space, of memory for arenas, while clients ask for more:
 * they get an error, who is being served is served on, and all is well once there is some again.
 *
 * The limits are the kernel's, set on the running daemon: what its own configuration grants keeps clients
 * from ever getting that far.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

#define ATTACKERS 12
/* Room for a few sessions, so that the attackers themselves use up the rest. */
#define SPARE_FDS 6
#define SPARE_BYTES (200L << 20)

static struct broker broker;
static struct victim victim; /* of another uid, and served all the time */

static void start(void)
{
    broker_start(&broker, NULL);
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void stop(void)
{
    victim_stop(&victim);
    broker_stop(&broker);
}

/* The kernel lets root do it only with CAP_SYS_RESOURCE, but whoever is the same user by its real uid. */
static void be_user_of_daemon(bool is_it)
{
    uid_t id = is_it ? broker.uid : 0;

    ck_assert_int_eq(setresgid(id, (gid_t)-1, (gid_t)-1), 0);
    ck_assert_int_eq(setresuid(id, (uid_t)-1, (uid_t)-1), 0);
}

static struct rlimit set_limit(enum __rlimit_resource resource, rlim_t to)
{
    struct rlimit before;
    struct rlimit now;

    be_user_of_daemon(true);
    ck_assert_int_eq(prlimit(broker.pid, resource, NULL, &before), 0);
    now = (struct rlimit){to, before.rlim_max};
    ck_assert_int_eq(prlimit(broker.pid, resource, &now, NULL), 0);
    be_user_of_daemon(false);
    return before;
}

/* What became of those who asked for a session, and for a large span in it. */
struct tally {
    unsigned sessions;
    unsigned spans;
    unsigned refused; /* with NO_MEMORY, and a sentence */
    unsigned waiting; /* not answered yet: the daemon has no descriptor to take them with */
};

/* Asks without waiting for long; true if there is an answer. */
static bool is_answered(int socket)
{
    uint8_t byte;

    for (int i = 0; i < 30; i++) {
        if (recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
            return true;
        (void)usleep(10000);
    }
    return false;
}

static void expect_no_memory(const struct result *error, struct tally *tally)
{
    ck_assert_msg(error->status == STATUS_NO_MEMORY, "said %d: %s", (int)error->status, error->text);
    ck_assert_str_ne(error->text, "");
    attack_met_status((int)error->status);
    tally->refused++;
}

static void ask(struct wire *wire, struct tally *tally)
{
    const struct hello hello = {.version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION};
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 8 << 20};
    struct buffer out = wire_begin(wire);
    struct result result;

    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    if (!is_answered(wire->socket)) {
        tally->waiting++;
        return;
    }
    wire_receive(wire);
    if (wire->reply.has_error) {
        expect_no_memory(&wire->reply.error, tally);
        return;
    }
    tally->sessions++;
    wire_close_fds(wire);
    result = wire_run(wire, &alloc);
    if (result.status == STATUS_OK)
        tally->spans++;
    else
        expect_no_memory(&result, tally);
}

/* In a process of the worker's, which keeps all that it gets until it is done. */
static struct tally attack_daemon(void)
{
    static struct wire *wires[ATTACKERS];
    struct tally tally = {0};
    int results[2];
    int status = -1;
    pid_t pid;

    ck_assert_int_eq(pipe(results), 0);
    victim_work(&victim);
    (void)fflush(NULL);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        become(WORKER_UID);
        for (int i = 0; i < ATTACKERS && tally.waiting < 3; i++) {
            wires[i] = wire_new(broker_socket(&broker));
            ask(wires[i], &tally);
        }
        _exit(write(results[1], &tally, sizeof tally) == sizeof tally ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(read(results[0], &tally, sizeof tally), sizeof tally);
    ck_assert_uint_gt(victim_rest(&victim, "a daemon that runs out"), 0);
    (void)printf("of %d: %u sessions, %u large spans, %u refused, %u left waiting\n", ATTACKERS,
                 tally.sessions, tally.spans, tally.refused, tally.waiting);
    return tally;
}

/* As before: everybody is served. */
static void check_recovered(void)
{
    struct tally tally;

    (void)usleep(300000); /* it looks again for those who wait after 100 ms */
    tally = attack_daemon();
    ck_assert_uint_eq(tally.spans, ATTACKERS);
}

START_TEST(without_descriptors_who_is_served_is_served_on)
{
    struct rlimit before;
    struct tally tally;
    long fds = broker_fds(&broker);

    tries("exhaust-fds");
    if (fds < 0)
        skip("needs root, to see the daemon's descriptors");
    for (int spare = 0; spare <= SPARE_FDS; spare += SPARE_FDS / 3) {
        before = set_limit(RLIMIT_NOFILE, (rlim_t)(fds + spare));
        tally = attack_daemon();
        ck_assert_uint_gt(tally.refused + tally.waiting, 0);
        ck_assert_uint_lt(tally.sessions, ATTACKERS);
        (void)set_limit(RLIMIT_NOFILE, before.rlim_cur);
        if (tally.waiting > 0)
            attack_met("not accepted until there is one");
    }
    check_recovered();
}
END_TEST

/* Arenas of 64 MiB are mapped whole: there is room for three. */
START_TEST(without_address_space_who_is_served_is_served_on)
{
    struct rlimit before;
    struct tally tally;
    long unlimited_bytes;

    tries("exhaust-memory");
    if (!are_we_root())
        skip("needs root, to limit the daemon");
    if (HAS_SANITIZER)
        skip("a sanitizer ends a program that has no address space left");
    unlimited_bytes = broker_memory_bytes(&broker, "VmSize");
    for (long spare = 0; spare <= SPARE_BYTES; spare += SPARE_BYTES / 4) {
        before = set_limit(RLIMIT_AS, (rlim_t)(unlimited_bytes + spare));
        tally = attack_daemon();
        ck_assert_uint_gt(tally.refused, 0);
        ck_assert_uint_le(tally.sessions, 3);
        (void)set_limit(RLIMIT_AS, before.rlim_cur);
    }
    check_recovered();
}
END_TEST

/* What a file may grow to is what can fail alone when an arena grows. */
START_TEST(without_memory_for_arenas_who_is_served_is_served_on)
{
    struct rlimit before;
    struct tally tally;

    tries("exhaust-memory");
    if (!are_we_root())
        skip("needs root, to limit the daemon");
    before = set_limit(RLIMIT_FSIZE, 1 << 20);
    tally = attack_daemon();
    ck_assert_uint_eq(tally.sessions, ATTACKERS);
    ck_assert_uint_eq(tally.spans, 0);
    ck_assert_uint_eq(tally.refused, ATTACKERS);
    (void)set_limit(RLIMIT_FSIZE, before.rlim_cur);
    check_recovered();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        without_descriptors_who_is_served_is_served_on,
        without_address_space_who_is_served_is_served_on,
        without_memory_for_arenas_who_is_served_is_served_on,
    };
    Suite *suite = suite_create("exhaustion");

    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        TCase *tcase = tcase_create(tests[i]->name);

        tcase_add_unchecked_fixture(tcase, start, stop);
        tcase_set_timeout(tcase, 0);
        tcase_add_test(tcase, tests[i]);
        suite_add_tcase(suite, tcase);
    }
    return suite_run(suite);
}
