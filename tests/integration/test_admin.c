/* SPDX-License-Identifier: MIT */
/*
 * The admin socket: who is answered what, that clients don't notice, and what a caller who does wrong, or
 * doesn't read, can cost.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "daemon/admin.h"
#include "proto/buckets.h"
#include "proto/limits.h"
#include "proto/record.h"
#include "proto/request.h"
#include "tests/harness/admin_wire.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

enum { SPANS = 10000, LEASES = 800, LARGE_BYTES = 4 << 20 };

static struct admin_daemon admin;

static void start(void)
{
    admin_daemon_start_or_skip(&admin, NULL);
}

static void start_impatient(void)
{
    admin_daemon_start_or_skip(&admin, "[daemon]\nreply_timeout_ms=200\n");
}

static void stop(void)
{
    admin_daemon_stop(&admin);
}

/* ---- Who ------------------------------------------------------------------------------------ */

static void assert_may_change(int fd)
{
    ck_assert(admin_is_served(fd));
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__RELOAD, 0, 0, 0), NULL);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 6), NULL);
    admin_expect(fd, ADMIN__VERB__REVOKE, 999, 0, 0, ADMIN__CODE__NO_SESSION, "no session 999");
    (void)close(fd);
}

START_TEST(root_and_the_daemons_own_user_may_do_everything)
{
    assert_may_change(admin_connect(&admin));
    assert_may_change(admin_connect_as(&admin, admin.broker.uid, 0));
}
END_TEST

START_TEST(a_member_of_the_group_reads_and_changes_nothing)
{
    jitc_client *client = broker_connect(&admin.broker, NULL);
    uint64_t session = admin_session_of(client);
    jitc_span span;
    int fd;

    if (!are_we_root())
        skip("only root can be several users");
    ck_assert_int_eq(jitc_alloc(client, &span, 64), JITC_OK);
    ck_assert_int_eq(jitc_flush(client), JITC_OK);
    fd = admin_connect_as(&admin, WORKER_UID, ADMIN_WIRE_GROUP);
    ck_assert(admin_is_served(fd));
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__SESSIONS, 0, 0, 0), NULL);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__OPERATIONS, 0, 0, 0), NULL);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__SPANS, session, 0, 0), NULL);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__CODE, session, admin_offset_of(client, &span), 0),
                                NULL);
    admin_expect(fd, ADMIN__VERB__REVOKE, session, 0, 0, ADMIN__CODE__NOT_PERMITTED, "only root");
    admin_expect(fd, ADMIN__VERB__RELOAD, 0, 0, 0, ADMIN__CODE__NOT_PERMITTED, "only root");
    admin_expect(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 3, ADMIN__CODE__NOT_PERMITTED, "only root");
    ck_assert(admin_is_served(fd));
    ck_assert_int_eq(jitc_release(client, span.rx), JITC_OK); /* it was not revoked */
    ck_assert_uint_eq(broker_log_count(&admin.broker, "admin_refused: uid=64902"), 3);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "verb=revoke reason=\"only root"), 1);
    (void)close(fd);
    (void)jitc_close(client);
}
END_TEST

START_TEST(the_group_counts_also_where_it_is_the_primary_one)
{
    int fd;

    if (!are_we_root())
        skip("only root can be several users");
    /* admin_connect_as() gives a user the group of its own number. */
    fd = admin_connect_as(&admin, ADMIN_WIRE_GROUP, 0);
    ck_assert(admin_is_served(fd));
    (void)close(fd);
}
END_TEST

START_TEST(any_other_user_is_told_and_not_answered)
{
    int fd;

    if (!are_we_root())
        skip("only root can be several users");
    fd = admin_connect_as(&admin, WORKER_UID, ADMIN_WIRE_GROUP + 1);
    admin_expect_goodbye(fd, ADMIN__CODE__NOT_PERMITTED, "members of the group " ADMIN_GROUP);
    (void)close(fd);
    fd = admin_connect_as(&admin, OTHER_WORKER_UID, 0);
    admin_expect_goodbye(fd, ADMIN__CODE__NOT_PERMITTED, "members of the group " ADMIN_GROUP);
    (void)close(fd);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "admin_refused: uid=64902"), 1);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "admin_refused: uid=64903"), 1);
}
END_TEST

