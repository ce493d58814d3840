/* SPDX-License-Identifier: MIT */
/* Executors: how many there may be, who ends when its owner goes, and that nothing of one is left. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/harness/wire.h"
#include "tests/integration/executor_steps.h"

enum { EXECUTORS = 8 };

static void start_ending(void)
{
    broker_start(&broker, "[class default]\norphans=end\n");
}

static void start_none(void)
{
    broker_start(&broker, "[class default]\nexecutor_max=0\n");
}

static void start_small(void)
{
    broker_start(&broker, "[class default]\nsession_max=5\nexecutor_max=3\n");
}

static void start_crowded(void)
{
    broker_start(&broker, "[daemon]\nsessions_max=12\n");
}

/* ---- Limits --------------------------------------------------------------------------------------- */

static int open_at_last(jitc_client *owner)
{
    int fd = -1;
    int status;

    while ((status = jitc_open_executor(owner, &fd)) == JITC_E_QUOTA_SESSIONS)
        (void)usleep(1000); /* the daemon has yet to see an end */
    assert_status(JITC_OK, "", status);
    return fd;
}

START_TEST(a_policy_without_executors_says_so)
{
    const struct hello hello = {.version_min = 1, .version_max = 1, .features = FEATURE_EXECUTORS};
    jitc_client *owner;
    struct wire *wire;
    struct buffer out;
    int fd = -7;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    assert_status(JITC_E_REFUSED, "class default gets no executors", jitc_open_executor(owner, &fd));
    ck_assert_int_eq(fd, -7);
    ck_assert_uint_eq(code_call(make_code(owner, 3).rx), 3);
    (void)jitc_close(owner);
    wire = wire_new(broker_socket(&broker));
    out = wire_begin(wire);
    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.welcome.features, 0);
    (void)wire_free(wire);
}
END_TEST

START_TEST(a_session_has_as_many_as_it_may_and_no_more)
{
    jitc_client *owner;
    jitc_client *executor;
    int fds[EXECUTORS];
    int fd;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < EXECUTORS; i++)
            fds[i] = round == 0 ? open_end(owner) : open_at_last(owner);
        assert_status(JITC_E_QUOTA_SESSIONS, "its 8 executors", jitc_open_executor(owner, &fd));
        /* It makes no difference whether one is used. */
        executor = attach(fds[0]);
        assert_status(JITC_E_QUOTA_SESSIONS, "its 8 executors", jitc_open_executor(owner, &fd));
        (void)jitc_close(executor);
        for (int i = 1; i < EXECUTORS; i++)
            (void)close(fds[i]);
    }
    (void)jitc_close(owner);
}
END_TEST

START_TEST(an_end_counts_as_a_session_of_its_owners_user)
{
    jitc_options options = broker_options(&broker);
    jitc_client *owners[2];
    jitc_client *other;
    int fds[4];
    int fd;

    /* Of 5 sessions, of which 3 may be executors of one. */
    become(WORKER_UID);
    owners[0] = broker_connect(&broker, NULL);
    owners[1] = broker_connect(&broker, NULL);
    for (int i = 0; i < 3; i++)
        fds[i] = open_end(owners[0]);
    assert_status(JITC_E_QUOTA_SESSIONS, "its 3 executors", jitc_open_executor(owners[0], &fd));
    assert_status(JITC_E_QUOTA_SESSIONS, "holds its 5 sessions", jitc_open_executor(owners[1], &fd));
    assert_status(JITC_E_QUOTA_SESSIONS, "holds its 5 sessions", jitc_connect(&other, &options));
    (void)close(fds[0]);
    fds[0] = open_at_last(owners[1]);
    assert_status(JITC_E_QUOTA_SESSIONS, "holds its 5 sessions", jitc_open_executor(owners[1], &fd));
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    (void)jitc_close(owners[0]);
    (void)jitc_close(owners[1]);
}
END_TEST

START_TEST(the_users_share_holds_for_ends_too)
{
    jitc_client *owners[2];
    int fds[4];
    int fd;

    /* Of 12 in all a user that is alone gets half. */
    become(WORKER_UID);
    owners[0] = broker_connect(&broker, NULL);
    owners[1] = broker_connect(&broker, NULL);
    for (int i = 0; i < 4; i++)
        fds[i] = i == 0 ? open_at_last(owners[i % 2]) : open_end(owners[i % 2]);
    assert_status(JITC_E_QUOTA_SESSIONS, "share of the daemon's 12 sessions",
                  jitc_open_executor(owners[0], &fd));
    (void)close(fds[1]);
    fds[1] = open_at_last(owners[0]);
    for (int i = 0; i < 4; i++)
        (void)close(fds[i]);
    (void)jitc_close(owners[0]);
    (void)jitc_close(owners[1]);
}
END_TEST

