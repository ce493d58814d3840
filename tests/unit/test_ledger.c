/* SPDX-License-Identifier: MIT */
/*
 * Ledgers that a daemon left behind, as it would and as it never would: each field of the page at its bounds,
 * each intent at its own, and what the session is that comes of it.
 */
#include "daemon/ledger.h"

#include <check.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/adoption.h"
#include "daemon/config.h"
#include "daemon/memfd.h"
#include "daemon/operation.h"
#include "daemon/store.h"
#include "tests/harness/parcel.h"
#include "tests/harness/suite.h"

#define UNITS 9u /* more than fit one page of the ledger */
#define ARENA ((uint64_t)UNITS * BLOCK_BYTES)
#define SPAN UINT64_C(64) /* the first one in an arena */
#define VERSION_OLDEST (LEDGER_VERSION > 1 ? LEDGER_VERSION - 1 : LEDGER_VERSION)

static struct policy *policy;
static struct class *class;
static struct quota quota;
static struct account *account;
static struct session *session;
static struct result result;
/* What is left of a session. */
static int ledger_fd;
static int arena_fd;
static struct ledger_page *page; /* of the ledger, whoever else has it mapped */

static void map_page(void)
{
    page = mmap(NULL, LEDGER_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ledger_fd, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
}

static void grant_what_nobody_else_does(void)
{
    class->bytes_max = 5 * ARENA;
    class->rate_bytes = 1u << 30;
    class->session_max = 3;
    class->span_max = 77;
    class->executor_max = 5;
    class->rate = 1000;
    class->forbid = SCAN_FAR;
    class->orphans_run = true;
    class->scan = SCAN_DENY;
}

/* A session of a user who is not the daemon's, or is. */
static void begin(bool is_sealed, bool write_once)
{
    struct hello hello = {.version_max = PROTOCOL_VERSION, .write_mode = WRITE_THROUGH, .arena_bytes = ARENA};
    struct peer peer = {.uid = geteuid() + !is_sealed, .unit = "some.service"};

    policy = config_defaults("some");
    ck_assert_ptr_nonnull(policy);
    class = policy->classes[0];
    class->write_once = write_once;
    grant_what_nobody_else_does();
    account = quota_account(&quota, peer.uid);
    result_init(&result);
    ck_assert_int_eq(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(7, class, &peer, account, &hello, &result);
    ck_assert_msg(session != NULL, "%s", result.text);
    session->ledger.page->state = LEDGER_LIVE;
    ledger_fd = dup(session->ledger.fd);
    arena_fd = dup(session->arena.fd);
    map_page();
}

static void end(void)
{
    session = session_unref(session);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    ck_assert_uint_eq(account->held[QUOTA_SPANS], 0);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
    ck_assert_ptr_null(quota.accounts);
    (void)munmap(page, LEDGER_PAGE_BYTES);
    (void)close(ledger_fd);
    (void)close(arena_fd);
}

/* The operation of the ring's next entry, as far as it gets before the daemon is killed. */
static enum status run(const struct request *request)
{
    session->ledger.key = page->head;
    while (!operation_run(session, request, OPERATION_STEP_BYTES, &result))
        continue;
    return result.status;
}

static enum status run_all(const struct request *request)
{
    enum status status = run(request);

    ledger_commit_entry(&session->ledger, page->refused[page->head & 1] + (status != STATUS_OK));
    return status;
}

static uint64_t alloc(uint64_t bytes)
{
    ck_assert_int_eq(run_all(&(struct request){.operation = OPERATION_ALLOC, .size = bytes}), STATUS_OK);
    return result.offset;
}

static const uint8_t code[64] = {0x90};

static struct request write_to(uint64_t span)
{
    return (struct request){
        .operation = OPERATION_WRITE, .span = span, .data = code, .data_bytes = sizeof code};
}

static struct request of(enum operation operation, uint64_t span)
{
    return (struct request){.operation = operation, .span = span};
}

/* The daemon dies. */
static void leave(void)
{
    session = session_unref(session);
}

/* The next daemon; NULL, or what it finds wrong. */
static const char *adopt(void)
{
    struct ledger ledger;
    int fd = dup(ledger_fd);
    const char *flaw = ledger_adopt(&ledger, fd);

    if (flaw != NULL) {
        ck_assert_int_eq(close(fd), 0); /* the caller's still */
        return flaw;
    }
    flaw = ledger_begin_adoption(&ledger);
    if (flaw != NULL) {
        ledger_deinit(&ledger);
        return flaw;
    }
    session = session_adopt(&ledger, dup(arena_fd), class, account, &flaw);
    ck_assert_int_eq(flaw == NULL, session != NULL);
    if (flaw == NULL)
        ledger_end_adoption(&session->ledger);
    return flaw;
}

static void come_back(void)
{
    const char *flaw;

    leave();
    flaw = adopt();
    ck_assert_msg(flaw == NULL, "%s", flaw);
}

static bool is_span(uint64_t offset, uint64_t bytes)
{
    struct heap_span span;

    return heap_find(&session->heap, offset, &span) && span.bytes == bytes;
}

static bool is_same(const char *flaw, const char *wanted)
{
    return flaw == NULL || wanted == NULL ? flaw == wanted : strcmp(flaw, wanted) == 0;
}

#define assert_flaw(wanted, got)                                                                         \
    do {                                                                                                 \
        const char *flaw_ = (got);                                                                       \
        ck_assert_msg(is_same(flaw_, wanted), "%s, not %s", flaw_ != NULL ? flaw_ : "no flaw", #wanted); \
    } while (0)

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

START_TEST(a_patch_that_was_done_finds_what_it_found)
{
    const struct request patch = {
        .operation = OPERATION_PATCH,
        .span = SPAN,
        .at = 8,
        .width = 4,
        .expected = FILL_PATTERN_DEFAULT,
        .desired = 0x90909090,
    };
    struct request other = patch;

    other.desired = 0x90909091;
    begin(false, false);
    (void)alloc(64);
    ck_assert_int_eq(run(&patch), STATUS_OK);
    come_back();
    ck_assert_int_eq(session->ledger.done.kind, INTENT_PATCH);
    ck_assert_int_eq(run(&other), STATUS_MISMATCH); /* the client made another of it */
    ck_assert_int_eq(run_all(&patch), STATUS_OK);
    ck_assert_uint_eq(result.found, FILL_PATTERN_DEFAULT);
    ck_assert_int_eq(run_all(&patch), STATUS_MISMATCH);
    end();
}
END_TEST

START_TEST(a_patch_of_what_is_written_once_is_taken_back_and_done_again)
{
    const struct request patch = {
        .operation = OPERATION_PATCH,
        .span = SPAN,
        .at = 8,
        .width = 4,
        .expected = FILL_PATTERN_DEFAULT,
        .desired = 0x90909090,
    };

    begin(false, true);
    (void)alloc(64);
    ck_assert_int_eq(run(&patch), STATUS_OK);
    come_back();
    ck_assert_int_eq(session->ledger.done.kind, INTENT_NONE);
    ck_assert_int_eq(run_all(&patch), STATUS_OK);
    ck_assert_uint_eq(result.found, FILL_PATTERN_DEFAULT);
    ck_assert_int_eq(run_all(&patch), STATUS_SEALED);
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

START_TEST(a_session_whose_first_turn_ends_three_daemons_ends)
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
START_TEST(a_session_that_ends_three_daemons_while_they_adopt_it_ends)
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

static void die_of_executor(uint64_t number)
{
    ledger_blame_executor(&session->ledger, number);
    leave();
    assert_flaw(NULL, adopt());
}

START_TEST(an_executor_whose_first_turn_ends_three_daemons_is_to_end_and_not_its_session)
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
    ck_assert_uint_eq(adoption_run(&server, &stored, 1, &arena_bytes), server.connections_count);
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
    Suite *suite = suite_create("ledger");
    TCase *fields = tcase_create("fields");
    TCase *files = tcase_create("files");
    TCase *undoing = tcase_create("intents");
    TCase *rest = tcase_create("sessions");

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
    tcase_add_test(rest, a_session_whose_first_turn_ends_three_daemons_ends);
    tcase_add_test(rest, a_session_that_ends_three_daemons_while_they_adopt_it_ends);
    tcase_add_test(rest, an_executor_whose_first_turn_ends_three_daemons_is_to_end_and_not_its_session);
    tcase_add_test(rest, daemons_that_died_between_turns_or_not_at_their_first_one_do_not_count);
    tcase_add_test(rest, of_an_arena_that_was_sealed_nothing_changes_and_all_is_told);
    tcase_add_test(rest, what_was_granted_stays_granted_whatever_the_policy_says);
    suite_add_tcase(suite, fields);
    suite_add_tcase(suite, files);
    suite_add_tcase(suite, undoing);
    suite_add_tcase(suite, rest);
    return suite_run(suite);
}