/* ---- What ------------------------------------------------------------------------------------- */

START_TEST(the_status_has_what_is_there)
{
    int fd = admin_connect(&admin);
    jitc_client *client = broker_connect(&admin.broker, NULL);
    jitc_client *other = broker_connect(&admin.broker, NULL);
    const Admin__Status *status;
    Admin__Reply *reply;
    jitc_span span;
    int executor;

    ck_assert_int_eq(jitc_alloc(client, &span, 300), JITC_OK);
    ck_assert_int_eq(jitc_flush(client), JITC_OK);
    ck_assert_int_eq(jitc_open_executor(other, &executor), JITC_OK);
    reply = admin_ask(fd, ADMIN__VERB__STATUS, 0, 0, 0);
    status = reply->status;
    ck_assert_str_eq(status->version, JITBROKER_VERSION);
    ck_assert_int_eq(status->pid, admin.broker.pid);
    ck_assert_uint_eq(status->sessions, 2);
    ck_assert_uint_eq(status->executors, 1);
    ck_assert_uint_eq(status->connections, 3);
    ck_assert_uint_eq(status->connections_max, 4096);
    ck_assert_uint_eq(status->sessions_started, 2);
    ck_assert_uint_eq(status->users, 1);
    ck_assert_uint_eq(status->spans, 1);
    ck_assert_uint_eq(status->used_bytes, 320);
    ck_assert_uint_eq(status->reserved_bytes, BLOCK_BYTES);
    ck_assert_uint_eq(status->classes, 1);
    ck_assert_uint_eq(status->n_policy_files, 1);
    ck_assert_str_eq(status->policy_files[0], admin.broker.config);
    ck_assert_str_eq(status->policy_mistake, "");
    ck_assert_uint_eq(status->log_level, 6);
    admin__reply__free_unpacked(reply, NULL);
    (void)close(executor);
    (void)jitc_close(client);
    (void)jitc_close(other);
    (void)close(fd);
}
END_TEST

static const Admin__End *find_end(const Admin__Reply *reply, uint64_t session, bool is_executor)
{
    for (size_t i = 0; i < reply->n_ends; i++) {
        if (reply->ends[i]->session == session && (reply->ends[i]->executor != 0) == is_executor)
            return reply->ends[i];
    }
    ck_abort_msg("session %" PRIu64 " is not listed", session);
}

START_TEST(sessions_are_listed_with_what_each_holds_and_did)
{
    int fd = admin_connect(&admin);
    jitc_client *client = broker_connect(&admin.broker, NULL);
    jitc_client *other = broker_connect(&admin.broker, NULL);
    uint8_t code[CODE_RETURN_BYTES];
    const Admin__End *end;
    Admin__Reply *reply;
    jitc_span span;
    int executor;

    code_return(code, 1);
    ck_assert_int_eq(jitc_alloc(client, &span, 1000), JITC_OK);
    ck_assert_int_eq(jitc_write(client, &span, 0, code, sizeof code, 0), JITC_OK);
    ck_assert_int_eq(jitc_seal(client, &span), JITC_OK);
    ck_assert_int_eq(jitc_write(client, &span, 0, code, sizeof code, 0), JITC_E_SEALED);
    ck_assert_int_eq(jitc_open_executor(other, &executor), JITC_OK);
    reply = admin_ask(fd, ADMIN__VERB__SESSIONS, 0, 0, 0);
    ck_assert_uint_eq(reply->n_ends, 3);
    end = find_end(reply, admin_session_of(client), false);
    ck_assert_uint_eq(end->uid, getuid());
    ck_assert_int_eq(end->pid, getpid());
    ck_assert_str_eq(end->class_, "default");
    ck_assert_uint_eq(end->usage->spans, 1);
    ck_assert_uint_eq(end->usage->used_bytes, 1024);
    ck_assert_uint_eq(end->usage->reserved_bytes, BLOCK_BYTES);
    ck_assert_uint_eq(end->usage->granularity, 64);
    ck_assert(end->usage->sealed && !end->usage->direct);
    ck_assert_uint_ge(end->operations, 3);
    end = find_end(reply, admin_session_of(other), false);
    ck_assert_uint_eq(end->usage->spans, 0);
    (void)find_end(reply, admin_session_of(other), true);
    admin__reply__free_unpacked(reply, NULL);
    (void)close(executor);
    (void)jitc_close(client);
    (void)jitc_close(other);
    (void)close(fd);
}
END_TEST

