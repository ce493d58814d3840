/* SPDX-License-Identifier: MIT */
/*
 * Two clients of one daemon, of two users and of one: neither sees the other's content,
 * spans, statistics or errors, and one that does everything wrong hurts only itself.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

enum pair { TWO_USERS, ONE_USER, PAIR_COUNT };

#define SPANS_MAX 100u

static struct broker broker;
static jitc_client *one;
static jitc_client *other;

static void start(void)
{
    broker_start(&broker, "[class default]\nspan_max=100\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        ck_assert_msg(status_ == JITC_OK, "%s: %s: %s", #call, jitc_strerror(status_), jitc_error_detail()); \
    } while (0)

/* The daemon knows a peer by the effective uid that it had when it connected. */
static jitc_client *connect_as(uid_t uid)
{
    const jitc_options options = broker_options(&broker);
    jitc_client *client = NULL;
    int socket;

    if (are_we_root()) {
        ck_assert_int_eq(seteuid(uid), 0);
        socket = broker_socket(&broker);
        ck_assert_int_eq(seteuid(0), 0);
    } else {
        socket = broker_socket(&broker);
    }
    assert_ok(jitc_adopt(&client, socket, &options));
    return client;
}

static void connect_pair(enum pair pair)
{
    if (pair == TWO_USERS && !are_we_root())
        skip("needs root, for clients of two users");
    one = connect_as(WORKER_UID);
    other = connect_as(pair == TWO_USERS ? OTHER_WORKER_UID : WORKER_UID);
    become(WORKER_UID);
}

static void disconnect(void)
{
    one = jitc_close(one);
    other = jitc_close(other);
}

static jitc_info describe(jitc_client *client)
{
    jitc_info info = {.struct_size = sizeof info};

    assert_ok(jitc_describe(client, &info));
    return info;
}

static jitc_stats statistics(jitc_client *client)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    assert_ok(jitc_statistics(client, &stats));
    return stats;
}

