/* SPDX-License-Identifier: MIT */
/*
 * Replies that come twice, late, out of order or unasked, as a daemon that was restarted may send them, and
 * doors that it does not open: a daemon of our own.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/wire.h"
#include "tests/integration/comeback_steps.h"

/* ---- A daemon of our own --------------------------------------------------------------------------- */

enum { FAKE_ARENA_BYTES = 1 << 20, PARTS = 4 };

/* Says Welcome `times` times, with an arena of its own. */
static void welcome(struct wire *wire, unsigned times)
{
    const struct welcome granted = {.version = 1,
                                    .arena_bytes = FAKE_ARENA_BYTES,
                                    .granularity = 64,
                                    .write_mode = WRITE_THROUGH,
                                    .span_max_bytes = FAKE_ARENA_BYTES,
                                    .spans_max = 100};
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};
    int arena = memfd_create("arena", MFD_CLOEXEC);

    if (ftruncate(arena, FAKE_ARENA_BYTES) != 0 ||
        recv(wire->socket, wire->in_bytes, sizeof wire->in_bytes, 0) <= 0)
        _exit(3);
    if (!codec_put_reply(&out, 1) || !codec_put_welcome(&out, &granted))
        _exit(3);
    for (; times > 0; times--) {
        if (record_send(wire->socket, true, out.bytes, out.used, &arena, 1) != 0)
            _exit(3);
    }
    (void)close(arena);
}

/* The next request: its id. 0: the client has closed. */
static uint64_t next_request(struct wire *wire, struct request *request)
{
    static struct request_record record; /* the request's data lives in it */
    struct result refusal;
    ssize_t got = recv(wire->socket, wire->in_bytes, sizeof wire->in_bytes, 0);

    if (got <= 0)
        return 0;
    if (!codec_decode_request(&wire->pool, wire->in_bytes, (size_t)got, &record))
        _exit(4);
    *request = (struct request){.operation = OPERATION_COUNT};
    if (record.operations_count > 0 && codec_operation(&record, 0, request, &refusal) != STATUS_OK)
        _exit(4);
    return record.id;
}

static void reply_with_fd(struct wire *wire, uint64_t id, uint64_t offset, uint64_t size, int fd)
{
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};
    struct result result;

    result_init(&result);
    result.has_span = size > 0;
    result.offset = offset;
    result.size = size;
    if (!codec_put_reply(&out, id) || !codec_put_result(&out, &result))
        _exit(5);
    switch (record_send(wire->socket, true, out.bytes, out.used, &fd, fd >= 0 ? 1 : 0)) {
    case 0:
        break;
    case -EPIPE: /* the client has what it wanted, and is gone */
    case -ECONNRESET:
        _exit(0);
    default:
        _exit(5);
    }
}

static void reply(struct wire *wire, uint64_t id, uint64_t offset, uint64_t size)
{
    reply_with_fd(wire, id, offset, size, -1);
}

static pid_t fake;
static int gate[2] = {-1, -1}; /* a pipe, by which it is told that the client has given up */

static void await_giving_up(void)
{
    char byte;

    if (read(gate[0], &byte, 1) != 1)
        _exit(6);
}

static void tell_giving_up(void)
{
    ck_assert_int_eq(write(gate[1], "", 1), 1);
}

/* A daemon that does what `script` does, and ends well if that returns. */
static void start_fake(void (*script)(struct wire *wire), unsigned welcomes)
{
    jitc_options options;
    int pair[2];

    jitc_options_init(&options);
    options.timeout_ms = PATIENT_MS;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(pipe(gate), 0);
    fake = check_fork();
    if (fake == 0) {
        struct wire *wire = wire_new(pair[1]);

        (void)close(pair[0]);
        welcome(wire, welcomes);
        script(wire);
        (void)wire_free(wire);
        _exit(0);
    }
    (void)close(pair[1]);
    assert_status(JITC_OK, "", jitc_adopt(&client, pair[0], &options));
}

static void end_fake(void)
{
    int status;

    close_client();
    ck_assert_int_eq(waitpid(fake, &status, 0), fake);
    ck_assert_int_eq(status, 0);
    (void)close(gate[0]);
    (void)close(gate[1]);
}

/* The span that is asked for lies where it is asked for. */
static void answer_all_twice(struct wire *wire)
{
    struct request request;
    uint64_t id;
    uint64_t before = 0;

    while ((id = next_request(wire, &request)) != 0) {
        if (before != 0)
            reply(wire, before, 0, 64); /* and once more */
        reply(wire, id, request.operation == OPERATION_ALLOC ? 4096 : request.span, 64);
        reply(wire, id, 8192, 64);
        before = id;
    }
}

