/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is away for a while, as when it is restarted and its sockets are kept: calls time out,
 * and when it is back all goes on, with nothing lost and nothing left over. A daemon that is stopped by a
 * signal is away; one of our own answers twice, late, and out of order.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

enum {
    TIMEOUT_MS = 50,
    PATIENT_MS = 60000,
    SMALL_BYTES = 100,
    LARGE_BYTES = 200000, /* no block has room for it */
    MANY = 700,           /* spans: more than the ring has entries */
    THREADS = 8,
    SPANS = 6, /* live ones of a thread */
    ABSENCES = 12,
    EXECUTORS = 8,
};

static struct broker broker;
static jitc_client *client;

static void start(void)
{
    broker_start(&broker, NULL);
}

static void start_direct(void)
{
    broker_start(&broker, "[class default]\nwrite=direct\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

/* The test has killed it. */
static void bury(void)
{
    broker_kill(&broker);
    broker_stop(&broker);
}

static bool has_ring(void)
{
    return client->plane.memory != NULL;
}

/* How long calls wait: little only while the daemon is away, since it may be slow when it is not. */
static void wait_at_most(uint32_t ms)
{
    const struct timeval timeout = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

    client->timeout_ms = ms;
    ck_assert_int_eq(setsockopt(client->socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
}

static void connect_with(uint32_t flags)
{
    jitc_options options = broker_options(&broker);

    options.flags = flags;
    options.timeout_ms = PATIENT_MS;
    client = broker_connect(&broker, &options);
}

static void close_client(void)
{
    client = jitc_close(client);
}

static char state_of(pid_t pid)
{
    char path[32];
    char line[256];
    FILE *file;
    char *end;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    (void)fclose(file);
    end = strrchr(line, ')');
    ck_assert_ptr_nonnull(end);
    return end[2];
}

static void stop_daemon(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    while (state_of(broker.pid) != 'T')
        (void)usleep(1000);
}

static void continue_daemon(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
}

static void send_away(void)
{
    stop_daemon();
    wait_at_most(TIMEOUT_MS);
}

static void call_back(void)
{
    wait_at_most(PATIENT_MS);
    continue_daemon();
}

#define assert_late(call) assert_status(JITC_E_TIMEOUT, "no answer within", call)

static jitc_span publish(size_t size, uint32_t value)
{
    jitc_span span;
    uint8_t code[CODE_RETURN_BYTES];

    assert_status(JITC_OK, "", jitc_alloc(client, &span, size));
    code_return(code, value);
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return span;
}

static jitc_stats statistics(void)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    return stats;
}

/* After all was waited for. */
static void assert_spans(uint64_t count)
{
    assert_status(JITC_OK, "", jitc_flush(client));
    ck_assert_uint_eq(statistics().allocation_count, count);
    if (has_ring())
        ck_assert_int_eq((int64_t)client->lessee.heap.spans + client->lessee.foreign, (int64_t)count);
}

static int write_return(jitc_span *span, void *user)
{
    code_return(span->rw, *(const uint32_t *)user);
    return 0;
}

/* ---- Every call ---------------------------------------------------------------------------- */

START_TEST(what_only_asks_times_out_and_works_again)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_info info = {.struct_size = sizeof info};
    jitc_span large;
    jitc_span found;

    connect_with(0);
    large = publish(LARGE_BYTES, 41);
    send_away();
    for (int i = 0; i < 3; i++) {
        assert_late(jitc_statistics(client, &stats));
        assert_late(jitc_query(client, &found, (uint8_t *)large.rx + 70000));
        assert_late(jitc_flush(client));
        assert_status(JITC_OK, "", jitc_describe(client, &info));
        assert_status(JITC_OK, "", jitc_sync(client, &large));
        ck_assert_uint_eq(code_call(large.rx), 41);
    }
    call_back();
    assert_status(JITC_OK, "", jitc_query(client, &found, (uint8_t *)large.rx + 70000));
    ck_assert_ptr_eq(found.rx, large.rx);
    assert_spans(1);
    close_client();
}
END_TEST

START_TEST(what_writes_times_out_and_can_be_said_again)
{
    uint8_t code[CODE_RETURN_BYTES];
    uint32_t value = 44;
    uint32_t before;
    jitc_scope *scope;
    jitc_span span;
    jitc_span other;

    connect_with(0);
    span = publish(SMALL_BYTES, 42);
    other = publish(LARGE_BYTES, 42);
    memcpy(&before, other.rx, sizeof before);
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    send_away();
    code_return(code, 43);
    assert_late(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    assert_late(jitc_patch(client, &other, 0, 4, before, before + 1, NULL));
    assert_late(jitc_write_fn(client, &other, write_return, &value, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_scope_write(scope, &other, 0, code, sizeof code));
    assert_late(jitc_scope_flush(scope));
    if (jitc_scope_write_fn(scope, &other, write_return, &value) == JITC_OK)
        assert_late(jitc_scope_flush(scope));
    call_back();
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_scope_write(scope, &other, 0, code, sizeof code));
    assert_status(JITC_OK, "", jitc_scope_end(scope));
    ck_assert_uint_eq(code_call(other.rx), 43);
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 43);
    assert_status(JITC_OK, "", jitc_write_fn(client, &span, write_return, &value, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 44);
    assert_spans(2);
    close_client();
}
END_TEST

START_TEST(a_write_of_many_parts_times_out_in_the_middle)
{
    enum { BYTES = 4 << 20 };
    static uint8_t bytes[BYTES];
    jitc_span span;

    memset(bytes, 0x90, sizeof bytes);
    connect_with(0);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof bytes));
    send_away();
    assert_late(jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    assert_late(jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    call_back();
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq(span.rx, bytes, sizeof bytes);
    assert_spans(1);
    close_client();
}
END_TEST

START_TEST(a_scope_can_end_while_the_daemon_is_away)
{
    uint8_t bytes[3 * SMALL_BYTES];
    jitc_scope *scope;
    jitc_span span;

    memset(bytes, 0x90, sizeof bytes);
    connect_with(0);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof bytes));
    assert_status(JITC_OK, "", jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    send_away();
    for (int i = 0; i < 300; i++) /* the last one is beyond the span, and nobody is told */
        assert_status(JITC_OK, "", jitc_scope_write(scope, &span, 0, bytes, sizeof bytes));
    span.size += 64;
    assert_status(JITC_OK, "", jitc_scope_write(scope, &span, span.size - 64, bytes, 64));
    span.size -= 64;
    assert_late(jitc_scope_end(scope));
    call_back();
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq(span.rx, bytes, sizeof bytes);
    assert_spans(1);
    close_client();
}
END_TEST

START_TEST(what_is_promised_is_done_once_when_the_daemon_is_back)
{
    jitc_span released;
    jitc_span cut;
    jitc_span sealed;
    jitc_span small;
    jitc_span found;

    connect_with(0);
    small = publish(SMALL_BYTES, 50);
    released = publish(LARGE_BYTES, 51);
    cut = publish(LARGE_BYTES, 52);
    sealed = publish(LARGE_BYTES, 53);
    send_away();
    assert_late(jitc_release(client, released.rx));
    assert_late(jitc_shrink(client, &cut, 64));
    ck_assert_uint_eq(cut.size, 64);
    assert_late(jitc_seal(client, &sealed));
    assert_late(jitc_seal(client, &small));
    call_back();
    assert_spans(3);
    ck_assert_uint_eq(code_call(cut.rx), 52);
    assert_status(JITC_OK, "", jitc_query(client, &found, cut.rx));
    ck_assert_uint_eq(found.size, 64);
    assert_status(JITC_E_NO_SPAN, "", jitc_query(client, &found, released.rx));
    ck_assert_ptr_null(sealed.rw);
    assert_status(JITC_E_SEALED, "", jitc_write(client, &sealed, 0, "", 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_SEALED, "", jitc_write(client, &small, 0, "", 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_SEALED, "", jitc_shrink(client, &small, 64));
    assert_status(JITC_OK, "", jitc_release(client, small.rx));
    assert_status(JITC_OK, "", jitc_release(client, sealed.rx));
    assert_spans(1);
    close_client();
}
END_TEST

START_TEST(more_is_promised_than_the_ring_has_entries)
{
    static jitc_span spans[MANY];
    unsigned late = 0;
    jitc_span found;
    jitc_span last[3];

    connect_with(JITC_FAIL_FAST);
    for (unsigned i = 0; i < MANY; i++)
        spans[i] = publish(SMALL_BYTES, i);
    for (unsigned i = 0; i < 3; i++)
        last[i] = publish(2 * SMALL_BYTES, i);
    send_away();
    for (unsigned i = 0; i < MANY; i++) {
        int status = jitc_release(client, spans[i].rx);

        late += status == JITC_E_TIMEOUT;
        if (status != JITC_OK)
            assert_status(JITC_E_TIMEOUT, "", status);
    }
    if (has_ring()) {
        ck_assert_uint_gt(late, 0);
        ck_assert_uint_lt(late, MANY);
    } else {
        ck_assert_uint_eq(late, MANY);
    }
    assert_late(jitc_shrink(client, &last[0], 64));
    assert_late(jitc_seal(client, &last[1]));
    assert_late(jitc_release(client, last[2].rx));
    call_back();
    while (jitc_flush(client) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_spans(2);
    assert_status(JITC_OK, "", jitc_query(client, &found, last[0].rx));
    ck_assert_uint_eq(found.size, 64);
    assert_status(JITC_E_SEALED, "", jitc_write(client, &last[1], 0, "", 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_NO_SPAN, "", jitc_query(client, &found, last[2].rx));
    (void)publish(SMALL_BYTES, 1);
    assert_spans(3);
    close_client();
}
END_TEST

/* To its last entry, which other calls leave to a reset. */
static void fill_ring(void)
{
    const struct request asked = {.operation = OPERATION_STATISTICS};

    client_relock(client);
    while (plane_has_entries(&client->plane, 1))
        (void)plane_put(client, &asked, &client->plane.nobody);
    plane_publish(&client->plane);
    client_unlock(client);
}

START_TEST(a_promised_reset_comes_before_all_that_is_asked_for_later)
{
    static jitc_span spans[MANY];
    jitc_span span;
    jitc_span found;

    connect_with(JITC_FAIL_FAST);
    for (unsigned i = 0; i < MANY; i++)
        spans[i] = publish(SMALL_BYTES, i);
    send_away();
    for (unsigned i = 0; i < MANY; i++)
        (void)jitc_release(client, spans[i].rx);
    if (has_ring())
        fill_ring();
    assert_late(jitc_reset(client, JITC_RESET_HARD));
    ck_assert_uint_gt(client->owed.count, 0);
    ck_assert_int_eq(client->owed.queue[client->owed.count - 1].operation, OPERATION_RESET);
    call_back();
    while (jitc_alloc(client, &span, SMALL_BYTES) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_status(JITC_OK, "", jitc_query(client, &found, span.rx));
    assert_spans(1);
    close_client();
}
END_TEST

/* ---- What comes late ------------------------------------------------------------------------- */

START_TEST(a_span_that_comes_late_is_released)
{
    jitc_span kept;
    jitc_span span;
    jitc_stats before;

    connect_with(0);
    kept = publish(LARGE_BYTES, 60);
    assert_status(JITC_OK, "", jitc_flush(client));
    before = statistics();
    send_away();
    assert_late(jitc_alloc(client, &span, LARGE_BYTES));
    assert_late(jitc_alloc(client, &span, LARGE_BYTES));
    call_back();
    assert_spans(1);
    ck_assert_uint_eq(statistics().used_bytes, before.used_bytes);
    ck_assert_uint_eq(code_call(kept.rx), 60);
    close_client();
}
END_TEST

START_TEST(a_span_that_came_late_and_was_reset_is_not_released_once_more)
{
    jitc_span span;
    jitc_span found;

    connect_with(0);
    send_away();
    assert_late(jitc_alloc(client, &span, LARGE_BYTES));
    assert_late(jitc_reset(client, JITC_RESET_SOFT));
    call_back();
    while (jitc_alloc(client, &span, LARGE_BYTES) == JITC_E_TIMEOUT) /* in the same place */
        (void)usleep(1000);
    assert_status(JITC_OK, "", jitc_flush(client));
    assert_status(JITC_OK, "", jitc_query(client, &found, span.rx));
    assert_spans(1);
    close_client();
}
END_TEST

START_TEST(a_lease_that_comes_late_is_used)
{
    jitc_span span;
    jitc_stats stats;

    connect_with(0);
    send_away();
    assert_late(jitc_alloc(client, &span, SMALL_BYTES));
    call_back();
    assert_spans(0);
    stats = statistics();
    span = publish(SMALL_BYTES, 61);
    ck_assert_uint_eq(code_call(span.rx), 61);
    assert_spans(1);
    if (has_ring())
        ck_assert_uint_eq(statistics().leased_bytes + span.size, stats.leased_bytes);
    close_client();
}
END_TEST

START_TEST(a_refused_call_that_was_given_up_is_told_to_nobody)
{
    jitc_span span;

    connect_with(0);
    span = publish(LARGE_BYTES, 62);
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    send_away();
    assert_late(jitc_release(client, span.rx));
    assert_late(jitc_alloc(client, &span, (size_t)1 << 30));
    call_back();
    assert_spans(0);
    close_client();
}
END_TEST

START_TEST(an_executor_end_that_comes_late_is_closed)
{
    int fds[EXECUTORS];
    int fd = -1;
    int status;

    connect_with(0);
    send_away();
    assert_late(jitc_open_executor(client, &fd));
    ck_assert_int_eq(fd, -1);
    call_back();
    /* What waits at the ring meanwhile takes its reply for none of its own. */
    assert_spans(0);
    for (int i = 0; i < EXECUTORS; i++) {
        /* The daemon hears of an end a moment after it. */
        while ((status = jitc_open_executor(client, &fds[i])) == JITC_E_QUOTA_SESSIONS)
            (void)usleep(1000);
        assert_status(JITC_OK, "", status);
    }
    for (int i = 0; i < EXECUTORS; i++)
        (void)close(fds[i]);
    close_client();
}
END_TEST

/* The reply makes the socket readable, which is not its end. */
START_TEST(a_late_reply_on_the_socket_is_no_end_for_who_waits_at_the_ring)
{
    int fd = -1;

    connect_with(0);
    send_away();
    assert_late(jitc_open_executor(client, &fd));
    call_back();
    while (recv(client->socket, &fd, 0, MSG_PEEK | MSG_DONTWAIT) < 0) /* there it lies */
        (void)usleep(1000);
    send_away();
    wait_at_most(400);
    for (int i = 0; i < 2; i++) {
        jitc_stats stats = {.struct_size = sizeof stats};

        assert_late(jitc_statistics(client, &stats));
    }
    call_back();
    assert_spans(0);
    close_client();
}
END_TEST

START_TEST(a_client_is_closed_while_the_daemon_is_away)
{
    jitc_span span;
    int fd;

    connect_with(0);
    send_away();
    (void)jitc_alloc(client, &span, LARGE_BYTES);
    (void)jitc_open_executor(client, &fd);
    (void)jitc_reset(client, JITC_RESET_SOFT);
    close_client();
    continue_daemon();
    connect_with(0);
    ck_assert_uint_eq(code_call(publish(SMALL_BYTES, 63).rx), 63);
    close_client();
}
END_TEST

/* ---- Failing fast ---------------------------------------------------------------------------- */

static atomic_bool is_back;

static void *call_back_later(void *user)
{
    (void)user;
    (void)usleep(6 * 200 * 1000);
    is_back = true;
    continue_daemon();
    return NULL;
}

/* How many calls time out until the daemon, which is away, is called back. */
static unsigned count_late_calls(uint32_t flags)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    pthread_t thread;
    unsigned count = 0;
    jitc_span span;
    int status;

    connect_with(flags);
    span = publish(LARGE_BYTES, 70);
    send_away();
    wait_at_most(200);
    is_back = false;
    ck_assert_int_eq(pthread_create(&thread, NULL, call_back_later, NULL), 0);
    while (!is_back) {
        status = count % 2 == 0 ? jitc_statistics(client, &stats)
                                : jitc_write(client, &span, 64, "", 1, JITC_WRITE_DEFAULT);
        count += status == JITC_E_TIMEOUT;
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    wait_at_most(PATIENT_MS);
    while ((status = jitc_statistics(client, &stats)) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_status(JITC_OK, "", status);
    assert_status(JITC_OK, "", jitc_write(client, &span, 64, "", 1, JITC_WRITE_DEFAULT));
    assert_spans(1);
    close_client();
    return count;
}

START_TEST(each_call_waits_unless_it_is_to_fail_fast)
{
    ck_assert_uint_le(count_late_calls(0), 7);
    ck_assert_uint_ge(count_late_calls(JITC_FAIL_FAST), 1000);
}
END_TEST

START_TEST(the_end_of_the_daemon_is_noticed_by_who_fails_fast)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span span;
    int status;

    connect_with(JITC_FAIL_FAST);
    span = publish(SMALL_BYTES, 71);
    send_away();
    assert_late(jitc_statistics(client, &stats));
    assert_late(jitc_statistics(client, &stats));
    ck_assert_int_eq(kill(broker.pid, SIGKILL), 0);
    while ((status = jitc_statistics(client, &stats)) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_status(JITC_E_DISCONNECTED, "disconnected", status);
    assert_status(JITC_E_DISCONNECTED, "disconnected", jitc_flush(client));
    ck_assert_uint_eq(code_call(span.rx), 71);
    close_client();
}
END_TEST

/* ---- Threads ----------------------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    unsigned random;
    jitc_span spans[SPANS];
    uint32_t values[SPANS]; /* 0: no span */
    unsigned late;
    char failed[256];
};

static atomic_bool is_over;

static unsigned roll(struct worker *worker, unsigned sides)
{
    return (unsigned)rand_r(&worker->random) % sides;
}

static void note_failure(struct worker *worker, const char *what)
{
    (void)snprintf(worker->failed, sizeof worker->failed, "%s: %s", what, jitc_error_detail());
}

/* True if it was done; TIMEOUT is no failure. */
static bool went_well(struct worker *worker, const char *what, int status)
{
    worker->late += status == JITC_E_TIMEOUT;
    if (status != JITC_OK && status != JITC_E_TIMEOUT)
        note_failure(worker, what);
    return status == JITC_OK;
}

static void drop(struct worker *worker, unsigned slot)
{
    (void)went_well(worker, "release", jitc_release(client, worker->spans[slot].rx));
    worker->values[slot] = 0;
}

static void make(struct worker *worker, unsigned slot)
{
    size_t size = roll(worker, 20) == 0 ? 70000 : 64 + roll(worker, 3000);
    uint32_t value = 1 + roll(worker, 1u << 30);
    jitc_span *span = &worker->spans[slot];
    uint8_t code[CODE_RETURN_BYTES];
    int status;

    if (!went_well(worker, "alloc", jitc_alloc(client, span, size)))
        return;
    worker->values[slot] = value;
    code_return(code, value);
    do {
        status = jitc_write(client, span, 0, code, sizeof code, JITC_WRITE_DEFAULT);
        worker->late += status == JITC_E_TIMEOUT;
    } while (status == JITC_E_TIMEOUT);
    (void)went_well(worker, "write", status);
}

static void change(struct worker *worker, unsigned slot)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span *span = &worker->spans[slot];
    jitc_scope *scope;
    jitc_span found;

    switch (roll(worker, 5)) {
    case 0:
        (void)went_well(worker, "shrink", jitc_shrink(client, span, 64));
        break;
    case 1:
        (void)went_well(worker, "query", jitc_query(client, &found, (uint8_t *)span->rx + 1));
        break;
    case 2:
        (void)went_well(worker, "statistics", jitc_statistics(client, &stats));
        break;
    case 3:
        if (jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT) != JITC_OK)
            note_failure(worker, "scope");
        else if (went_well(worker, "scope_write", jitc_scope_write(scope, span, 32, &found, 32)))
            (void)went_well(worker, "scope_end", jitc_scope_end(scope));
        break;
    default:
        (void)went_well(worker, "write_fn",
                        jitc_write_fn(client, span, write_return, &worker->values[slot], JITC_WRITE_DEFAULT));
        break;
    }
}

static void *work(void *user)
{
    struct worker *worker = user;

    while (!is_over && worker->failed[0] == '\0') {
        unsigned slot = roll(worker, SPANS);

        if (worker->values[slot] == 0) {
            make(worker, slot);
        } else if (code_call(worker->spans[slot].rx) != worker->values[slot]) {
            note_failure(worker, "another's code");
        } else if (roll(worker, 2) == 0) {
            drop(worker, slot);
        } else {
            change(worker, slot);
        }
    }
    return NULL;
}

static uint64_t count_live(const struct worker *workers)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned slot = 0; slot < SPANS; slot++) {
            if (workers[i].values[slot] == 0)
                continue;
            live++;
            ck_assert_uint_eq(code_call(workers[i].spans[slot].rx), workers[i].values[slot]);
        }
    }
    return live;
}

static void run_threads(uint32_t flags)
{
    static struct worker workers[THREADS];
    const char *given = getenv("JITBROKER_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)getpid();
    unsigned late = 0;

    (void)printf("JITBROKER_SEED=%u\n", seed);
    connect_with(flags);
    wait_at_most(10);
    is_over = false;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.random = seed + i};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < ABSENCES; i++) {
        (void)usleep(20000);
        stop_daemon();
        (void)usleep(40000);
        continue_daemon();
    }
    is_over = true;
    for (unsigned i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
        late += workers[i].late;
    }
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_str_eq(workers[i].failed, "");
    (void)printf("%u calls timed out\n", late);
    ck_assert_uint_gt(late, 0);
    wait_at_most(PATIENT_MS);
    while (jitc_flush(client) == JITC_E_TIMEOUT)
        (void)usleep(1000);
    assert_spans(count_live(workers));
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_SOFT));
    assert_spans(0);
    close_client();
}