START_TEST(operations_are_counted_each_and_timed_by_a_sample)
{
    enum { ROUNDS = 640 };
    int fd = admin_connect(&admin);
    jitc_client *client = broker_connect(&admin.broker, NULL);
    uint8_t code[CODE_RETURN_BYTES] = {0};
    Admin__Reply *reply;
    jitc_span span;
    uint64_t timed = 0;

    ck_assert_int_eq(jitc_alloc(client, &span, 64), JITC_OK);
    for (int i = 0; i < ROUNDS; i++)
        ck_assert_int_eq(jitc_write(client, &span, 0, code, sizeof code, 0), JITC_OK);
    ck_assert_int_eq(jitc_seal(client, &span), JITC_OK);
    ck_assert_int_eq(jitc_flush(client), JITC_OK);
    reply = admin_ask(fd, ADMIN__VERB__OPERATIONS, 0, 0, 0);
    ck_assert_uint_eq(reply->n_operations, OPERATION_COUNT);
    ck_assert_str_eq(reply->operations[OPERATION_WRITE]->name, "write");
    ck_assert_uint_eq(reply->operations[OPERATION_WRITE]->done, ROUNDS);
    ck_assert_uint_eq(reply->operations[OPERATION_WRITE]->refused, 0);
    ck_assert_uint_eq(reply->operations[OPERATION_SEAL]->done, 1);
    ck_assert_uint_eq(reply->operations[OPERATION_PATCH]->done, 0);
    ck_assert_uint_eq(reply->operations[OPERATION_WRITE]->n_buckets, BUCKETS_COUNT);
    for (size_t i = 0; i < BUCKETS_COUNT; i++)
        timed += reply->operations[OPERATION_WRITE]->buckets[i];
    ck_assert_uint_eq(timed, ROUNDS); /* a multiple of 64: each sample stands for as many */
    ck_assert_uint_gt(reply->operations[OPERATION_WRITE]->sum_ns, 0);
    admin__reply__free_unpacked(reply, NULL);
    (void)jitc_close(client);
    (void)close(fd);
}
END_TEST

/* A client in a process of its own that works until it is killed; it counts in *done. */
static pid_t start_worker(_Atomic uint64_t *done)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        jitc_client *client;
        jitc_span span;
        uint8_t code[CODE_RETURN_BYTES];

        become(WORKER_UID);
        client = broker_connect(&admin.broker, NULL);
        for (;;) {
            code_return(code, 7);
            if (jitc_alloc(client, &span, 64) != JITC_OK ||
                jitc_write(client, &span, 0, code, sizeof code, 0) != JITC_OK || code_call(span.rx) != 7 ||
                jitc_release(client, span.rx) != JITC_OK)
                _exit(1);
            atomic_fetch_add(done, 1);
        }
    }
    while (atomic_load(done) == 0)
        (void)usleep(100);
    return pid;
}

static void stop_worker(pid_t pid)
{
    int status;

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status), "the worker was hindered: %x", (unsigned)status);
}