static jitc_span alloc_code(jitc_client *client, size_t size, uint32_t value)
{
    uint8_t code[CODE_RETURN_BYTES];
    jitc_span span;

    code_return(code, value);
    assert_ok(jitc_alloc(client, &span, size));
    assert_ok(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return span;
}

static ptrdiff_t offset_of(jitc_client *client, const jitc_span *span)
{
    return (const uint8_t *)span->rx - (const uint8_t *)describe(client).base;
}

/* ---- Seeing ----------------------------------------------------------------------- */

START_TEST(each_has_its_own_content_at_the_same_offsets)
{
    jitc_span ours[50];
    jitc_span theirs[50];

    connect_pair((enum pair)_i);
    for (uint32_t i = 0; i < 50; i++) {
        ours[i] = alloc_code(one, 100 + i, i);
        theirs[i] = alloc_code(other, 100 + i, 1000 + i);
        ck_assert_int_eq(offset_of(one, &ours[i]), offset_of(other, &theirs[i]));
    }
    for (uint32_t i = 0; i < 50; i++) {
        ck_assert_uint_eq(code_call(ours[i].rx), i);
        ck_assert_uint_eq(code_call(theirs[i].rx), 1000 + i);
    }
    for (uint32_t i = 0; i < 50; i += 2)
        assert_ok(jitc_release(one, ours[i].rx));
    for (uint32_t i = 0; i < 50; i++)
        ck_assert_uint_eq(code_call(theirs[i].rx), 1000 + i);
    assert_ok(jitc_reset(one, JITC_RESET_HARD));
    for (uint32_t i = 0; i < 50; i++)
        ck_assert_uint_eq(code_call(theirs[i].rx), 1000 + i);
    one = jitc_close(one);
    for (uint32_t i = 0; i < 50; i++)
        ck_assert_uint_eq(code_call(theirs[i].rx), 1000 + i);
}
END_TEST

START_TEST(the_others_spans_are_not_found)
{
    jitc_span ours;
    jitc_span theirs;
    jitc_span found;
    uint8_t *there;
    jitc_span guess;

    connect_pair((enum pair)_i);
    (void)alloc_code(one, 64, 1);
    (void)alloc_code(other, 64, 2);
    theirs = alloc_code(other, 1000, 3);
    /* The same offset, in an arena of one's own. */
    there = (uint8_t *)(uintptr_t)describe(one).base + offset_of(other, &theirs);
    guess = (jitc_span){.rx = there, .size = 1024};
    ck_assert_int_eq(jitc_query(one, &found, there), JITC_E_NO_SPAN);
    ck_assert_int_eq(jitc_write(one, &guess, 0, "x", 1, JITC_WRITE_DEFAULT), JITC_E_NO_SPAN);
    ck_assert_int_eq(jitc_patch(one, &guess, 0, 1, there[0], 0x90, NULL), JITC_E_NO_SPAN);
    ck_assert_int_eq(jitc_shrink(one, &guess, 64), JITC_E_NO_SPAN);
    ck_assert_int_eq(jitc_seal(one, &guess), JITC_E_NO_SPAN);
    ck_assert_int_eq(jitc_release(one, there), JITC_E_NO_SPAN);
    /* Their address, in ours. */
    guess = theirs;
    ck_assert_int_eq(jitc_query(one, &found, theirs.rx), JITC_E_FOREIGN_POINTER);
    ck_assert_int_eq(jitc_write(one, &guess, 0, "x", 1, JITC_WRITE_DEFAULT), JITC_E_FOREIGN_POINTER);
    ck_assert_int_eq(jitc_release(one, theirs.rx), JITC_E_FOREIGN_POINTER);
    ours = alloc_code(one, 1000, 4);
    ck_assert_ptr_eq(ours.rx, there); /* now it is ours, and that changes nothing for them */
    ck_assert_uint_eq(code_call(theirs.rx), 3);
    ck_assert_uint_eq(statistics(other).allocation_count, 2);
}
END_TEST

START_TEST(statistics_tell_of_one_session)
{
    jitc_stats before;
    jitc_stats after;

    connect_pair((enum pair)_i);
    (void)alloc_code(one, 5000, 1);
    before = statistics(one);
    for (uint32_t i = 0; i < SPANS_MAX; i++)
        (void)alloc_code(other, 100000, i);
    assert_ok(jitc_reset(other, JITC_RESET_SOFT));
    after = statistics(one);
    ck_assert_mem_eq(&before, &after, sizeof before);
    ck_assert_uint_eq(after.allocation_count, 1);
    ck_assert_uint_eq(after.reserved_bytes, 65536);
    ck_assert_uint_eq(after.reserved_peak_bytes, 65536);
    ck_assert_uint_gt(statistics(other).reserved_peak_bytes, SPANS_MAX * 100000);
}
END_TEST

/* ---- Errors -------------------------------------------------------------------------- */

START_TEST(a_full_session_leaves_the_other_all_of_its_own)
{
    jitc_span span;

    connect_pair((enum pair)_i);
    for (uint32_t i = 0; i < SPANS_MAX; i++)
        (void)alloc_code(one, 64, i);
    ck_assert_int_eq(jitc_alloc(one, &span, 64), JITC_E_QUOTA_SPANS);
    for (uint32_t i = 0; i < SPANS_MAX; i++)
        (void)alloc_code(other, 64, i);
    ck_assert_int_eq(jitc_alloc(other, &span, 64), JITC_E_QUOTA_SPANS);
    assert_ok(jitc_reset(one, JITC_RESET_SOFT));
    ck_assert_int_eq(jitc_alloc(other, &span, 64), JITC_E_QUOTA_SPANS);
    disconnect();
}
END_TEST

/* How many spans of a mebibyte the arena still holds. */
static unsigned fill_arena(jitc_client *client)
{
    unsigned count = 0;
    jitc_span span;
    int status;

    while ((status = jitc_alloc(client, &span, 1 << 20)) == JITC_OK)
        count++;
    ck_assert_int_eq(status, JITC_E_ARENA_FULL);
    return count;
}

START_TEST(a_full_arena_leaves_the_other_all_of_its_own)
{
    unsigned count;

    connect_pair((enum pair)_i);
    count = fill_arena(one);
    ck_assert_uint_gt(count, 32);
    ck_assert_uint_eq(fill_arena(other), count);
}
END_TEST

START_TEST(the_end_of_one_is_not_told_to_the_other)
{
    struct wire *wire;
    jitc_span span;

    connect_pair((enum pair)_i);
    span = alloc_code(other, 64, 9);
    wire = wire_new(broker_socket(&broker));
    wire_hello(wire);
    wire_send_bytes(wire, "\xff\xff\xff", 3);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "no request");
    wire = wire_free(wire);
    one = jitc_close(one);
    ck_assert_uint_eq(statistics(other).allocation_count, 1);
    ck_assert_uint_eq(code_call(span.rx), 9);
}
END_TEST

