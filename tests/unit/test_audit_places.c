/* SPDX-License-Identifier: MIT */
/* The trail's records as they are written down, and what becomes of them where file or journal take none. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/audit_file.h"
#include "daemon/audit_journal.h"
#include "tests/harness/suite.h"

#define TEXT_BYTES 65536

static char folder[64];
static char path[96];
static struct audit_file file; /* large */
static struct audit_journal journal;
static char text[TEXT_BYTES];

static void make_folder(void)
{
    (void)strcpy(folder, "/tmp/jitbroker-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/audit", folder);
    (void)signal(SIGXFSZ, SIG_IGN); /* as the daemon does */
}

static void remove_folder(void)
{
    (void)unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

static struct audit_record make_record(enum audit_to to, uint64_t offset)
{
    struct audit_record record = {
        .to = to,
        .time_us = UINT64_C(1795523696000042), /* date -u -d @1795523696 */
        .session = 7,
        .uid = 1000,
        .unit = "worker@a\\x2db.service",
        .operation = "write",
        .offset = offset,
        .size = 256,
        .verdict = "ok",
        .has_digest = true,
    };

    for (unsigned i = 0; i < AUDIT_DIGEST_BYTES; i++)
        record.digest[i] = (uint8_t)(i * 8 + 1);
    return record;
}

static struct audit_record make_lost(enum audit_to to, uint64_t lost)
{
    struct audit_record record = make_record(to, 0);

    record.lost = lost;
    return record;
}

static const char *as_json(const struct audit_record *record)
{
    text[audit_record_to_json(record, text)] = '\0';
    return text;
}

/* ---- JSON ------------------------------------------------------------------------------- */

START_TEST(a_write_is_a_line_of_json)
{
    const struct audit_record record = make_record(AUDIT_FILE, 4160);

    ck_assert_str_eq(
        as_json(&record),
        "{\"time\":\"2026-11-24T12:34:56.000042Z\",\"session\":7,\"uid\":1000,"
        "\"unit\":\"worker@a\\\\x2db.service\",\"operation\":\"write\",\"offset\":4160,\"size\":256,"
        "\"digest\":\"sha256:0109111921293139414951596169717981899199a1a9b1b9c1c9d1d9e1e9f1f9\","
        "\"verdict\":\"ok\"}\n");
}
END_TEST

START_TEST(what_was_refused_has_no_digest)
{
    struct audit_record record = make_record(AUDIT_FILE, 0);

    record.has_digest = false;
    record.verdict = "sealed";
    ck_assert_ptr_nonnull(strstr(as_json(&record), ",\"digest\":null,\"verdict\":\"sealed\"}\n"));
}
END_TEST

START_TEST(what_is_missing_is_a_line_too)
{
    struct audit_record record = make_lost(AUDIT_FILE, 12);

    ck_assert_ptr_nonnull(strstr(as_json(&record), "Z\",\"session\":7,\"uid\":1000,\"unit\":\"worker@"
                                                   "a\\\\x2db.service\",\"lost\":12}\n"));
    record.session = 0;
    ck_assert_str_eq(as_json(&record), "{\"time\":\"2026-11-24T12:34:56.000042Z\",\"lost\":12}\n");
}
END_TEST

START_TEST(a_hostile_name_stays_within_its_string)
{
    struct audit_record record = make_record(AUDIT_FILE, 0);

    (void)strcpy(record.unit, "\",\"verdict\":\"ok\"}\n{\\\x01\t\x7f\x80\xff");
    ck_assert_ptr_nonnull(strstr(
        as_json(&record),
        "\"unit\":\"\\\",\\\"verdict\\\":\\\"ok\\\"}\\u000a{\\\\\\u0001\\u0009\\u007f\\u0080\\u00ff\","));
}
END_TEST

START_TEST(the_largest_of_everything_fits)
{
    struct audit_record record = make_record(AUDIT_FILE, UINT64_MAX);
    size_t bytes;

    memset(record.unit, 0x80, AUDIT_UNIT_BYTES - 1);
    record.session = UINT64_MAX;
    record.size = UINT64_MAX;
    record.uid = (uid_t)UINT32_MAX;
    record.time_us = UINT64_C(253402300799999999); /* the end of the year 9999 */
    record.verdict = "unknown_operation";
    bytes = audit_record_to_json(&record, text);
    ck_assert_uint_gt(bytes, (AUDIT_UNIT_BYTES - 1) * 6);
    ck_assert_uint_le(bytes, AUDIT_LINE_MAX_BYTES);
    ck_assert_ptr_eq(memchr(text, '\n', bytes), text + bytes - 1);
    (void)audit_record_to_journal(&record, text); /* which asserts that it fits */
    record.lost = UINT64_MAX;
    (void)audit_record_to_journal(&record, text);
}
END_TEST

START_TEST(the_shortest_line_is_as_long_as_is_reckoned_with)
{
    struct audit_record record = {.lost = 1};

    ck_assert_uint_ge(audit_record_to_json(&record, text), AUDIT_FILE_LINE_MIN_BYTES);
}
END_TEST

/* ---- The file --------------------------------------------------------------------------- */

static void open_file(void)
{
    int fd = audit_file_open(path);

    ck_assert_int_ge(fd, 0);
    audit_file_init(&file, fd);
}

/* Into `text`. */
static size_t read_file(void)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    ck_assert_int_ge(fd, 0);
    got = read(fd, text, sizeof text - 1);
    ck_assert_int_ge(got, 0);
    text[got] = '\0';
    (void)close(fd);
    return (size_t)got;
}

