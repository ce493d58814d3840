/* SPDX-License-Identifier: MIT */
/* How much a user may burden the manager with, and that a manager who has no room keeps nobody waiting. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/store.h"
#include "tests/harness/suite.h"

enum { USER = 1000, OTHER = 1001 };
#define S_NS UINT64_C(1000000000)

static int manager;
static char path[64];
static uv_loop_t loop;
static struct store store;

static void start_with(const char *room)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(path, sizeof path, "/tmp/jitbroker-store-%d", (int)getpid());
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(manager, (const struct sockaddr *)&address, sizeof address), 0);
    (void)setenv("NOTIFY_SOCKET", path, 1);
    if (room != NULL)
        (void)setenv("FDSTORE", room, 1);
    else
        (void)unsetenv("FDSTORE");
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    store_init(&store, &loop);
}

static void start(void)
{
    start_with(NULL);
    ck_assert(store_is_there(&store));
}

static void stop(void)
{
    store_deinit(&store);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    (void)close(manager);
    (void)unlink(path);
}

/* What was said next; "": nothing. */
static const char *heard(void)
{
    static char text[256];
    ssize_t got = recv(manager, text, sizeof text - 1, 0);

    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void fill_the_manager(void)
{
    while (store_say(&store, "WATCHDOG=1") == 0)
        continue;
    ck_assert_int_eq(store_say(&store, "WATCHDOG=1"), -EAGAIN);
}

static void empty_the_manager(void)
{
    while (strcmp(heard(), "WATCHDOG=1") == 0)
        continue;
}

START_TEST(a_user_adds_its_burst_and_then_at_its_rate)
{
    uint64_t now = 100 * S_NS;

    for (unsigned i = 0; i < STORE_BURST; i++) {
        ck_assert_uint_eq(store_wait_ns(&store, USER, now), 0);
        store_pace(&store, USER, now);
    }
    ck_assert_uint_eq(store_wait_ns(&store, USER, now), S_NS / STORE_RATE);
    ck_assert_uint_eq(store_wait_ns(&store, OTHER, now), 0);
    now += S_NS / STORE_RATE - 1;
    ck_assert_uint_eq(store_wait_ns(&store, USER, now), 1);
    now += 1;
    ck_assert_uint_eq(store_wait_ns(&store, USER, now), 0);
    store_pace(&store, USER, now);
    ck_assert_uint_eq(store_wait_ns(&store, USER, now), S_NS / STORE_RATE);
}
END_TEST

START_TEST(users_beyond_those_that_are_known_go_on_where_one_of_them_is)
{
    uint64_t now = 100 * S_NS;

    for (unsigned i = 0; i < STORE_PACES; i++) {
        for (unsigned j = 0; j < STORE_BURST; j++)
            store_pace(&store, USER + i, now);
    }
    ck_assert_uint_eq(store_wait_ns(&store, USER + STORE_PACES, now), S_NS / STORE_RATE);
    now += STORE_BURST * (S_NS / STORE_RATE);
    for (unsigned j = 0; j < STORE_BURST; j++) {
        ck_assert_uint_eq(store_wait_ns(&store, USER + STORE_PACES, now), 0);
        store_pace(&store, USER + STORE_PACES, now);
    }
    ck_assert_uint_gt(store_wait_ns(&store, USER + STORE_PACES, now), 0);
}
END_TEST

START_TEST(a_manager_without_room_is_not_waited_for)
{
    fill_the_manager();
    ck_assert_uint_eq(store_wait_ns(&store, USER, S_NS), STORE_RETRY_NS);
    ck_assert_int_eq(store_add(&store, "session-1", &manager, 1), -EAGAIN);
    empty_the_manager();
    ck_assert_uint_eq(store_wait_ns(&store, USER, S_NS), 0);
}
END_TEST

START_TEST(what_is_to_be_removed_goes_before_what_is_to_be_added)
{
    ck_assert_int_eq(store_add(&store, "session-1", &manager, 1), 0);
    ck_assert_str_eq(heard(), "FDSTORE=1\nFDPOLL=0\nFDNAME=session-1");
    fill_the_manager();
    store_remove(&store, "session-1");
    empty_the_manager();
    ck_assert_uint_eq(store_wait_ns(&store, USER, S_NS), STORE_RETRY_NS);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_str_eq(heard(), "FDSTOREREMOVE=1\nFDNAME=session-1");
    ck_assert_uint_eq(store_wait_ns(&store, USER, S_NS), 0);
}
END_TEST

START_TEST(what_has_to_arrive_does_so_in_its_order_and_without_anyone_waiting)
{
    fill_the_manager();
    store_tell(&store, "RELOADING=1");
    store_remove(&store, "session-1");
    store_tell(&store, "READY=1");
    empty_the_manager();
    ck_assert_str_eq(heard(), "");
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_str_eq(heard(), "RELOADING=1");
    ck_assert_str_eq(heard(), "FDSTOREREMOVE=1\nFDNAME=session-1");
    ck_assert_str_eq(heard(), "READY=1");
    ck_assert_str_eq(heard(), "");
}
END_TEST

START_TEST(no_more_is_added_than_the_manager_takes)
{
    start_with("2");
    ck_assert_int_eq(store_add(&store, "session-1", &manager, 1), 0);
    ck_assert_int_eq(store_add(&store, "session-2", &manager, 1), 0);
    ck_assert_int_eq(store_add(&store, "session-3", &manager, 1), -ENOSPC);
    store_remove(&store, "session-1");
    ck_assert_int_eq(store_add(&store, "session-3", &manager, 1), 0);
    stop();
}
END_TEST

START_TEST(a_manager_that_takes_nothing_is_told_how_the_daemon_is_and_nothing_else)
{
    start_with("0");
    ck_assert(!store_is_there(&store));
    ck_assert_uint_eq(store_wait_ns(&store, USER, S_NS), 0);
    ck_assert_int_eq(store_add(&store, "session-1", &manager, 1), 0);
    store_remove(&store, "session-1");
    store_tell(&store, "READY=1");
    ck_assert_str_eq(heard(), "READY=1");
    ck_assert_str_eq(heard(), "");
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    TCase *room = tcase_create("room");

    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, a_user_adds_its_burst_and_then_at_its_rate);
    tcase_add_test(tests, users_beyond_those_that_are_known_go_on_where_one_of_them_is);
    tcase_add_test(tests, a_manager_without_room_is_not_waited_for);
    tcase_add_test(tests, what_is_to_be_removed_goes_before_what_is_to_be_added);
    tcase_add_test(tests, what_has_to_arrive_does_so_in_its_order_and_without_anyone_waiting);
    suite_add_tcase(suite, tests);
    tcase_set_timeout(room, 0);
    tcase_add_test(room, no_more_is_added_than_the_manager_takes);
    tcase_add_test(room, a_manager_that_takes_nothing_is_told_how_the_daemon_is_and_nothing_else);
    suite_add_tcase(suite, room);
    return suite_run(suite);
}
