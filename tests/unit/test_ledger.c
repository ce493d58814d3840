/* SPDX-License-Identifier: MIT */
/*
 * Ledgers that a daemon left behind, as it would and as it never would: each field of the page at its bounds,
 * and the files that they are in.
 */
#include <check.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/memfd.h"
#include "tests/unit/ledger_steps.h"

/* ---- The page -------------------------------------------------------------------------- */

static const char format[] = "this daemon does not know its format";
static const char none[] = "its session is none";
static const char size[] = "its arena has no size";
static const char granted[] = "its session can't have been granted";
static const char class_name[] = "its class has no name";
static const char grants[] = "no class grants what it says";
static const char unit[] = "its unit is no text";
static const char grown[] = "its arena can't have grown so far";
static const char progress[] = "no daemon gets so far";
static const char length[] = "it has another length than its arena";

struct row {
    const char *field;
    size_t at;
    size_t bytes;
    uint64_t value;
    const char *flaw; /* NULL: it passes */
};

#define ROW(field, value, flaw)                                                                            \
    {                                                                                                      \
#field, offsetof(struct ledger_page, field), sizeof(((struct ledger_page *)0)->field), value, flaw \
    }
#define USED(done, bytes) ((uint64_t)(done) << 32 | (bytes))

static const struct row rows[] = {
    ROW(magic[0], 'J', NULL),
    ROW(magic[0], 'j', "it does not begin like a ledger"),
    ROW(magic[7], 0, "it does not begin like a ledger"),
    ROW(version, 0, format),
    ROW(version, VERSION_OLDEST - 1, format),
    ROW(version, VERSION_OLDEST, NULL),
    ROW(version, LEDGER_VERSION, NULL),
    ROW(version, LEDGER_VERSION + 1, format),
    ROW(version, UINT32_MAX, format),
    ROW(state, LEDGER_NEW, "its session has not begun"),
    ROW(state, LEDGER_LIVE, NULL),
    ROW(state, LEDGER_ENDED, "its session has ended"),
    ROW(state, LEDGER_ORPHANED, NULL),
    ROW(state, LEDGER_ORPHANED + 1, "its session has not begun"),
    ROW(state, UINT32_MAX, "its session has not begun"),
    ROW(session, 0, none),
    ROW(session, 1, NULL),
    ROW(session, UINT64_MAX - 1, NULL),
    ROW(session, UINT64_MAX, none),
    ROW(kind, ARENA_DIRECT + 1, none),
    ROW(kind, UINT32_MAX, none),
    ROW(arena_bytes, 0, size),
    ROW(arena_bytes, ARENA_MIN_BYTES - 1, size),
    ROW(arena_bytes, ARENA_MIN_BYTES, length),
    ROW(arena_bytes, ARENA - 1, size),
    ROW(arena_bytes, ARENA_LIMIT_BYTES, length),
    ROW(arena_bytes, ARENA_LIMIT_BYTES + BLOCK_BYTES, size),
    ROW(arena_bytes, UINT64_MAX - BLOCK_BYTES + 1, size),
    ROW(granularity, 0, granted),
    ROW(granularity, GRANULARITY_MIN_BYTES / 2, granted),
    ROW(granularity, GRANULARITY_MIN_BYTES, NULL),
    ROW(granularity, GRANULARITY_MIN_BYTES + 1, granted),
    ROW(granularity, 3 * GRANULARITY_MIN_BYTES, granted),
    ROW(granularity, GRANULARITY_MAX_BYTES, NULL),
    ROW(granularity, 2 * GRANULARITY_MAX_BYTES, granted),
    ROW(fill_pattern, FILL_PATTERN_DEFAULT, NULL),
    ROW(fill_pattern, 0, granted),
    ROW(features, FEATURE_IMMEDIATE_RELEASE | FEATURE_LARGE_PAGES | FEATURE_RING | FEATURE_EXECUTORS, NULL),
    ROW(features, FEATURE_EXECUTORS << 1, granted),
    ROW(features, UINT64_C(1) << 63, granted),
    ROW(grants.class[0], 0, class_name),
    ROW(grants.class[0], ' ', class_name),
    ROW(grants.class[0], '!', NULL),
    ROW(grants.class[0], '~', NULL),
    ROW(grants.class[0], 0x7F, class_name),
    ROW(grants.class[0], 0xC3, class_name),
    ROW(grants.orphans_run, 1, NULL),
    ROW(grants.orphans_run, 2, grants),
    ROW(grants.write_once, 1, length), /* it has no room for what was written */
    ROW(grants.write_once, 2, grants),
    ROW(grants.scan, SCAN_DENY, NULL),
    ROW(grants.scan, SCAN_DENY + 1, grants),
    ROW(grants.audit, AUDIT_FILE, NULL),
    ROW(grants.audit, AUDIT_FILE + 1, grants),
    ROW(grants.forbid, SCAN_ALL, NULL),
    ROW(grants.forbid, SCAN_ALL + 1, grants),
    ROW(unit[0], 0, NULL), /* it has none */
    ROW(unit[0], '\n', unit),
    ROW(unit[0], ' ', unit),
    ROW(grown_bytes, 0, NULL),
    ROW(grown_bytes, 1, grown),
    ROW(grown_bytes, BLOCK_BYTES - 1, grown),
    ROW(grown_bytes, ARENA, NULL),
    ROW(grown_bytes, ARENA + BLOCK_BYTES, grown),
    ROW(grown_bytes, UINT64_MAX - BLOCK_BYTES + 1, grown),
    ROW(unfilled_bytes, 0, NULL),
    ROW(unfilled_bytes, 1, grown),
    ROW(unfilled_bytes, ARENA, NULL),
    ROW(unfilled_bytes, ARENA + BLOCK_BYTES, grown),
    ROW(gives_back, 1, NULL),
    ROW(gives_back, 2, grown),
    ROW(head, LEDGER_KEY_SOCKET - 1, NULL),
    ROW(head, LEDGER_KEY_SOCKET, progress),
    ROW(intent.kind, INTENT_COUNT - 1, NULL),
    ROW(intent.kind, INTENT_COUNT, progress),
    ROW(intent.kind, UINT32_MAX, progress),
    ROW(progress, LEDGER_KEY_SOCKET, progress),
    /* What is still to come of an answer has room, and what is whole fits a record. */
    ROW(progress, USED(0, RESULT_MAX_BYTES), NULL),
    ROW(progress, USED(0, RESULT_MAX_BYTES + 1), progress),
    ROW(progress, USED(1, 2 * RESULT_MAX_BYTES), NULL),
    ROW(progress, USED(1, 2 * RESULT_MAX_BYTES + 1), progress),
    ROW(progress, USED(OPERATIONS_MAX, 0), NULL),
    ROW(progress, USED(OPERATIONS_MAX + 1, 0), progress),
    ROW(progress, LEDGER_READY | RECORD_MAX_BYTES, NULL),
    ROW(progress, LEDGER_READY | (RECORD_MAX_BYTES + 1), progress),
    ROW(progress, LEDGER_SENT | RECORD_MAX_BYTES, NULL),
    ROW(progress, LEDGER_SENT | (RECORD_MAX_BYTES + 1), progress),
};

