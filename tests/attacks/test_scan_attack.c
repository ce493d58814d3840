/* SPDX-License-Identifier: MIT */
/*
 * Ways to get a forbidden instruction into an arena whose class denies it: in parts, in whatever order,
 * by whatever operation, over whatever border, and by changing the bytes while the daemon looks at
 * them. Each is refused, or leaves none behind, however it is asked for.
 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/scan.h"
#include "tests/attacks/attacker.h"
#include "tests/attacks/ring_client.h"
#include "tests/harness/attack.h"
#include "tests/harness/suite.h"

#define ALL (SCAN_SYSCALL | SCAN_PKU | SCAN_SEGMENT | SCAN_FAR)
#define CONFIG "[class default]\nscan=deny\nforbid=syscall pku segment far\n"

/* What is tried, and what is harmless beside it. */
#if defined(__aarch64__)
static const uint8_t forbidden[] = {0x01, 0x00, 0x00, 0xD4};
#define NAME "svc"
#define HARMLESS 0xFF
#else
static const uint8_t forbidden[] = {0x0F, 0x01, 0xEF};
#define NAME "wrpkru"
#define HARMLESS 0x90
#endif
enum {
    COUNT = sizeof forbidden,
    GRANULE = 64,
    RACE_BYTES = 4096,
    RACE_ROUNDS = 300,
    MIXTURE_ROUNDS = 400,
    BATCH = 32,
};

/* How it is asked for; each test that is not about the ring is run with both. */
static enum plane { BY_RING, BY_SOCKET } plane;

static struct broker broker;
static struct ring_client client;

static void start_broker(void)
{
    broker_start(&broker, CONFIG);
}

static void stop_broker(void)
{
    broker_stop(&broker);
}

static void connect_for_ring(void)
{
    become(WORKER_UID);
    ring_client_start(&client, &broker, 0);
    plane = BY_RING;
}

/* It has a ring, and doesn't use it. */
static void connect_for_socket(void)
{
    connect_for_ring();
    plane = BY_SOCKET;
}

static void disconnect(void)
{
    ring_client_stop(&client);
}

/* ---- Asking ----------------------------------------------------------------------------- */

static struct result run(const struct request *request)
{
    uint64_t number = client.tail;
    struct ring_entry entry;

    if (plane == BY_SOCKET)
        return wire_run(client.wire, request);
    if (request->operation == OPERATION_WRITE && request->data_bytes > 0)
        memcpy(client.ring.staging, request->data, request->data_bytes);
    if (request->operation == OPERATION_PATCH) {
        memcpy(client.ring.staging, &request->expected, sizeof request->expected);
        memcpy(client.ring.staging + sizeof request->expected, &request->desired, sizeof request->desired);
    }
    ring_encode(&client.ring, number, request, 0);
    entry = client.ring.entries[number % RING_ENTRIES];
    return ring_client_run(&client, &entry);
}

static uint64_t alloc(uint64_t size)
{
    struct result result = run(&(struct request){.operation = OPERATION_ALLOC, .size = size});

    ck_assert_msg(result.status == STATUS_OK && result.has_span, "alloc: %s", result.text);
    return result.offset;
}

static struct result write_at(uint64_t span, uint64_t at, const void *data, size_t bytes)
{
    return run(&(struct request){
        .operation = OPERATION_WRITE, .span = span, .at = at, .data = data, .data_bytes = bytes});
}

static void expect_done(struct result result)
{
    ck_assert_msg(result.status == STATUS_OK, "said %d: %s", (int)result.status, result.text);
}

/* Refused, with the name and the place: `at` of the arena. */
static void expect_forbidden(struct result result, uint64_t at)
{
    ck_assert_msg(result.status == STATUS_FORBIDDEN, "said %d: %s", (int)result.status, result.text);
    ck_assert_msg(strncmp(result.text, NAME ":", sizeof NAME) == 0, "said: %s", result.text);
    ck_assert_uint_eq(result.found, at);
    attack_met_status((int)result.status);
}

