/* SPDX-License-Identifier: MIT */
/*
 * The ring's descriptors in an attacker's hands: the doorbell, which is one open file for both
 * sides, the memory behind the ring, and who holds them when.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/ring_client.h"
#include "tests/attacks/victim.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"

/* LeakSanitizer looks for leaks with ptrace, which the lockdown denies, and takes that ill. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

enum {
    TEASES = 20000,
    LOOKS_MAX = 2000, /* some microseconds */
    HANG_MS = 5000,   /* longer than any scheduler lets somebody wait */
    KILLS = 300,
    SESSIONS_MAX = 200, /* as configured */
    RATE = 4000,        /* so too */
    RATE_MS = 1000,
};

/* What RSS may differ by after the same again: the allocator's caches. */
#define RSS_GROWTH_MAX_BYTES (1L << 20)

static const struct ring_entry statistics = {.operation = OPERATION_STATISTICS};

static struct broker broker;
static struct victim victim; /* of another uid */
static struct ring_client client;

static void start_with(const char *config)
{
    broker_start(&broker, config);
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void start_all(void)
{
    start_with(NULL);
}

static void start_with_few(void)
{
    start_with("[class default]\nsession_max=200\n");
}

static void start_with_rate(void)
{
    start_with("[class default]\nrate=4000\n");
}

static void start_direct(void)
{
    start_with("[class default]\nwrite=direct\n");
}

static void start_without_ring(void)
{
    start_with("[class default]\nring=no\n");
}

static void stop_all(void)
{
    victim_stop(&victim);
    broker_stop(&broker);
}

static void connect_attacker(void)
{
    become(WORKER_UID);
    ring_client_start(&client, &broker, 0);
}

static void check_all(void)
{
    ring_client_stop(&client);
    victim_check(&victim);
}

/* ---- The bell --------------------------------------------------------------------------- */

/* Rings, and takes it back before the daemon may have. */
static void tease(int looks)
{
    static const uint64_t once = 1;
    uint64_t rings;
    struct iovec into = {&rings, sizeof rings};

    ck_assert_int_eq(write(client.bell, &once, sizeof once), sizeof once);
    for (int i = 0; i < looks; i++)
        (void)ring_head(&client.ring);
    (void)!preadv2(client.bell, &into, 1, -1, RWF_NOWAIT);
}

static uint64_t victim_rounds(void)
{
    return __atomic_load_n(&victim.secret->rounds, __ATOMIC_RELAXED);
}

/* The flag is the open file's, so the daemon's as well: reading a bell that is silent again would take for
 * ever. */
START_TEST(a_bell_made_blocking_and_silenced_by_the_client_does_not_hold_the_daemon_up)
{
    tries("bell");
    victim_work(&victim);
    ck_assert_int_eq(fcntl(client.bell, F_SETFL, 0), 0);
    for (int i = 0; i < TEASES; i++) {
        uint64_t rounds = victim_rounds();

        tease(i % LOOKS_MAX);
        (void)usleep(50);
        for (int waited_ms = 0; victim_rounds() == rounds; waited_ms++) {
            ck_assert_msg(waited_ms < HANG_MS, "the daemon hangs since the bell rang for time %d", i);
            (void)usleep(1000);
        }
    }
    ck_assert_uint_gt(victim_rest(&victim, "a bell that is silenced"), 0);
    attack_met("no effect");
    ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
}
END_TEST

START_TEST(a_full_bell_rings_all_the_same)
{
    const uint64_t most = UINT64_MAX - 1;
    uint64_t rings;

    tries("bell");
    (void)usleep(10000); /* it sleeps */
    ck_assert_int_eq(write(client.bell, &most, sizeof most), sizeof most);
    for (int i = 0; i < 1000; i++) {
        (void)!write(client.bell, &most, sizeof most);
        ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
    }
    (void)!read(client.bell, &rings, sizeof rings);
    ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
    attack_met("no effect");
}
END_TEST

START_TEST(a_ring_that_the_client_took_back_is_lost_to_itself_only)
{
    for (int i = 0; i < 1000; i++)
        tease(0);
    ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
}
END_TEST

START_TEST(a_closed_bell_leaves_the_socket)
{
    const struct request request = {.operation = OPERATION_STATISTICS};

    (void)close(client.bell);
    client.bell = -1;
    ring_client_put(&client, &statistics);
    ring_client_publish(&client);
    ck_assert_int_eq(wire_run(client.wire, &request).status, STATUS_OK);
}
END_TEST

/* ---- The memory ------------------------------------------------------------------------- */

/* The ring can be written, so it must not become executable as well, by its descriptor or by its mapping. */
START_TEST(who_is_locked_down_makes_no_code_of_the_ring)
{
    const int ways[] = {PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC};

    tries("ring-memory");
    if (!lock_down(JITC_LOCKDOWN_SECCOMP))
        return;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_refused(EPERM, mmap(NULL, RING_BYTES, ways[i], MAP_SHARED, client.memory_fd, 0));
        assert_refused(EPERM, mmap(NULL, RING_BYTES, ways[i], MAP_PRIVATE, client.memory_fd, 0));
        assert_refused(EPERM, mprotect(client.memory, RING_BYTES, ways[i]));
    }
    /* What it is for it still does. */
    ck_assert_uint_ne(ring_client_alloc(&client, 64), 0);
}
END_TEST