START_TEST(each_field_of_the_page_is_believed_within_its_bounds_and_no_further)
{
    const struct row *row = &rows[_i];
    struct ledger ledger;
    const char *flaw;

    begin(false, false);
    memcpy((uint8_t *)page + row->at, &row->value, row->bytes); /* little endian */
    flaw = ledger_adopt(&ledger, ledger_fd);
    ck_assert_msg(is_same(flaw, row->flaw), "%s = 0x%llx: %s, not %s", row->field,
                  (unsigned long long)row->value, flaw != NULL ? flaw : "passes",
                  row->flaw != NULL ? row->flaw : "passes");
    ck_assert_int_eq(flaw == NULL ? ledger_fd : -1, ledger.fd);
    ck_assert_int_eq(ledger.page != NULL, flaw == NULL);
    ck_assert_int_ge(fcntl(ledger_fd, F_GETFD), 0); /* open, whoever has it */
    if (flaw == NULL)
        (void)munmap(ledger.page, ledger.bytes);
    end();
}
END_TEST

START_TEST(a_name_that_does_not_end_is_none)
{
    begin(false, false);
    memset(page->grants.class, 'x', sizeof page->grants.class - 1);
    memset(page->unit, 'x', sizeof page->unit - 1);
    leave();
    ck_assert_ptr_null(adopt());
    leave();
    page->grants.class[sizeof page->grants.class - 1] = 'x';
    assert_flaw(class_name, adopt());
    page->grants.class[sizeof page->grants.class - 1] = '\0';
    page->unit[sizeof page->unit - 1] = 'x';
    assert_flaw(unit, adopt());
    end();
}
END_TEST

