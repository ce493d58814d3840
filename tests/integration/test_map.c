/* SPDX-License-Identifier: MIT */
/* jitc_map(): spans that run at addresses of the worker's choosing. */
#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/jitclient.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

enum { PAGE = 4096, PAGES = 4 };

static struct broker broker;
static jitc_client *client;
static jitc_span span;
static size_t skew; /* where in the span its first page begins */
static uint8_t *place;

static void start(void)
{
    broker_start(&broker, NULL);
}

static void stop(void)
{
    broker_stop(&broker);
}

static void set_up(void)
{
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, (PAGES + 1) * PAGE));
    skew = -(uintptr_t)span.rx % PAGE;
    place = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(place, MAP_FAILED);
    memset(place, 1, PAGES * PAGE);
}

static void write_return(size_t page, uint32_t value)
{
    uint8_t code[CODE_RETURN_BYTES];

    code_return(code, value);
    assert_status(JITC_OK, "",
                  jitc_write(client, &span, skew + page * PAGE, code, sizeof code, JITC_WRITE_DEFAULT));
}

START_TEST(what_is_written_before_and_after_runs_there)
{
    set_up();
    write_return(1, 11);
    assert_status(JITC_OK, "", jitc_map(client, &span, skew + PAGE, 2 * PAGE, place + PAGE, 0));
    write_return(2, 12);
    ck_assert_uint_eq(code_call(place + PAGE), 11);
    ck_assert_uint_eq(code_call(place + 2 * PAGE), 12);
    ck_assert_uint_eq(place[PAGE - 1], 1); /* what lies around it is as it was */
    ck_assert_uint_eq(place[3 * PAGE], 1);
    (void)jitc_close(client);
}
END_TEST

START_TEST(a_shared_one_never_becomes_writable)
{
    set_up();
    assert_status(JITC_OK, "", jitc_map(client, &span, skew, PAGE, place, 0));
    ck_assert_int_eq(mprotect(place, PAGE, PROT_READ | PROT_WRITE), -1);
    ck_assert_int_eq(errno, EACCES);
    (void)jitc_close(client);
}
END_TEST

START_TEST(a_private_one_becomes_a_copy_of_its_own)
{
    set_up();
    write_return(0, 1);
    assert_status(JITC_OK, "", jitc_map(client, &span, skew, PAGE, place, JITC_MAP_PRIVATE));
    ck_assert_uint_eq(code_call(place), 1);
    ck_assert_int_eq(mprotect(place, PAGE, PROT_READ | PROT_WRITE), 0);
    code_return(place, 2);
    ck_assert_uint_eq(code_call((uint8_t *)span.rx + skew), 1);
    assert_status(JITC_OK, "", jitc_map(client, &span, skew, PAGE, place, JITC_MAP_PRIVATE));
    ck_assert_uint_eq(code_call(place), 1);
    (void)jitc_close(client);
}
END_TEST

START_TEST(what_it_refuses_it_leaves_alone)
{
    set_up();
    assert_status(JITC_E_MISALIGNED, "multiples of 4096", jitc_map(client, &span, skew + 64, PAGE, place, 0));
    assert_status(JITC_E_MISALIGNED, "multiples of 4096", jitc_map(client, &span, skew, 64, place, 0));
    assert_status(JITC_E_MISALIGNED, "multiples of 4096", jitc_map(client, &span, skew, PAGE, place + 1, 0));
    assert_status(JITC_E_INVALID, "nothing to map", jitc_map(client, &span, skew, 0, place, 0));
    assert_status(JITC_E_INVALID, "nothing to map", jitc_map(client, &span, skew, PAGE, NULL, 0));
    assert_status(JITC_E_INVALID, "flags 0x2", jitc_map(client, &span, skew, PAGE, place, 2));
    assert_status(JITC_E_OUT_OF_RANGE, "", jitc_map(client, &span, skew + PAGE, span.size - skew, place, 0));
    for (size_t i = 0; i < PAGES * PAGE; i++)
        ck_assert_uint_eq(place[i], 1);
    (void)jitc_close(client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("map");
    TCase *tcase = tcase_create("map");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_test(tcase, what_is_written_before_and_after_runs_there);
    tcase_add_test(tcase, a_shared_one_never_becomes_writable);
    tcase_add_test(tcase, a_private_one_becomes_a_copy_of_its_own);
    tcase_add_test(tcase, what_it_refuses_it_leaves_alone);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
