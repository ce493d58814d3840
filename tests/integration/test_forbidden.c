/* SPDX-License-Identifier: MIT */
/*
 * What a compiler meets whose class forbids instructions: which one, and where, whichever call it was, so
 * that it can encode it otherwise; and classes that only report, or look for less.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

#if defined(__aarch64__)
static const uint8_t forbidden[] = {0x01, 0x00, 0x00, 0xD4};
#define NAME "svc"
#define STEP 4u
#else
static const uint8_t forbidden[] = {0x0F, 0x05};
#define NAME "syscall"
#define STEP 1u
#endif
#define COUNT sizeof forbidden

#define LARGE_BYTES ((size_t)300000)

static struct broker broker;
static jitc_client *client;

static void start_denying(void)
{
    broker_start(&broker, "[class default]\nscan=deny\n");
}

static void start_reporting(void)
{
    broker_start(&broker, "[class default]\nscan=report\n");
}

static void start_with_others(void)
{
    broker_start(&broker, "[class default]\nscan=deny\nforbid=far segment\n");
}

static void start_off(void)
{
    broker_start(&broker, "[class default]\nscan=off\nforbid=syscall pku segment far\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

static void connect_worker(void)
{
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
}

static void disconnect(void)
{
    client = jitc_close(client);
}

#define assert_ok(call) assert_status(JITC_OK, "", call)

static jitc_span alloc_span(size_t size)
{
    jitc_span span;

    assert_ok(jitc_alloc(client, &span, size));
    return span;
}

/* The last call told of it, there. */
static void expect_told(const void *address)
{
    const char *name = NULL;

    ck_assert_ptr_eq(jitc_error_forbidden(client, &name), address);
    ck_assert_str_eq(name, NAME);
    ck_assert_ptr_eq(jitc_error_forbidden(client, NULL), address);
}

static const uint8_t *address_in(const jitc_span *span, size_t offset)
{
    return (const uint8_t *)jitc_span_rx(span) + offset;
}

/* ---- Denied ---------------------------------------------------------------------------------- */

START_TEST(nothing_is_told_where_nothing_was_forbidden)
{
    const char *name = "untouched";
    jitc_span span = alloc_span(64);

    ck_assert_ptr_null(jitc_error_forbidden(client, &name));
    assert_status(JITC_E_FORBIDDEN, NAME ": begins at 0x4 of the span",
                  jitc_write(client, &span, 4, forbidden, COUNT, JITC_WRITE_DEFAULT));
    expect_told(address_in(&span, 4));
    assert_status(JITC_E_OUT_OF_RANGE, "", jitc_write(client, &span, 60, forbidden, 8, JITC_WRITE_DEFAULT));
    ck_assert_ptr_null(jitc_error_forbidden(client, &name));
    ck_assert_str_eq(name, "untouched");
}
END_TEST

