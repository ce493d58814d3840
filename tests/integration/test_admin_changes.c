/* SPDX-License-Identifier: MIT */
/*
 * The admin socket: what an operator changes, and what an answer says of what changed while it was made.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "proto/limits.h"
#include "tests/harness/admin_wire.h"
#include "tests/harness/broker.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

enum { LARGE_BYTES = 4 << 20 };

static struct admin_daemon admin;

static void start(void)
{
    admin_daemon_start_or_skip(&admin, NULL);
}

static void stop(void)
{
    admin_daemon_stop(&admin);
}

START_TEST(to_revoke_ends_that_session_its_executors_and_nothing_else)
{
    jitc_client *client = broker_connect(&admin.broker, NULL);
    jitc_client *other = broker_connect(&admin.broker, NULL);
    jitc_client *executor;
    int fd = admin_connect(&admin);
    uint64_t session = admin_session_of(client);
    Admin__Reply *reply;
    jitc_span span;
    jitc_span lost;
    jitc_stats usage = {.struct_size = sizeof usage};
    int end;

    ck_assert_int_eq(jitc_alloc(other, &span, 64), JITC_OK);
    ck_assert_int_eq(jitc_open_executor(client, &end), JITC_OK);
    ck_assert_int_eq(jitc_attach(&executor, end), JITC_OK);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__REVOKE, session, 0, 0), NULL);
    assert_status(JITC_E_DISCONNECTED, "revoked by the operator", jitc_alloc(client, &lost, BLOCK_BYTES));
    assert_status(JITC_E_DISCONNECTED, "revoked by the operator", jitc_statistics(executor, &usage));
    ck_assert_int_eq(jitc_release(other, span.rx), JITC_OK);
    ck_assert_int_eq(jitc_flush(other), JITC_OK);
    reply = admin_ask(fd, ADMIN__VERB__STATUS, 0, 0, 0);
    ck_assert_uint_eq(reply->status->sessions, 1);
    ck_assert_uint_eq(reply->status->executors, 0);
    admin__reply__free_unpacked(reply, NULL);
    admin_expect(fd, ADMIN__VERB__REVOKE, session, 0, 0, ADMIN__CODE__NO_SESSION, "no session");
    (void)jitc_close(executor);
    (void)jitc_close(client);
    (void)jitc_close(other);
    (void)close(fd);
}
END_TEST

START_TEST(an_answer_about_a_session_that_ends_meanwhile_says_so)
{
    jitc_client *client = broker_connect(&admin.broker, NULL);
    int fd = admin_connect(&admin);
    int other = admin_connect(&admin);
    uint64_t session = admin_session_of(client);
    Admin__Reply *reply = NULL;
    jitc_span span;
    bool more = true;

    ck_assert_int_eq(jitc_alloc(client, &span, LARGE_BYTES), JITC_OK);
    /* More than the socket holds: the rest of it waits for us. */
    admin_send(fd, ADMIN__VERB__CODE, session, admin_offset_of(client, &span), 0);
    admin__reply__free_unpacked(admin_receive(fd), NULL);
    admin__reply__free_unpacked(admin_ask(other, ADMIN__VERB__REVOKE, session, 0, 0), NULL);
    while (more) {
        if (reply != NULL)
            admin__reply__free_unpacked(reply, NULL);
        reply = admin_receive(fd);
        more = reply->more != 0;
    }
    ck_assert_ptr_nonnull(reply->error);
    ck_assert_int_eq(reply->error->code, ADMIN__CODE__NO_SESSION);
    ck_assert_ptr_nonnull(strstr(reply->error->text, "has ended"));
    admin__reply__free_unpacked(reply, NULL);
    ck_assert(admin_is_served(fd));
    (void)jitc_close(client);
    (void)close(fd);
    (void)close(other);
}
END_TEST

START_TEST(an_answer_about_a_span_that_changes_meanwhile_says_so)
{
    jitc_client *client = broker_connect(&admin.broker, NULL);
    int fd = admin_connect(&admin);
    uint64_t session = admin_session_of(client);

    for (int is_released = 0; is_released < 2; is_released++) {
        Admin__Reply *reply;
        jitc_span span;
        jitc_span others[2];
        bool more = true;

        ck_assert_int_eq(jitc_alloc(client, &span, LARGE_BYTES), JITC_OK);
        admin_send(fd, ADMIN__VERB__CODE, session, admin_offset_of(client, &span), 0);
        reply = admin_receive(fd);
        if (is_released) { /* two others in its place */
            ck_assert_int_eq(jitc_release(client, span.rx), JITC_OK);
            ck_assert_int_eq(jitc_alloc(client, &others[0], LARGE_BYTES / 2), JITC_OK);
            ck_assert_int_eq(jitc_alloc(client, &others[1], LARGE_BYTES), JITC_OK);
        } else {
            ck_assert_int_eq(jitc_shrink(client, &span, LARGE_BYTES - BLOCK_BYTES), JITC_OK);
        }
        ck_assert_int_eq(jitc_flush(client), JITC_OK);
        while (more) {
            admin__reply__free_unpacked(reply, NULL);
            reply = admin_receive(fd);
            more = reply->more != 0;
        }
        ck_assert_ptr_nonnull(reply->error);
        ck_assert_int_eq(reply->error->code, ADMIN__CODE__NO_SPAN);
        ck_assert_ptr_nonnull(strstr(reply->error->text, "released, or shrunk, meanwhile"));
        admin__reply__free_unpacked(reply, NULL);
    }
    (void)jitc_close(client);
    (void)close(fd);
}
END_TEST