START_TEST(threads_go_on_when_it_is_back)
{
    run_threads(_i == 0 ? 0 : JITC_FAIL_FAST);
}
END_TEST

/* ---- A daemon of our own --------------------------------------------------------------------------- */

enum { FAKE_ARENA_BYTES = 1 << 20, PARTS = 4 };

/* Says Welcome `times` times, with an arena of its own. */
static void welcome(struct wire *wire, unsigned times)
{
    const struct welcome granted = {.version = 1,
                                    .arena_bytes = FAKE_ARENA_BYTES,
                                    .granularity = 64,
                                    .write_mode = WRITE_THROUGH,
                                    .span_max_bytes = FAKE_ARENA_BYTES,
                                    .spans_max = 100};
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};
    int arena = memfd_create("arena", MFD_CLOEXEC);

    if (ftruncate(arena, FAKE_ARENA_BYTES) != 0 ||
        recv(wire->socket, wire->in_bytes, sizeof wire->in_bytes, 0) <= 0)
        _exit(3);
    if (!codec_put_reply(&out, 1) || !codec_put_welcome(&out, &granted))
        _exit(3);
    for (; times > 0; times--) {
        if (record_send(wire->socket, true, out.bytes, out.used, &arena, 1) != 0)
            _exit(3);
    }
    (void)close(arena);
}