/* Nothing that is forbidden stands anywhere in [from, from + bytes) of the arena, nor within reach of it. */
static void expect_clean(uint64_t from, uint64_t bytes)
{
    struct scan_hit hit;
    bool found = scan_find(client.rx + from - 4, bytes + 8, ALL, &hit);

    ck_assert_msg(!found, "%s stands at 0x%jx", hit.name, (uintmax_t)(from - 4 + hit.index));
}

static void clear(uint64_t span, size_t bytes)
{
    uint8_t harmless[1024];

    ck_assert_uint_le(bytes, sizeof harmless);
    memset(harmless, HARMLESS, bytes);
    expect_done(write_at(span, 0, harmless, bytes));
}

/* ---- In parts ----------------------------------------------------------------------------- */

START_TEST(whole_it_is_refused_at_every_offset)
{
    uint64_t span = alloc(256);
    uint8_t fill[256];

    memcpy(fill, client.rx + span, sizeof fill);
    for (uint64_t at = 0; at + COUNT <= sizeof fill; at += SCAN_STEP_BYTES) {
        expect_forbidden(write_at(span, at, forbidden, COUNT), span + at);
        ck_assert_int_eq(memcmp(client.rx + span, fill, sizeof fill), 0);
    }
}
END_TEST

START_TEST(in_the_middle_of_more_it_is_refused_and_nothing_is_written)
{
    uint64_t span = alloc(8192);
    uint8_t data[8192];
    uint8_t fill[8192];

    memcpy(fill, client.rx + span, sizeof fill);
    for (uint64_t at = 0; at + COUNT <= sizeof data; at += 61 * SCAN_STEP_BYTES) {
        memset(data, HARMLESS, sizeof data);
        memcpy(data + at, forbidden, COUNT);
        expect_forbidden(write_at(span, 0, data, sizeof data), span + at);
        ck_assert_int_eq(memcmp(client.rx + span, fill, sizeof fill), 0);
    }
}
END_TEST

START_TEST(split_over_two_writes_the_second_is_refused_whichever_comes_first)
{
    uint64_t span = alloc(256);

    attack_is_a_workers();
    tries("scan-split");
    for (uint64_t at = 0; at + COUNT <= 256; at += SCAN_STEP_BYTES) {
        for (size_t cut = 1; cut < COUNT; cut++) {
            clear(span, 256);
            expect_done(write_at(span, at, forbidden, cut));
            expect_forbidden(write_at(span, at + cut, forbidden + cut, COUNT - cut), span + at);
            clear(span, 256);
            expect_done(write_at(span, at + cut, forbidden + cut, COUNT - cut));
            expect_forbidden(write_at(span, at, forbidden, cut), span + at);
            expect_clean(span, 256);
        }
    }
}
END_TEST

START_TEST(each_byte_may_be_the_last_to_come)
{
    uint64_t span = alloc(64);

    for (size_t last = 0; last < COUNT; last++) {
        for (size_t at = 0; at + COUNT <= 64; at += SCAN_STEP_BYTES) {
            uint8_t others[COUNT];

            clear(span, 64);
            memcpy(others, forbidden, COUNT);
            others[last] = HARMLESS;
            expect_done(write_at(span, at, others, COUNT));
            expect_forbidden(write_at(span, at + last, forbidden + last, 1), span + at);
            expect_clean(span, 64);
        }
    }
}
END_TEST

START_TEST(over_the_border_of_two_spans_it_is_refused_from_either_side)
{
    uint64_t left = alloc(GRANULE);
    uint64_t right = alloc(GRANULE);

    attack_is_a_workers();
    tries("scan-split");
    ck_assert_uint_eq(right, left + GRANULE);
    for (size_t cut = 1; cut < COUNT; cut++) {
        uint64_t at = GRANULE - cut;

        clear(left, GRANULE);
        clear(right, GRANULE);
        expect_done(write_at(left, at, forbidden, cut));
        expect_forbidden(write_at(right, 0, forbidden + cut, COUNT - cut), left + at);
        clear(left, GRANULE);
        expect_done(write_at(right, 0, forbidden + cut, COUNT - cut));
        expect_forbidden(write_at(left, at, forbidden, cut), left + at);
        expect_clean(left, 2 * GRANULE);
    }
}
END_TEST