static _Atomic uint64_t *shared_counter(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

static void fill(jitc_client *client, jitc_span *spans, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(jitc_alloc(client, &spans[i], 64 + i % 9 * 64), JITC_OK);
    ck_assert_int_eq(jitc_flush(client), JITC_OK);
}

static int by_offset(const void *a, const void *b)
{
    const jitc_span *left = a;
    const jitc_span *right = b;

    return left->rx < right->rx ? -1 : 1;
}

START_TEST(ten_thousand_spans_are_listed_completely_while_another_client_works)
{
    static jitc_span spans[SPANS];
    _Atomic uint64_t *done = shared_counter();
    pid_t worker = start_worker(done);
    jitc_client *client = broker_connect(&admin.broker, NULL);
    int fd = admin_connect(&admin);
    size_t listed = 0;
    unsigned records = 0;
    uint64_t before;
    bool more = true;

    fill(client, spans, SPANS);
    qsort(spans, SPANS, sizeof spans[0], by_offset);
    before = atomic_load(done);
    admin_send(fd, ADMIN__VERB__SPANS, admin_session_of(client), 0, 0);
    while (more) {
        Admin__Reply *reply = admin_receive(fd);

        ck_assert_ptr_nonnull(reply);
        ck_assert_ptr_null(reply->error);
        for (size_t i = 0; i < reply->n_spans; i++, listed++) {
            ck_assert_uint_lt(listed, SPANS);
            ck_assert_uint_eq(reply->spans[i]->offset, admin_offset_of(client, &spans[listed]));
            ck_assert_uint_eq(reply->spans[i]->size, spans[listed].size);
        }
        more = reply->more != 0;
        records++;
        admin__reply__free_unpacked(reply, NULL);
    }
    ck_assert_uint_eq(listed, SPANS);
    ck_assert_uint_gt(records, 1);
    while (atomic_load(done) == before)
        (void)usleep(100);
    stop_worker(worker);
    (void)jitc_close(client);
    (void)close(fd);
}
END_TEST

/* A step of the answer has no time for all of them. */
START_TEST(many_blocks_without_a_span_are_passed_in_more_than_one_step)
{
    const struct request lease = {.operation = OPERATION_LEASE, .size = BLOCK_BYTES - GRANULARITY_MIN_BYTES};
    const struct request last = {.operation = OPERATION_ALLOC, .size = 64};
    struct wire *wire = wire_new(broker_socket(&admin.broker));
    int fd = admin_connect(&admin);
    size_t leases = 0;
    size_t spans = 0;
    uint64_t session;
    bool more = true;

    wire_hello(wire);
    session = wire->reply.welcome.session;
    wire_close_fds(wire);
    for (unsigned i = 0; i < LEASES; i++)
        ck_assert_int_eq(wire_run(wire, &lease).status, STATUS_OK);
    ck_assert_int_eq(wire_run(wire, &last).status, STATUS_OK);
    admin_send(fd, ADMIN__VERB__SPANS, session, 0, 0);
    while (more) {
        Admin__Reply *reply = admin_receive(fd);

        ck_assert_ptr_nonnull(reply);
        ck_assert_ptr_null(reply->error);
        leases += reply->n_leases;
        spans += reply->n_spans;
        more = reply->more != 0;
        admin__reply__free_unpacked(reply, NULL);
    }
    ck_assert_uint_eq(leases, LEASES);
    ck_assert_uint_eq(spans, 1);
    (void)wire_free(wire);
    (void)close(fd);
}
END_TEST

START_TEST(the_bytes_of_a_span_are_those_that_were_written)
{
    static uint8_t code[LARGE_BYTES];
    jitc_client *client = broker_connect(&admin.broker, NULL);
    int fd = admin_connect(&admin);
    jitc_span large;
    jitc_span small;
    uint64_t offset;
    size_t got = 0;
    bool more = true;

    for (size_t i = 0; i < sizeof code; i++)
        code[i] = (uint8_t)(i * 7 + i / 4096);
    ck_assert_int_eq(jitc_alloc(client, &large, sizeof code), JITC_OK);
    ck_assert_int_eq(jitc_write(client, &large, 0, code, sizeof code, 0), JITC_OK);
    ck_assert_int_eq(jitc_alloc(client, &small, 64), JITC_OK);
    ck_assert_int_eq(jitc_flush(client), JITC_OK);
    offset = admin_offset_of(client, &large);
    admin_send(fd, ADMIN__VERB__CODE, admin_session_of(client), offset + sizeof code - 1, 0);
    while (more) {
        Admin__Reply *reply = admin_receive(fd);

        ck_assert_ptr_null(reply->error);
        ck_assert_uint_eq(reply->n_spans, got == 0);
        if (got == 0) {
            ck_assert_uint_eq(reply->spans[0]->offset, offset);
            ck_assert_uint_eq(reply->spans[0]->size, sizeof code);
        }
        ck_assert_uint_le(got + reply->code.len, sizeof code);
        ck_assert_mem_eq(reply->code.data, code + got, reply->code.len);
        got += reply->code.len;
        more = reply->more != 0;
        admin__reply__free_unpacked(reply, NULL);
    }
    ck_assert_uint_eq(got, sizeof code);
    admin_expect(fd, ADMIN__VERB__CODE, admin_session_of(client), offset - 1, 0, ADMIN__CODE__NO_SPAN,
                 "lies in no live span");
    admin_expect(fd, ADMIN__VERB__CODE, admin_session_of(client), UINT64_MAX, 0, ADMIN__CODE__NO_SPAN,
                 "lies in no live span");
    offset = admin_offset_of(client, &small);
    ck_assert_int_eq(jitc_release(client, small.rx), JITC_OK);
    ck_assert_int_eq(jitc_flush(client), JITC_OK);
    admin_expect(fd, ADMIN__VERB__CODE, admin_session_of(client), offset, 0, ADMIN__CODE__NO_SPAN,
                 "lies in no live span");
    admin_expect(fd, ADMIN__VERB__CODE, 999, 0, 0, ADMIN__CODE__NO_SESSION, "no session 999");
    (void)jitc_close(client);
    (void)close(fd);
}
END_TEST

/* ---- Wrong ---------------------------------------------------------------------------------------- */

START_TEST(what_is_no_request_ends_the_connection)
{
    static const uint8_t oversized[ADMIN_REQUEST_MAX_BYTES + 1];
    static const uint8_t cut[] = {0x08};
    static const uint8_t without_id[] = {0x10, 0x01}; /* a verb */
    int fd = admin_connect(&admin);

    ck_assert_int_eq(record_send(fd, true, cut, sizeof cut, NULL, 0), 0);
    admin_expect_goodbye(fd, ADMIN__CODE__BAD_REQUEST, "no request");
    (void)close(fd);
    fd = admin_connect(&admin);
    ck_assert_int_eq(record_send(fd, true, oversized, sizeof oversized, NULL, 0), 0);
    admin_expect_goodbye(fd, ADMIN__CODE__BAD_REQUEST, "no request");
    (void)close(fd);
    fd = admin_connect(&admin);
    ck_assert_int_eq(record_send(fd, true, without_id, sizeof without_id, NULL, 0), 0);
    admin_expect_goodbye(fd, ADMIN__CODE__BAD_REQUEST, "no request");
    (void)close(fd);
    fd = admin_connect(&admin);
    ck_assert_int_eq(record_send(fd, true, "\x08\x01\x10\x01", 4, &fd, 1), 0); /* with a descriptor */
    admin_expect_goodbye(fd, ADMIN__CODE__BAD_REQUEST, "no request");
    (void)close(fd);
}
END_TEST

START_TEST(a_request_that_makes_no_sense_is_refused_and_the_next_one_answered)
{
    static const uint8_t with_unknown[] = {0x08, 0x05, 0x10, 0x01, 0x30, 0x01}; /* field 6 */
    int fd = admin_connect(&admin);
    Admin__Reply *reply;

    admin_expect(fd, ADMIN__VERB__NO_VERB, 0, 0, 0, ADMIN__CODE__BAD_REQUEST, "verb 0");
    admin_expect(fd, (Admin__Verb)9, 0, 0, 0, ADMIN__CODE__BAD_REQUEST, "verb 9");
    admin_expect(fd, (Admin__Verb)-1, 0, 0, 0, ADMIN__CODE__BAD_REQUEST, "verb 4294967295");
    admin_expect(fd, ADMIN__VERB__STATUS, 1, 0, 0, ADMIN__CODE__BAD_REQUEST, "session");
    admin_expect(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 2, ADMIN__CODE__BAD_REQUEST, "level");
    admin_expect(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 8, ADMIN__CODE__BAD_REQUEST, "level");
    ck_assert_int_eq(record_send(fd, true, with_unknown, sizeof with_unknown, NULL, 0), 0);
    reply = admin_receive(fd);
    ck_assert_int_eq(reply->error->code, ADMIN__CODE__BAD_REQUEST);
    ck_assert_uint_eq(reply->id, 5);
    admin__reply__free_unpacked(reply, NULL);
    ck_assert(admin_is_served(fd));
    (void)close(fd);
}
END_TEST

START_TEST(a_ninth_connection_is_told_that_there_are_enough)
{
    int fds[ADMIN_CONNECTIONS_MAX];
    int ninth;

    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        fds[i] = admin_connect(&admin);
        ck_assert(admin_is_served(fds[i]));
    }
    ninth = admin_connect(&admin);
    admin_expect_goodbye(ninth, ADMIN__CODE__BUSY, "as many operators as it can");
    (void)close(ninth);
    (void)close(fds[0]);
    /* That one has left is seen in some turn of the loop. */
    for (bool is_busy = true; is_busy;) {
        Admin__Reply *reply;

        ninth = admin_connect(&admin);
        admin_send(ninth, ADMIN__VERB__STATUS, 0, 0, 0);
        reply = admin_receive(ninth);
        is_busy = reply->error != NULL;
        admin__reply__free_unpacked(reply, NULL);
        (void)close(ninth);
    }
    for (unsigned i = 1; i < ADMIN_CONNECTIONS_MAX; i++) {
        ck_assert(admin_is_served(fds[i]));
        (void)close(fds[i]);
    }
}
END_TEST