/* The next request: its id. 0: the client has closed. */
static uint64_t next_request(struct wire *wire, struct request *request)
{
    static struct request_record record; /* the request's data lives in it */
    struct result refusal;
    ssize_t got = recv(wire->socket, wire->in_bytes, sizeof wire->in_bytes, 0);

    if (got <= 0)
        return 0;
    if (!codec_decode_request(&wire->pool, wire->in_bytes, (size_t)got, &record))
        _exit(4);
    *request = (struct request){.operation = OPERATION_COUNT};
    if (record.operations_count > 0 && codec_operation(&record, 0, request, &refusal) != STATUS_OK)
        _exit(4);
    return record.id;
}

static void reply_with_fd(struct wire *wire, uint64_t id, uint64_t offset, uint64_t size, int fd)
{
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};
    struct result result;

    result_init(&result);
    result.has_span = size > 0;
    result.offset = offset;
    result.size = size;
    if (!codec_put_reply(&out, id) || !codec_put_result(&out, &result))
        _exit(5);
    switch (record_send(wire->socket, true, out.bytes, out.used, &fd, fd >= 0 ? 1 : 0)) {
    case 0:
        break;
    case -EPIPE: /* the client has what it wanted, and is gone */
    case -ECONNRESET:
        _exit(0);
    default:
        _exit(5);
    }
}