/* ---- Everything wrong --------------------------------------------------------------------- */

static void speak_before_hello(struct wire *wire)
{
    const struct request request = {.operation = OPERATION_ALLOC, .size = 64};
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_operation(&out, &request));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "Hello");
}

static void speak_nonsense(struct wire *wire)
{
    uint8_t bytes[300];

    wire_hello(wire);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = 0xFF;
    wire_send_bytes(wire, bytes, sizeof bytes);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "no request");
}

static void speak_too_long(struct wire *wire)
{
    static const uint8_t bytes[RECORD_MAX_BYTES + 1];

    wire_hello(wire);
    wire_send_bytes(wire, bytes, sizeof bytes);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "larger");
}

static void use_the_daemons_id(struct wire *wire)
{
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};
    const struct request request = {.operation = OPERATION_STATISTICS};

    wire_hello(wire);
    ck_assert(codec_put_request(&out, 0) && codec_put_operation(&out, &request));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "id 0");
}

static void send_descriptors(struct wire *wire)
{
    const int fds[2] = {STDIN_FILENO, wire->socket};
    struct buffer out;

    wire_hello(wire);
    out = wire_begin(wire);
    ck_assert_int_eq(record_send(wire->socket, true, out.bytes, out.used, fds, 2), 0);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "descriptors");
}

static void close_without_a_word(struct wire *wire)
{
    (void)shutdown(wire->socket, SHUT_WR);
    wire_expect_end(wire);
}

static void end_with_an_empty_record(struct wire *wire)
{
    wire_hello(wire);
    ck_assert_int_eq(send(wire->socket, "", 0, MSG_NOSIGNAL), 0);
    wire_expect_end(wire);
}

/* Asks on and on, and goes without reading what was answered. */
static void never_read_the_answers(struct wire *wire)
{
    const struct request request = {.operation = OPERATION_STATISTICS};
    struct buffer out;
    int error = 0;

    wire_hello(wire);
    while (error == 0) {
        struct pollfd wait = {.fd = wire->socket, .events = POLLOUT};

        out = wire_begin(wire);
        for (unsigned i = 0; i < OPERATIONS_MAX; i++)
            ck_assert(codec_put_operation(&out, &request));
        if (poll(&wait, 1, 50) == 0)
            break; /* held up, as it should be */
        error = record_send(wire->socket, false, out.bytes, out.used, NULL, 0);
    }
    ck_assert_msg(error == 0 || error == -EAGAIN, "%s", strerror(-error));
}

/* All of it refused, and none of it the end. */
static void ask_the_impossible(struct wire *wire)
{
    struct buffer out;

    wire_hello(wire);
    for (unsigned kind = 0; kind < OPERATION_COUNT + 2; kind++) {
        const struct request request = {
            .operation = (enum operation)(kind % OPERATION_COUNT),
            .span = UINT64_MAX - kind,
            .size = UINT64_MAX,
            .at = UINT64_MAX,
            .width = 3,
            .kind = 7,
        };

        out = wire_begin(wire);
        for (unsigned i = 0; i < OPERATIONS_MAX; i++)
            ck_assert(codec_put_operation(&out, &request));
        wire_send(wire, &out);
        wire_receive(wire);
        ck_assert_uint_eq(wire->reply.results_count, OPERATIONS_MAX);
        for (size_t i = 0; i < wire->reply.results_count; i++) {
            struct result result;

            codec_result(&wire->reply, i, &result);
            ck_assert_int_eq(result.status == STATUS_OK, request.operation == OPERATION_STATISTICS);
        }
    }
}

static void (*const wrongs[])(struct wire *wire) = {
    speak_before_hello,       speak_nonsense,         speak_too_long,
    use_the_daemons_id,       send_descriptors,       close_without_a_word,
    end_with_an_empty_record, never_read_the_answers, ask_the_impossible,
};

#define WRONGS (sizeof wrongs / sizeof wrongs[0])