START_TEST(what_is_answered_twice_is_taken_once)
{
    const uint8_t *base;
    jitc_span span;
    jitc_info info = {.struct_size = sizeof info};

    start_fake(answer_all_twice, 3);
    assert_status(JITC_OK, "", jitc_describe(client, &info));
    base = info.base;
    for (int i = 1; i < 10; i++) {
        assert_status(JITC_OK, "", jitc_query(client, &span, base + i * 64));
        ck_assert_ptr_eq(span.rx, base + i * 64);
        assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
        ck_assert_ptr_eq(span.rx, base + 4096);
    }
    /* The second answer to an alloc brings no span that would have to be released. */
    ck_assert_uint_eq(client->owed.count, 0);
    end_fake();
}
END_TEST

static void answer_backwards(struct wire *wire)
{
    struct request request;
    uint64_t ids[PARTS];

    for (int i = 0; i < PARTS; i++)
        ids[i] = next_request(wire, &request);
    for (int i = PARTS; i > 0; i--)
        reply(wire, ids[i - 1], 0, 0);
    reply(wire, next_request(wire, &request), 64, 64);
}

START_TEST(the_parts_of_a_write_may_be_answered_in_any_order)
{
    static const uint8_t bytes[PARTS * WRITE_MAX_BYTES];
    jitc_span span;

    start_fake(answer_backwards, 1);
    span = (jitc_span){.rx = client->map.rx, .size = sizeof bytes};
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    end_fake();
}
END_TEST

/* The alloc is answered when the client has given it up, and more than once. */
static void answer_late(struct wire *wire)
{
    struct request request;
    uint64_t id = next_request(wire, &request);

    if (request.operation != OPERATION_ALLOC)
        _exit(6);
    await_giving_up();
    for (int i = 0; i < 3; i++)
        reply(wire, id, 4096, 128);
    id = next_request(wire, &request);
    if (request.operation != OPERATION_RELEASE || request.span != 4096)
        _exit(7);
    reply(wire, id, 0, 0);
    id = next_request(wire, &request);
    if (request.operation != OPERATION_QUERY)
        _exit(8);
    reply(wire, id, 64, 64);
    if (next_request(wire, &request) != 0)
        _exit(9);
}

START_TEST(a_span_is_released_once_however_often_it_comes)
{
    jitc_span span;

    start_fake(answer_late, 1);
    wait_at_most(TIMEOUT_MS);
    assert_late(jitc_alloc(client, &span, 100));
    tell_giving_up();
    wait_at_most(PATIENT_MS);
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    ck_assert_uint_eq(client->owed.count, 0);
    ck_assert_uint_eq(client->asked_count, 0);
    end_fake();
}
END_TEST

/* An end, a pipe's, comes late, and with what was never to have one. */
static void bring_descriptors(struct wire *wire)
{
    struct request request;
    uint64_t id = next_request(wire, &request);
    int pipe_ends[2];
    char byte;

    await_giving_up();
    if (pipe(pipe_ends) != 0)
        _exit(6);
    for (int i = 0; i < 2; i++)
        reply_with_fd(wire, id, 0, 0, pipe_ends[1]);
    (void)close(pipe_ends[1]);
    if (read(pipe_ends[0], &byte, 1) != 0) /* until nobody has the other end */
        _exit(7);
    do {
        id = next_request(wire, &request);
        if (id != 0)
            reply(wire, id, 64, 64);
    } while (id != 0);
}

START_TEST(descriptors_that_nobody_waits_for_are_closed)
{
    jitc_span span;
    int fd = -1;

    start_fake(bring_descriptors, 1);
    wait_at_most(TIMEOUT_MS);
    assert_late(jitc_open_executor(client, &fd));
    tell_giving_up();
    wait_at_most(PATIENT_MS);
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    ck_assert_int_eq(fd, -1);
    end_fake();
}
END_TEST

static void answer_what_was_not_asked(struct wire *wire)
{
    struct request request;

    reply(wire, next_request(wire, &request) + 1, 64, 64);
    (void)next_request(wire, &request);
}

static void answer_nothing_by_number(struct wire *wire)
{
    struct request request;

    (void)next_request(wire, &request);
    reply(wire, 0, 64, 64);
    (void)next_request(wire, &request);
}

static void answer_with_descriptors(struct wire *wire)
{
    struct request request;

    reply_with_fd(wire, next_request(wire, &request), 64, 64, wire->socket);
    (void)next_request(wire, &request);
}

START_TEST(an_answer_to_what_was_never_asked_is_the_end)
{
    static void (*const scripts[])(struct wire *) = {answer_what_was_not_asked, answer_nothing_by_number,
                                                     answer_with_descriptors};
    jitc_span span;

    start_fake(scripts[_i], 1);
    assert_status(JITC_E_BAD_REPLY, "", jitc_query(client, &span, client->map.rx + 64));
    assert_status(JITC_E_DISCONNECTED, "its reply", jitc_query(client, &span, client->map.rx + 64));
    end_fake();
}
END_TEST

/* ---- Connecting --------------------------------------------------------------------------------------- */

struct door {
    char folder[64];
    char path[108];
    int listener;
};