/* Over a block's end there is trap fill, which the next block begins with, so only within a large span. */
START_TEST(over_the_border_of_two_blocks_it_is_refused_from_either_side)
{
    uint64_t span = alloc(2 * BLOCK_BYTES);
    uint64_t border = (span / BLOCK_BYTES + 1) * BLOCK_BYTES - span;

    for (size_t cut = 1; cut < COUNT; cut++) {
        const uint8_t harmless[COUNT] = {0};

        expect_done(write_at(span, border - cut, forbidden, cut));
        expect_forbidden(write_at(span, border, forbidden + cut, COUNT - cut), span + border - cut);
        expect_done(write_at(span, border - cut, harmless, cut));
        expect_done(write_at(span, border, forbidden + cut, COUNT - cut));
        expect_forbidden(write_at(span, border - cut, forbidden, cut), span + border - cut);
        expect_done(write_at(span, border, harmless, COUNT - cut));
        expect_clean(span, 2 * BLOCK_BYTES - 4);
    }
}
END_TEST

START_TEST(a_patch_of_any_width_completes_none)
{
    enum { AT = 64 };
    uint64_t span = alloc(256);

    for (uint32_t width = 1; width <= 8; width *= 2) {
        for (size_t first = AT + SCAN_STEP_BYTES - COUNT; first < AT + width; first += SCAN_STEP_BYTES) {
            uint8_t code[256];
            struct request patch = {.operation = OPERATION_PATCH, .span = span, .at = AT, .width = width};

            if (first + COUNT <= AT)
                continue;
            memset(code, HARMLESS, sizeof code);
            memcpy(code + first, forbidden, COUNT);
            memcpy(&patch.desired, code + AT, width);
            memset(code + AT, HARMLESS, width);
            memcpy(&patch.expected, code + AT, width);
            expect_done(write_at(span, 0, code, sizeof code));
            expect_forbidden(run(&patch), span + first);
            ck_assert_int_eq(memcmp(client.rx + span, code, sizeof code), 0);
        }
    }
}
END_TEST

/* ---- Trap fill ------------------------------------------------------------------------------ */

/* What an instruction may begin with, followed by what is shrunk off; and what it may end with, after it. */
START_TEST(trap_fill_completes_nothing)
{
    static const uint8_t beginnings[][3] = {
        {HARMLESS, HARMLESS, 0x0F}, {HARMLESS, HARMLESS, 0xCD}, {HARMLESS, HARMLESS, 0xFF},
        {HARMLESS, HARMLESS, 0xD5}, {HARMLESS, 0x0F, 0x01},     {HARMLESS, 0x0F, 0xAE},
        {HARMLESS, 0x0F, 0xC7},     {HARMLESS, 0xD5, 0x80},     {0xD5, 0x80, 0x01},
        {0xD5, 0x80, 0xAE},
    };
    static const uint8_t ends[] = {0x05, 0x34, 0x80, 0xEF, 0x28, 0xD8, 0x18, 0x01, 0xAE, 0xC7};

    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        uint64_t span = alloc(3 * (uint64_t)GRANULE);
        uint64_t next = alloc(GRANULE);

        ck_assert_uint_eq(next, span + 3 * (uint64_t)GRANULE);
        clear(span, 3 * GRANULE);
        clear(next, GRANULE);
        expect_done(write_at(next, 0, &ends[i % sizeof ends], 1));
        expect_done(write_at(span, GRANULE - 3, beginnings[i], 3));
        expect_done(run(
            &(struct request){.operation = OPERATION_SHRINK, .span = span, .size = 2 * (uint64_t)GRANULE}));
        expect_clean(span, 4 * (uint64_t)GRANULE);
        expect_done(run(&(struct request){.operation = OPERATION_SHRINK, .span = span, .size = GRANULE}));
        expect_clean(span, 4 * (uint64_t)GRANULE);
        expect_done(run(&(struct request){.operation = OPERATION_RELEASE, .span = span}));
        expect_clean(span, 4 * (uint64_t)GRANULE);
        expect_done(run(&(struct request){.operation = OPERATION_RELEASE, .span = next}));
    }
}
END_TEST