/* Whole records of the file, and the sum of what it says to be missing. */
static void count_file(unsigned *records, uint64_t *lost)
{
    *records = 0;
    *lost = 0;
    (void)read_file();
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        const char *number;

        *end = '\0';
        if (end[-1] != '}')
            continue; /* torn */
        number = strstr(line, "\"lost\":");
        *lost += number != NULL ? strtoull(number + 7, NULL, 10) : 0;
        *records += number == NULL;
    }
}

/* However long it is. */
static unsigned count_lines(void)
{
    FILE *lines = fopen(path, "re");
    unsigned count = 0;
    int byte;

    ck_assert_ptr_nonnull(lines);
    while ((byte = getc(lines)) != EOF)
        count += byte == '\n';
    (void)fclose(lines);
    return count;
}

static void limit_file(size_t bytes)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(the_file_is_made_for_its_owner_alone_and_appended_to)
{
    const struct audit_record record = make_record(AUDIT_FILE, 1);
    struct stat status;
    unsigned records;
    uint64_t lost;

    (void)umask(0);
    for (int i = 0; i < 2; i++) {
        open_file();
        ck_assert_int_eq(audit_file_write(&file, &record, 1, 0), 0);
        audit_file_deinit(&file);
    }
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    count_file(&records, &lost);
    ck_assert_uint_eq(records, 2);
    ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused)
{
    char other[128];
    int reader;

    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_lt(audit_file_open(path), 0);
    reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_eq(audit_file_open(path), -EINVAL);
    (void)close(reader);
    ck_assert_int_eq(audit_file_open("/dev/null"), -EINVAL);
    ck_assert_int_eq(audit_file_open(folder), -EISDIR);
    (void)unlink(path);
    (void)snprintf(other, sizeof other, "%s/other", folder);
    ck_assert_int_eq(symlink(other, path), 0);
    ck_assert_int_eq(audit_file_open(path), -ELOOP);
    ck_assert_int_eq(access(other, F_OK), -1);
    (void)snprintf(other, sizeof other, "%s/none/audit", folder);
    ck_assert_int_eq(audit_file_open(other), -ENOENT);
}
END_TEST