static void reply(struct wire *wire, uint64_t id, uint64_t offset, uint64_t size)
{
    reply_with_fd(wire, id, offset, size, -1);
}

static pid_t fake;
static int gate[2] = {-1, -1}; /* a pipe, by which it is told that the client has given up */

static void await_giving_up(void)
{
    char byte;

    if (read(gate[0], &byte, 1) != 1)
        _exit(6);
}

static void tell_giving_up(void)
{
    ck_assert_int_eq(write(gate[1], "", 1), 1);
}

/* A daemon that does what `script` does, and ends well if that returns. */
static void start_fake(void (*script)(struct wire *wire), unsigned welcomes)
{
    jitc_options options;
    int pair[2];

    jitc_options_init(&options);
    options.timeout_ms = PATIENT_MS;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(pipe(gate), 0);
    fake = check_fork();
    if (fake == 0) {
        struct wire *wire = wire_new(pair[1]);

        (void)close(pair[0]);
        welcome(wire, welcomes);
        script(wire);
        (void)wire_free(wire);
        _exit(0);
    }
    (void)close(pair[1]);
    assert_status(JITC_OK, "", jitc_adopt(&client, pair[0], &options));
}

static void end_fake(void)
{
    int status;

    close_client();
    ck_assert_int_eq(waitpid(fake, &status, 0), fake);
    ck_assert_int_eq(status, 0);
    (void)close(gate[0]);
    (void)close(gate[1]);
}