/* ---- The file ---------------------------------------------------------------------------- */

/* Of that length, with the same page. */
static int copy(off_t bytes, int seals)
{
    int fd = memfd_new("copy");
    size_t count = bytes < LEDGER_PAGE_BYTES ? (size_t)bytes : LEDGER_PAGE_BYTES;

    ck_assert_int_eq(ftruncate(fd, bytes), 0);
    ck_assert_int_eq(pwrite(fd, page, count, 0), (ssize_t)count);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static const char *flaw_of(int fd)
{
    struct ledger ledger;
    const char *flaw = ledger_adopt(&ledger, fd);

    if (flaw == NULL)
        ledger_deinit(&ledger);
    else if (fd >= 0)
        ck_assert_int_eq(close(fd), 0);
    return flaw;
}

static off_t file_bytes(int fd)
{
    struct stat status;

    ck_assert_int_eq(fstat(fd, &status), 0);
    return status.st_size;
}

START_TEST(a_ledger_has_the_length_of_its_arena_exactly)
{
    off_t bytes;

    for (int write_once = 0; write_once < 2; write_once++) {
        begin(false, write_once != 0);
        bytes = file_bytes(ledger_fd);
        assert_flaw(NULL, flaw_of(copy(bytes, F_SEAL_SHRINK)));
        assert_flaw(length, flaw_of(copy(bytes - 1, F_SEAL_SHRINK)));
        assert_flaw(length, flaw_of(copy(bytes + 1, F_SEAL_SHRINK)));
        assert_flaw(length, flaw_of(copy(bytes - LEDGER_PAGE_BYTES, F_SEAL_SHRINK)));
        assert_flaw(length, flaw_of(copy((off_t)sizeof *page, F_SEAL_SHRINK)));
        assert_flaw("it is too short", flaw_of(copy((off_t)sizeof *page - 1, F_SEAL_SHRINK)));
        assert_flaw("it is too short", flaw_of(copy(0, F_SEAL_SHRINK)));
        end();
    }
}
END_TEST

START_TEST(what_can_be_made_shorter_is_no_ledger)
{
    static const char not_sealed[] = "its length is not sealed";
    off_t bytes;
    int ends[2];

    begin(false, false);
    bytes = file_bytes(ledger_fd);
    assert_flaw(not_sealed, flaw_of(copy(bytes, 0)));
    assert_flaw(not_sealed, flaw_of(copy(bytes, F_SEAL_GROW | F_SEAL_SEAL)));
    assert_flaw(NULL, flaw_of(copy(bytes, F_SEAL_SHRINK | F_SEAL_SEAL)));
    assert_flaw("there is no memory for it", flaw_of(copy(bytes, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE)));
    assert_flaw(not_sealed, flaw_of(open("/dev/zero", O_RDWR | O_CLOEXEC)));
    assert_flaw(not_sealed, flaw_of(open("/", O_RDONLY | O_CLOEXEC)));
    assert_flaw(not_sealed, flaw_of(-1));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_flaw(not_sealed, flaw_of(ends[0]));
    assert_flaw(not_sealed, flaw_of(ends[1]));
    end();
}
END_TEST

static long memory_bytes(int fd)
{
    struct stat status;

    ck_assert_int_eq(fstat(fd, &status), 0);
    return (long)status.st_blocks * 512;
}

/* It could be more than there is, and nobody knows yet whether it is so long. */
START_TEST(what_a_page_says_of_its_arena_takes_no_memory_before_the_arena_is_seen)
{
    struct ledger ledger;

    begin(false, false);
    (void)alloc(64);
    leave();
    ck_assert_int_eq(memory_bytes(ledger_fd), 2 * LEDGER_PAGE_BYTES); /* the page, and one of units */
    page->grown_bytes = ARENA;
    ck_assert_ptr_null(ledger_adopt(&ledger, dup(ledger_fd)));
    ck_assert_int_eq(memory_bytes(ledger_fd), 2 * LEDGER_PAGE_BYTES);
    ledger_deinit(&ledger);
    ck_assert_ptr_null(adopt());
    ck_assert_uint_eq(session->arena.grown_bytes, BLOCK_BYTES); /* as long as the file is */
    ck_assert_uint_eq(page->grown_bytes, BLOCK_BYTES);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], BLOCK_BYTES);
    ck_assert(is_span(SPAN, 64));
    ck_assert_int_eq(memory_bytes(ledger_fd), 2 * LEDGER_PAGE_BYTES);
    end();
}
END_TEST