START_TEST(records_for_the_journal_are_not_in_the_file)
{
    const struct audit_record records[3] = {make_record(AUDIT_FILE, 1), make_record(AUDIT_JOURNAL, 2),
                                            make_record(AUDIT_FILE, 3)};

    open_file();
    ck_assert_int_eq(audit_file_write(&file, records, 3, 0), 0);
    (void)read_file();
    ck_assert_ptr_nonnull(strstr(text, "\"offset\":1,"));
    ck_assert_ptr_null(strstr(text, "\"offset\":2,"));
    ck_assert_ptr_nonnull(strstr(text, "\"offset\":3,"));
    audit_file_deinit(&file);
}
END_TEST

START_TEST(more_than_a_chunk_is_written_whole_and_in_order)
{
    enum { RECORDS = 1000 }; /* of some 300 bytes */
    static struct audit_record records[RECORDS];
    FILE *lines;
    static char line[AUDIT_LINE_MAX_BYTES];
    char part[32];

    for (unsigned i = 0; i < RECORDS; i++)
        records[i] = make_record(AUDIT_FILE, i);
    open_file();
    ck_assert_int_eq(audit_file_write(&file, records, RECORDS, 0), 0);
    audit_file_deinit(&file);
    lines = fopen(path, "re");
    for (unsigned i = 0; i < RECORDS; i++) {
        ck_assert_ptr_nonnull(fgets(line, sizeof line, lines));
        (void)snprintf(part, sizeof part, "\"offset\":%u,", i);
        ck_assert_ptr_nonnull(strstr(line, part));
        ck_assert_ptr_nonnull(strstr(line, "\"verdict\":\"ok\"}\n"));
    }
    ck_assert_ptr_null(fgets(line, sizeof line, lines));
    (void)fclose(lines);
}
END_TEST

START_TEST(a_line_that_someone_else_left_torn_is_ended_first)
{
    const struct audit_record record = make_record(AUDIT_FILE, 1);
    FILE *other = fopen(path, "we");

    (void)fputs("{\"time\":\"2026-", other);
    (void)fclose(other);
    open_file();
    ck_assert_int_eq(audit_file_write(&file, &record, 1, 0), 0);
    (void)read_file();
    ck_assert_msg(strncmp(text, "{\"time\":\"2026-\n{\"time\":\"2026-", 28) == 0, "%s", text);
    audit_file_deinit(&file);
}
END_TEST

/* What a file that ends anywhere takes, whatever was to be written to it, is the rest of what it lacks. */
START_TEST(wherever_the_disk_is_full_all_that_is_missing_is_told_exactly)
{
    enum { FIRST = 3, SECOND = 2, LOST = 5, GIVEN_LOST = 4 };
    const struct audit_record first[FIRST] = {make_record(AUDIT_FILE, 1), make_lost(AUDIT_FILE, LOST),
                                              make_record(AUDIT_FILE, 3)};
    const struct audit_record second[SECOND] = {make_record(AUDIT_FILE, 4), make_record(AUDIT_FILE, 5)};
    const struct audit_record last = make_record(AUDIT_FILE, 6);
    size_t all;

    open_file();
    ck_assert_int_eq(audit_file_write(&file, first, FIRST, GIVEN_LOST), 0);
    ck_assert_int_eq(audit_file_write(&file, second, SECOND, 0), 0);
    audit_file_deinit(&file);
    all = read_file();
    for (size_t room = 0; room <= all; room++) {
        unsigned records;
        uint64_t lost;
        bool fails;

        (void)unlink(path);
        limit_file(room);
        open_file();
        fails = audit_file_write(&file, first, FIRST, GIVEN_LOST) != 0;
        fails = audit_file_write(&file, second, SECOND, 0) != 0 || fails;
        ck_assert_msg(fails == (room < all), "room for %zu of %zu bytes", room, all);
        limit_file(RLIM_INFINITY);
        ck_assert_int_eq(audit_file_write(&file, &last, 1, 0), 0);
        ck_assert_uint_eq(file.lost, 0);
        audit_file_deinit(&file);
        count_file(&records, &lost);
        ck_assert_msg(records + lost == 2 + SECOND + 1 + LOST + GIVEN_LOST,
                      "room for %zu bytes: %u records, %llu lost", room, records, (unsigned long long)lost);
        (void)read_file();
        ck_assert_ptr_nonnull(strstr(text, "\"offset\":6,"));
    }
}
END_TEST

