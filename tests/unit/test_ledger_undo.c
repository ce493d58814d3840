/* SPDX-License-Identifier: MIT */
/*
 * What a daemon was at when it died: each intent at its bounds, what is undone and what is done to its end,
 * and what of the session comes after it.
 */
#include <check.h>
#include <sys/socket.h>

#include "daemon/store.h"
#include "tests/harness/parcel.h"
#include "tests/unit/ledger_steps.h"

/* ---- Intents --------------------------------------------------------------------------------- */

static void put_intent(uint32_t kind, uint64_t offset, uint64_t bytes, uint32_t flag)
{
    page->intent = (struct ledger_intent){
        .key = page->head, .kind = kind, .flag = flag, .offset = offset, .bytes = bytes};
}

/* The arena has grown by a block, of nine. */
static const struct {
    uint32_t kind;
    uint32_t flag;
    uint64_t offset;
    uint64_t bytes;
    bool is_one;
} intents[] = {
    {INTENT_NONE, 9, UINT64_MAX, UINT64_MAX, true},
    {INTENT_TAKE, 0, BLOCK_BYTES - 64, 64, true},
    {INTENT_TAKE, 0, BLOCK_BYTES - 64, 128, false},
    {INTENT_TAKE, 0, BLOCK_BYTES, 64, false},
    {INTENT_TAKE, 0, 0, 64, false}, /* a trap granule */
    {INTENT_TAKE, 0, SPAN, 0, false},
    {INTENT_TAKE, 0, SPAN + 1, 64, false},
    {INTENT_TAKE, 0, SPAN, 65, false},
    {INTENT_TAKE, 0, SPAN, UINT64_MAX - 63, false},
    {INTENT_CUT, 1, BLOCK_BYTES - 64, 64, true},
    {INTENT_CUT, 1, BLOCK_BYTES - 64, 128, false},
    {INTENT_CUT, 0, BLOCK_BYTES, 64, false},
    {INTENT_CUT, 0, UINT64_MAX - 63, 64, false},
    {INTENT_LEASE, 0, BLOCK_BYTES - 64, 0, true},
    {INTENT_LEASE, 0, BLOCK_BYTES + 1, 0, false},
    {INTENT_LEASE, 0, UINT64_MAX, 0, false},
    {INTENT_RETURN, 0, BLOCK_BYTES - 64, 0, true},
    {INTENT_RETURN, 0, BLOCK_BYTES + 1, 0, false},
    {INTENT_RETURN, 0, UINT64_MAX, 0, false},
    {INTENT_CLEAR, UINT32_MAX, UINT64_MAX, UINT64_MAX, true},
    {INTENT_WRITE, 0, 0, BLOCK_BYTES, true},
    {INTENT_WRITE, 0, BLOCK_BYTES, 0, true},
    {INTENT_WRITE, 0, 1, BLOCK_BYTES, false},
    {INTENT_WRITE, 0, UINT64_MAX, 2, false},
    {INTENT_PATCH, 8, BLOCK_BYTES - 8, UINT64_MAX, true},
    {INTENT_PATCH, 9, BLOCK_BYTES - 9, 0, false},
    {INTENT_PATCH, 8, BLOCK_BYTES - 7, 0, false},
    {INTENT_PATCH, 8, BLOCK_BYTES + 1, 0, false},
    {INTENT_PATCH, 8, UINT64_MAX, 0, false},
    {INTENT_PATCH, UINT32_MAX, 0, 0, false},
    {INTENT_RELEASED, 0, UINT64_MAX, UINT64_MAX, true}, /* is compared, and nothing else */
    {INTENT_RETURNED, 0, UINT64_MAX, UINT64_MAX, true},
};

