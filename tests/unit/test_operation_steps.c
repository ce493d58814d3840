/* SPDX-License-Identifier: MIT */
/*
 * Operations that take long, step by step: how much one step moves, what is there between two of them, and
 * that another operation in between finds nothing that it should not.
 */
#include <check.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/operation.h"
#include "tests/harness/suite.h"

#define LARGE SPAN_LIMIT_BYTES
#define SPAN UINT64_C(64) /* the first one in an arena */
#define QUOTA (UINT64_C(40) << 20)

static struct policy *policy;
static struct quota quota;
static struct account *account;
static struct session *session;
static struct result result;

static void set_up(void)
{
    struct hello hello = {.version_max = PROTOCOL_VERSION, .write_mode = WRITE_THROUGH};
    struct peer peer = {.uid = geteuid() + 1};

    policy = config_defaults("steps");
    ck_assert_ptr_nonnull(policy);
    policy->classes[0]->bytes_max = QUOTA;
    account = quota_account(&quota, peer.uid);
    result_init(&result);
    ck_assert_int_eq(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, policy->classes[0], &peer, account, &hello, &result);
    ck_assert_msg(session != NULL, "%s", result.text);
}

static void tear_down(void)
{
    session = session_unref(session);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
}

/* One step, of which it is checked what it moved. */
static bool step(const struct request *request)
{
    uint64_t moved_bytes = session->arena.moved_bytes;
    bool is_done = operation_run(session, request, OPERATION_STEP_BYTES, &result);

    /* Filled and given back at once, at the most, and what a block has too much. */
    ck_assert_uint_le(session->arena.moved_bytes - moved_bytes, 4 * OPERATION_STEP_BYTES);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], session->arena.grown_bytes);
    return is_done;
}

static unsigned count_steps(const struct request *request)
{
    unsigned steps = 1;

    while (!step(request))
        steps++;
    ck_assert_msg(result.status == STATUS_OK, "%s", result.text);
    return steps;
}

static const struct request alloc = {.operation = OPERATION_ALLOC, .size = LARGE};
static const struct request release = {.operation = OPERATION_RELEASE, .span = SPAN};
static const struct request small = {.operation = OPERATION_ALLOC, .size = 100};
static const struct request statistics = {.operation = OPERATION_STATISTICS};

static void assert_filled(uint64_t from, uint64_t to)
{
    uint64_t others = 0;

    for (uint64_t at = from; at < to; at += sizeof(uint32_t)) {
        uint32_t word;

        memcpy(&word, session->arena.bytes + at, sizeof word);
        others += word != session->arena.fill_pattern;
    }
    ck_assert_uint_eq(others, 0);
}

/* A large span of other bytes than trap fill. */
static void alloc_and_write(void)
{
    while (!step(&alloc))
        continue;
    ck_assert_uint_eq(result.offset, SPAN);
    memset(session->arena.bytes + SPAN, 0x5A, result.size);
}

START_TEST(an_arena_grows_by_a_step_at_a_time)
{
    ck_assert_uint_eq(count_steps(&alloc), LARGE / OPERATION_STEP_BYTES + 1);
    ck_assert_uint_eq(result.size, LARGE);
}
END_TEST

START_TEST(what_has_grown_so_far_is_there_for_others)
{
    for (int i = 0; i < 10; i++)
        ck_assert(!step(&alloc));
    ck_assert(step(&statistics));
    ck_assert_uint_eq(result.usage.spans, 0);
    ck_assert_uint_eq(result.usage.reserved_bytes, 10 * OPERATION_STEP_BYTES);
    ck_assert(step(&small));
    ck_assert_uint_eq(result.offset, SPAN);
    while (!step(&alloc)) /* goes on, one block further */
        continue;
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_uint_eq(result.offset, BLOCK_BYTES + SPAN);
    assert_filled(result.offset, result.offset + LARGE);
}
END_TEST

START_TEST(what_would_exceed_the_quota_is_not_begun)
{
    while (!step(&alloc))
        continue;
    ck_assert(step(&(struct request){.operation = OPERATION_ALLOC, .size = QUOTA - LARGE}));
    ck_assert_int_eq(result.status, STATUS_QUOTA_BYTES);
    ck_assert_uint_eq(session->arena.grown_bytes, LARGE + BLOCK_BYTES);
}
END_TEST

/* Another session of the user's, or another user, was faster. */
START_TEST(what_has_grown_for_who_is_refused_after_all_goes_back)
{
    struct charge others;

    for (int i = 0; i < 100; i++)
        ck_assert(!step(&alloc));
    charge_init(&others, account, QUOTA_BYTES);
    ck_assert(charge_set(&others, QUOTA - 100 * OPERATION_STEP_BYTES, QUOTA));
    ck_assert(operation_run(session, &alloc, OPERATION_STEP_BYTES, &result));
    ck_assert_int_eq(result.status, STATUS_QUOTA_BYTES);
    ck_assert_uint_eq(session->arena.grown_bytes, SESSION_RESERVE_BYTES);
    ck_assert_uint_eq(session->bytes.amount, SESSION_RESERVE_BYTES);
    charge_deinit(&others);
}
END_TEST