/* The span that is asked for lies where it is asked for. */
static void answer_all_twice(struct wire *wire)
{
    struct request request;
    uint64_t id;
    uint64_t before = 0;

    while ((id = next_request(wire, &request)) != 0) {
        if (before != 0)
            reply(wire, before, 0, 64); /* and once more */
        reply(wire, id, request.operation == OPERATION_ALLOC ? 4096 : request.span, 64);
        reply(wire, id, 8192, 64);
        before = id;
    }
}

START_TEST(what_is_answered_twice_is_taken_once)
{
    const uint8_t *base;
    jitc_span span;
    jitc_info info = {.struct_size = sizeof info};

    start_fake(answer_all_twice, 3);
    assert_status(JITC_OK, "", jitc_describe(client, &info));
    base = info.base;
    for (int i = 1; i < 10; i++) {
        assert_status(JITC_OK, "", jitc_query(client, &span, base + i * 64));
        ck_assert_ptr_eq(span.rx, base + i * 64);
        assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
        ck_assert_ptr_eq(span.rx, base + 4096);
    }
    /* The second answer to an alloc brings no span that would have to be released. */
    ck_assert_uint_eq(client->owed.count, 0);
    end_fake();
}
END_TEST

static void answer_backwards(struct wire *wire)
{
    struct request request;
    uint64_t ids[PARTS];

    for (int i = 0; i < PARTS; i++)
        ids[i] = next_request(wire, &request);
    for (int i = PARTS; i > 0; i--)
        reply(wire, ids[i - 1], 0, 0);
    reply(wire, next_request(wire, &request), 64, 64);
}