START_TEST(an_intent_concerns_memory_that_the_arena_has)
{
    begin(false, true);
    (void)alloc(64);
    (void)alloc(64);
    leave();
    put_intent(intents[_i].kind, intents[_i].offset, intents[_i].bytes, intents[_i].flag);
    assert_flaw(intents[_i].is_one ? NULL : "its intent is none that a daemon has", adopt());
    leave();
    /* It is no more than an operation's that was done. */
    put_intent(intents[_i].kind, intents[_i].offset, intents[_i].bytes, intents[_i].flag);
    page->intent.key = page->head - 1;
    if (intents[_i].is_one)
        page->unfilled_bytes = 0;
    ck_assert_ptr_null(adopt());
    ck_assert_int_eq(session->ledger.done.kind, INTENT_NONE);
    end();
}
END_TEST

START_TEST(an_alloc_that_was_not_said_to_be_done_is_undone)
{
    begin(false, false);
    (void)alloc(64);
    ck_assert_int_eq(run(&(struct request){.operation = OPERATION_ALLOC, .size = 128}), STATUS_OK);
    come_back();
    ck_assert_uint_eq(session->heap.spans, 1);
    ck_assert(is_span(SPAN, 64) && !is_span(SPAN + 64, 128));
    ck_assert_uint_eq(account->held[QUOTA_SPANS], 1);
    ck_assert_uint_eq(alloc(128), SPAN + 64); /* once more */
    come_back();
    ck_assert(is_span(SPAN + 64, 128));
    end();
}
END_TEST

/* By the socket it is the progress that says so. */
START_TEST(an_operation_of_the_socket_is_known_by_the_progress)
{
    begin(false, false);
    ledger_begin_answer(&session->ledger, 1, 3);
    session->ledger.key = page->progress | LEDGER_KEY_SOCKET;
    ck_assert(operation_run(session, &(struct request){.operation = OPERATION_ALLOC, .size = 64},
                            OPERATION_STEP_BYTES, &result));
    come_back();
    ck_assert_uint_eq(session->heap.spans, 0);
    session->ledger.key = page->progress | LEDGER_KEY_SOCKET;
    ck_assert(operation_run(session, &(struct request){.operation = OPERATION_ALLOC, .size = 64},
                            OPERATION_STEP_BYTES, &result));
    ledger_commit_answer(&session->ledger, 1, 30);
    come_back();
    ck_assert_uint_eq(session->heap.spans, 1);
    end();
}
END_TEST

START_TEST(a_release_is_undone_until_its_span_is_gone_and_is_then_done_once)
{
    const struct request release = of(OPERATION_RELEASE, SPAN);

    begin(false, false);
    (void)alloc(64);
    ck_assert_int_eq(run_all(&(struct request){.operation = OPERATION_SEAL, .span = SPAN}), STATUS_OK);
    ck_assert_int_eq(run(&release), STATUS_OK);
    ck_assert_int_eq(page->intent.kind, INTENT_RELEASED);
    page->intent.kind = INTENT_CUT; /* as it was before */
    come_back();
    ck_assert(is_span(SPAN, 64));
    ck_assert_int_eq(run_all(&(struct request){.operation = OPERATION_WRITE, .span = SPAN}), STATUS_SEALED);
    ck_assert_int_eq(run(&release), STATUS_OK);
    come_back();
    ck_assert_uint_eq(session->heap.spans, 0);
    ck_assert_int_eq(session->ledger.done.kind, INTENT_RELEASED);
    come_back(); /* this one had no time to answer either */
    ck_assert_int_eq(session->ledger.done.kind, INTENT_RELEASED);
    ck_assert_int_eq(run_all(&release), STATUS_OK);
    ck_assert_int_eq(run_all(&release), STATUS_NO_SPAN); /* this is another one */
    end();
}
END_TEST

