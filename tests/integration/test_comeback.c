/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is away for a while, as when it is restarted and its sockets are kept: calls time out,
 * and when it is back all goes on, with nothing lost and nothing left over.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "tests/integration/comeback_steps.h"

enum {
    MANY = 700, /* spans: more than the ring has entries */
    EXECUTORS = 8,
};

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

int main(void)
{
    Suite *suite = suite_create("comeback");
    TCase *away = add_case(suite, "away", start, stop);
    TCase *direct = add_case(suite, "direct", start_direct, stop);
    TCase *gone = add_case(suite, "gone", start, bury);

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
    tcase_add_test(direct, what_is_promised_is_done_once_when_the_daemon_is_back);
    tcase_add_test(direct, more_is_promised_than_the_ring_has_entries);
    tcase_add_test(direct, a_promised_reset_comes_before_all_that_is_asked_for_later);
    tcase_add_test(gone, the_end_of_the_daemon_is_noticed_by_who_fails_fast);
    return suite_run(suite);
}