START_TEST(an_answer_that_is_not_read_ends_the_connection_and_hinders_nobody)
{
    _Atomic uint64_t *done = shared_counter();
    pid_t worker = start_worker(done);
    jitc_client *client = broker_connect(&admin.broker, NULL);
    int fd = admin_connect(&admin);
    Admin__Reply *reply;
    uint64_t before;
    jitc_span span;

    ck_assert_int_eq(jitc_alloc(client, &span, LARGE_BYTES), JITC_OK);
    before = atomic_load(done);
    admin_send(fd, ADMIN__VERB__CODE, admin_session_of(client), admin_offset_of(client, &span), 0);
    while (broker_log_count(&admin.broker, "verb=code reason=\"it does not read its answer\"") == 0)
        (void)usleep(1000);
    ck_assert_uint_gt(atomic_load(done), before);
    do { /* what was sent until then, and no end of the answer */
        reply = admin_receive(fd);
        ck_assert(reply == NULL || reply->more);
        if (reply != NULL)
            admin__reply__free_unpacked(reply, NULL);
    } while (reply != NULL);
    stop_worker(worker);
    (void)jitc_close(client);
    (void)close(fd);
}
END_TEST

START_TEST(readers_leave_room_for_who_may_change_something)
{
    int fds[ADMIN_READERS_MAX];
    int other;

    if (!are_we_root())
        skip("without root there is one user only, who may do everything");
    for (unsigned i = 0; i < ADMIN_READERS_MAX; i++) {
        fds[i] = admin_connect_as(&admin, WORKER_UID, ADMIN_WIRE_GROUP);
        ck_assert(admin_is_served(fds[i]));
    }
    other = admin_connect_as(&admin, OTHER_WORKER_UID, ADMIN_WIRE_GROUP);
    admin_expect_goodbye(other, ADMIN__CODE__BUSY, "as many operators as it can");
    (void)close(other);
    other = admin_connect(&admin);
    assert_may_change(other);
    for (unsigned i = 0; i < ADMIN_READERS_MAX; i++)
        (void)close(fds[i]);
}
END_TEST