START_TEST(a_lease_and_its_return_are_undone_or_done_once)
{
    const struct request lease = {.operation = OPERATION_LEASE, .size = 64};
    const struct request give_back = of(OPERATION_RETURN, 0);

    begin(false, false);
    ck_assert_int_eq(run(&lease), STATUS_OK);
    come_back();
    ck_assert(!heap_is_leased(&session->heap, 0));
    ck_assert_int_eq(run_all(&lease), STATUS_OK);
    come_back();
    ck_assert(heap_is_leased(&session->heap, 0));
    ck_assert_int_eq(run(&give_back), STATUS_OK);
    ck_assert_int_eq(page->intent.kind, INTENT_RETURNED);
    page->intent.kind = INTENT_RETURN;
    come_back();
    ck_assert(heap_is_leased(&session->heap, 0));
    ck_assert_int_eq(run(&give_back), STATUS_OK);
    come_back();
    ck_assert(!heap_is_leased(&session->heap, 0));
    ck_assert_int_eq(run_all(&give_back), STATUS_OK);
    ck_assert_int_eq(run_all(&give_back), STATUS_NO_SPAN);
    end();
}
END_TEST

START_TEST(a_reset_is_done_to_its_end)
{
    const struct request reset = {.operation = OPERATION_RESET, .kind = RESET_HARD};

    begin(false, true);
    (void)alloc(64);
    ck_assert_int_eq(run_all(&(struct request){.operation = OPERATION_LEASE, .size = BLOCK_BYTES - 64}),
                     STATUS_OK);
    leave();
    put_intent(INTENT_CLEAR, 0, 0, 1); /* before anything was cleared */
    ck_assert_ptr_null(adopt());
    ck_assert_uint_eq(session->heap.spans, 0);
    ck_assert_uint_eq(heap_leased_bytes(&session->heap), 0);
    ck_assert_uint_eq(page->unfilled_bytes, page->grown_bytes);
    ck_assert_uint_eq(page->gives_back, 1);
    ck_assert_int_eq(run_all(&reset), STATUS_OK);
    ck_assert_uint_eq(page->unfilled_bytes, 0);
    ck_assert_uint_eq(session->arena.grown_bytes, 0);
    end();
}
END_TEST

START_TEST(a_write_that_was_not_said_to_be_done_can_be_written_again_and_no_other)
{
    struct request request;

    begin(false, true);
    (void)alloc(64);
    (void)alloc(64);
    request = write_to(SPAN);
    ck_assert_int_eq(run_all(&request), STATUS_OK);
    request = write_to(SPAN + 64);
    ck_assert_int_eq(run(&request), STATUS_OK);
    come_back();
    ck_assert_int_eq(run_all(&request), STATUS_OK);
    ck_assert_int_eq(run_all(&request), STATUS_SEALED);
    request = write_to(SPAN);
    ck_assert_int_eq(run_all(&request), STATUS_SEALED);
    end();
}
END_TEST

/* Of the first span, while that is fill. */
static const struct request patch_of_fill = {
    .operation = OPERATION_PATCH,
    .span = SPAN,
    .at = 8,
    .width = 4,
    .expected = FILL_PATTERN_DEFAULT,
    .desired = 0x90909090,
};

START_TEST(a_patch_that_was_done_finds_what_it_found)
{
    struct request other = patch_of_fill;

    other.desired = 0x90909091;
    begin(false, false);
    (void)alloc(64);
    ck_assert_int_eq(run(&patch_of_fill), STATUS_OK);
    come_back();
    ck_assert_int_eq(session->ledger.done.kind, INTENT_PATCH);
    ck_assert_int_eq(run(&other), STATUS_MISMATCH); /* the client made another of it */
    ck_assert_int_eq(run_all(&patch_of_fill), STATUS_OK);
    ck_assert_uint_eq(result.found, FILL_PATTERN_DEFAULT);
    ck_assert_int_eq(run_all(&patch_of_fill), STATUS_MISMATCH);
    end();
}
END_TEST

START_TEST(a_patch_of_what_is_written_once_is_taken_back_and_done_again)
{
    begin(false, true);
    (void)alloc(64);
    ck_assert_int_eq(run(&patch_of_fill), STATUS_OK);
    come_back();
    ck_assert_int_eq(session->ledger.done.kind, INTENT_NONE);
    ck_assert_int_eq(run_all(&patch_of_fill), STATUS_OK);
    ck_assert_uint_eq(result.found, FILL_PATTERN_DEFAULT);
    ck_assert_int_eq(run_all(&patch_of_fill), STATUS_SEALED);
    end();
}
END_TEST