START_TEST(an_arena_that_is_another_s_is_left_as_it_is)
{
    const char *flaw;
    struct ledger ledger;
    int other = memfd_new("other");

    begin(false, false);
    (void)alloc(64);
    leave();
    ck_assert_int_eq(ftruncate(other, 5 * BLOCK_BYTES), 0);
    ck_assert_int_eq(fcntl(other, F_ADD_SEALS, F_SEAL_SEAL), 0);
    ck_assert_ptr_null(ledger_adopt(&ledger, dup(ledger_fd)));
    ck_assert_ptr_null(session_adopt(&ledger, dup(other), class, account, &flaw));
    assert_flaw("its arena is another's", flaw);
    ledger_deinit(&ledger);
    ck_assert_int_eq(file_bytes(other), 5 * BLOCK_BYTES);
    (void)close(other);
    end();
}
END_TEST

START_TEST(units_that_no_heap_has_are_refused)
{
    uint64_t *used;

    begin(false, false);
    (void)alloc(64);
    used = ((struct unit *)ledger_units(&session->ledger))->used;
    used[0] |= UINT64_C(1) << 40; /* of no span */
    leave();
    assert_flaw("used granules of no span", adopt());
    end();
}
END_TEST

START_TEST(a_session_has_no_more_spans_than_it_may)
{
    begin(false, false);
    (void)alloc(64);
    (void)alloc(64);
    class->span_max = 2;
    come_back();
    leave();
    class->span_max = 1;
    assert_flaw("it has more spans than it may", adopt());
    end();
}
END_TEST

/* Else a reset that nobody asked for would fill them. */
START_TEST(a_reset_that_is_not_over_is_one_of_an_empty_heap)
{
    begin(false, false);
    (void)alloc(64);
    leave();
    page->unfilled_bytes = BLOCK_BYTES;
    assert_flaw("what it was to fill holds spans", adopt());
    page->unfilled_bytes = 0;
    ck_assert_ptr_null(adopt());
    ck_assert_int_eq(run(&(struct request){.operation = OPERATION_RELEASE, .span = SPAN}), STATUS_OK);
    ledger_commit_entry(&session->ledger, 0);
    leave();
    page->unfilled_bytes = ARENA; /* cut to what there is */
    ck_assert_ptr_null(adopt());
    ck_assert_uint_eq(page->unfilled_bytes, page->grown_bytes);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger");
    TCase *fields = tcase_create("fields");
    TCase *files = tcase_create("files");

    tcase_add_loop_test(fields, each_field_of_the_page_is_believed_within_its_bounds_and_no_further, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(fields, a_name_that_does_not_end_is_none);
    tcase_add_test(files, a_ledger_has_the_length_of_its_arena_exactly);
    tcase_add_test(files, what_can_be_made_shorter_is_no_ledger);
    tcase_add_test(files, what_a_page_says_of_its_arena_takes_no_memory_before_the_arena_is_seen);
    tcase_add_test(files, an_arena_that_is_another_s_is_left_as_it_is);
    tcase_add_test(files, units_that_no_heap_has_are_refused);
    tcase_add_test(files, a_session_has_no_more_spans_than_it_may);
    tcase_add_test(files, a_reset_that_is_not_over_is_one_of_an_empty_heap);
    suite_add_tcase(suite, fields);
    suite_add_tcase(suite, files);
    return suite_run(suite);
}
