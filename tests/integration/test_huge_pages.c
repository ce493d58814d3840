/* SPDX-License-Identifier: MIT */
/* Huge pages across the process boundary: who gets them, and that code in them is what it was. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/smaps.h"
#include "tests/harness/suite.h"

#define HUGE (UINT64_C(2) << 20)
#define SPANS 640u /* eight fit a block: 5 MiB */
#define SPAN_BYTES 8000u
#define HUGE_BYTES (2 * HUGE) /* of them */
/* What the daemon says where it is so. */
#define NONE "no huge pages for arenas"

/* Three that grant them, in the order of the kinds of arenas that the worker gets; and two that don't. */
enum { THROUGH, SEALED, DIRECT, GRANTING, NO_POLICY = GRANTING, NO_KERNEL, BROKERS };

static struct broker brokers[BROKERS];
static struct broker *broker; /* the one that a test uses */
static jitc_client *client;
static jitc_span spans[SPANS];

static void start_brokers(void)
{
    const char policy[] = "[class default]\nhuge_pages=yes\n";

    broker_start(&brokers[THROUGH], policy);
    broker_start_as(&brokers[SEALED], are_we_root() ? WORKER_UID : getuid(), policy);
    broker_start(&brokers[DIRECT], "[class default]\nhuge_pages=yes\nwrite=direct\n");
    broker_start(&brokers[NO_POLICY], NULL);
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0); /* the daemon inherits it */
    broker_start(&brokers[NO_KERNEL], policy);
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
}

static void stop_brokers(void)
{
    for (int i = 0; i < BROKERS; i++)
        broker_stop(&brokers[i]);
}

static void disconnect(void)
{
    client = jitc_close(client);
}

/* From here on the test is a worker. */
static void use(int which)
{
    broker = &brokers[which];
    become(WORKER_UID);
}

static jitc_options options_with(uint32_t flags)
{
    jitc_options options = broker_options(broker);

    options.flags = flags;
    return options;
}

static jitc_info describe(void)
{
    jitc_info info = {.struct_size = sizeof info};

    assert_status(JITC_OK, "", jitc_describe(client, &info));
    return info;
}

static jitc_stats statistics(void)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    return stats;
}

/* With the wish for huge pages; ends the test where the kernel has none. */
static void connect_huge(const jitc_options *options)
{
    client = broker_connect(broker, options);
    if (!describe().has_large_pages && broker_log_count(broker, NONE) > 0)
        skip("this kernel has no huge pages for arenas");
    ck_assert_int_eq(describe().has_large_pages, 1);
}

static void publish(size_t from, size_t to)
{
    uint8_t code[CODE_RETURN_BYTES];

    for (size_t i = from; i < to; i++) {
        code_return(code, (uint32_t)i);
        assert_status(JITC_OK, "", jitc_alloc(client, &spans[i], SPAN_BYTES));
        assert_status(JITC_OK, "", jitc_write(client, &spans[i], 0, code, sizeof code, JITC_WRITE_DEFAULT));
    }
}

static void call(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        ck_assert_uint_eq(code_call(spans[i].rx), i);
}

/* After as many operations as it takes: each makes one huge page at most, and some in vain. */
static uint64_t all_huge_bytes(void)
{
    uint64_t before = statistics().huge_bytes;

    for (int same = 0; same < 10; same++) {
        uint64_t now = statistics().huge_bytes;

        ck_assert(now == before || now == before + HUGE);
        if (now != before)
            same = 0;
        before = now;
    }
    return before;
}

/* ---- Who gets them ------------------------------------------------------------------- */

START_TEST(they_are_granted_by_policy_and_wish_only)
{
    jitc_options options;

    use(_i == 0 ? THROUGH : NO_POLICY);
    options = options_with(_i == 1 ? JITC_LARGE_PAGES : 0);
    client = broker_connect(broker, &options);
    ck_assert_int_eq(describe().has_large_pages, 0);
    publish(0, SPANS);
    call(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), 0);
    ck_assert_uint_eq(smaps_huge_bytes(describe().base), 0);
}
END_TEST

START_TEST(an_arena_that_is_smaller_than_one_gets_none)
{
    jitc_options options;

    use(THROUGH);
    options = options_with(JITC_LARGE_PAGES);
    options.arena_bytes = HUGE;
    connect_huge(&options);
    client = jitc_close(client);
    options.arena_bytes = HUGE - 65536;
    client = broker_connect(broker, &options);
    ck_assert_int_eq(describe().has_large_pages, 0);
}
END_TEST

START_TEST(where_the_kernel_has_none_it_is_said_once_and_code_runs_all_the_same)
{
    jitc_options options;

    use(NO_KERNEL);
    ck_assert_uint_eq(broker_log_count(broker, NONE), 1);
    options = options_with(JITC_LARGE_PAGES);
    for (int i = 0; i < 2; i++) {
        client = jitc_close(client);
        client = broker_connect(broker, &options);
        ck_assert_int_eq(describe().has_large_pages, 0);
        publish(0, SPANS);
        call(0, SPANS);
        ck_assert_uint_eq(all_huge_bytes(), 0);
    }
    ck_assert_uint_eq(broker_log_count(broker, NONE), 1);
}
END_TEST