START_TEST(a_patch_that_was_not_done_is_done)
{
    const struct request patch = {
        .operation = OPERATION_PATCH,
        .span = SPAN,
        .width = 4,
        .expected = FILL_PATTERN_DEFAULT,
        .desired = 0x90909090,
    };
    uint32_t there;

    begin(false, false);
    (void)alloc(64);
    leave();
    put_intent(INTENT_PATCH, SPAN, patch.expected, patch.width);
    page->intent.desired = patch.desired;
    ck_assert_ptr_null(adopt());
    ck_assert_int_eq(run_all(&patch), STATUS_OK);
    memcpy(&there, session->arena.bytes + SPAN, sizeof there);
    ck_assert_uint_eq(there, 0x90909090);
    end();
}
END_TEST

/* ---- Deaths ------------------------------------------------------------------------------ */

static const char of_what_it_asks[] = "the daemon died of what it asks for, again and again";

static void die_in_a_turn(void)
{
    ledger_blame(&session->ledger);
    leave();
}

static void take_a_turn(void)
{
    ledger_blame(&session->ledger);
    ledger_absolve(&session->ledger);
}

START_TEST(a_session_whose_first_turn_ends_five_daemons_ends)
{
    begin(false, false);
    for (unsigned i = 1; i < LEDGER_DEATHS_MAX; i++) {
        die_in_a_turn();
        assert_flaw(NULL, adopt());
        ck_assert_uint_eq(page->deaths, i);
    }
    die_in_a_turn();
    assert_flaw(of_what_it_asks, adopt());
    assert_flaw("its session has ended", adopt()); /* that it is removed may come late */
    end();
}
END_TEST

/* The last of them has to die of it before it has all of it. */
START_TEST(a_session_that_ends_five_daemons_while_they_adopt_it_ends)
{
    struct ledger ledger;

    begin(false, false);
    leave();
    for (unsigned i = 0; i < LEDGER_DEATHS_MAX; i++) {
        ck_assert_ptr_null(ledger_adopt(&ledger, dup(ledger_fd)));
        assert_flaw(NULL, ledger_begin_adoption(&ledger));
        ledger_deinit(&ledger);
    }
    assert_flaw(of_what_it_asks, adopt());
    end();
}
END_TEST

START_TEST(daemons_that_died_between_turns_or_not_at_their_first_one_do_not_count)
{
    begin(false, false);
    for (unsigned i = 0; i < 2 * LEDGER_DEATHS_MAX; i++) {
        come_back();
        ck_assert_uint_eq(page->deaths, 0);
    }
    for (unsigned i = 0; i < 2 * LEDGER_DEATHS_MAX; i++) {
        take_a_turn();
        die_in_a_turn();
        assert_flaw(NULL, adopt());
        ck_assert_uint_eq(page->deaths, 1);
    }
    /* One that got on begins the count anew. */
    die_in_a_turn();
    assert_flaw(NULL, adopt());
    ck_assert_uint_eq(page->deaths, 2);
    take_a_turn();
    die_in_a_turn();
    assert_flaw(NULL, adopt());
    ck_assert_uint_eq(page->deaths, 1);
    end();
}
END_TEST

START_TEST(daemons_that_had_done_what_was_asked_for_first_do_not_count)
{
    begin(false, false);
    for (unsigned i = 0; i < 2 * LEDGER_DEATHS_MAX; i++) {
        ledger_blame(&session->ledger);
        ledger_commit_entry(&session->ledger, 0);
        leave(); /* before the turn was over */
        assert_flaw(NULL, adopt());
        ck_assert_uint_eq(page->deaths, 1);
    }
    for (unsigned i = 0; i < 2 * LEDGER_DEATHS_MAX; i++) {
        ledger_begin_answer(&session->ledger, 7 + i, 10);
        ledger_blame(&session->ledger);
        ledger_mark_answer(&session->ledger, LEDGER_READY, 20);
        leave();
        assert_flaw(NULL, adopt());
        ck_assert_uint_eq(page->deaths, 1);
    }
    /* To send the same answer again is not to get on. */
    for (unsigned i = 2; i < LEDGER_DEATHS_MAX; i++) {
        ledger_blame(&session->ledger);
        ledger_mark_answer(&session->ledger, LEDGER_READY, 20);
        leave();
        assert_flaw(NULL, adopt());
        ck_assert_uint_eq(page->deaths, i);
    }
    end();
}
END_TEST

