/* SPDX-License-Identifier: MIT */
/*
 * A write-once session whose daemon dies amid a write: nobody was told of it, so the next daemon takes it
 * back whole. Else a client that puts something else into the ring meanwhile would have changed code.
 */
#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/operation.h"
#include "tests/harness/suite.h"

#define SPAN UINT64_C(64) /* the first one in an arena */
#define SPAN_BYTES 256u
/* Begins and ends within a granule. */
#define AT 100u
#define BYTES 50u

static struct policy *policy;
static struct quota quota;
static struct account *account;
static struct session *session;
static struct result result;
static uint8_t data[BYTES];

static enum status run(const struct request *request)
{
    ck_assert(operation_run(session, request, OPERATION_STEP_BYTES, &result));
    return result.status;
}

/* As an entry of the ring. */
static void commit(void)
{
    ledger_commit_entry(&session->ledger, 0);
    session->ledger.key++;
}

static void set_up(void)
{
    struct hello hello = {.version_max = PROTOCOL_VERSION, .write_mode = WRITE_THROUGH};
    struct peer peer = {.uid = geteuid() + 1};

    policy = config_defaults("once");
    ck_assert_ptr_nonnull(policy);
    policy->classes[0]->write_once = true;
    account = quota_account(&quota, peer.uid);
    result_init(&result);
    ck_assert_int_eq(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, policy->classes[0], &peer, account, &hello, &result);
    ck_assert_msg(session != NULL, "%s", result.text);
    session->ledger.page->state = LEDGER_LIVE;
    ck_assert_int_eq(run(&(struct request){.operation = OPERATION_ALLOC, .size = SPAN_BYTES}), STATUS_OK);
    ck_assert_uint_eq(result.offset, SPAN);
    commit();
    memset(data, 0x5A, sizeof data);
}

static void tear_down(void)
{
    session = session_unref(session);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
}

/* What the next daemon has. */
static void die(void)
{
    int ledger_fd = fcntl(session->ledger.fd, F_DUPFD_CLOEXEC, 0);
    int arena_fd = fcntl(session->arena.fd, F_DUPFD_CLOEXEC, 0);
    struct ledger ledger;
    const char *flaw;

    session = session_unref(session);
    flaw = ledger_adopt(&ledger, ledger_fd);
    ck_assert_msg(flaw == NULL, "%s", flaw);
    session = session_adopt(&ledger, arena_fd, policy->classes[0], account, &flaw);
    ck_assert_msg(flaw == NULL, "%s", flaw);
    session->ledger.key = session->ledger.page->head;
}

static unsigned others_than_fill(void)
{
    uint32_t pattern = session->arena.fill_pattern;
    unsigned others = 0;

    for (unsigned i = 0; i < SPAN_BYTES; i++)
        others += session->arena.bytes[SPAN + i] != (uint8_t)(pattern >> (i % sizeof pattern * 8));
    return others;
}

static const struct request write_it = {
    .operation = OPERATION_WRITE, .span = SPAN, .at = AT, .data = data, .data_bytes = BYTES};

START_TEST(a_write_that_was_not_told_is_taken_back_and_done_again)
{
    ck_assert_int_eq(run(&write_it), STATUS_OK);
    ck_assert_uint_eq(others_than_fill(), BYTES);
    die();
    ck_assert_uint_eq(others_than_fill(), 0);
    ck_assert_int_eq(run(&write_it), STATUS_OK);
    commit();
    ck_assert_uint_eq(others_than_fill(), BYTES);
    die();
    ck_assert_uint_eq(others_than_fill(), BYTES);
    ck_assert_int_eq(run(&write_it), STATUS_SEALED);
}
END_TEST

START_TEST(a_patch_that_was_not_told_is_taken_back_and_done_again)
{
    uint64_t fill = session->arena.fill_pattern & 0xFFu;
    const struct request patch = {.operation = OPERATION_PATCH,
                                  .span = SPAN,
                                  .at = AT,
                                  .width = 1,
                                  .expected = fill,
                                  .desired = fill ^ 0xFFu};

    ck_assert_uint_eq(AT % sizeof session->arena.fill_pattern, 0);
    ck_assert_int_eq(run(&patch), STATUS_OK);
    ck_assert_uint_eq(others_than_fill(), 1);
    die();
    ck_assert_uint_eq(others_than_fill(), 0);
    ck_assert_int_eq(run(&patch), STATUS_OK);
    commit();
    die();
    ck_assert_uint_eq(others_than_fill(), 1);
    ck_assert_int_eq(run(&write_it), STATUS_SEALED);
}
END_TEST

/* The entry is the client's, and may be another by the time that it is looked at again. */
START_TEST(another_entry_in_its_place_finds_nothing_of_it)
{
    ck_assert_int_eq(run(&write_it), STATUS_OK);
    die();
    ck_assert_int_eq(
        run(&(struct request){
            .operation = OPERATION_WRITE, .span = SPAN, .at = AT + BYTES - 1, .data = data, .data_bytes = 1}),
        STATUS_OK);
    ck_assert_uint_eq(others_than_fill(), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("write once undone");
    TCase *tests = tcase_create("undone");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_write_that_was_not_told_is_taken_back_and_done_again);
    tcase_add_test(tests, a_patch_that_was_not_told_is_taken_back_and_done_again);
    tcase_add_test(tests, another_entry_in_its_place_finds_nothing_of_it);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
