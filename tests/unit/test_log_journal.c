/* SPDX-License-Identifier: MIT */
/* The log as entries of a journal: which fields they have, and a journal that is full, or not there. */
#include <check.h>
#include <endian.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/log_journal.h"
#include "daemon/peer.h"
#include "tests/harness/suite.h"

static char folder[] = "/tmp/jitbroker-test-XXXXXX";
static char path[64];
static int ours; /* the journal's side */
static struct log_journal journal;
static char bytes[65536];
static size_t count;

static void start(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    char stream[64];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/journal", folder);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    ours = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(ours, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_journal_init(&journal, path);
    ck_assert_int_ge(journal.fd, 0);
}

static void stop(void)
{
    (void)close(ours);
    (void)close(journal.fd);
    (void)unlink(path);
    (void)rmdir(folder);
}

static bool receive(void)
{
    ssize_t got = recv(ours, bytes, sizeof bytes, 0);

    count = got < 0 ? 0 : (size_t)got;
    return got > 0;
}

/* The value of a field of the entry, or NULL; and how many fields there are. */
static const char *find(const char *name, unsigned *fields)
{
    static char values[16][2048];
    static unsigned used;
    const char *found = NULL;
    unsigned seen = 0;

    for (size_t at = 0; at < count; seen++) {
        const char *newline = memchr(bytes + at, '\n', count - at);
        size_t name_bytes = newline != NULL ? (size_t)(newline - bytes) - at : 0;
        uint64_t value_bytes;

        ck_assert_ptr_nonnull(newline);
        memcpy(&value_bytes, newline + 1, sizeof value_bytes);
        value_bytes = le64toh(value_bytes);
        if (strlen(name) == name_bytes && memcmp(bytes + at, name, name_bytes) == 0) {
            char *value = values[used++ % 16];

            ck_assert_uint_lt(value_bytes, sizeof values[0]);
            memcpy(value, newline + 9, value_bytes);
            value[value_bytes] = '\0';
            found = value;
        }
        at += name_bytes + 9 + value_bytes;
        ck_assert_uint_lt(at, count);
        ck_assert_int_eq(bytes[at++], '\n');
    }
    if (fields != NULL)
        *fields = seen;
    return found;
}

static void send_named(const char *unit, const char *reason)
{
    struct peer peer = {.uid = 1000, .pid = 712};
    const struct log_subject subject = {7, &peer, "default"};

    (void)snprintf(peer.unit, sizeof peer.unit, "%s", unit);
    ck_assert(log_journal_send(&journal, &(struct log_journal_entry){.priority = 6,
                                                                     .message = "session_ended: ...",
                                                                     .event = "session_ended",
                                                                     .subject = &subject,
                                                                     .reason = reason}));
}

START_TEST(an_event_has_its_fields_and_no_others)
{
    unsigned fields;

    send_named("web.service", "closed by the client");
    ck_assert(receive());
    ck_assert_str_eq(find("SYSLOG_IDENTIFIER", &fields), "jitbrokerd");
    ck_assert_uint_eq(fields, 10);
    ck_assert_str_eq(find("PRIORITY", NULL), "6");
    ck_assert_str_eq(find("MESSAGE", NULL), "session_ended: ...");
    ck_assert_str_eq(find("JITBROKER_EVENT", NULL), "session_ended");
    ck_assert_str_eq(find("JITBROKER_SESSION", NULL), "7");
    ck_assert_str_eq(find("JITBROKER_UID", NULL), "1000");
    ck_assert_str_eq(find("JITBROKER_PID", NULL), "712");
    ck_assert_str_eq(find("JITBROKER_UNIT", NULL), "web.service");
    ck_assert_str_eq(find("JITBROKER_CLASS", NULL), "default");
    ck_assert_str_eq(find("JITBROKER_REASON", NULL), "closed by the client");
}
END_TEST