static void put_policy(const char *text)
{
    FILE *file = fopen(admin.broker.config, "we");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_reload_tells_whether_the_policy_was_right_and_where_not)
{
    int fd = admin_connect(&admin);
    Admin__Reply *reply;

    put_policy("[class default]\nspan_max=7\nnonsense=1\n");
    admin_expect(fd, ADMIN__VERB__RELOAD, 0, 0, 0, ADMIN__CODE__BAD_POLICY, "jitbrokerd.conf:3: ");
    reply = admin_ask(fd, ADMIN__VERB__STATUS, 0, 0, 0);
    ck_assert_ptr_nonnull(strstr(reply->status->policy_mistake, "jitbrokerd.conf:3: "));
    admin__reply__free_unpacked(reply, NULL);
    put_policy("[class a]\nuid=1\n[class default]\nspan_max=7\n");
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__RELOAD, 0, 0, 0), NULL);
    reply = admin_ask(fd, ADMIN__VERB__STATUS, 0, 0, 0);
    ck_assert_str_eq(reply->status->policy_mistake, "");
    ck_assert_uint_eq(reply->status->classes, 2);
    admin__reply__free_unpacked(reply, NULL);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "policy_refused: in_force=as_before reason="), 1);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "policy_loaded: classes=2"), 1);
    (void)close(fd);
}
END_TEST

START_TEST(the_logs_level_is_changed_while_it_runs)
{
    int fd = admin_connect(&admin);
    unsigned before;

    (void)jitc_close(broker_connect(&admin.broker, NULL));
    before = broker_log_count(&admin.broker, "class=default");
    ck_assert_uint_gt(before, 0);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 5), NULL);
    (void)jitc_close(broker_connect(&admin.broker, NULL));
    ck_assert(admin_is_served(fd)); /* after all of that */
    before = broker_log_count(&admin.broker, "class=default");
    (void)jitc_close(broker_connect(&admin.broker, NULL));
    ck_assert(admin_is_served(fd));
    ck_assert_uint_eq(broker_log_count(&admin.broker, "class=default"), before);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 6), NULL);
    (void)jitc_close(broker_connect(&admin.broker, NULL));
    ck_assert(admin_is_served(fd));
    ck_assert_uint_gt(broker_log_count(&admin.broker, "class=default"), before);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "verb=log-level level=notice"), 1);
    (void)close(fd);
}
END_TEST

/* As many as a session may have refused without more than this being told: daemon/connection.c. */
enum { TOLD = 8 };

START_TEST(at_debug_each_refusal_is_told_and_not_the_first_ones_only)
{
    jitc_client *client = broker_connect(&admin.broker, NULL);
    int fd = admin_connect(&admin);
    jitc_span span;

    ck_assert_int_eq(jitc_alloc(client, &span, 64), JITC_OK);
    ck_assert_int_eq(jitc_seal(client, &span), JITC_OK);
    for (int i = 0; i < TOLD + 2; i++)
        ck_assert_int_eq(jitc_write(client, &span, 0, "", 1, JITC_WRITE_DEFAULT), JITC_E_SEALED);
    ck_assert(admin_is_served(fd));
    ck_assert_uint_eq(broker_log_count(&admin.broker, "operation_refused: "), TOLD);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "operation_refused_again: "), 0);
    admin__reply__free_unpacked(admin_ask(fd, ADMIN__VERB__LOG_LEVEL, 0, 0, 7), NULL);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(jitc_write(client, &span, 0, "", 1, JITC_WRITE_DEFAULT), JITC_E_SEALED);
    ck_assert(admin_is_served(fd));
    ck_assert_uint_eq(broker_log_count(&admin.broker, "operation_refused: "), TOLD);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "operation_refused_again: session=1 "), 3);
    ck_assert_uint_eq(broker_log_count(&admin.broker, "operation=write reason=\""), TOLD + 3);
    (void)jitc_close(client);
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin_changes");
    TCase *tests = tcase_create("admin_changes");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, to_revoke_ends_that_session_its_executors_and_nothing_else);
    tcase_add_test(tests, an_answer_about_a_session_that_ends_meanwhile_says_so);
    tcase_add_test(tests, an_answer_about_a_span_that_changes_meanwhile_says_so);
    tcase_add_test(tests, a_reload_tells_whether_the_policy_was_right_and_where_not);
    tcase_add_test(tests, the_logs_level_is_changed_while_it_runs);
    tcase_add_test(tests, at_debug_each_refusal_is_told_and_not_the_first_ones_only);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