static void die_of_executor(uint64_t number)
{
    ledger_blame_executor(&session->ledger, number);
    leave();
    assert_flaw(NULL, adopt());
}

START_TEST(an_executor_whose_first_turn_ends_five_daemons_is_to_end_and_not_its_session)
{
    begin(false, false);
    for (unsigned i = 1; i < LEDGER_DEATHS_MAX; i++)
        die_of_executor(7);
    ck_assert(!ledger_died_too_often_of(&session->ledger, 7));
    die_of_executor(8); /* another one is not the same */
    die_of_executor(7);
    ck_assert(!ledger_died_too_often_of(&session->ledger, 7));
    for (unsigned i = 0; i < 2 * LEDGER_DEATHS_MAX; i++) { /* nor one that got on */
        ledger_blame_executor(&session->ledger, 7);
        ledger_absolve_executor(&session->ledger, 7);
        die_of_executor(7);
        ck_assert(!ledger_died_too_often_of(&session->ledger, 7));
    }
    for (unsigned i = 1; i < LEDGER_DEATHS_MAX; i++)
        die_of_executor(7);
    ck_assert(ledger_died_too_often_of(&session->ledger, 7));
    ck_assert(!ledger_died_too_often_of(&session->ledger, 8));
    come_back();
    ck_assert(ledger_died_too_often_of(&session->ledger, 7)); /* that it is removed may come late */
    ck_assert_uint_eq(page->deaths, 0);
    end();
}
END_TEST

/* ---- Frozen ------------------------------------------------------------------------------ */

START_TEST(of_an_arena_that_was_sealed_nothing_changes_and_all_is_told)
{
    static const bool reads[OPERATION_COUNT] = {[OPERATION_QUERY] = true, [OPERATION_STATISTICS] = true};
    struct request requests[OPERATION_COUNT] = {
        [OPERATION_ALLOC] = {.size = 64},
        [OPERATION_RELEASE] = {.span = SPAN},
        [OPERATION_SHRINK] = {.span = SPAN, .size = 64},
        [OPERATION_QUERY] = {.span = SPAN},
        [OPERATION_WRITE] = write_to(SPAN),
        [OPERATION_PATCH] = {.span = SPAN, .width = 4},
        [OPERATION_SEAL] = {.span = SPAN},
        [OPERATION_LEASE] = {.size = 64},
        [OPERATION_CARVE] = {.span = SPAN + 128, .size = 64},
        [OPERATION_RETURN] = {.span = 0},
    };
    struct request request;

    begin(true, false);
    ck_assert_uint_eq(alloc(128), SPAN);
    request = write_to(SPAN);
    ck_assert_int_eq(run_all(&request), STATUS_OK); /* it was not so before */
    come_back();
    for (int operation = 0; operation < OPERATION_COUNT; operation++) {
        requests[operation].operation = (enum operation)operation;
        ck_assert_msg(run_all(&requests[operation]) == (reads[operation] ? STATUS_OK : STATUS_FROZEN),
                      "operation %d: %d %s", operation, result.status, result.text);
    }
    ck_assert(is_span(SPAN, 128));
    ck_assert_int_eq(memcmp(session->arena.bytes + SPAN, code, sizeof code), 0);
    end();
}
END_TEST

/* ---- Of a whole daemon ------------------------------------------------------------------- */