START_TEST(the_parts_of_a_write_may_be_answered_in_any_order)
{
    static const uint8_t bytes[PARTS * WRITE_MAX_BYTES];
    jitc_span span;

    start_fake(answer_backwards, 1);
    span = (jitc_span){.rx = client->map.rx, .size = sizeof bytes};
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    end_fake();
}
END_TEST

/* The alloc is answered when the client has given it up, and more than once. */
static void answer_late(struct wire *wire)
{
    struct request request;
    uint64_t id = next_request(wire, &request);

    if (request.operation != OPERATION_ALLOC)
        _exit(6);
    await_giving_up();
    for (int i = 0; i < 3; i++)
        reply(wire, id, 4096, 128);
    id = next_request(wire, &request);
    if (request.operation != OPERATION_RELEASE || request.span != 4096)
        _exit(7);
    reply(wire, id, 0, 0);
    id = next_request(wire, &request);
    if (request.operation != OPERATION_QUERY)
        _exit(8);
    reply(wire, id, 64, 64);
    if (next_request(wire, &request) != 0)
        _exit(9);
}

START_TEST(a_span_is_released_once_however_often_it_comes)
{
    jitc_span span;

    start_fake(answer_late, 1);
    wait_at_most(TIMEOUT_MS);
    assert_late(jitc_alloc(client, &span, 100));
    tell_giving_up();
    wait_at_most(PATIENT_MS);
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    ck_assert_uint_eq(client->owed.count, 0);
    ck_assert_uint_eq(client->asked_count, 0);
    end_fake();
}
END_TEST