START_TEST(nobody_changes_the_ring_s_length_or_its_seals)
{
    tries("ring-memory");
    assert_refused(EPERM, ftruncate(client.memory_fd, 0));
    assert_refused(EPERM, ftruncate(client.memory_fd, RING_BYTES - 4096));
    assert_refused(EPERM, ftruncate(client.memory_fd, RING_BYTES + 4096));
    assert_refused(EPERM, fallocate(client.memory_fd, 0, RING_BYTES, 4096));
    assert_refused(EPERM, fcntl(client.memory_fd, F_ADD_SEALS, F_SEAL_WRITE));
    assert_refused(EPERM, fcntl(client.memory_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    ck_assert_int_eq(fcntl(client.memory_fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
                     F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
}
END_TEST

static int punch(int fd)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, RING_ENTRIES_AT,
                     RING_BYTES - RING_ENTRIES_AT);
}

/* Zeros are an alloc of no bytes: refused. */
START_TEST(holes_in_the_ring_while_it_is_used_harm_only_its_owner)
{
    struct ring_entry alloc = {.operation = OPERATION_ALLOC, .number = 64};

    tries("ring-memory");
    victim_work(&victim);
    for (int i = 0; i < 3000; i++) {
        for (unsigned k = 0; k < RING_ENTRIES / 2; k++)
            ring_client_put(&client, k % 2 == 0 ? &statistics : &alloc);
        ring_client_publish(&client);
        if (i % 2 == 0)
            assert_works(punch(client.memory_fd));
        else
            assert_works(madvise((uint8_t *)client.memory + RING_ENTRIES_AT, RING_BYTES - RING_ENTRIES_AT,
                                 MADV_REMOVE));
        ck_assert(!ring_client_await(&client));
        if (i % 64 == 0)
            (void)ring_client_run(&client, &(struct ring_entry){.operation = OPERATION_RESET});
    }
    ck_assert_uint_gt(victim_rest(&victim, "a ring with holes"), 0);
    attack_met("others were served");
}
END_TEST

/* With the header gone tail is 0: it ran backwards. */
START_TEST(a_hole_in_the_header_ends_the_session)
{
    tries("ring-memory");
    ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
    assert_works(fallocate(client.memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, RING_BYTES));
    ring_client_publish_as(&client, 0);
    ring_client_expect_end(&client, "tail is not within the ring's length of head");
}
END_TEST

START_TEST(who_is_given_the_ring_speaks_for_the_session_it_belongs_to)
{
    uint64_t span = ring_client_alloc(&client, 64);
    int status = -1;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        client.memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, client.memory_fd, 0);
        ring_attach(&client.ring, client.memory);
        client.ring.staging[0] = 0x5A;
        (void)ring_client_run(&client,
                              &(struct ring_entry){.operation = OPERATION_WRITE, .span = span, .bytes = 1});
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    client.tail++;
    ck_assert_uint_eq(client.rx[span], 0x5A);
    ck_assert_int_eq(ring_client_run(&client, &statistics).status, STATUS_OK);
}
END_TEST

/* Else a client could pile up rings of sessions that it no longer pays for. */
START_TEST(of_an_ended_session_s_ring_no_more_than_a_page_is_left)
{
    struct stat status;

    memset(client.ring.staging, 1, RING_STAGING_BYTES);
    for (unsigned i = 0; i < RING_ENTRIES; i++)
        (void)ring_client_put(&client, &statistics);
    ring_client_publish(&client);
    ck_assert(!ring_client_await(&client));
    ck_assert_int_eq(fstat(client.memory_fd, &status), 0);
    ck_assert_int_ge(status.st_blocks * 512, RING_BYTES - 4096);
    (void)shutdown(client.wire->socket, SHUT_RDWR);
    for (int i = 0; ring_head(&client.ring) != RING_ENDED; i++) {
        ck_assert_int_lt(i, HANG_MS);
        (void)usleep(1000);
    }
    (void)usleep(10000);
    ck_assert_int_eq(fstat(client.memory_fd, &status), 0);
    ck_assert_int_le(status.st_blocks * 512, 4096);
}
END_TEST

/* ---- What it costs ------------------------------------------------------------------------ */

static void be_killed(unsigned random)
{
    static const uint8_t operations[] = {OPERATION_ALLOC, OPERATION_LEASE,   OPERATION_CARVE, OPERATION_WRITE,
                                         OPERATION_QUERY, OPERATION_RELEASE, OPERATION_RETURN};

    connect_attacker();
    for (;;) {
        for (int i = 0; i < 64; i++)
            ring_client_put(&client,
                            &(struct ring_entry){.operation = operations[(unsigned)rand_r(&random) % 7],
                                                 .bytes = (uint32_t)rand_r(&random) % 100,
                                                 .span = (uint64_t)(rand_r(&random) % 64) * 64,
                                                 .number = 64});
        ring_client_publish(&client);
        (void)ring_client_await(&client);
    }
}

static void kill_some(unsigned count)
{
    unsigned random = (unsigned)time(NULL);

    (void)printf("seed %u\n", random);
    (void)fflush(NULL);
    for (unsigned i = 0; i < count; i++) {
        pid_t pid = fork();
        int status = 0;

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            be_killed(random + i);
        (void)usleep((useconds_t)(rand_r(&random) % 8000));
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, SIGKILL);
    }
}