START_TEST(a_disk_that_is_full_after_some_chunks_loses_the_rest_exactly)
{
    enum { RECORDS = 1000, SIZES = 7 };
    const size_t sizes[SIZES] = {0, 1, 65536, 65537, 100000, 131072, 200000}; /* of some 300,000 */
    static struct audit_record records[RECORDS];

    for (unsigned i = 0; i < RECORDS; i++)
        records[i] = make_record(AUDIT_FILE, i);
    for (unsigned i = 0; i < SIZES; i++) {
        struct stat status;

        (void)unlink(path);
        limit_file(sizes[i]);
        open_file();
        ck_assert_int_eq(audit_file_write(&file, records, RECORDS, 0), -EFBIG);
        ck_assert_int_eq(fstat(file.fd, &status), 0);
        ck_assert_uint_eq((size_t)status.st_size, sizes[i]);
        audit_file_deinit(&file);
        ck_assert_uint_eq(file.lost + count_lines(), RECORDS);
    }
    limit_file(RLIM_INFINITY);
}
END_TEST

START_TEST(a_disk_that_stays_full_costs_nothing_but_records)
{
    const struct audit_record records[2] = {make_record(AUDIT_FILE, 1), make_record(AUDIT_FILE, 2)};
    unsigned whole;
    uint64_t lost;

    open_file();
    limit_file(0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(audit_file_write(&file, records, 2, 0), -EFBIG);
    limit_file(RLIM_INFINITY);
    ck_assert_int_eq(audit_file_write(&file, NULL, 0, 0), 0);
    count_file(&whole, &lost);
    ck_assert_uint_eq(whole, 0);
    ck_assert_uint_eq(lost, 200);
    audit_file_deinit(&file);
}
END_TEST

START_TEST(what_the_old_file_did_not_take_is_told_in_the_new_one)
{
    const struct audit_record record = make_record(AUDIT_FILE, 1);
    unsigned whole;
    uint64_t lost;

    open_file();
    limit_file(10);
    ck_assert_int_eq(audit_file_write(&file, &record, 1, 0), -EFBIG);
    limit_file(RLIM_INFINITY);
    ck_assert_int_eq(unlink(path), 0);
    audit_file_replace(&file, audit_file_open(path));
    ck_assert_int_eq(audit_file_write(&file, &record, 1, 0), 0);
    (void)read_file();
    ck_assert_int_eq(text[0], '{'); /* that the old one ends torn is none of its business */
    count_file(&whole, &lost);
    ck_assert_uint_eq(whole, 1);
    ck_assert_uint_eq(lost, 1);
    audit_file_deinit(&file);
}
END_TEST

/* ---- The journal ------------------------------------------------------------------------ */

static int listen_at_path(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    (void)strcpy(address.sun_path, path);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/*
 * The values that a datagram gives the field, as the journal reads it: "NAME=value\n", or "NAME\n", the
 * length in 8 bytes, the value and "\n". The last one goes to *value.
 */
static unsigned find_field(const char *bytes, size_t count, const char *name, char *value)
{
    const char *at = bytes;
    unsigned found = 0;

    while (at < bytes + count) {
        const char *end = memchr(at, '\n', (size_t)(bytes + count - at));
        const char *equals;
        const char *from;
        uint64_t length;
        size_t name_bytes;

        ck_assert_ptr_nonnull(end);
        equals = memchr(at, '=', (size_t)(end - at));
        name_bytes = (size_t)((equals != NULL ? equals : end) - at);
        from = equals != NULL ? equals + 1 : end + 1 + 8;
        if (equals != NULL)
            length = (uint64_t)(end - from);
        else
            memcpy(&length, end + 1, sizeof length);
        ck_assert_uint_lt(length, (uint64_t)(bytes + count - from));
        ck_assert_int_eq(from[length], '\n');
        if (name_bytes == strlen(name) && memcmp(at, name, name_bytes) == 0) {
            memcpy(value, from, length);
            value[length] = '\0';
            found++;
        }
        at = from + length + 1;
    }
    return found;
}

static char datagram[TEXT_BYTES];
static size_t datagram_bytes;

static void receive(int fd)
{
    ssize_t got = recv(fd, datagram, sizeof datagram, MSG_DONTWAIT);

    ck_assert_int_gt(got, 0);
    datagram_bytes = (size_t)got;
}

static void assert_field(const char *name, const char *expected)
{
    char value[TEXT_BYTES];

    ck_assert_msg(find_field(datagram, datagram_bytes, name, value) == 1, "%s in %.*s", name,
                  (int)datagram_bytes, datagram);
    ck_assert_str_eq(value, expected);
}

START_TEST(the_journal_gets_fields)
{
    struct audit_record record = make_record(AUDIT_JOURNAL, 4160);
    char value[TEXT_BYTES];
    int fd = listen_at_path();

    ck_assert_int_eq(audit_journal_init(&journal, path), 0);
    ck_assert_int_eq(audit_journal_write(&journal, &record, 1, 0), 0);
    receive(fd);
    assert_field("JITBROKER_SESSION", "7");
    assert_field("JITBROKER_UID", "1000");
    assert_field("JITBROKER_UNIT", "worker@a\\x2db.service");
    assert_field("JITBROKER_OPERATION", "write");
    assert_field("JITBROKER_OFFSET", "4160");
    assert_field("JITBROKER_SIZE", "256");
    assert_field("JITBROKER_VERDICT", "ok");
    assert_field("JITBROKER_DIGEST",
                 "sha256:0109111921293139414951596169717981899199a1a9b1b9c1c9d1d9e1e9f1f9");
    assert_field("PRIORITY", "6");
    assert_field("SYSLOG_IDENTIFIER", "jitbrokerd");
    assert_field("MESSAGE_ID", "307c61b7f7fb4558b61762a8d5e318a9");
    assert_field("MESSAGE", "audit: session 7: write of 256 bytes at 0x1040: ok");
    record.has_digest = false;
    record.verdict = "sealed";
    ck_assert_int_eq(audit_journal_write(&journal, &record, 1, 0), 0);
    receive(fd);
    assert_field("JITBROKER_VERDICT", "sealed");
    assert_field("PRIORITY", "5");
    ck_assert_uint_eq(find_field(datagram, datagram_bytes, "JITBROKER_DIGEST", value), 0);
    audit_journal_deinit(&journal);
    (void)close(fd);
}
END_TEST

START_TEST(a_hostile_name_begins_no_field)
{
    struct audit_record record = make_record(AUDIT_JOURNAL, 0);
    int fd = listen_at_path();

    (void)strcpy(record.unit, "x\nJITBROKER_VERDICT=ok\nJITBROKER_UID=0\n=\n\n");
    record.verdict = "sealed";
    ck_assert_int_eq(audit_journal_init(&journal, path), 0);
    ck_assert_int_eq(audit_journal_write(&journal, &record, 1, 0), 0);
    receive(fd);
    assert_field("JITBROKER_UNIT", record.unit);
    assert_field("JITBROKER_VERDICT", "sealed");
    assert_field("JITBROKER_UID", "1000");
    audit_journal_deinit(&journal);
    (void)close(fd);
}
END_TEST

START_TEST(what_no_journal_took_is_told_once_there_is_one)
{
    const struct audit_record records[3] = {make_record(AUDIT_JOURNAL, 1), make_record(AUDIT_FILE, 2),
                                            make_lost(AUDIT_JOURNAL, 5)};
    int fd;

    ck_assert_int_eq(audit_journal_init(&journal, path), 0);
    ck_assert_int_eq(audit_journal_write(&journal, records, 3, 0), -ENOENT);
    ck_assert_int_eq(audit_journal_write(&journal, NULL, 0, 4), -ENOENT);
    ck_assert_uint_eq(journal.lost, 1 + 5 + 4);
    fd = listen_at_path();
    ck_assert_int_eq(audit_journal_write(&journal, records, 1, 2), 0);
    receive(fd);
    assert_field("JITBROKER_LOST", "10");
    receive(fd);
    assert_field("JITBROKER_OFFSET", "1");
    receive(fd);
    assert_field("JITBROKER_LOST", "2");
    ck_assert_uint_eq(journal.lost, 0);
    audit_journal_deinit(&journal);
    (void)close(fd);
}
END_TEST

START_TEST(a_journal_that_hangs_is_given_up_and_what_it_missed_is_told)
{
    enum { RECORDS = 5000 }; /* more than a socket holds */
    static struct audit_record records[RECORDS];
    unsigned received = 0;
    int fd = listen_at_path();

    for (unsigned i = 0; i < RECORDS; i++)
        records[i] = make_record(AUDIT_JOURNAL, i);
    ck_assert_int_eq(audit_journal_init(&journal, path), 0);
    ck_assert_int_eq(audit_journal_write(&journal, records, RECORDS, 0), -EAGAIN);
    while (recv(fd, datagram, sizeof datagram, MSG_DONTWAIT) > 0)
        received++;
    ck_assert_uint_gt(received, 0);
    ck_assert_uint_eq(received + journal.lost, RECORDS);
    ck_assert_int_eq(audit_journal_write(&journal, NULL, 0, 0), 0);
    ck_assert_uint_eq(journal.lost, 0);
    audit_journal_deinit(&journal);
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("audit_places");
    TCase *json = tcase_create("json");
    TCase *files = tcase_create("file");
    TCase *journals = tcase_create("journal");

    tcase_add_test(json, a_write_is_a_line_of_json);
    tcase_add_test(json, what_was_refused_has_no_digest);
    tcase_add_test(json, what_is_missing_is_a_line_too);
    tcase_add_test(json, a_hostile_name_stays_within_its_string);
    tcase_add_test(json, the_largest_of_everything_fits);
    tcase_add_test(json, the_shortest_line_is_as_long_as_is_reckoned_with);
    suite_add_tcase(suite, json);

    tcase_add_checked_fixture(files, make_folder, remove_folder);
    tcase_set_timeout(files, 120);
    tcase_add_test(files, the_file_is_made_for_its_owner_alone_and_appended_to);
    tcase_add_test(files, what_is_no_regular_file_is_refused);
    tcase_add_test(files, records_for_the_journal_are_not_in_the_file);
    tcase_add_test(files, more_than_a_chunk_is_written_whole_and_in_order);
    tcase_add_test(files, a_line_that_someone_else_left_torn_is_ended_first);
    tcase_add_test(files, wherever_the_disk_is_full_all_that_is_missing_is_told_exactly);
    tcase_add_test(files, a_disk_that_is_full_after_some_chunks_loses_the_rest_exactly);
    tcase_add_test(files, a_disk_that_stays_full_costs_nothing_but_records);
    tcase_add_test(files, what_the_old_file_did_not_take_is_told_in_the_new_one);
    suite_add_tcase(suite, files);

    tcase_add_checked_fixture(journals, make_folder, remove_folder);
    tcase_set_timeout(journals, 120);
    tcase_add_test(journals, the_journal_gets_fields);
    tcase_add_test(journals, a_hostile_name_begins_no_field);
    tcase_add_test(journals, what_no_journal_took_is_told_once_there_is_one);
    tcase_add_test(journals, a_journal_that_hangs_is_given_up_and_what_it_missed_is_told);
    suite_add_tcase(suite, journals);
    return suite_run(suite);
}