/* An end, a pipe's, comes late, and with what was never to have one. */
static void bring_descriptors(struct wire *wire)
{
    struct request request;
    uint64_t id = next_request(wire, &request);
    int pipe_ends[2];
    char byte;

    await_giving_up();
    if (pipe(pipe_ends) != 0)
        _exit(6);
    for (int i = 0; i < 2; i++)
        reply_with_fd(wire, id, 0, 0, pipe_ends[1]);
    (void)close(pipe_ends[1]);
    if (read(pipe_ends[0], &byte, 1) != 0) /* until nobody has the other end */
        _exit(7);
    do {
        id = next_request(wire, &request);
        if (id != 0)
            reply(wire, id, 64, 64);
    } while (id != 0);
}

START_TEST(descriptors_that_nobody_waits_for_are_closed)
{
    jitc_span span;
    int fd = -1;

    start_fake(bring_descriptors, 1);
    wait_at_most(TIMEOUT_MS);
    assert_late(jitc_open_executor(client, &fd));
    tell_giving_up();
    wait_at_most(PATIENT_MS);
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    ck_assert_int_eq(fd, -1);
    end_fake();
}
END_TEST

static void answer_what_was_not_asked(struct wire *wire)
{
    struct request request;

    reply(wire, next_request(wire, &request) + 1, 64, 64);
    (void)next_request(wire, &request);
}

static void answer_nothing_by_number(struct wire *wire)
{
    struct request request;

    (void)next_request(wire, &request);
    reply(wire, 0, 64, 64);
    (void)next_request(wire, &request);
}

static void answer_with_descriptors(struct wire *wire)
{
    struct request request;

    reply_with_fd(wire, next_request(wire, &request), 64, 64, wire->socket);
    (void)next_request(wire, &request);
}

START_TEST(an_answer_to_what_was_never_asked_is_the_end)
{
    static void (*const scripts[])(struct wire *) = {answer_what_was_not_asked, answer_nothing_by_number,
                                                     answer_with_descriptors};
    jitc_span span;

    start_fake(scripts[_i], 1);
    assert_status(JITC_E_BAD_REPLY, "", jitc_query(client, &span, client->map.rx + 64));
    assert_status(JITC_E_DISCONNECTED, "its reply", jitc_query(client, &span, client->map.rx + 64));
    end_fake();
}
END_TEST

/* ---- Connecting --------------------------------------------------------------------------------------- */

struct door {
    char folder[64];
    char path[108];
    int listener;
};

static struct door open_door(void)
{
    struct door door = {.folder = "/tmp/jitbroker-test-XXXXXX"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(door.folder));
    (void)snprintf(door.path, sizeof door.path, "%s/socket", door.folder);
    (void)strcpy(address.sun_path, door.path);
    door.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(door.listener, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(door.listener, 8), 0);
    return door;
}

static void close_door(const struct door *door)
{
    (void)close(door->listener);
    (void)unlink(door->path);
    (void)rmdir(door->folder);
}

/* Closes some at once, one after it has read the Hello, and one with a reset; then serves. */
static void serve_the_fourth(int listener)
{
    struct request request;
    struct wire *wire;
    uint64_t id;
    char byte;

    for (int i = 0; i < 3; i++) {
        int socket = accept(listener, NULL, NULL);

        if (i == 1)
            (void)recv(socket, &byte, 1, 0);
        if (i == 2)
            (void)recv(socket, &byte, 1, MSG_PEEK); /* unread: a reset */
        (void)close(socket);
    }
    wire = wire_new(accept(listener, NULL, NULL));
    welcome(wire, 1);
    while ((id = next_request(wire, &request)) != 0)
        reply(wire, id, 64, 64);
    (void)wire_free(wire);
}

START_TEST(who_connects_while_the_daemon_is_restarted_is_served_by_the_next)
{
    struct door door = open_door();
    jitc_options options;
    jitc_span span;

    jitc_options_init(&options);
    options.socket = door.path;
    fake = check_fork();
    if (fake == 0) {
        serve_the_fourth(door.listener);
        _exit(0);
    }
    assert_status(JITC_OK, "", jitc_connect(&client, &options));
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    end_fake();
    close_door(&door);
}
END_TEST

/* Counts those who come until nobody does any more, and refuses them by a word, or by none. */
static unsigned turn_away(int listener, bool says_why)
{
    unsigned count = 0;
    int socket;

    while ((socket = accept(listener, NULL, NULL)) >= 0) {
        uint8_t bytes[512];
        struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};
        struct result refusal;

        (void)result_refuse(&refusal, STATUS_REFUSED, "", "not you");
        if (says_why && (!codec_put_reply(&out, 0) || !codec_put_error(&out, &refusal) ||
                         record_send(socket, true, out.bytes, out.used, NULL, 0) != 0))
            _exit(255);
        (void)close(socket);
        count++;
    }
    return count;
}