/* Ends the process that runs the loop, where the loop is disturbed. */
#define must(condition)                                                                       \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            (void)fprintf(stderr, "undisturbed: line %d: not %s: %s\n", __LINE__, #condition, \
                          jitc_error_detail());                                               \
            _exit(EXIT_FAILURE);                                                              \
        }                                                                                     \
    } while (0)

/* Allocates, writes, runs and releases until `channel` is closed, and says every 100 rounds that it lives. */
static void run_undisturbed(int channel)
{
    const jitc_options options = broker_options(&broker);
    struct pollfd wait = {.fd = channel, .events = POLLIN};
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_client *client;
    jitc_span kept[10];
    uint8_t code[CODE_RETURN_BYTES];

    must(jitc_connect(&client, &options) == JITC_OK);
    for (uint32_t i = 0; i < 10; i++) {
        code_return(code, i);
        must(jitc_alloc(client, &kept[i], 5000) == JITC_OK);
        must(jitc_write(client, &kept[i], 0, code, sizeof code, JITC_WRITE_DEFAULT) == JITC_OK);
    }
    for (uint32_t round = 0; poll(&wait, 1, 0) == 0; round++) {
        jitc_span span;

        code_return(code, round);
        must(jitc_alloc(client, &span, 64 + round % 3000) == JITC_OK);
        must(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT) == JITC_OK);
        must(code_call(span.rx) == round);
        must(code_call(kept[round % 10].rx) == round % 10);
        must(jitc_statistics(client, &stats) == JITC_OK && stats.allocation_count == 11);
        must(jitc_release(client, span.rx) == JITC_OK);
        if (round % 100 == 0)
            (void)!write(channel, "l", 1);
    }
    (void)jitc_close(client);
    _exit(EXIT_SUCCESS);
}

/* Waits for so many signs of life that were not there yet. */
static void hear_it_live(int channel, int times)
{
    char life[4096];

    while (recv(channel, life, sizeof life, MSG_DONTWAIT) > 0)
        continue;
    while (times-- > 0)
        ck_assert_int_eq(read(channel, life, 1), 1);
}

START_TEST(who_does_everything_wrong_hurts_only_itself)
{
    int channel[2];
    int status = 0;
    pid_t pid;

    if (_i == TWO_USERS && !are_we_root())
        skip("needs root, for clients of two users");
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel), 0);
    ck_assert_int_eq(fcntl(channel[0], F_SETFL, 0), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)close(channel[0]);
        become(_i == TWO_USERS ? OTHER_WORKER_UID : WORKER_UID);
        run_undisturbed(channel[1]);
    }
    (void)close(channel[1]);
    become(WORKER_UID);
    hear_it_live(channel[0], 1);
    for (unsigned round = 0; round < 10; round++) {
        struct wire *wires[WRONGS];

        /* All of them connected at once, then each goes wrong in its way. */
        for (size_t i = 0; i < WRONGS; i++)
            wires[i] = wire_new(broker_socket(&broker));
        for (size_t i = 0; i < WRONGS; i++)
            wrongs[i](wires[i]);
        hear_it_live(channel[0], 1);
        for (size_t i = 0; i < WRONGS; i++)
            wires[i] = wire_free(wires[i]);
    }
    hear_it_live(channel[0], 3);
    ck_assert_int_eq(shutdown(channel[0], SHUT_WR), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    (void)close(channel[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("isolation");
    TCase *tcase = tcase_create("two clients");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_checked_fixture(tcase, NULL, disconnect);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, each_has_its_own_content_at_the_same_offsets, 0, PAIR_COUNT);
    tcase_add_loop_test(tcase, the_others_spans_are_not_found, 0, PAIR_COUNT);
    tcase_add_loop_test(tcase, statistics_tell_of_one_session, 0, PAIR_COUNT);
    tcase_add_loop_test(tcase, a_full_session_leaves_the_other_all_of_its_own, 0, PAIR_COUNT);
    tcase_add_loop_test(tcase, a_full_arena_leaves_the_other_all_of_its_own, 0, PAIR_COUNT);
    tcase_add_loop_test(tcase, the_end_of_one_is_not_told_to_the_other, 0, PAIR_COUNT);
    tcase_add_loop_test(tcase, who_does_everything_wrong_hurts_only_itself, 0, PAIR_COUNT);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