/* Its first answer that finds no room is a refusal: no verb was ever asked for. */
START_TEST(refusals_that_are_not_read_end_the_connection_and_hinder_nobody)
{
    static const uint8_t without_verb[] = {0x08, 0x01};
    int fd = admin_connect(&admin);
    int other = admin_connect(&admin);
    int error;

    do {
        error = record_send(fd, false, without_verb, sizeof without_verb, NULL, 0);
        ck_assert(admin_is_served(other));
    } while (error == 0 || error == -EAGAIN);
    ck_assert(error == -ECONNRESET || error == -EPIPE);
    ck_assert(admin_is_served(other));
    (void)close(other);
    (void)close(fd);
}
END_TEST

START_TEST(who_leaves_amid_an_answer_costs_nothing)
{
    jitc_client *client = broker_connect(&admin.broker, NULL);
    long fds = broker_fds(&admin.broker);
    jitc_span span;
    int fd;

    ck_assert_int_eq(jitc_alloc(client, &span, LARGE_BYTES), JITC_OK);
    for (int i = 0; i < 100; i++) {
        bool is_answered = false;

        while (!is_answered) { /* those before may not all have been seen to leave */
            Admin__Reply *reply;

            fd = admin_connect(&admin);
            admin_send(fd, ADMIN__VERB__CODE, admin_session_of(client), admin_offset_of(client, &span), 0);
            reply = admin_receive(fd);
            is_answered = reply->error == NULL;
            admin__reply__free_unpacked(reply, NULL);
            (void)close(fd);
        }
    }
    while (broker_fds(&admin.broker) > fds)
        (void)usleep(1000);
    ck_assert_int_eq(jitc_release(client, span.rx), JITC_OK);
    (void)jitc_close(client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin");
    TCase *tests = tcase_create("admin");
    TCase *impatient = tcase_create("impatient");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, root_and_the_daemons_own_user_may_do_everything);
    tcase_add_test(tests, a_member_of_the_group_reads_and_changes_nothing);
    tcase_add_test(tests, the_group_counts_also_where_it_is_the_primary_one);
    tcase_add_test(tests, any_other_user_is_told_and_not_answered);
    tcase_add_test(tests, the_status_has_what_is_there);
    tcase_add_test(tests, sessions_are_listed_with_what_each_holds_and_did);
    tcase_add_test(tests, operations_are_counted_each_and_timed_by_a_sample);
    tcase_add_test(tests, ten_thousand_spans_are_listed_completely_while_another_client_works);
    tcase_add_test(tests, many_blocks_without_a_span_are_passed_in_more_than_one_step);
    tcase_add_test(tests, the_bytes_of_a_span_are_those_that_were_written);
    tcase_add_test(tests, what_is_no_request_ends_the_connection);
    tcase_add_test(tests, a_request_that_makes_no_sense_is_refused_and_the_next_one_answered);
    tcase_add_test(tests, a_ninth_connection_is_told_that_there_are_enough);
    tcase_add_test(tests, readers_leave_room_for_who_may_change_something);
    tcase_add_test(tests, who_leaves_amid_an_answer_costs_nothing);
    suite_add_tcase(suite, tests);
    tcase_set_timeout(impatient, 0);
    tcase_add_checked_fixture(impatient, start_impatient, stop);
    tcase_add_test(impatient, an_answer_that_is_not_read_ends_the_connection_and_hinders_nobody);
    tcase_add_test(impatient, refusals_that_are_not_read_end_the_connection_and_hinder_nobody);
    suite_add_tcase(suite, impatient);
    return suite_run(suite);
}