#if defined(__x86_64__)
/* Trap fill can stand inside an instruction: as the second byte of REX2, if what is around it is written. */
START_TEST(around_a_byte_of_trap_fill_it_is_refused)
{
    static const uint8_t first = 0xD5;
    static const uint8_t last = 0x05;
    uint64_t span = alloc(GRANULE);
    struct result result;

    expect_done(write_at(span, 10, &first, 1));
    result = write_at(span, 12, &last, 1);
    ck_assert_int_eq(result.status, STATUS_FORBIDDEN);
    ck_assert_uint_eq(result.found, span + 10);
    expect_clean(span, GRANULE);
}
END_TEST
#endif

/* ---- Meanwhile ------------------------------------------------------------------------------- */

static _Atomic bool is_over;

/* Makes and unmakes forbidden instructions all over what is staged, for as long as it is asked to. */
static void *rewrite_staging(void *unused)
{
    uint8_t *staging = client.ring.staging;

    (void)unused;
    while (!is_over) {
        for (size_t at = 0; at + COUNT <= RACE_BYTES; at += 64)
            memcpy(staging + at, forbidden, COUNT);
        for (size_t at = 0; at + COUNT <= RACE_BYTES; at += 64)
            memset(staging + at, HARMLESS, COUNT);
    }
    return NULL;
}

/* Whether some writes were refused, and some done, since there were so many of both. */
static bool has_both(uint64_t refused, uint64_t put)
{
    uint64_t now = ring_refused(&client.ring) - refused;

    return now > 0 && client.tail - put > now;
}

START_TEST(bytes_that_change_while_they_are_looked_at_are_written_as_they_were_then)
{
    uint64_t spans[BATCH];
    uint64_t refused;
    uint64_t done;
    pthread_t rewriter;

    for (unsigned i = 0; i < BATCH; i++)
        spans[i] = alloc(RACE_BYTES);
    memset(client.ring.staging, HARMLESS, RACE_BYTES);
    refused = ring_refused(&client.ring);
    done = client.tail;
    ck_assert_int_eq(pthread_create(&rewriter, NULL, rewrite_staging, NULL), 0);
    /* Longer where the scheduler lets one side see only one state of the other for so long. */
    for (unsigned round = 0; round < RACE_ROUNDS || !has_both(refused, done); round++) {
        ck_assert_msg(round < 100 * RACE_ROUNDS, "nothing was tried");
        for (unsigned i = 0; i < BATCH; i++)
            ring_client_put(
                &client,
                &(struct ring_entry){.operation = OPERATION_WRITE, .bytes = RACE_BYTES, .span = spans[i]});
        ring_client_publish(&client);
        ck_assert(!ring_client_await(&client));
        for (unsigned i = 0; i < BATCH; i++)
            expect_clean(spans[i], RACE_BYTES);
    }
    is_over = true;
    ck_assert_int_eq(pthread_join(rewriter, NULL), 0);
    refused = ring_refused(&client.ring) - refused;
    done = client.tail - done - refused;
    printf("%ju writes refused, %ju done\n", (uintmax_t)refused, (uintmax_t)done);
}
END_TEST

#if defined(__x86_64__)
/* Two contents, each clean, of which the beginning of one and the rest of the other are not. */
static const uint8_t before_border[] = {0x90, 0x0F};
static const uint8_t behind_border[] = {0x05, 0x90};
#define BORDER_BYTES 16u

static uint64_t watched;
static _Atomic uint64_t looks;