START_TEST(an_end_is_asked_for_alone_and_when_all_has_been_read)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    const struct hello hello = {.version_min = 1, .version_max = 1};
    struct wire *wire;
    struct buffer out;

    become(WORKER_UID);
    wire = wire_new(broker_socket(&broker));
    out = wire_begin(wire);
    ck_assert(codec_put_open_executor(&out));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "first request is Hello");
    (void)wire_free(wire);
    wire = wire_new(broker_socket(&broker));
    out = wire_begin(wire);
    ck_assert(codec_put_hello(&out, &hello));
    ck_assert(codec_put_open_executor(&out));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "first request is Hello");
    (void)wire_free(wire);

    wire = wire_new(broker_socket(&broker));
    wire_hello(wire);
    out = wire_begin(wire);
    ck_assert(codec_put_open_executor(&out));
    ck_assert(codec_put_operation(&out, &statistics));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_error && wire->reply.error.status == STATUS_INVALID);
    ck_assert_str_eq(wire->reply.error.field, "open_executor");
    /* Two in a row: the first is handed out, the second not before that was read. */
    for (int i = 0; i < 2; i++) {
        out = wire_begin(wire);
        ck_assert(codec_put_open_executor(&out));
        wire_send(wire, &out);
    }
    out = wire_begin(wire);
    wire_send(wire, &out);
    while (record_is_unread(wire->socket)) /* by the daemon */
        (void)usleep(1000);
    wire_receive(wire);
    ck_assert(!wire->reply.has_error && !wire->reply.has_welcome);
    ck_assert_uint_eq(wire->reply.results_count, 0);
    ck_assert_uint_eq(wire->record.fds_count, 1);
    wire_receive(wire);
    ck_assert(wire->reply.has_error && wire->reply.error.status == STATUS_PROTOCOL);
    ck_assert_uint_eq(wire->record.fds_count, 0);
    wire_receive(wire);
    ck_assert(!wire->reply.has_error);
    (void)wire_free(wire);
}
END_TEST

/* ---- The owner's end ---------------------------------------------------------------------------------- */

/* Runs what it is told once its owner is gone. */
static void outlive(jitc_client *executor, int channel)
{
    const uint8_t *code = base_of(executor) + hear(channel);
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span span;

    ck_assert_uint_eq(code_call(code), 4711);
    say(channel, 1);
    (void)hear(channel); /* the owner is gone */
    for (int i = 0; i < 100; i++) {
        ck_assert_uint_eq(code_call(code), 4711);
        assert_status(JITC_OK, "", jitc_query(executor, &span, code));
    }
    assert_status(JITC_OK, "", jitc_statistics(executor, &stats));
    ck_assert_uint_eq(stats.allocation_count, 1);
    say(channel, 2);
    (void)hear(channel);
    (void)jitc_close(executor);
}

static void own_and_wait(const struct other *first, const struct other *second)
{
    jitc_client *owner;
    jitc_span span;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    span = make_code(owner, 4711);
    pass(first, open_end(owner));
    say(first->channel, offset_of(owner, &span));
    if (second != NULL) {
        pass(second, open_end(owner));
        say(second->channel, offset_of(owner, &span));
    }
    for (;;)
        (void)pause();
}

START_TEST(orphans_run_until_the_last_of_them_is_gone)
{
    struct other first = start_other(outlive);
    struct other second = start_other(outlive);
    long bytes = broker_shared_bytes(&broker);
    long fds = broker_fds(&broker);
    pid_t owner = check_fork();

    if (owner == 0)
        own_and_wait(&first, &second);
    ck_assert_uint_eq(hear_other(&first), 1);
    ck_assert_uint_eq(hear_other(&second), 1);
    (void)kill(owner, SIGKILL);
    ck_assert_int_eq(waitpid(owner, NULL, 0), owner);
    while (broker_log_count(&broker, "session_ended: session=1 ") == 0)
        (void)usleep(1000);
    say(first.channel, 1);
    ck_assert_uint_eq(hear_other(&first), 2);
    say(first.channel, 1);
    wait_for(&first);
    while (broker_log_count(&broker, "executor_ended:") == 0)
        (void)usleep(1000);
    /* One is left. */
    say(second.channel, 1);
    ck_assert_uint_eq(hear_other(&second), 2);
    if (bytes >= 0)
        ck_assert_int_ge(broker_shared_bytes(&broker), bytes + 65536);
    say(second.channel, 1);
    wait_for(&second);
    while (broker_log_count(&broker, "executor_ended:") < 2 || broker_fds(&broker) > fds)
        (void)usleep(1000);
    ck_assert_int_eq(broker_shared_bytes(&broker), bytes);
    ck_assert_int_eq(broker_fds(&broker), fds);
}
END_TEST