START_TEST(clients_killed_with_their_rings_in_use_leave_nothing_behind)
{
    long fds;
    long rss;

    victim_work(&victim);
    kill_some(KILLS / 4);
    (void)usleep(200000);
    fds = broker_fds(&broker);
    rss = broker_memory_bytes(&broker, "VmRSS");
    kill_some(KILLS);
    for (int i = 0; i < 500 && broker_fds(&broker) > fds; i++)
        (void)usleep(10000);
    ck_assert_int_le(broker_fds(&broker), fds); /* fewer, where one from before was still there */
    (void)printf("the daemon's memory: %ld KiB before, %ld KiB after %d clients were killed\n", rss >> 10,
                 broker_memory_bytes(&broker, "VmRSS") >> 10, KILLS);
    if (!HAS_SANITIZER)
        ck_assert_int_le(broker_memory_bytes(&broker, "VmRSS"), rss + RSS_GROWTH_MAX_BYTES);
    ck_assert_uint_gt(victim_rest(&victim, "clients that are killed"), 0);
}
END_TEST

START_TEST(rings_are_had_up_to_the_limit_of_sessions)
{
    static struct ring_client clients[SESSIONS_MAX];
    struct wire *wire;

    tries("endless-sessions");
    become(WORKER_UID);
    for (int again = 0; again < 2; again++) {
        for (unsigned i = 0; i < SESSIONS_MAX; i++)
            ring_client_start(&clients[i], &broker, 0);
        for (unsigned i = 0; i < SESSIONS_MAX; i++)
            ck_assert_int_eq(ring_client_run(&clients[i], &statistics).status, STATUS_OK);
        wire = wire_new(broker_socket(&broker));
        wire_expect_goodbye(wire, STATUS_QUOTA_SESSIONS, "holds its 200 sessions");
        wire = wire_free(wire);
        victim_check(&victim);
        for (unsigned i = 0; i < SESSIONS_MAX; i++)
            ring_client_stop(&clients[i]);
        (void)usleep(300000);
    }
}
END_TEST