#if defined(__x86_64__)
/* A constant that holds one, and the same function with the constant made otherwise. */
START_TEST(a_compiler_that_encodes_it_otherwise_gets_its_function)
{
    static const uint8_t otherwise[] = {0xB8, 0x0E, 0x04, 0, 0, 0x05, 1, 1, 0, 0, 0xC3};
    jitc_span span = alloc_span(64);
    uint8_t code[CODE_RETURN_BYTES];

    code_return(code, 0x050F); /* mov eax, 0x50F; ret */
    assert_status(JITC_E_FORBIDDEN, "data: syscall: begins at 0x1 of",
                  jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    expect_told(address_in(&span, 1));
    /* mov eax, 0x40E; add eax, 0x101; ret */
    assert_ok(jitc_write(client, &span, 0, otherwise, sizeof otherwise, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 0x50F);
}
END_TEST
#endif

START_TEST(in_a_large_write_the_place_is_exact_at_every_seam)
{
    static const size_t seams[] = {STEP * 2, 32768, 65536, 98304, 131072, 262144, LARGE_BYTES / 4 * 4};
    jitc_span span = alloc_span(LARGE_BYTES);
    uint8_t *code = calloc(1, LARGE_BYTES);

    ck_assert_ptr_nonnull(code);
    for (size_t i = 0; i < sizeof seams / sizeof seams[0]; i++) {
        for (size_t at = seams[i] - COUNT; at + COUNT <= LARGE_BYTES && at <= seams[i]; at += STEP) {
            memcpy(code + at, forbidden, COUNT);
            assert_status(JITC_E_FORBIDDEN, NAME,
                          jitc_write(client, &span, 0, code, LARGE_BYTES, JITC_WRITE_DEFAULT));
            expect_told(address_in(&span, at));
            memset(code + at, 0, COUNT);
            assert_ok(jitc_write(client, &span, 0, code, LARGE_BYTES, JITC_WRITE_DEFAULT));
        }
    }
    free(code);
}
END_TEST

/* With the first part at the end of the span before it. */
START_TEST(what_begins_in_another_span_is_told_to_begin_there)
{
    jitc_span spans[2] = {alloc_span(64), alloc_span(64)};
    bool in_order = (uint8_t *)spans[0].rx + 64 == (uint8_t *)spans[1].rx;
    jitc_span *left = &spans[in_order ? 0 : 1];
    jitc_span *right = &spans[in_order ? 1 : 0];

    ck_assert_ptr_eq((uint8_t *)left->rx + 64, right->rx);
    assert_ok(jitc_write(client, left, 63, forbidden, 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_FORBIDDEN, NAME ": begins 1 bytes before the span",
                  jitc_write(client, right, 0, forbidden + 1, COUNT - 1, JITC_WRITE_DEFAULT));
    expect_told(address_in(left, 63));
    ck_assert_ptr_eq(jitc_error_forbidden(client, NULL), (uint8_t *)right->rx - 1);
}
END_TEST

START_TEST(a_scope_tells_it_when_it_is_flushed_and_writes_the_rest)
{
    enum { SPANS = 20, BAD = 7, WORSE = 11 };
    jitc_span spans[SPANS];
    jitc_scope *scope;
    uint8_t code[64] = {0};
    uint8_t bad[64] = {0};

    memset(code, 0xC3, sizeof code);
    memcpy(bad + 20, forbidden, COUNT);
    for (int i = 0; i < SPANS; i++)
        spans[i] = alloc_span(64);
    assert_ok(jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    for (int i = 0; i < SPANS; i++)
        assert_ok(jitc_scope_write(scope, &spans[i], 0, i == BAD || i == WORSE ? bad : code, sizeof code));
    assert_status(JITC_E_FORBIDDEN, NAME, jitc_scope_flush(scope));
    expect_told(address_in(&spans[BAD], 20)); /* the first */
    assert_ok(jitc_scope_write(scope, &spans[BAD], 0, code, sizeof code));
    assert_ok(jitc_scope_end(scope));
    for (int i = 0; i < SPANS; i++)
        ck_assert_int_eq(memcmp(spans[i].rx, code, sizeof code) == 0, i != WORSE);
}
END_TEST

static int emit(jitc_span *span, void *offset)
{
    memset(span->rw, 0, span->size);
    memcpy((uint8_t *)span->rw + *(size_t *)offset, forbidden, COUNT);
    return 0;
}

START_TEST(what_a_callback_writes_is_looked_at)
{
    size_t offset = 100;
    jitc_span span = alloc_span(1024);
    uint8_t before[1024];

    memcpy(before, span.rx, sizeof before);
    assert_status(JITC_E_FORBIDDEN, NAME, jitc_write_fn(client, &span, emit, &offset, JITC_WRITE_DEFAULT));
    expect_told(address_in(&span, offset));
    ck_assert_int_eq(memcmp(before, span.rx, sizeof before), 0);
}
END_TEST

START_TEST(a_patch_is_looked_at_and_tells_nothing_of_what_was_there)
{
    jitc_span span = alloc_span(64);
    const uint8_t zeros[64] = {0};
    uint64_t desired = 0;
    uint64_t found = 12345;

    memcpy(&desired, forbidden, COUNT);
    assert_ok(jitc_write(client, &span, 0, zeros, sizeof zeros, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_FORBIDDEN, "desired: " NAME, jitc_patch(client, &span, 8, 8, 0, desired, &found));
    expect_told(address_in(&span, 8));
    ck_assert_uint_eq(found, 12345);
    ck_assert_int_eq(memcmp(span.rx, zeros, sizeof zeros), 0);
    assert_ok(jitc_patch(client, &span, 8, 8, 0, 0x9090909090909090u, &found));
}
END_TEST

/* ---- Reported, and not looked for ------------------------------------------------------------ */

START_TEST(where_it_is_reported_it_is_written_and_the_log_has_the_first_eight)
{
    jitc_span span = alloc_span(256);
    unsigned logged = broker_log_count(&broker, "reason=\"" NAME ": begins at");
    unsigned ended = broker_log_count(&broker, "findings=10");
    uint64_t found;

    for (size_t i = 0; i < 9; i++)
        assert_ok(jitc_write(client, &span, 16 * i, forbidden, COUNT, JITC_WRITE_DEFAULT));
    assert_ok(jitc_patch(client, &span, 32, 1, forbidden[0], forbidden[0], &found));
    for (size_t i = 0; i < 9; i++)
        ck_assert_int_eq(memcmp(address_in(&span, 16 * i), forbidden, COUNT), 0);
    /* Beside one that was there before, nothing is found. */
    assert_ok(jitc_write(client, &span, COUNT, "\x90\x90\x90", 3, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(broker_log_count(&broker, "reason=\"" NAME ": begins at") - logged, 8);
    client = jitc_close(client);
    while (broker_log_count(&broker, "findings=") == 0)
        (void)usleep(1000);
    ck_assert_uint_eq(broker_log_count(&broker, "findings=10") - ended, 1);
}
END_TEST

START_TEST(what_is_not_looked_for_is_written)
{
    jitc_span span = alloc_span(64);

    assert_ok(jitc_write(client, &span, 0, forbidden, COUNT, JITC_WRITE_DEFAULT));
    ck_assert_int_eq(memcmp(span.rx, forbidden, COUNT), 0);
    ck_assert_uint_eq(broker_log_count(&broker, "finding:"), 0);
}
END_TEST

#if defined(__x86_64__)
START_TEST(only_the_sets_that_are_named_are_looked_for)
{
    static const struct {
        const char *name; /* NULL: it is written */
        uint8_t bytes[3];
    } tries[] = {
        {NULL, {0x0F, 0x05, 0x90}},       {NULL, {0xCD, 0x80, 0x90}},       {NULL, {0x0F, 0x01, 0xEF}},
        {"wrfsbase", {0x0F, 0xAE, 0xD0}}, {"wrgsbase", {0x0F, 0xAE, 0xD8}}, {"far call", {0xFF, 0x18, 0x90}},
        {"far jmp", {0xFF, 0x28, 0x90}},
    };
    jitc_span span = alloc_span(64);

    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        const char *name = NULL;
        int status = jitc_write(client, &span, 0, tries[i].bytes, 3, JITC_WRITE_DEFAULT);

        ck_assert_int_eq(status, tries[i].name == NULL ? JITC_OK : JITC_E_FORBIDDEN);
        if (tries[i].name == NULL)
            continue;
        ck_assert_ptr_eq(jitc_error_forbidden(client, &name), span.rx);
        ck_assert_str_eq(name, tries[i].name);
    }
}
END_TEST
#endif

static TCase *case_of(const char *name, SFun start)
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_checked_fixture(tcase, connect_worker, disconnect);
    tcase_set_timeout(tcase, 0);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("forbidden");
    TCase *denied = case_of("denied", start_denying);
    TCase *reported = case_of("reported", start_reporting);
    TCase *others = case_of("others", start_with_others);
    TCase *off = case_of("off", start_off);

    tcase_add_test(denied, nothing_is_told_where_nothing_was_forbidden);
#if defined(__x86_64__)
    tcase_add_test(denied, a_compiler_that_encodes_it_otherwise_gets_its_function);
    tcase_add_test(others, only_the_sets_that_are_named_are_looked_for);
#endif
    tcase_add_test(denied, in_a_large_write_the_place_is_exact_at_every_seam);
    tcase_add_test(denied, what_begins_in_another_span_is_told_to_begin_there);
    tcase_add_test(denied, a_scope_tells_it_when_it_is_flushed_and_writes_the_rest);
    tcase_add_test(denied, what_a_callback_writes_is_looked_at);
    tcase_add_test(denied, a_patch_is_looked_at_and_tells_nothing_of_what_was_there);
    tcase_add_test(reported, where_it_is_reported_it_is_written_and_the_log_has_the_first_eight);
    tcase_add_test(others, what_is_not_looked_for_is_written);
    tcase_add_test(off, what_is_not_looked_for_is_written);
    suite_add_tcase(suite, denied);
    suite_add_tcase(suite, reported);
    suite_add_tcase(suite, others);
    suite_add_tcase(suite, off);
    return suite_run(suite);
}
