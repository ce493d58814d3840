/* SPDX-License-Identifier: MIT */
/*
 * A ledger that a daemon of the format before ours left behind is read, and is one of ours afterwards.
 * The image is what such a daemon stored: its page, its two units, its write-once bits; of a session with
 * three spans (the second one written to, the third sealed), a lease, and an alloc that was cut off.
 */
#include <check.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/ledger.h"
#include "daemon/memfd.h"
#include "daemon/operation.h"
#include "daemon/policy.h"
#include "proto/hello.h"
#include "tests/harness/suite.h"

#define UNITS 2u
#define ARENA_BYTES ((uint64_t)UNITS * BLOCK_BYTES)
#define PAGE_BYTES LEDGER_ANSWER_AT
#define UNITS_BYTES (UNITS * sizeof(struct unit))
#define WRITTEN_BYTES (ARENA_BYTES / 64 / 8)

static uint8_t image[PAGE_BYTES + UNITS_BYTES + WRITTEN_BYTES];
static struct quota quota;
static struct policy *policy;
static struct account *account;

static void read_image(void)
{
    FILE *file = fopen(LEDGER_IMAGE, "re");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(image, 1, sizeof image, file), sizeof image);
    ck_assert_int_eq(fgetc(file), EOF);
    (void)fclose(file);
}

static void put(int fd, const void *bytes, size_t count, size_t at)
{
    ck_assert_int_eq(pwrite(fd, bytes, count, (off_t)at), (ssize_t)count);
}

static int arena(void)
{
    static uint8_t block[BLOCK_BYTES];
    int fd = memfd_new("arena");

    fill_pattern_spread(block, sizeof block, FILL_PATTERN_DEFAULT);
    put(fd, block, sizeof block, 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
    return fd;
}

/* As it was stored; but an inode is of its boot. */
static int ledger_of(int arena_fd)
{
    const size_t length = 143360; /* by the format: page, answer, units, write-once bits, in whole pages */
    uint64_t inode = memfd_inode(arena_fd);
    uint32_t fill_pattern = FILL_PATTERN_DEFAULT; /* of this architecture */
    int fd = memfd_new("ledger");

    memcpy(image + offsetof(struct ledger_page, arena_inode), &inode, sizeof inode);
    memcpy(image + offsetof(struct ledger_page, fill_pattern), &fill_pattern, sizeof fill_pattern);
    ck_assert_int_eq(ftruncate(fd, (off_t)length), 0);
    put(fd, image, PAGE_BYTES, 0);
    put(fd, image + PAGE_BYTES, UNITS_BYTES, 4096 + 131072);
    put(fd, image + PAGE_BYTES + UNITS_BYTES, WRITTEN_BYTES, 4096 + 131072 + 4096);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    return fd;
}

static struct session *adopt(const char **flaw)
{
    struct ledger ledger;
    int arena_fd = arena();
    struct class *class;

    *flaw = ledger_adopt(&ledger, ledger_of(arena_fd));
    if (*flaw != NULL)
        return NULL;
    policy = policy_new();
    class = policy_add(policy, ledger.page->grants.class);
    class->span_max = ledger.page->grants.span_max;
    class->bytes_max = ledger.page->grants.bytes_max;
    class->write_once = ledger.page->grants.write_once != 0;
    account = quota_account(&quota, ledger.page->uid);
    return session_adopt(&ledger, arena_fd, class, account, flaw);
}

static struct result run(struct session *session, const struct request *request)
{
    struct result result;

    while (!operation_run(session, request, OPERATION_STEP_BYTES, &result))
        continue;
    return result;
}

static void assert_span(const struct session *session, uint64_t offset, uint64_t bytes, bool sealed)
{
    struct heap_span span;

    ck_assert(heap_find(&session->heap, offset, &span));
    ck_assert_uint_eq(span.bytes, bytes);
    ck_assert_int_eq(span.sealed, sealed);
}

static void drop(struct session *session)
{
    session = session_unref(session);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
    ck_assert_ptr_null(quota.accounts);
}

START_TEST(the_format_before_ours_is_read_and_becomes_ours)
{
    const char *flaw;
    struct session *session;
    const struct ledger_page *page;

    read_image();
    session = adopt(&flaw);
    ck_assert_msg(session != NULL, "%s", flaw);
    page = session->ledger.page;
    ck_assert_uint_eq(page->version, LEDGER_VERSION);
    ck_assert_uint_eq(session->id, 7);
    ck_assert_uint_eq(page->head, 6);
    ck_assert_uint_eq(page->refused[page->head & 1], 2);
    ck_assert_str_eq(page->unit, "web.service");
    ck_assert_uint_eq(page->grants.span_max, 1000);
    ck_assert_uint_eq(page->grants.rate, 5000);
    ck_assert_uint_eq(page->began_ns | page->operations | page->refusals, 0);
    ck_assert_uint_eq(session->heap.spans, 3);
    assert_span(session, 0x40, 64, false);
    assert_span(session, 0x80, 1024, false);
    assert_span(session, 0x480, 30016, true);
    ck_assert(heap_is_leased(&session->heap, 0));
    ck_assert_uint_eq(account->held[QUOTA_BYTES], BLOCK_BYTES);
    drop(session);
}
END_TEST

START_TEST(what_it_says_holds)
{
    static const uint8_t data[64] = {0x90};
    const char *flaw;
    struct session *session;

    read_image();
    session = adopt(&flaw);
    ck_assert_msg(session != NULL, "%s", flaw);
    /* Written once: the first two granules of the second span were, the third was not. */
    ck_assert_int_eq(
        run(session,
            &(struct request){
                .operation = OPERATION_WRITE, .span = 0x80, .at = 64, .data = data, .data_bytes = 64})
            .status,
        STATUS_SEALED);
    ck_assert_int_eq(
        run(session,
            &(struct request){
                .operation = OPERATION_WRITE, .span = 0x80, .at = 128, .data = data, .data_bytes = 64})
            .status,
        STATUS_OK);
    /* The alloc that was cut off took nothing: it is free for a carve. */
    ck_assert_int_eq(
        run(session, &(struct request){.operation = OPERATION_CARVE, .span = 0xC000, .size = 128}).status,
        STATUS_OK);
    ck_assert_int_eq(run(session, &(struct request){.operation = OPERATION_RELEASE, .span = 0x480}).status,
                     STATUS_OK);
    ck_assert_uint_eq(session->heap.spans, 3);
    drop(session);
}
END_TEST

START_TEST(formats_that_nobody_knows_are_refused)
{
    static const uint32_t versions[] = {0, LEDGER_VERSION + 1, UINT32_MAX};
    const char *flaw;

    for (unsigned i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        read_image();
        memcpy(image + offsetof(struct ledger_page, version), &versions[i], sizeof versions[i]);
        ck_assert_ptr_null(adopt(&flaw));
        ck_assert_str_eq(flaw, "this daemon does not know its format");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger_format");
    TCase *tests = tcase_create("image");

    tcase_add_test(tests, the_format_before_ours_is_read_and_becomes_ours);
    tcase_add_test(tests, what_it_says_holds);
    tcase_add_test(tests, formats_that_nobody_knows_are_refused);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