/* The quota of bytes is the owner's until the memory is gone. */
START_TEST(memory_that_orphans_keep_stays_charged)
{
    const jitc_options options = broker_options(&broker);
    jitc_client *owner;
    jitc_client *executor;
    jitc_client *other;
    jitc_span span;
    int status;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(owner, &span, 130000));
    executor = attach(open_end(owner));
    (void)jitc_close(owner);
    while (broker_log_count(&broker, "closed by the client") == 0)
        (void)usleep(1000);
    assert_status(JITC_OK, "", jitc_connect(&other, &options));
    assert_status(JITC_E_QUOTA_BYTES, "196608", jitc_alloc(other, &span, 130000));
    (void)jitc_close(executor);
    while ((status = jitc_alloc(other, &span, 130000)) == JITC_E_QUOTA_BYTES)
        (void)usleep(1000);
    assert_status(JITC_OK, "", status);
    (void)jitc_close(other);
}
END_TEST

static void start_few_bytes(void)
{
    broker_start(&broker, "[class default]\nbytes_max=192K\n");
}

static void on_bus_error(int number)
{
    (void)number;
    _exit(EXIT_SUCCESS);
}

static void be_cut_off(jitc_client *executor, int channel)
{
    const uint8_t *code = base_of(executor) + hear(channel);
    jitc_span span;

    ck_assert_uint_eq(code_call(code), 4711);
    say(channel, 1);
    (void)hear(channel); /* the owner is gone, and the daemon has seen it */
    assert_status(JITC_E_DISCONNECTED, "owner is gone", jitc_query(executor, &span, code));
    if (getuid() == OTHER_WORKER_UID) { /* else the arena is sealed, and keeps its memory */
        (void)signal(SIGBUS, on_bus_error);
        (void)code_call(code);
        ck_abort_msg("the code runs still");
    }
    (void)jitc_close(executor);
}

START_TEST(where_the_policy_says_so_they_end_with_their_owner)
{
    struct other other = start_other(be_cut_off);
    long bytes = broker_shared_bytes(&broker);
    long fds = broker_fds(&broker);
    pid_t owner = check_fork();

    if (owner == 0)
        own_and_wait(&other, NULL);
    ck_assert_uint_eq(hear_other(&other), 1);
    (void)kill(owner, SIGKILL);
    ck_assert_int_eq(waitpid(owner, NULL, 0), owner);
    while (broker_log_count(&broker, "executor_ended:") == 0)
        (void)usleep(1000);
    say(other.channel, 1);
    wait_for(&other);
    while (bytes >= 0 && broker_fds(&broker) != fds)
        (void)usleep(1000);
    ck_assert_int_eq(broker_shared_bytes(&broker), bytes);
}
END_TEST

START_TEST(an_end_of_an_ended_session_is_told_why)
{
    jitc_client *owner;
    jitc_client *executor = NULL;
    int fd;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    fd = open_end(owner);
    (void)jitc_close(owner);
    while (broker_log_count(&broker, "executor_ended:") == 0)
        (void)usleep(1000);
    assert_status(JITC_E_REFUSED, "owner is gone", jitc_attach(&executor, fd));
    ck_assert_ptr_null(executor);
}
END_TEST

START_TEST(an_end_that_nobody_used_can_be_used_when_the_owner_is_gone)
{
    jitc_client *owner;
    jitc_client *executor;
    const uint8_t *code;
    uint64_t offset;
    jitc_span span;
    int fd;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    span = make_code(owner, 12);
    offset = offset_of(owner, &span);
    fd = open_end(owner);
    (void)jitc_close(owner);
    while (broker_log_count(&broker, "closed by the client") == 0)
        (void)usleep(1000);
    executor = attach(fd);
    code = base_of(executor) + offset;
    ck_assert_uint_eq(code_call(code), 12);
    (void)jitc_close(executor);
}
END_TEST

