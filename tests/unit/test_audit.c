/* SPDX-License-Identifier: MIT */
/* The trail's queue: nothing is missing that is not told, whoever is slow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/audit.h"
#include "tests/harness/suite.h"

#define NS_PER_RECORD (UINT64_C(1000000000) / AUDIT_RATE)
/* FIPS 180-2, B.1 */
#define DIGEST_OF_ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/* What is taken while the loop does not run: the thread gets a part as soon as that is enough, and no more.
 */
#define TAKEN_AT_MOST (AUDIT_HALF + AUDIT_BURST / 4)

static char folder[64];
static char path[96];
static uv_loop_t loop;
static struct audit *audit;

static void start(void)
{
    (void)strcpy(folder, "/tmp/jitbroker-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/audit", folder);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    audit = audit_new(&loop, path, "/nowhere");
    ck_assert_ptr_nonnull(audit);
}

/* All is written out then. */
static void end_audit(void)
{
    audit = audit_free(audit);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void stop(void)
{
    if (audit != NULL)
        end_audit();
    (void)unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* Session number user + 1, of user 1000 + user. */
static struct audit_source begin(unsigned user)
{
    struct audit_source source = {
        .to = AUDIT_FILE, .session = user + 1, .uid = 1000 + user, .unit = "a.service"};

    audit_begin(audit, &source);
    ck_assert_ptr_nonnull(source.user);
    return source;
}

static size_t note(struct audit_source *source, uint64_t offset)
{
    const struct request request = {
        .operation = OPERATION_WRITE, .span = offset, .data = (const uint8_t *)"xyz", .data_bytes = 3};

    return audit_note(audit, source, &request, "ok", (const uint8_t *)"abc");
}

struct trail {
    unsigned records;
    unsigned lost_lines;
    uint64_t lost; /* by all of them */
    char last[1024];
    char first[1024];
};

/* Of one session, or with 0 of those that are of none in particular. */
static struct trail read_trail(uint64_t session)
{
    struct trail trail = {.records = 0};
    FILE *file = fopen(path, "re");
    char line[4096];
    char name[32] = "Z\",\"lost\":";

    if (session != 0)
        (void)snprintf(name, sizeof name, "\"session\":%llu,", (unsigned long long)session);
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *lost = strstr(line, "\"lost\":");

        ck_assert_ptr_nonnull(strstr(line, "}\n"));
        if (strstr(line, name) == NULL)
            continue;
        trail.records += lost == NULL;
        trail.lost_lines += lost != NULL;
        trail.lost += lost != NULL ? strtoull(lost + 7, NULL, 10) : 0;
        (void)snprintf(trail.last, sizeof trail.last, "%.1000s", line);
        if (trail.first[0] == '\0')
            (void)snprintf(trail.first, sizeof trail.first, "%.1000s", line);
    }
    (void)fclose(file);
    return trail;
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

/* Lets the loop run until the file has as many bytes, or more; how long that takes is the machine's affair.
 */
static void run_until_written(void)
{
    uv_timer_t timer;
    long bytes = 0;

    (void)uv_timer_init(&loop, &timer);
    (void)uv_timer_start(&timer, on_timer, 5, 5);
    while (bytes == 0) {
        FILE *file = fopen(path, "re");

        (void)uv_run(&loop, UV_RUN_ONCE);
        (void)fseek(file, 0, SEEK_END);
        bytes = ftell(file);
        (void)fclose(file);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
}

START_TEST(a_record_is_written_while_the_loop_runs_with_the_digest_of_what_was_written)
{
    struct audit_source source = begin(0);
    struct trail trail;

    ck_assert_uint_eq(note(&source, 64), 3);
    run_until_written();
    trail = read_trail(1);
    ck_assert_uint_eq(trail.records, 1);
    ck_assert_msg(strstr(trail.last,
                         "\"uid\":1000,\"unit\":\"a.service\",\"operation\":\"write\",\"offset\":64,"
                         "\"size\":3,\"digest\":\"" DIGEST_OF_ABC "\",\"verdict\":\"ok\"}") != NULL,
                  "%s", trail.last);
}
END_TEST

START_TEST(a_patch_has_the_digest_of_its_width)
{
    const struct request request = {.operation = OPERATION_PATCH, .span = 128, .at = 8, .width = 2};
    struct audit_source source = begin(0);
    struct trail trail;

    ck_assert_uint_eq(audit_note(audit, &source, &request, "ok", (const uint8_t *)"ab"), 2);
    end_audit();
    trail = read_trail(1);
    ck_assert_msg(strstr(trail.last, /* printf ab | sha256sum */
                         "\"operation\":\"patch\",\"offset\":136,\"size\":2,\"digest\":\"sha256:"
                         "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603\"") != NULL,
                  "%s", trail.last);
}
END_TEST

START_TEST(what_was_refused_is_recorded_without_a_digest)
{
    const struct request request = {
        .operation = OPERATION_WRITE, .span = UINT64_MAX - 1, .at = 2, .data_bytes = SIZE_MAX};
    struct audit_source source = begin(0);
    struct trail trail;

    for (int status = STATUS_OK + 1; status < STATUS_COUNT; status++)
        ck_assert_uint_eq(audit_note(audit, &source, &request, audit_verdict((enum status)status), NULL), 0);
    end_audit();
    trail = read_trail(1);
    ck_assert_uint_eq(trail.records, STATUS_COUNT - 1);
    ck_assert_ptr_nonnull(strstr(trail.first, "\"offset\":18446744073709551615,\"size\":18446744073709551615,"
                                              "\"digest\":null,\"verdict\":\"malformed\"}"));
    ck_assert_ptr_nonnull(strstr(trail.last, "\"verdict\":\"frozen\"}"));
}
END_TEST

START_TEST(a_user_may_cause_a_burst_at_once_and_then_its_rate)
{
    uint64_t due = 0;
    uint64_t now = 5000000000;

    for (unsigned i = 0; i < AUDIT_BURST; i++)
        ck_assert(audit_may_cause(&due, now));
    ck_assert(!audit_may_cause(&due, now));
    ck_assert(!audit_may_cause(&due, now + NS_PER_RECORD - 1));
    ck_assert(audit_may_cause(&due, now + NS_PER_RECORD));
    ck_assert(!audit_may_cause(&due, now + NS_PER_RECORD));
    now += 2 * AUDIT_BURST * NS_PER_RECORD; /* more than it takes to have all again */
    for (unsigned i = 0; i < AUDIT_BURST; i++)
        ck_assert(audit_may_cause(&due, now));
    ck_assert(!audit_may_cause(&due, now));
}
END_TEST

START_TEST(what_a_user_may_not_cause_is_told_before_its_next_record)
{
    struct audit_source source = begin(0);
    struct audit_source other = begin(1);
    struct trail trail;

    source.user->due_ns = UINT64_MAX / 2; /* it is far ahead of its rate */
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(note(&source, i), 0);
    ck_assert_uint_eq(source.lost, 10);
    ck_assert_uint_eq(note(&other, 0), 3); /* which is nobody else's loss */
    source.user->due_ns = 0;
    ck_assert_uint_eq(note(&source, 10), 3);
    ck_assert_uint_eq(source.lost, 0);
    end_audit();
    trail = read_trail(1);
    ck_assert_uint_eq(trail.records, 1);
    ck_assert_uint_eq(trail.lost, 10);
    ck_assert_ptr_nonnull(strstr(trail.first, "\"lost\":10}"));
    ck_assert_ptr_nonnull(strstr(trail.last, "\"offset\":10,"));
    trail = read_trail(2);
    ck_assert_uint_eq(trail.records, 1);
    ck_assert_uint_eq(trail.lost, 0);
}
END_TEST

START_TEST(what_is_missing_is_told_at_the_latest_when_the_session_ends)
{
    struct audit_source source = begin(0);
    struct trail trail;

    source.user->due_ns = UINT64_MAX / 2;
    for (unsigned i = 0; i < 10; i++)
        (void)note(&source, i);
    audit_end(audit, &source);
    audit_end(audit, &source);
    end_audit();
    trail = read_trail(1);
    ck_assert_uint_eq(trail.records, 0);
    ck_assert_uint_eq(trail.lost_lines, 1);
    ck_assert_uint_eq(trail.lost, 10);
}
END_TEST

START_TEST(to_come_anew_is_no_way_around_the_rate)
{
    struct audit_source source = begin(0);
    struct audit_source other = begin(0);

    ck_assert_ptr_eq(source.user, other.user); /* many sessions are none, either */
    source.user->due_ns = UINT64_MAX / 2;
    audit_end(audit, &source);
    audit_end(audit, &other);
    other = begin(1);
    source = begin(0);
    ck_assert_uint_eq(note(&other, 0), 3);
    ck_assert_uint_eq(note(&source, 0), 0);
    audit_end(audit, &other);
    audit_end(audit, &source);
}
END_TEST

START_TEST(a_user_of_whom_nothing_need_be_known_is_forgotten)
{
    struct audit_source source = begin(0);
    struct audit_source other = begin(1);

    other.user->due_ns = 1; /* long ago */
    audit_end(audit, &other);
    other = begin(2);
    ck_assert_uint_eq(other.user->uid, 1002);
    ck_assert_ptr_eq(other.user->next, source.user); /* who is there still */
    ck_assert_ptr_null(source.user->next);
}
END_TEST

START_TEST(a_full_queue_loses_exactly_what_has_no_room_and_says_so)
{
    enum { USERS = 3, EACH = AUDIT_BURST };
    struct audit_source sources[USERS];
    uint64_t recorded = 0;
    uint64_t lost = 0;
    struct trail none;

    ck_assert_uint_gt(USERS * EACH, TAKEN_AT_MOST);
    for (unsigned user = 0; user < USERS; user++)
        sources[user] = begin(user);
    for (unsigned i = 0; i < USERS * EACH; i++)
        recorded += note(&sources[i % USERS], i) != 0;
    ck_assert_uint_eq(recorded, TAKEN_AT_MOST);
    for (unsigned user = 0; user < USERS; user++) {
        lost += sources[user].lost;
        audit_end(audit, &sources[user]); /* that has no room any more, either */
    }
    ck_assert_uint_eq(lost, USERS * EACH - TAKEN_AT_MOST);
    end_audit();
    for (unsigned user = 0; user < USERS; user++) {
        struct trail trail = read_trail(user + 1);

        recorded -= trail.records;
        ck_assert_uint_eq(trail.lost_lines, 0);
    }
    ck_assert_uint_eq(recorded, 0);
    none = read_trail(0);
    ck_assert_uint_eq(none.lost_lines, 1);
    ck_assert_uint_eq(none.lost, lost);
}
END_TEST

START_TEST(the_last_room_is_not_taken_by_a_record_that_hides_what_is_missing)
{
    struct audit_source lossy = begin(0);
    struct audit_source other;

    lossy.user->due_ns = UINT64_MAX / 2;
    (void)note(&lossy, 0);
    lossy.user->due_ns = 0;
    for (unsigned i = 0; i < TAKEN_AT_MOST - 1; i++) {
        other = begin(1 + i / AUDIT_BURST);
        ck_assert_uint_eq(note(&other, i), 3);
    }
    /* One more has room, but not what is missing and one more. */
    ck_assert_uint_eq(note(&lossy, 1), 0);
    ck_assert_uint_eq(lossy.lost, 2);
    audit_end(audit, &lossy);
    end_audit();
    ck_assert_uint_eq(read_trail(1).lost, 2);
    ck_assert_uint_eq(read_trail(0).lost_lines, 0);
}
END_TEST

START_TEST(after_a_reopen_the_new_file_is_written_and_the_old_one_has_all_from_before)
{
    struct audit_source source = begin(0);
    char old[128];

    (void)snprintf(old, sizeof old, "%s/audit.1", folder);
    (void)note(&source, 1);
    run_until_written();
    ck_assert_int_eq(rename(path, old), 0);
    ck_assert(audit_reopen(audit, path));
    (void)note(&source, 2);
    end_audit();
    ck_assert_uint_eq(read_trail(1).records, 1);
    ck_assert_ptr_nonnull(strstr(read_trail(1).last, "\"offset\":2,"));
    ck_assert_int_eq(rename(old, path), 0);
    ck_assert_uint_eq(read_trail(1).records, 1);
    ck_assert_ptr_nonnull(strstr(read_trail(1).last, "\"offset\":1,"));
}
END_TEST

START_TEST(a_reopen_while_the_thread_writes_loses_nothing)
{
    enum { FILES = 20, EACH = AUDIT_BURST / 4 + 10 }; /* enough to wake the thread */
    unsigned records = 0;
    unsigned files = 0;
    char old[128];

    for (unsigned i = 0; i < FILES; i++) {
        struct audit_source source = begin(0);

        source.user->due_ns = 0;
        for (unsigned k = 0; k < EACH; k++)
            ck_assert_uint_eq(note(&source, k), 3);
        (void)snprintf(old, sizeof old, "%s/audit.%u", folder, i);
        ck_assert_int_eq(rename(path, old), 0);
        ck_assert(audit_reopen(audit, path));
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        if (i % 2 == 0)
            run_until_written(); /* then the thread has nothing to do at the next one */
    }
    end_audit();
    records = read_trail(1).records;
    for (unsigned i = 0; i < FILES; i++) {
        (void)snprintf(old, sizeof old, "%s/audit.%u", folder, i);
        ck_assert_int_eq(rename(old, path), 0);
        records += read_trail(1).records;
        files += read_trail(1).records > 0;
    }
    ck_assert_uint_eq(records, FILES * EACH);
    ck_assert_uint_gt(files, 1);
}
END_TEST

START_TEST(where_the_new_file_cannot_be_opened_the_old_one_stays)
{
    struct audit_source source = begin(0);

    ck_assert(!audit_reopen(audit, "/nowhere/audit"));
    (void)note(&source, 1);
    end_audit();
    ck_assert_uint_eq(read_trail(1).records, 1);
}
END_TEST

START_TEST(there_is_no_trail_without_its_file)
{
    ck_assert_ptr_null(audit_new(&loop, "/nowhere/audit", "/nowhere"));
    ck_assert_ptr_null(audit_free(NULL));
}
END_TEST

START_TEST(records_for_a_journal_that_is_not_there_cost_nothing_but_themselves)
{
    struct audit_source source = begin(0);
    struct audit_source to_file = begin(1);

    source.to = AUDIT_JOURNAL;
    ck_assert_uint_eq(note(&source, 1), 3);
    ck_assert_uint_eq(note(&to_file, 2), 3);
    end_audit();
    ck_assert_uint_eq(read_trail(2).records, 1);
    ck_assert_uint_eq(read_trail(1).records, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("audit");
    TCase *all = tcase_create("audit");

    tcase_add_checked_fixture(all, start, stop);
    tcase_set_timeout(all, 300);
    tcase_add_test(all, a_record_is_written_while_the_loop_runs_with_the_digest_of_what_was_written);
    tcase_add_test(all, a_patch_has_the_digest_of_its_width);
    tcase_add_test(all, what_was_refused_is_recorded_without_a_digest);
    tcase_add_test(all, a_user_may_cause_a_burst_at_once_and_then_its_rate);
    tcase_add_test(all, what_a_user_may_not_cause_is_told_before_its_next_record);
    tcase_add_test(all, what_is_missing_is_told_at_the_latest_when_the_session_ends);
    tcase_add_test(all, to_come_anew_is_no_way_around_the_rate);
    tcase_add_test(all, a_user_of_whom_nothing_need_be_known_is_forgotten);
    tcase_add_test(all, a_full_queue_loses_exactly_what_has_no_room_and_says_so);
    tcase_add_test(all, the_last_room_is_not_taken_by_a_record_that_hides_what_is_missing);
    tcase_add_test(all, after_a_reopen_the_new_file_is_written_and_the_old_one_has_all_from_before);
    tcase_add_test(all, a_reopen_while_the_thread_writes_loses_nothing);
    tcase_add_test(all, where_the_new_file_cannot_be_opened_the_old_one_stays);
    tcase_add_test(all, there_is_no_trail_without_its_file);
    tcase_add_test(all, records_for_a_journal_that_is_not_there_cost_nothing_but_themselves);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