static void *watch(void *mixtures)
{
    uint64_t *count = mixtures;

    while (!is_over) {
        for (uint64_t at = BORDER_BYTES; at < RACE_BYTES; at += BORDER_BYTES) {
            uint16_t two;

            memcpy(&two, (const void *)(uintptr_t)(client.rx + watched + at - 1), sizeof two);
            __asm__ volatile("" ::"r"(two) : "memory");
            *count += two == 0x050F; /* 0F 05 */
        }
        looks++;
    }
    return NULL;
}

START_TEST(half_a_write_and_half_of_what_was_there_make_none)
{
    uint64_t mixtures = 0;
    pthread_t watcher;

    watched = alloc(RACE_BYTES);
    for (unsigned content = 0; content < 2; content++) {
        memset(client.ring.staging + content * RACE_BYTES, HARMLESS, RACE_BYTES);
        for (size_t at = BORDER_BYTES; at < RACE_BYTES; at += BORDER_BYTES) {
            client.ring.staging[content * RACE_BYTES + at - 1] = before_border[content];
            client.ring.staging[content * RACE_BYTES + at] = behind_border[content];
        }
    }
    ck_assert_int_eq(pthread_create(&watcher, NULL, watch, &mixtures), 0);
    for (unsigned round = 0; round < MIXTURE_ROUNDS; round++) {
        for (unsigned i = 0; i < RING_ENTRIES / 2; i++)
            ring_client_put(&client, &(struct ring_entry){.operation = OPERATION_WRITE,
                                                          .bytes = RACE_BYTES,
                                                          .span = watched,
                                                          .data = i % 2 * RACE_BYTES});
        ring_client_publish(&client);
        ck_assert(!ring_client_await(&client));
    }
    is_over = true;
    ck_assert_int_eq(pthread_join(watcher, NULL), 0);
    ck_assert_uint_eq(ring_refused(&client.ring), 0);
    ck_assert_uint_eq(mixtures, 0);
    printf("looked %ju times during %d writes\n", (uintmax_t)looks, MIXTURE_ROUNDS * (int)RING_ENTRIES / 2);
}
END_TEST
#endif

int main(void)
{
    const TTest *const both[] = {
        whole_it_is_refused_at_every_offset,
        in_the_middle_of_more_it_is_refused_and_nothing_is_written,
        split_over_two_writes_the_second_is_refused_whichever_comes_first,
        each_byte_may_be_the_last_to_come,
        over_the_border_of_two_spans_it_is_refused_from_either_side,
        over_the_border_of_two_blocks_it_is_refused_from_either_side,
        a_patch_of_any_width_completes_none,
        trap_fill_completes_nothing,
#if defined(__x86_64__)
        around_a_byte_of_trap_fill_it_is_refused,
#endif
    };
    const TTest *const meanwhile[] = {
        bytes_that_change_while_they_are_looked_at_are_written_as_they_were_then,
#if defined(__x86_64__)
        half_a_write_and_half_of_what_was_there_make_none,
#endif
    };
    Suite *suite = suite_create("scan");
    TCase *by_ring = tcase_create("by ring");
    TCase *by_socket = tcase_create("by socket");

    tcase_add_unchecked_fixture(by_ring, start_broker, stop_broker);
    tcase_add_checked_fixture(by_ring, connect_for_ring, disconnect);
    tcase_add_unchecked_fixture(by_socket, start_broker, stop_broker);
    tcase_add_checked_fixture(by_socket, connect_for_socket, disconnect);
    tcase_set_timeout(by_ring, 0);
    tcase_set_timeout(by_socket, 0);
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++) {
        tcase_add_test(by_ring, both[i]);
        tcase_add_test(by_socket, both[i]);
    }
    for (size_t i = 0; i < sizeof meanwhile / sizeof meanwhile[0]; i++)
        tcase_add_test(by_ring, meanwhile[i]);
    suite_add_tcase(suite, by_ring);
    suite_add_tcase(suite, by_socket);
    return suite_run(suite);
}