START_TEST(what_a_client_named_begins_no_field)
{
    unsigned fields;

    send_named("a\nPRIORITY=0\nMESSAGE=lie\n", "b\nJITBROKER_UID=0\n");
    ck_assert(receive());
    ck_assert_str_eq(find("JITBROKER_UNIT", &fields), "a\nPRIORITY=0\nMESSAGE=lie\n");
    ck_assert_uint_eq(fields, 10);
    ck_assert_str_eq(find("JITBROKER_REASON", NULL), "b\nJITBROKER_UID=0\n");
}
END_TEST

START_TEST(a_line_that_is_no_event_has_a_message_and_a_priority)
{
    unsigned fields;

    ck_assert(log_journal_send(&journal, &(struct log_journal_entry){.priority = 3, .message = "trouble"}));
    ck_assert(receive());
    ck_assert_str_eq(find("MESSAGE", &fields), "trouble");
    ck_assert_uint_eq(fields, 3);
}
END_TEST

START_TEST(what_is_too_long_is_cut)
{
    static char reason[5000];

    memset(reason, 'r', sizeof reason - 1);
    send_named("", reason);
    ck_assert(receive());
    ck_assert_uint_eq(strlen(find("JITBROKER_REASON", NULL)), LOG_JOURNAL_VALUE_MAX_BYTES);
    ck_assert_ptr_null(find("JITBROKER_UNIT", NULL)); /* nobody's */
}
END_TEST

START_TEST(a_full_journal_holds_nobody_up_and_what_it_lacks_is_told)
{
    char expected[64];
    unsigned sent = 0;
    unsigned got = 0;

    for (; journal.lost < 5; sent++)
        send_named("", "x");
    while (receive())
        got++;
    ck_assert_uint_eq(got, sent - 5);
    send_named("", "y");
    ck_assert(receive());
    (void)snprintf(expected, sizeof expected, "5 lines were lost: the journal had no room");
    ck_assert_str_eq(find("MESSAGE", NULL), expected);
    ck_assert(receive());
    ck_assert_str_eq(find("JITBROKER_REASON", NULL), "y");
    ck_assert_uint_eq(journal.lost, 0);
}
END_TEST

START_TEST(without_a_journal_the_line_goes_elsewhere)
{
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!log_journal_send(&journal, &(struct log_journal_entry){.priority = 3, .message = "trouble"}));
    ck_assert_uint_eq(journal.lost, 0);
}
END_TEST

START_TEST(stderr_is_the_journal_only_if_the_variable_names_it)
{
    struct log_journal other;
    struct stat status;
    char stream[64];

    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino + 1);
    ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_journal_init(&other, path);
    ck_assert_int_eq(other.fd, -1);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev + 1, (uintmax_t)status.st_ino);
    ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_journal_init(&other, path);
    ck_assert_int_eq(other.fd, -1);
    ck_assert_int_eq(setenv("JOURNAL_STREAM", "nonsense", 1), 0);
    log_journal_init(&other, path);
    ck_assert_int_eq(other.fd, -1);
    ck_assert_int_eq(unsetenv("JOURNAL_STREAM"), 0);
    log_journal_init(&other, path);
    ck_assert_int_eq(other.fd, -1);
    ck_assert(!log_journal_send(&other, &(struct log_journal_entry){.priority = 3, .message = "trouble"}));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_journal");
    TCase *tests = tcase_create("log_journal");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, an_event_has_its_fields_and_no_others);
    tcase_add_test(tests, what_a_client_named_begins_no_field);
    tcase_add_test(tests, a_line_that_is_no_event_has_a_message_and_a_priority);
    tcase_add_test(tests, what_is_too_long_is_cut);
    tcase_add_test(tests, a_full_journal_holds_nobody_up_and_what_it_lacks_is_told);
    tcase_add_test(tests, without_a_journal_the_line_goes_elsewhere);
    tcase_add_test(tests, stderr_is_the_journal_only_if_the_variable_names_it);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