/* Another daemon, with another policy, that adopts `name`. */
static struct server *serve(const char *name, int owner)
{
    static struct server server;
    struct policy *other = config_defaults("other");
    const int fds[] = {ledger_fd, arena_fd, owner};
    const struct stored stored = {name, parcel_new(fds, 3)};
    uint64_t arena_bytes = 0;

    ck_assert_int_ge(stored.fd, 0);
    other->sessions_max = 10;
    other->classes[0]->span_max = 1;
    other->classes[0]->write_through = false;
    ck_assert_int_eq(server_init(&server, other), 0);
    (void)policy_unref(other);
    ck_assert_uint_eq(adoption_run(&server, &stored, 1, 1, &arena_bytes), server.connections_count);
    return &server;
}

START_TEST(what_was_granted_stays_granted_whatever_the_policy_says)
{
    const struct class *was;
    struct server *server;
    int ends[2];

    begin(false, true);
    page->uid = geteuid();
    leave();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    server = serve("session-7", ends[1]);
    ck_assert_ptr_nonnull(server->connections);
    was = server->connections->class;
    ck_assert_str_eq(was->name, "some");
    ck_assert_uint_eq(was->arena_max_bytes, ARENA);
    ck_assert_uint_eq(was->bytes_max, 5 * ARENA);
    ck_assert_uint_eq(was->rate_bytes, 1u << 30);
    ck_assert_uint_eq(was->session_max, 3);
    ck_assert_uint_eq(was->span_max, 77);
    ck_assert_uint_eq(was->executor_max, 5);
    ck_assert_uint_eq(was->rate, 1000);
    ck_assert_uint_eq(was->forbid, SCAN_FAR);
    ck_assert(was->orphans_run && was->write_once && was->write_through && !was->write_direct && !was->ring);
    ck_assert_int_eq(was->scan, SCAN_DENY);
    ck_assert_str_eq(server->connections->peer.unit, "some.service");
    ck_assert_ptr_eq(server->connections->session->class, was);
    (void)close(ends[0]);
    (void)close(ends[1]);
    server_deinit(server);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger undo");
    TCase *undoing = tcase_create("intents");
    TCase *rest = tcase_create("sessions");

    tcase_add_loop_test(undoing, an_intent_concerns_memory_that_the_arena_has, 0,
                        (int)(sizeof intents / sizeof intents[0]));
    tcase_add_test(undoing, an_alloc_that_was_not_said_to_be_done_is_undone);
    tcase_add_test(undoing, an_operation_of_the_socket_is_known_by_the_progress);
    tcase_add_test(undoing, a_release_is_undone_until_its_span_is_gone_and_is_then_done_once);
    tcase_add_test(undoing, a_lease_and_its_return_are_undone_or_done_once);
    tcase_add_test(undoing, a_reset_is_done_to_its_end);
    tcase_add_test(undoing, a_write_that_was_not_said_to_be_done_can_be_written_again_and_no_other);
    tcase_add_test(undoing, a_patch_that_was_done_finds_what_it_found);
    tcase_add_test(undoing, a_patch_of_what_is_written_once_is_taken_back_and_done_again);
    tcase_add_test(undoing, a_patch_that_was_not_done_is_done);
    tcase_add_test(rest, a_session_whose_first_turn_ends_five_daemons_ends);
    tcase_add_test(rest, a_session_that_ends_five_daemons_while_they_adopt_it_ends);
    tcase_add_test(rest, an_executor_whose_first_turn_ends_five_daemons_is_to_end_and_not_its_session);
    tcase_add_test(rest, daemons_that_had_done_what_was_asked_for_first_do_not_count);
    tcase_add_test(rest, daemons_that_died_between_turns_or_not_at_their_first_one_do_not_count);
    tcase_add_test(rest, of_an_arena_that_was_sealed_nothing_changes_and_all_is_told);
    tcase_add_test(rest, what_was_granted_stays_granted_whatever_the_policy_says);
    suite_add_tcase(suite, undoing);
    suite_add_tcase(suite, rest);
    return suite_run(suite);
}
