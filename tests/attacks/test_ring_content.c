/* SPDX-License-Identifier: MIT */
/*
 * What an attacker would put into the ring: entries, numbers and staged bytes of all kinds, also
 * while the daemon reads them. Each ends that session with a reason, or is refused, or does what it
 * says; and another user's session never notices.
 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/ring_client.h"
#include "tests/attacks/victim.h"
#include "tests/harness/suite.h"

enum {
    FLOODERS = 4,
    FLOOD_MS = 1500,
    RACE_MS = 1000,
    SPAN = 64, /* offset of the first one in an arena */
    SLEEPERS = 300,
};

static struct broker broker;
static struct victim victim; /* of another uid */
static struct ring_client client;

static void start_all(void)
{
    broker_start(&broker, NULL);
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void stop_all(void)
{
    victim_stop(&victim);
    broker_stop(&broker);
}

static void connect_attacker(void)
{
    become(WORKER_UID);
    ring_client_start(&client, &broker, 0);
}

static void check_all(void)
{
    ring_client_stop(&client);
    victim_check(&victim);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct ring_entry query(void)
{
    return (struct ring_entry){.operation = OPERATION_QUERY};
}

/* Puts and publishes it; the session ends, is told so, and so is the log. */
static void expect_end(const struct ring_entry *entry, const char *part)
{
    unsigned logged = broker_log_count(&broker, part);

    ring_client_put(&client, entry);
    ring_client_publish(&client);
    ring_client_expect_end(&client, part);
    ck_assert_uint_eq(broker_log_count(&broker, part), logged + 1);
}

static void connect_again(void)
{
    ring_client_stop(&client);
    ring_client_start(&client, &broker, 0);
}

static void expect_refusal(const struct ring_entry *entry, enum status status, const char *part)
{
    struct result result = ring_client_run(&client, entry);

    ck_assert_msg(result.status == status && strstr(result.text, part) != NULL, "said %d: %s",
                  (int)result.status, result.text);
}

static void expect_done(const struct ring_entry *entry)
{
    struct result result = ring_client_run(&client, entry);

    ck_assert_msg(result.status == STATUS_OK, "said %d: %s", (int)result.status, result.text);
}

/* ---- The tail ------------------------------------------------------------------------------ */

START_TEST(a_tail_that_runs_backwards_ends_the_session)
{
    struct ring_entry entry = query();

    tries("tail");
    for (int i = 0; i < 3; i++)
        (void)ring_client_run(&client, &entry);
    ring_client_publish_as(&client, client.tail - 1);
    ring_client_expect_end(&client, "ring: entry 3 and those after it: tail is not within the ring's length");
    ck_assert_uint_ge(broker_log_count(&broker, "ring: entry 3 and those after it"), 1);
}
END_TEST

START_TEST(a_tail_may_be_a_ring_ahead)
{
    struct ring_entry entry = query();

    for (unsigned i = 0; i < RING_ENTRIES; i++)
        ring_client_put(&client, &entry);
    ring_client_publish(&client);
    ck_assert(!ring_client_await(&client));
    ck_assert_uint_eq(ring_refused(&client.ring), RING_ENTRIES);
}
END_TEST

START_TEST(a_tail_that_leaps_ends_the_session)
{
    const uint64_t leaps[] = {RING_ENTRIES + 1, 2 * RING_ENTRIES, UINT64_C(1) << 31, UINT64_C(1) << 32,
                              INT64_MAX,        UINT64_MAX - 1,   UINT64_MAX};

    tries("tail");
    for (size_t i = 0; i < sizeof leaps / sizeof leaps[0]; i++) {
        ring_client_publish_as(&client, leaps[i]);
        ring_client_expect_end(&client, "tail is not within the ring's length of head");
        ck_assert_uint_eq(broker_log_count(&broker, "ring: entry 0 and those after it"), i + 1);
        connect_again();
    }
}
END_TEST

/* In processes of its own, with two threads each that fight for the same ring. */
static void *flood(void *user)
{
    struct ring_client *flooder = user;

    for (uint64_t i = 0;; i++) {
        uint64_t head = ring_head(&flooder->ring);

        if (head == RING_ENDED)
            return NULL;
        (void)ring_publish(&flooder->ring, head + RING_ENTRIES / 2);
        if (i % 64 == 0)
            ring_client_publish_as(flooder, head + RING_ENTRIES / 2);
    }
}

static void be_flooder(unsigned number)
{
    struct ring_client flooder;
    pthread_t other;

    ring_client_start(&flooder, &broker, 0);
    for (unsigned i = 0; i < RING_ENTRIES; i++)
        flooder.ring.entries[i] = (struct ring_entry){
            .operation = (uint8_t)(i % OPERATION_COUNT), .number = i, .span = i * 64 % 4096, .bytes = i};
    if (number % 2 == 0)
        (void)pthread_create(&other, NULL, flood, &flooder);
    /* A tail that another thread has overtaken runs backwards: a new session then. */
    for (;;) {
        (void)flood(&flooder);
        (void)usleep(1000);
        if (number % 2 != 0) {
            ring_client_stop(&flooder);
            ring_client_start(&flooder, &broker, 0);
        }
    }
}

START_TEST(rings_that_never_stop_leave_another_user_its_share)
{
    pid_t flooders[FLOODERS];

    tries("tail-flood");
    (void)fflush(NULL);
    for (unsigned i = 0; i < FLOODERS; i++) {
        flooders[i] = fork();
        ck_assert_int_ge(flooders[i], 0);
        if (flooders[i] == 0)
            be_flooder(i);
    }
    (void)usleep(100000);
    victim_work(&victim);
    (void)usleep(FLOOD_MS * 1000);
    ck_assert_uint_gt(victim_rest(&victim, "a flood of entries"), 0);
    attack_met("others were served");
    for (unsigned i = 0; i < FLOODERS; i++) {
        ck_assert_int_eq(kill(flooders[i], SIGKILL), 0);
        ck_assert_int_eq(waitpid(flooders[i], NULL, 0), flooders[i]);
    }
}
END_TEST

/*
 * Each entry has the daemon move 32 MiB. If it did a ring full of them in one go, nobody else would be served
 * before the last: here the other one is, again and again, while they are done.
 */
START_TEST(entries_that_take_long_are_not_done_in_one_go)
{
    const struct ring_entry alloc = {.operation = OPERATION_ALLOC, .number = SPAN_LIMIT_BYTES};
    const struct ring_entry release = {.operation = OPERATION_RELEASE, .span = SPAN};
    uint64_t rounds;

    tries("tail-flood");
    for (unsigned i = 0; i < 32; i++)
        ring_client_put(&client, i % 2 == 0 ? &alloc : &release);
    victim_work(&victim);
    ring_client_publish(&client);
    (void)ring_client_await(&client);
    rounds = victim_rest(&victim, "entries that take long");
    ck_assert_uint_eq(ring_refused(&client.ring), 0);
    ck_assert_uint_ge(rounds, 8);
    ck_assert_uint_le(victim.secret->longest_us, victim.secret->mean_us * rounds / 2);
    attack_met("others were served");
}
END_TEST

/* ---- Entries --------------------------------------------------------------------------------- */

START_TEST(every_operation_number_is_either_known_or_the_end)
{
    tries("ring-unknown");
    for (unsigned i = 0; i <= UINT8_MAX; i++) {
        struct ring_entry entry = {.operation = (uint8_t)i};

        if (i < OPERATION_COUNT) {
            (void)ring_client_run(&client, &entry);
            continue;
        }
        ring_client_put(&client, &entry);
        ring_client_publish(&client);
        ring_client_expect_end(&client, "makes no sense");
        connect_again();
    }
}
END_TEST

START_TEST(an_entry_that_makes_no_sense_is_logged)
{
    struct ring_entry entry = query();

    (void)ring_client_run(&client, &entry);
    entry.operation = UINT8_MAX;
    expect_end(&entry, "ring: entry 1 makes no sense");
}
END_TEST

START_TEST(what_was_asked_for_before_an_entry_that_makes_no_sense_is_done)
{
    struct ring_entry entry = {.operation = OPERATION_ALLOC, .number = 100};
    struct ring_result *slots = client.ring.results;

    ring_client_put(&client, &entry);
    ring_client_put(&client, &(struct ring_entry){.operation = OPERATION_COUNT});
    ring_client_put(&client, &entry);
    slots[2].number = 77;
    ring_client_publish(&client);
    ring_client_expect_end(&client, "entry 1 makes no sense");
    ck_assert_uint_ge(broker_log_count(&broker, "operations=0 refusals=0 spans=1"), 1);
}
END_TEST

START_TEST(every_flag_but_one_is_the_end)
{
    tries("ring-unknown");
    for (unsigned bit = 1; bit < 16; bit++) {
        struct ring_entry entry = {.operation = OPERATION_STATISTICS, .flags = (uint16_t)(1u << bit)};

        ring_client_put(&client, &entry);
        ring_client_publish(&client);
        ring_client_expect_end(&client, "makes no sense");
        connect_again();
    }
}
END_TEST

START_TEST(who_cannot_write_cannot_have_filled)
{
    uint64_t span = ring_client_alloc(&client, 1000);

    expect_refusal(&(struct ring_entry){.operation = OPERATION_RELEASE, .flags = RING_FILLED, .span = span},
                   STATUS_INVALID, "only in a direct session");
    expect_refusal(
        &(struct ring_entry){.operation = OPERATION_SHRINK, .flags = RING_FILLED, .span = span, .number = 64},
        STATUS_INVALID, "only in a direct session");
    ck_assert_uint_eq(ring_refused(&client.ring), 2);
}
END_TEST

/* ---- Staged bytes -------------------------------------------------------------------------------- */

START_TEST(staged_bytes_reach_to_the_end_of_the_staging_and_not_beyond)
{
    struct ring_entry write = {.operation = OPERATION_WRITE, .bytes = 3, .data = RING_STAGING_BYTES - 3};

    tries("overflow");
    write.span = ring_client_alloc(&client, 100);
    memcpy(client.ring.staging + RING_STAGING_BYTES - 3, "abc", 3);
    expect_done(&write);
    ck_assert(memcmp(client.rx + write.span, "abc", 3) == 0);
    write.data += UINT64_MAX - RING_STAGING_BYTES + 1; /* the same place, modulo */
    expect_done(&write);
    write.data++;
    expect_end(&write, "makes no sense");
}
END_TEST

START_TEST(a_patch_is_staged_whole)
{
    struct ring_entry patch = {.operation = OPERATION_PATCH, .width = 8, .data = RING_STAGING_BYTES - 16};

    patch.span = ring_client_alloc(&client, 100);
    memcpy(client.ring.staging + RING_STAGING_BYTES - 16, client.rx + patch.span, 8);
    memcpy(client.ring.staging + RING_STAGING_BYTES - 8, "12345678", 8);
    expect_done(&patch);
    ck_assert(memcmp(client.rx + patch.span, "12345678", 8) == 0);
    for (unsigned width = 0; width <= UINT8_MAX; width++) {
        patch.width = (uint8_t)width;
        if (width != 1 && width != 2 && width != 4 && width != 8)
            expect_refusal(&patch, STATUS_INVALID, "a patch has 1, 2, 4 or 8");
    }
    patch.data++;
    expect_end(&patch, "makes no sense");
}
END_TEST

START_TEST(a_write_has_at_most_its_limit)
{
    struct ring_entry write = {.operation = OPERATION_WRITE, .bytes = 0};

    tries("past-end");
    write.span = ring_client_alloc(&client, 2 * WRITE_MAX_BYTES);
    memset(client.ring.staging, 0x5A, RING_STAGING_BYTES);
    expect_done(&write);
    ck_assert_uint_ne(client.rx[write.span], 0x5A);
    write.bytes = 1;
    expect_done(&write);
    ck_assert_uint_eq(client.rx[write.span], 0x5A);
    ck_assert_uint_ne(client.rx[write.span + 1], 0x5A);
    write.bytes = WRITE_MAX_BYTES;
    expect_done(&write);
    ck_assert_uint_eq(client.rx[write.span + WRITE_MAX_BYTES - 1], 0x5A);
    write.bytes++;
    expect_refusal(&write, STATUS_TOO_LARGE, "65537 bytes in one write");
    write.bytes = RING_STAGING_BYTES;
    expect_refusal(&write, STATUS_TOO_LARGE, "in one write");
    ck_assert_uint_ne(client.rx[write.span + WRITE_MAX_BYTES], 0x5A);
    write.bytes++;
    expect_end(&write, "makes no sense");
    connect_again();
    write.bytes = UINT32_MAX;
    expect_end(&write, "makes no sense");
}
END_TEST

START_TEST(places_that_overflow_are_refused)
{
    const uint64_t places[] = {100, 128, UINT64_MAX, UINT64_MAX - 63, INT64_MAX, UINT32_MAX};
    struct ring_entry write = {.operation = OPERATION_WRITE, .bytes = 64};

    tries("overflow");
    write.span = ring_client_alloc(&client, 128);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        write.number = places[i];
        expect_refusal(&write, STATUS_OUT_OF_RANGE, "");
    }
    write.number = 0;
    for (size_t i = 2; i < sizeof places / sizeof places[0]; i++) {
        write.span = places[i];
        expect_refusal(&write, STATUS_NO_SPAN, "");
    }
}
END_TEST

/* ---- Carving --------------------------------------------------------------------------------------- */

START_TEST(what_is_not_leased_can_be_neither_carved_nor_returned)
{
    const struct ring_entry lease = {.operation = OPERATION_LEASE, .number = 1};
    struct ring_entry carve = {.operation = OPERATION_CARVE, .number = 64, .span = SPAN};
    struct ring_entry giving = {.operation = OPERATION_RETURN};
    struct result leased;

    expect_refusal(&carve, STATUS_NO_SPAN, "not leased");
    expect_refusal(&giving, STATUS_NO_SPAN, "not leased");
    leased = ring_client_run(&client, &lease);
    ck_assert(leased.has_span);
    ck_assert_uint_eq(leased.offset, SPAN);
    for (uint64_t at = 0; at < 2 * BLOCK_BYTES; at += 64) {
        struct ring_entry odd = {.operation = OPERATION_CARVE, .span = at + 1 + at % 63, .number = 1};

        expect_refusal(&odd, STATUS_NO_SPAN, "not a multiple");
    }
    carve.span = 0; /* the trap granule */
    expect_refusal(&carve, STATUS_NO_SPAN, "not free");
    carve.span = SPAN;
    carve.number = BLOCK_BYTES - SPAN + 1;
    expect_refusal(&carve, STATUS_INVALID, "within one block");
    carve.number = UINT64_MAX;
    expect_refusal(&carve, STATUS_INVALID, "within one block");
    carve.number = 0;
    expect_refusal(&carve, STATUS_INVALID, "within one block");
    carve.number = BLOCK_BYTES - SPAN;
    expect_done(&carve);
    expect_refusal(&carve, STATUS_NO_SPAN, "not free");
    carve.span = BLOCK_BYTES + SPAN; /* of a block that there is no memory for */
    carve.number = 64;
    expect_refusal(&carve, STATUS_NO_SPAN, "not leased");
    carve.span = UINT64_MAX - 63;
    expect_refusal(&carve, STATUS_NO_SPAN, "beyond the arena");
    giving.span = 64;
    expect_refusal(&giving, STATUS_NO_SPAN, "no block starts");
    giving.span = client.arena_bytes;
    expect_refusal(&giving, STATUS_NO_SPAN, "no block starts");
    giving.span = 0;
    expect_done(&giving);
    expect_refusal(&giving, STATUS_NO_SPAN, "not leased");
    expect_done(&(struct ring_entry){.operation = OPERATION_RELEASE, .span = SPAN});
}
END_TEST

/* ---- Changes meanwhile -------------------------------------------------------------------------------- */

static _Atomic bool is_over;

/* The spans that are written to, between two that must stay as they are. */
struct target {
    uint64_t guards[3];
    uint64_t spans[2];
};

static void make_targets(struct target *target)
{
    uint8_t *staging = client.ring.staging;

    memset(staging, 0x77, 4096);
    for (int i = 0; i < 3; i++) {
        target->guards[i] = ring_client_alloc(&client, 4096);
        expect_done(
            &(struct ring_entry){.operation = OPERATION_WRITE, .span = target->guards[i], .bytes = 4096});
        if (i < 2)
            target->spans[i] = ring_client_alloc(&client, 4096);
    }
}

static void check_guards(const struct target *target)
{
    for (int i = 0; i < 3; i++) {
        for (unsigned at = 0; at < 4096; at++)
            ck_assert_uint_eq(client.rx[target->guards[i] + at], 0x77);
    }
}

static struct ring_entry forms[2];

static void *rewrite_entries(void *unused)
{
    (void)unused;
    for (unsigned i = 0; !is_over; i++) {
        volatile struct ring_entry *entry = &client.ring.entries[i % RING_ENTRIES];
        const struct ring_entry *form = &forms[i / RING_ENTRIES % 2];

        /* In halves and in all orders, so that the daemon finds mixtures. */
        entry->bytes = form->bytes;
        entry->data = form->data;
        entry->span = form->span;
        entry->number = form->number;
        client.ring.staging[(unsigned)form->data + i % 32] = i % 2 == 0 ? 0x11 : 0x22;
    }
    return NULL;
}

START_TEST(entries_and_bytes_that_change_meanwhile_have_the_effects_of_one_value_or_the_other)
{
    static const uint8_t allowed[] = {0x11, 0x22, 0xCC};
    struct target target;
    pthread_t rewriter;
    uint64_t end_ms = now_ms() + RACE_MS;

    tries("race");
    make_targets(&target);
    memset(client.ring.staging, 0x11, RING_STAGING_BYTES);
    /* 100 bytes at 4000 are too many; 96 are not. Every mixture of words is one of these, and in a span. */
    forms[0] = (struct ring_entry){
        .operation = OPERATION_WRITE, .bytes = 96, .span = target.spans[0], .number = 4000};
    forms[1] = (struct ring_entry){
        .operation = OPERATION_WRITE, .bytes = 100, .span = target.spans[1], .data = 8192};
    for (unsigned i = 0; i < RING_ENTRIES; i++)
        client.ring.entries[i] = forms[i % 2];
    ck_assert_int_eq(pthread_create(&rewriter, NULL, rewrite_entries, NULL), 0);
    while (now_ms() < end_ms) {
        client.tail += RING_ENTRIES / 2;
        ring_client_publish(&client);
        ck_assert(!ring_client_await(&client));
    }
    is_over = true;
    ck_assert_int_eq(pthread_join(rewriter, NULL), 0);
    check_guards(&target);
    for (int i = 0; i < 2; i++) {
        for (unsigned at = 0; at < 4096; at++)
            ck_assert_ptr_nonnull(memchr(allowed, client.rx[target.spans[i] + at], sizeof allowed));
        /* Where no form writes. */
        for (unsigned at = 100; at < 4000; at++)
            ck_assert_uint_eq(client.rx[target.spans[i] + at], 0xCC);
    }
    attack_met("no effect");
}
END_TEST

static void *scribble(void *user)
{
    unsigned random = 1;

    (void)user;
    while (!is_over) {
        struct ring_header *header = client.ring.header;
        uint64_t value = (uint64_t)rand_r(&random) * (uint64_t)rand_r(&random);

        atomic_store(&header->head, value);
        atomic_store(&header->refused, value);
        atomic_store(&header->asleep, (uint32_t)value);
        atomic_store(&header->daemon_cpu, (uint32_t)value);
        atomic_store(&header->waiting, (uint32_t)value | 1);
        atomic_store(&header->client_cpu, (uint32_t)(value % 4));
        memset(&client.ring.results[value % RING_ENTRIES], (int)value, sizeof(struct ring_result));
    }
    return NULL;
}

/* Only what the client is told suffers from it, which is its own loss. */
START_TEST(a_header_that_is_scribbled_over_misleads_nobody_but_its_owner)
{
    const struct ring_entry alloc = {.operation = OPERATION_ALLOC, .number = 64};
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    uint64_t spans = 0;
    pthread_t scribbler;

    tries("race");
    victim_work(&victim);
    ck_assert_int_eq(pthread_create(&scribbler, NULL, scribble, NULL), 0);
    for (int i = 0; i < 500; i++) {
        for (int k = 0; k < 8; k++)
            ring_client_put(&client, &alloc);
        ring_client_publish(&client);
        do {
            struct result result = wire_run(client.wire, &statistics);

            spans = result.usage.spans;
        } while (spans < client.tail);
        ck_assert_uint_eq(spans, client.tail);
    }
    is_over = true;
    ck_assert_int_eq(pthread_join(scribbler, NULL), 0);
    ck_assert_uint_gt(victim_rest(&victim, "a header that is scribbled over"), 0);
    /* And the daemon has not forgotten where it was. */
    expect_done(&alloc);
    ck_assert_uint_eq(ring_head(&client.ring), client.tail);
    ck_assert_uint_eq(ring_refused(&client.ring), 0);
    attack_met("no effect");
}
END_TEST

/* ---- Waking ----------------------------------------------------------------------------------------------
 */

static void *sleep_at_head(void *unused)
{
    (void)unused;
    while (!is_over)
        (void)ring_wait(&client.ring, ring_head(&client.ring), 50);
    return NULL;
}

START_TEST(hundreds_who_sleep_at_the_ring_and_always_want_to_be_woken_are_their_own_burden)
{
    static pthread_t sleepers[SLEEPERS];
    struct ring_entry entry = query();
    pthread_attr_t small;

    ck_assert_int_eq(pthread_attr_init(&small), 0);
    ck_assert_int_eq(pthread_attr_setstacksize(&small, 256 << 10), 0);
    for (unsigned i = 0; i < SLEEPERS; i++)
        ck_assert_int_eq(pthread_create(&sleepers[i], &small, sleep_at_head, NULL), 0);
    (void)pthread_attr_destroy(&small);
    victim_work(&victim);
    for (uint64_t end_ms = now_ms() + FLOOD_MS; now_ms() < end_ms;) {
        for (int i = 0; i < 100; i++) {
            atomic_store(&client.ring.header->waiting, 1);
            ring_client_put(&client, &entry);
            (void)ring_publish(&client.ring, client.tail);
        }
        ring_client_publish(&client);
        ck_assert(!ring_client_await(&client));
    }
    ck_assert_uint_gt(victim_rest(&victim, "hundreds of sleepers"), 0);
    is_over = true;
    ring_wake_all(&client.ring);
    for (unsigned i = 0; i < SLEEPERS; i++)
        ck_assert_int_eq(pthread_join(sleepers[i], NULL), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_tail_that_leaps_ends_the_session,
        a_tail_that_runs_backwards_ends_the_session,
        a_tail_may_be_a_ring_ahead,
        rings_that_never_stop_leave_another_user_its_share,
        entries_that_take_long_are_not_done_in_one_go,
        every_operation_number_is_either_known_or_the_end,
        an_entry_that_makes_no_sense_is_logged,
        what_was_asked_for_before_an_entry_that_makes_no_sense_is_done,
        every_flag_but_one_is_the_end,
        who_cannot_write_cannot_have_filled,
        staged_bytes_reach_to_the_end_of_the_staging_and_not_beyond,
        a_patch_is_staged_whole,
        a_write_has_at_most_its_limit,
        places_that_overflow_are_refused,
        what_is_not_leased_can_be_neither_carved_nor_returned,
        entries_and_bytes_that_change_meanwhile_have_the_effects_of_one_value_or_the_other,
        a_header_that_is_scribbled_over_misleads_nobody_but_its_owner,
        hundreds_who_sleep_at_the_ring_and_always_want_to_be_woken_are_their_own_burden,
    };
    Suite *suite = suite_create("ring");

    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        TCase *tcase = tcase_create(tests[i]->name);

        /* A daemon each: its log is counted. */
        tcase_add_unchecked_fixture(tcase, start_all, stop_all);
        tcase_add_checked_fixture(tcase, connect_attacker, check_all);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, tests[i]);
        suite_add_tcase(suite, tcase);
    }
    return suite_run(suite);
}