START_TEST(a_refusal_is_final_and_a_closed_door_is_tried_for_as_long_as_asked)
{
    struct door door = open_door();
    bool says_why = _i == 0;
    jitc_options options;
    int status;

    jitc_options_init(&options);
    options.socket = door.path;
    options.timeout_ms = 100;
    fake = check_fork();
    if (fake == 0) {
        unsigned count = turn_away(door.listener, says_why);

        _exit(count < 255 ? (int)count : 254);
    }
    if (says_why)
        assert_status(JITC_E_REFUSED, "not you", jitc_connect(&client, &options));
    else
        assert_status(JITC_E_DISCONNECTED, "", jitc_connect(&client, &options));
    ck_assert_int_eq(shutdown(door.listener, SHUT_RDWR), 0);
    ck_assert_int_eq(waitpid(fake, &status, 0), fake);
    ck_assert(WIFEXITED(status));
    if (says_why)
        ck_assert_int_eq(WEXITSTATUS(status), 1);
    else
        ck_assert_int_gt(WEXITSTATUS(status), 1);
    close_door(&door);
}
END_TEST

START_TEST(a_socket_without_a_listener_is_told_at_once)
{
    struct door door = open_door();
    jitc_options options;

    jitc_options_init(&options);
    options.socket = door.path;
    options.timeout_ms = UINT32_MAX; /* or this takes for ever */
    (void)close(door.listener);
    assert_status(JITC_E_NO_BROKER, "is jitbrokerd running?", jitc_connect(&client, &options));
    (void)unlink(door.path);
    assert_status(JITC_E_NO_BROKER, "is jitbrokerd running?", jitc_connect(&client, &options));
    close_door(&door);
}
END_TEST

/* ---- The suite --------------------------------------------------------------------------------------- */

static TCase *add_case(Suite *suite, const char *name, void (*starter)(void), void (*stopper)(void))
{
    TCase *tcase = tcase_create(name);

    if (starter != NULL) {
        tcase_add_unchecked_fixture(tcase, starter, stopper);
        tcase_add_checked_fixture(tcase, continue_daemon, NULL); /* after a test that failed */
    }
    tcase_set_timeout(tcase, 0);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("comeback");
    TCase *away = add_case(suite, "away", start, stop);
    TCase *direct = add_case(suite, "direct", start_direct, stop);
    TCase *gone = add_case(suite, "gone", start, bury);
    TCase *own = add_case(suite, "a daemon of our own", NULL, NULL);

    tcase_add_test(away, what_only_asks_times_out_and_works_again);
    tcase_add_test(away, what_writes_times_out_and_can_be_said_again);
    tcase_add_test(away, a_write_of_many_parts_times_out_in_the_middle);
    tcase_add_test(away, a_scope_can_end_while_the_daemon_is_away);
    tcase_add_test(away, what_is_promised_is_done_once_when_the_daemon_is_back);
    tcase_add_test(away, more_is_promised_than_the_ring_has_entries);
    tcase_add_test(away, a_promised_reset_comes_before_all_that_is_asked_for_later);
    tcase_add_test(away, a_span_that_comes_late_is_released);
    tcase_add_test(away, a_span_that_came_late_and_was_reset_is_not_released_once_more);
    tcase_add_test(away, a_lease_that_comes_late_is_used);
    tcase_add_test(away, a_refused_call_that_was_given_up_is_told_to_nobody);
    tcase_add_test(away, an_executor_end_that_comes_late_is_closed);
    tcase_add_test(away, a_late_reply_on_the_socket_is_no_end_for_who_waits_at_the_ring);
    tcase_add_test(away, a_client_is_closed_while_the_daemon_is_away);
    tcase_add_test(away, each_call_waits_unless_it_is_to_fail_fast);
    tcase_add_loop_test(away, threads_go_on_when_it_is_back, 0, 2);
    tcase_add_test(direct, what_is_promised_is_done_once_when_the_daemon_is_back);
    tcase_add_test(direct, more_is_promised_than_the_ring_has_entries);
    tcase_add_test(direct, a_promised_reset_comes_before_all_that_is_asked_for_later);
    tcase_add_loop_test(direct, threads_go_on_when_it_is_back, 0, 2);
    tcase_add_test(gone, the_end_of_the_daemon_is_noticed_by_who_fails_fast);
    tcase_add_test(own, what_is_answered_twice_is_taken_once);
    tcase_add_test(own, the_parts_of_a_write_may_be_answered_in_any_order);
    tcase_add_test(own, a_span_is_released_once_however_often_it_comes);
    tcase_add_test(own, descriptors_that_nobody_waits_for_are_closed);
    tcase_add_loop_test(own, an_answer_to_what_was_never_asked_is_the_end, 0, 3);
    tcase_add_test(own, who_connects_while_the_daemon_is_restarted_is_served_by_the_next);
    tcase_add_loop_test(own, a_refusal_is_final_and_a_closed_door_is_tried_for_as_long_as_asked, 0, 2);
    tcase_add_test(own, a_socket_without_a_listener_is_told_at_once);
    return suite_run(suite);
}