START_TEST(a_private_broker_grants_them_to_who_asks)
{
    jitc_options options;

    jitc_options_init(&options);
    options.flags = JITC_LARGE_PAGES;
    if (broker_log_count(&brokers[THROUGH], NONE) > 0)
        skip("this kernel has no huge pages for arenas");
    assert_status(JITC_OK, "", jitc_spawn(&client, &options));
    ck_assert_int_eq(describe().has_large_pages, 1);
    publish(0, SPANS);
    call(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), HUGE_BYTES);
}
END_TEST

/* ---- What runs in them ---------------------------------------------------------------- */

static void connect_kind(int kind, const void *near_to)
{
    jitc_options options;

    use(kind);
    options = options_with(JITC_LARGE_PAGES);
    options.near_to = near_to;
    connect_huge(&options);
    if (are_we_root())
        ck_assert_int_eq(describe().is_sealed, kind == SEALED);
    ck_assert_int_eq(describe().write_mode, kind == DIRECT ? JITC_WRITE_DIRECT : JITC_WRITE_THROUGH);
}

START_TEST(code_in_them_is_what_was_written_and_runs)
{
    connect_kind(_i, NULL);
    ck_assert_uint_eq((uintptr_t)describe().base % HUGE, 0);
    publish(0, SPANS);
    call(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), HUGE_BYTES);
    ck_assert_uint_ge(statistics().reserved_bytes, HUGE_BYTES);
    call(0, SPANS);
    ck_assert_uint_eq(smaps_huge_bytes(describe().base), HUGE_BYTES);
    /* And can be changed as before. */
    for (size_t i = 0; i < SPANS; i += 2)
        assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    for (size_t i = 0; i < SPANS; i += 2)
        publish(i, i + 1);
    call(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), HUGE_BYTES);
}
END_TEST

START_TEST(an_arena_near_an_address_has_them_too)
{
    connect_kind(THROUGH, spans);
    ck_assert_int_eq(describe().is_near, 1);
    ck_assert_uint_eq((uintptr_t)describe().base % HUGE, 0);
    publish(0, SPANS);
    call(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), HUGE_BYTES);
    call(0, SPANS);
    ck_assert_uint_gt(smaps_huge_bytes(describe().base), 0);
}
END_TEST

START_TEST(a_large_span_gets_them_while_it_grows)
{
    jitc_span span;

    connect_kind(_i, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 5 * HUGE));
    ck_assert_uint_eq(statistics().huge_bytes, 5 * HUGE);
}
END_TEST

START_TEST(what_is_given_back_is_counted_no_more)
{
    jitc_stats stats;

    connect_kind(THROUGH, NULL);
    publish(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), HUGE_BYTES);
    for (size_t i = 0; i < SPANS; i++)
        assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    stats = statistics();
    ck_assert_uint_eq(stats.huge_bytes, HUGE); /* 1 MiB is kept, and so all that is on a page with it */
    ck_assert_uint_eq(stats.reserved_bytes, HUGE);
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_HARD));
    stats = statistics();
    ck_assert_uint_eq(stats.huge_bytes, 0);
    ck_assert_uint_eq(stats.reserved_bytes, 0);
    publish(0, SPANS);
    call(0, SPANS);
    ck_assert_uint_eq(all_huge_bytes(), HUGE_BYTES);
}
END_TEST

static atomic_bool enough;

static void *run_on(void *user)
{
    uint64_t *calls = user;

    for (; !atomic_load(&enough); (*calls)++)
        call(0, 100);
    return NULL;
}

START_TEST(code_runs_on_while_its_page_changes)
{
    uint64_t huge_bytes = 0;
    uint64_t calls = 0;
    pthread_t thread;

    connect_kind(_i, NULL);
    publish(0, 100);
    ck_assert_int_eq(pthread_create(&thread, NULL, run_on, &calls), 0);
    for (int round = 0; round < 10; round++) {
        publish(100, SPANS);
        huge_bytes += all_huge_bytes();
        for (size_t i = 100; i < SPANS; i++)
            assert_status(JITC_OK, "", jitc_release(client, spans[i].rx));
    }
    atomic_store(&enough, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_gt(calls, 0);
    ck_assert_uint_gt(huge_bytes,
                      0); /* not each time: the kernel makes none of a page that is being mapped */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("huge pages");
    TCase *grant = tcase_create("who gets them");
    TCase *code = tcase_create("what runs in them");

    tcase_add_unchecked_fixture(grant, start_brokers, stop_brokers);
    tcase_add_checked_fixture(grant, NULL, disconnect);
    tcase_add_loop_test(grant, they_are_granted_by_policy_and_wish_only, 0, 3);
    tcase_add_test(grant, an_arena_that_is_smaller_than_one_gets_none);
    tcase_add_test(grant, where_the_kernel_has_none_it_is_said_once_and_code_runs_all_the_same);
    tcase_add_test(grant, a_private_broker_grants_them_to_who_asks);
    tcase_set_timeout(grant, 120);
    suite_add_tcase(suite, grant);
    tcase_add_unchecked_fixture(code, start_brokers, stop_brokers);
    tcase_add_checked_fixture(code, NULL, disconnect);
    tcase_add_loop_test(code, code_in_them_is_what_was_written_and_runs, 0, GRANTING);
    tcase_add_test(code, an_arena_near_an_address_has_them_too);
    tcase_add_loop_test(code, a_large_span_gets_them_while_it_grows, 0, GRANTING);
    tcase_add_test(code, what_is_given_back_is_counted_no_more);
    tcase_add_loop_test(code, code_runs_on_while_its_page_changes, 0, GRANTING);
    tcase_set_timeout(code, 120);
    suite_add_tcase(suite, code);
    return suite_run(suite);
}