/* ---- Nothing is left ---------------------------------------------------------------------------------- */

enum { LEAVINGS = 8 };

/* One process's life with executors, cut off at one of some points. */
static void live(int point)
{
    const struct hello hello = {.version_min = 1, .version_max = 1};
    struct wire *owner = wire_new(broker_socket(&broker));
    struct wire *end;
    struct buffer out;
    int fd;

    if (point == 0)
        _exit(0);
    wire_hello(owner);
    out = wire_begin(owner);
    ck_assert(codec_put_open_executor(&out));
    wire_send(owner, &out);
    if (point == 1) /* perhaps it is in flight, perhaps it is not yet there */
        _exit(0);
    wire_receive(owner);
    fd = owner->record.fds[0];
    owner->record.fds_count = 0;
    if (point == 2)
        _exit(0);
    end = wire_new(fd);
    out = wire_begin(end);
    ck_assert(codec_put_hello(&out, &hello));
    wire_send(end, &out);
    if (point == 3)
        _exit(0);
    wire_receive(end);
    if (point == 4)
        _exit(0);
    (void)wire_free(owner);
    if (point == 5)
        _exit(0);
    (void)wire_run(end, &(struct request){.operation = OPERATION_STATISTICS});
    if (point == 6)
        _exit(0);
    out = wire_begin(end);
    wire_send(end, &out);
    wire_send_bytes(end, "\xFF", 1);
    _exit(0);
}

START_TEST(whoever_dies_at_whatever_point_leaves_nothing_behind)
{
    long fds = broker_fds(&broker);
    long bytes = broker_shared_bytes(&broker);
    jitc_client *owner;
    pid_t pid;

    for (int i = 0; i < 50 * LEAVINGS; i++) {
        pid = check_fork();
        if (pid == 0) {
            become(WORKER_UID);
            live(i % LEAVINGS);
        }
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    }
    if (fds >= 0) {
        while (broker_fds(&broker) != fds)
            (void)usleep(1000); /* some linger for a second */
        ck_assert_int_eq(broker_shared_bytes(&broker), bytes);
    }
    /* All that the user may have is there. */
    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    for (int i = 0; i < EXECUTORS; i++)
        (void)open_end(owner);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(a_private_broker_has_executors_and_ends_with_the_last)
{
    jitc_options options;
    jitc_client *owner;
    jitc_client *executors[EXECUTORS];
    uint64_t offset;
    jitc_span span;
    int fd;

    become(WORKER_UID);
    jitc_options_init(&options);
    options.daemon = broker.program;
    assert_status(JITC_OK, "", jitc_spawn(&owner, &options));
    span = make_code(owner, 31);
    offset = offset_of(owner, &span);
    for (int i = 0; i < EXECUTORS; i++)
        executors[i] = attach(open_end(owner));
    assert_status(JITC_E_QUOTA_SESSIONS, "", jitc_open_executor(owner, &fd));
    (void)jitc_close(owner);
    for (int i = 0; i < EXECUTORS; i++) {
        assert_status(JITC_OK, "", jitc_query(executors[i], &span, base_of(executors[i]) + offset));
        ck_assert_uint_eq(code_call(span.rx), 31);
        (void)jitc_close(executors[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("executors' ends");

    ADD_CASE(suite, "default", start_default, a_session_has_as_many_as_it_may_and_no_more,
             an_end_is_asked_for_alone_and_when_all_has_been_read, orphans_run_until_the_last_of_them_is_gone,
             an_end_that_nobody_used_can_be_used_when_the_owner_is_gone,
             whoever_dies_at_whatever_point_leaves_nothing_behind,
             a_private_broker_has_executors_and_ends_with_the_last);
    ADD_CASE(suite, "none", start_none, a_policy_without_executors_says_so);
    ADD_CASE(suite, "small", start_small, an_end_counts_as_a_session_of_its_owners_user);
    ADD_CASE(suite, "crowded", start_crowded, the_users_share_holds_for_ends_too);
    ADD_CASE(suite, "few bytes", start_few_bytes, memory_that_orphans_keep_stays_charged);
    ADD_CASE(suite, "ending", start_ending, where_the_policy_says_so_they_end_with_their_owner,
             an_end_of_an_ended_session_is_told_why);
    return suite_run(suite);
}