static struct door open_door(void)
{
    struct door door = {.folder = "/tmp/jitbroker-test-XXXXXX"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(door.folder));
    (void)snprintf(door.path, sizeof door.path, "%s/socket", door.folder);
    (void)strcpy(address.sun_path, door.path);
    door.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(door.listener, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(door.listener, 8), 0);
    return door;
}

static void close_door(const struct door *door)
{
    (void)close(door->listener);
    (void)unlink(door->path);
    (void)rmdir(door->folder);
}

/* Closes some at once, one after it has read the Hello, and one with a reset; then serves. */
static void serve_the_fourth(int listener)
{
    struct request request;
    struct wire *wire;
    uint64_t id;
    char byte;

    for (int i = 0; i < 3; i++) {
        int socket = accept(listener, NULL, NULL);

        if (i == 1)
            (void)recv(socket, &byte, 1, 0);
        if (i == 2)
            (void)recv(socket, &byte, 1, MSG_PEEK); /* unread: a reset */
        (void)close(socket);
    }
    wire = wire_new(accept(listener, NULL, NULL));
    welcome(wire, 1);
    while ((id = next_request(wire, &request)) != 0)
        reply(wire, id, 64, 64);
    (void)wire_free(wire);
}

START_TEST(who_connects_while_the_daemon_is_restarted_is_served_by_the_next)
{
    struct door door = open_door();
    jitc_options options;
    jitc_span span;

    jitc_options_init(&options);
    options.socket = door.path;
    fake = check_fork();
    if (fake == 0) {
        serve_the_fourth(door.listener);
        _exit(0);
    }
    assert_status(JITC_OK, "", jitc_connect(&client, &options));
    assert_status(JITC_OK, "", jitc_query(client, &span, client->map.rx + 64));
    end_fake();
    close_door(&door);
}
END_TEST

/* Counts those who come until nobody does any more, and refuses them by a word, or by none. */
static unsigned turn_away(int listener, bool says_why)
{
    unsigned count = 0;
    int socket;

    while ((socket = accept(listener, NULL, NULL)) >= 0) {
        uint8_t bytes[512];
        struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};
        struct result refusal;

        (void)result_refuse(&refusal, STATUS_REFUSED, "", "not you");
        if (says_why && (!codec_put_reply(&out, 0) || !codec_put_error(&out, &refusal) ||
                         record_send(socket, true, out.bytes, out.used, NULL, 0) != 0))
            _exit(255);
        (void)close(socket);
        count++;
    }
    return count;
}

START_TEST(a_refusal_is_final_and_a_closed_door_is_tried_for_as_long_as_asked)
{
    struct door door = open_door();
    bool says_why = _i == 0;
    jitc_options options;
    int status;

    jitc_options_init(&options);
    options.socket = door.path;
    options.timeout_ms = 100;
    fake = check_fork();
    if (fake == 0) {
        unsigned count = turn_away(door.listener, says_why);

        _exit(count < 255 ? (int)count : 254);
    }
    if (says_why)
        assert_status(JITC_E_REFUSED, "not you", jitc_connect(&client, &options));
    else
        assert_status(JITC_E_DISCONNECTED, "", jitc_connect(&client, &options));
    ck_assert_int_eq(shutdown(door.listener, SHUT_RDWR), 0);
    ck_assert_int_eq(waitpid(fake, &status, 0), fake);
    ck_assert(WIFEXITED(status));
    if (says_why)
        ck_assert_int_eq(WEXITSTATUS(status), 1);
    else
        ck_assert_int_gt(WEXITSTATUS(status), 1);
    close_door(&door);
}
END_TEST

START_TEST(a_socket_without_a_listener_is_told_at_once)
{
    struct door door = open_door();
    jitc_options options;

    jitc_options_init(&options);
    options.socket = door.path;
    options.timeout_ms = UINT32_MAX; /* or this takes for ever */
    (void)close(door.listener);
    assert_status(JITC_E_NO_BROKER, "is jitbrokerd running?", jitc_connect(&client, &options));
    (void)unlink(door.path);
    assert_status(JITC_E_NO_BROKER, "is jitbrokerd running?", jitc_connect(&client, &options));
    close_door(&door);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replies");
    TCase *own = tcase_create("a daemon of our own");

    tcase_set_timeout(own, 0);
    tcase_add_test(own, what_is_answered_twice_is_taken_once);
    tcase_add_test(own, the_parts_of_a_write_may_be_answered_in_any_order);
    tcase_add_test(own, a_span_is_released_once_however_often_it_comes);
    tcase_add_test(own, descriptors_that_nobody_waits_for_are_closed);
    tcase_add_loop_test(own, an_answer_to_what_was_never_asked_is_the_end, 0, 3);
    tcase_add_test(own, who_connects_while_the_daemon_is_restarted_is_served_by_the_next);
    tcase_add_loop_test(own, a_refusal_is_final_and_a_closed_door_is_tried_for_as_long_as_asked, 0, 2);
    tcase_add_test(own, a_socket_without_a_listener_is_told_at_once);
    suite_add_tcase(suite, own);
    return suite_run(suite);
}