START_TEST(where_policy_gives_no_ring_nobody_gets_one)
{
    const struct hello hello = {
        .version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION, .features = FEATURE_RING};
    struct wire *wire;
    struct buffer out;

    become(WORKER_UID);
    wire = wire_new(broker_socket(&broker));
    out = wire_begin(wire);
    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_welcome);
    ck_assert_uint_eq(wire->reply.welcome.features & FEATURE_RING, 0);
    ck_assert_uint_eq(wire->reply.welcome.ring_bytes, 0);
    ck_assert_uint_eq(wire->record.fds_count, 1);
    wire = wire_free(wire);
    victim_check(&victim);
}
END_TEST

/* ---- Direct sessions ------------------------------------------------------------------------ */

START_TEST(a_lie_about_what_was_filled_is_told_to_oneself)
{
    uint64_t span = ring_client_alloc(&client, 4096);
    struct result again;

    ck_assert_ptr_nonnull(client.rw);
    memset(client.rw + span, 0x5A, 4096);
    again = ring_client_run(
        &client, &(struct ring_entry){.operation = OPERATION_RELEASE, .flags = RING_FILLED, .span = span});
    ck_assert_int_eq(again.status, STATUS_OK);
    ck_assert_uint_eq(ring_client_alloc(&client, 4096), span);
    ck_assert_uint_eq(client.rx[span], 0x5A);
    again = ring_client_run(&client, &(struct ring_entry){.operation = OPERATION_RELEASE, .span = span});
    ck_assert_int_eq(again.status, STATUS_OK);
    ck_assert_uint_ne(client.rx[span], 0x5A);
}
END_TEST

/* ---- Both planes ------------------------------------------------------------------------------ */

struct by_socket {
    uint64_t operations;
    uint64_t end_ms;
};

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void *ask_by_socket(void *user)
{
    const struct request request = {.operation = OPERATION_STATISTICS};
    struct by_socket *by_socket = user;

    while (now_ms() < by_socket->end_ms) {
        (void)wire_run(client.wire, &request);
        by_socket->operations++;
    }
    return NULL;
}

/* By the ring, and by the socket as well where there is a `by_socket`. */
static uint64_t ask_for_a_while(struct by_socket *by_socket)
{
    uint64_t end_ms = now_ms() + RATE_MS;
    uint64_t before = client.tail;
    pthread_t other;

    if (by_socket != NULL) {
        by_socket->end_ms = end_ms;
        ck_assert_int_eq(pthread_create(&other, NULL, ask_by_socket, by_socket), 0);
    }
    while (now_ms() < end_ms) {
        for (int i = 0; i < 8; i++)
            ring_client_put(&client, &statistics);
        ring_client_publish(&client);
        ck_assert(!ring_client_await(&client));
    }
    if (by_socket != NULL)
        ck_assert_int_eq(pthread_join(other, NULL), 0);
    return client.tail - before;
}

/* What may pass in that time, the burst, and a batch that is over it only when it has been done. */
static void assert_at_rate(uint64_t operations, uint64_t took_ms)
{
    ck_assert_uint_le(operations, RATE * (took_ms + 100) / 1000 + 64);
    ck_assert_uint_ge(operations, RATE * RATE_MS / 1000 / 4);
}