START_TEST(a_span_is_released_from_its_end)
{
    struct heap_span span;

    alloc_and_write();
    for (uint64_t steps = 1; !step(&release); steps++) {
        uint64_t left = LARGE - steps * OPERATION_STEP_BYTES;

        ck_assert(heap_find(&session->heap, SPAN, &span));
        ck_assert_uint_eq(span.bytes, left);
        if (session->arena.grown_bytes > SPAN + left + OPERATION_STEP_BYTES)
            assert_filled(SPAN + left, SPAN + left + OPERATION_STEP_BYTES);
        ck_assert_uint_eq(session->arena.bytes[SPAN + left - 1], 0x5A);
    }
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert(!heap_find(&session->heap, SPAN, &span));
    assert_filled(0, session->arena.grown_bytes);
}
END_TEST

START_TEST(a_span_shrinks_from_its_end_to_what_was_asked_for)
{
    const struct request shrink = {.operation = OPERATION_SHRINK, .span = SPAN, .size = 1000};

    alloc_and_write();
    ck_assert_uint_eq(count_steps(&shrink), LARGE / OPERATION_STEP_BYTES);
    ck_assert_uint_eq(result.size, 1024);
    ck_assert_uint_eq(session->arena.bytes[SPAN + 1023], 0x5A);
    assert_filled(SPAN + 1024, session->arena.grown_bytes);
}
END_TEST

START_TEST(a_sealed_span_is_released_by_steps_and_not_shrunk_at_all)
{
    const struct request shrink = {.operation = OPERATION_SHRINK, .span = SPAN, .size = 1000};

    alloc_and_write();
    ck_assert(step(&(struct request){.operation = OPERATION_SEAL, .span = SPAN}));
    ck_assert(step(&shrink));
    ck_assert_int_eq(result.status, STATUS_SEALED);
    ck_assert(!step(&release));
    ck_assert(step(&(struct request){
        .operation = OPERATION_WRITE, .span = SPAN, .data = (const uint8_t *)"x", .data_bytes = 1}));
    ck_assert_int_eq(result.status, STATUS_SEALED); /* what is left of it is */
    while (!step(&release))
        continue;
    ck_assert_int_eq(result.status, STATUS_OK);
}
END_TEST

/* Until all is filled nobody gets any of it. _i: enum reset_kind. */
START_TEST(nothing_is_done_before_a_reset_is)
{
    const struct request reset = {.operation = OPERATION_RESET, .kind = (uint32_t)_i};
    unsigned steps = 1;

    alloc_and_write();
    ck_assert(!step(&reset));
    while (!step(&small)) {
        ck_assert(session->ledger.page->unfilled_bytes > 0);
        steps++;
    }
    ck_assert_uint_ge(steps, LARGE / OPERATION_STEP_BYTES);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_uint_eq(result.offset, SPAN);
    assert_filled(0, session->arena.grown_bytes);
    ck_assert_uint_eq(session->arena.grown_bytes, _i == RESET_HARD ? BLOCK_BYTES : LARGE + BLOCK_BYTES);
}
END_TEST

/* As executors do, all the time. _i: enum reset_kind. */
START_TEST(who_only_asks_meanwhile_puts_no_reset_off)
{
    const struct request reset = {.operation = OPERATION_RESET, .kind = (uint32_t)_i};
    const struct request query = {.operation = OPERATION_QUERY, .span = SPAN};
    unsigned steps = 1;

    alloc_and_write();
    while (!step(&reset)) {
        steps++;
        for (int i = 0; i < 1000; i++)
            ck_assert(step(&query));
        ck_assert_int_eq(result.status, STATUS_NO_SPAN);
        ck_assert(step(&statistics));
        ck_assert_uint_eq(result.usage.spans, 0);
    }
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_uint_eq(steps, LARGE / OPERATION_STEP_BYTES + 1);
    assert_filled(0, session->arena.grown_bytes);
}
END_TEST

/* _i: enum reset_kind, of the first; the other plane asks for the other kind. */
START_TEST(two_resets_at_once_are_both_done)
{
    const struct request reset = {.operation = OPERATION_RESET, .kind = (uint32_t)_i};
    const struct request other = {.operation = OPERATION_RESET, .kind = (uint32_t)(1 - _i)};

    alloc_and_write();
    ck_assert(!step(&reset));
    ck_assert(!step(&other));
    while (!step(&other))
        continue;
    while (!step(&reset))
        continue;
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_uint_eq(session->arena.grown_bytes, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("operation: steps");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, an_arena_grows_by_a_step_at_a_time);
    tcase_add_test(tcase, what_has_grown_so_far_is_there_for_others);
    tcase_add_test(tcase, what_would_exceed_the_quota_is_not_begun);
    tcase_add_test(tcase, what_has_grown_for_who_is_refused_after_all_goes_back);
    tcase_add_test(tcase, a_span_is_released_from_its_end);
    tcase_add_test(tcase, a_span_shrinks_from_its_end_to_what_was_asked_for);
    tcase_add_test(tcase, a_sealed_span_is_released_by_steps_and_not_shrunk_at_all);
    tcase_add_loop_test(tcase, nothing_is_done_before_a_reset_is, 0, 2);
    tcase_add_loop_test(tcase, who_only_asks_meanwhile_puts_no_reset_off, 0, 2);
    tcase_add_loop_test(tcase, two_resets_at_once_are_both_done, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