START_TEST(the_rate_holds_on_the_ring_and_on_both_planes_together)
{
    struct by_socket by_socket = {0};
    uint64_t began_ms = now_ms();
    uint64_t operations = ask_for_a_while(NULL);

    assert_at_rate(operations, now_ms() - began_ms);
    (void)usleep(300000); /* the burst is there again */
    began_ms = now_ms();
    operations = ask_for_a_while(&by_socket) + by_socket.operations;
    assert_at_rate(operations, now_ms() - began_ms);
    ck_assert_uint_gt(by_socket.operations, 0);
}
END_TEST

START_TEST(both_planes_at_once_lose_nothing)
{
    struct by_socket by_socket = {0};
    uint64_t by_ring = ask_for_a_while(&by_socket);

    ck_assert_uint_gt(by_ring, 0);
    ck_assert_uint_gt(by_socket.operations, 0);
    ck_assert_uint_eq(ring_refused(&client.ring), 0);
}
END_TEST

/* A batch that takes longer than a slice: the ring waits for its end, and is then served. */
START_TEST(a_batch_that_gives_way_and_a_full_ring_are_both_done)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 1 << 20};
    const struct request release = {.operation = OPERATION_RELEASE, .span = 64};
    struct buffer out = wire_begin(client.wire);

    for (int i = 0; i < 64; i++)
        ck_assert(codec_put_operation(&out, i % 2 == 0 ? &alloc : &release));
    for (int i = 0; i < 10; i++) {
        wire_send(client.wire, &out);
        for (unsigned k = 0; k < RING_ENTRIES; k++)
            ring_client_put(&client, &statistics);
        ring_client_publish(&client);
        wire_receive(client.wire);
        ck_assert_uint_eq(client.wire->reply.results_count, 64);
        ck_assert(!ring_client_await(&client));
    }
    ck_assert_uint_eq(ring_refused(&client.ring), 0);
}
END_TEST

/* ---- The suite ---------------------------------------------------------------------------------- */

static void add_case(Suite *suite, const char *name, void (*start)(void), bool connects,
                     const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, start, stop_all);
    if (connects)
        tcase_add_checked_fixture(tcase, connect_attacker, check_all);
    tcase_set_timeout(tcase, 200);
    for (; *tests != NULL; tests++)
        tcase_add_test(tcase, *tests);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    const TTest *const all[] = {
        a_bell_made_blocking_and_silenced_by_the_client_does_not_hold_the_daemon_up,
        a_full_bell_rings_all_the_same,
        a_ring_that_the_client_took_back_is_lost_to_itself_only,
        a_closed_bell_leaves_the_socket,
        who_is_locked_down_makes_no_code_of_the_ring,
        nobody_changes_the_ring_s_length_or_its_seals,
        holes_in_the_ring_while_it_is_used_harm_only_its_owner,
        a_hole_in_the_header_ends_the_session,
        who_is_given_the_ring_speaks_for_the_session_it_belongs_to,
        of_an_ended_session_s_ring_no_more_than_a_page_is_left,
        both_planes_at_once_lose_nothing,
        a_batch_that_gives_way_and_a_full_ring_are_both_done,
        NULL,
    };
    const TTest *const killed[] = {clients_killed_with_their_rings_in_use_leave_nothing_behind, NULL};
    const TTest *const few[] = {rings_are_had_up_to_the_limit_of_sessions, NULL};
    const TTest *const rate[] = {the_rate_holds_on_the_ring_and_on_both_planes_together, NULL};
    const TTest *const direct[] = {a_lie_about_what_was_filled_is_told_to_oneself, NULL};
    const TTest *const without[] = {where_policy_gives_no_ring_nobody_gets_one, NULL};
    Suite *suite = suite_create("ring_descriptor");

    add_case(suite, "all", start_all, true, all);
    add_case(suite, "killed", start_all, false, killed);
    add_case(suite, "few", start_with_few, false, few);
    add_case(suite, "rate", start_with_rate, true, rate);
    add_case(suite, "direct", start_direct, true, direct);
    add_case(suite, "without", start_without_ring, false, without);
    return suite_run(suite);
}
