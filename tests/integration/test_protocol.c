/* SPDX-License-Identifier: MIT */
/* What the daemon answers to records that libjitclient would never send, and to those that are right. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/attack.h"
#include "tests/harness/broker.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

static struct broker broker;
static struct wire *wire;
static struct wire *bystander; /* another session, which must never notice */

static void start(void)
{
    broker_start(&broker, "[daemon]\nhello_timeout_ms=300\n");
}

static void stop(void)
{
    broker_stop(&broker);
}

static void connect_both(void)
{
    become(WORKER_UID);
    bystander = wire_new(broker_socket(&broker));
    wire_hello(bystander);
    wire = wire_new(broker_socket(&broker));
}

static void check_bystander(void)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    struct result result = wire_run(bystander, &statistics);

    ck_assert_uint_eq(result.usage.spans, 0);
    bystander = wire_free(bystander);
    wire = wire_free(wire);
}

static uint64_t alloc_span(uint64_t size)
{
    const struct request request = {.operation = OPERATION_ALLOC, .size = size};
    struct result result = wire_run(wire, &request);

    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert(result.has_span);
    return result.offset;
}

/* A request of one field: protobuf's tag and a varint below 128, or a length and so many bytes. */
static void put_byte(struct buffer *out, uint8_t byte)
{
    ck_assert_uint_lt(out->used, out->capacity);
    out->bytes[out->used++] = byte;
}

static void put_bytes_field(struct buffer *out, unsigned field, const void *bytes, uint8_t count)
{
    put_byte(out, (uint8_t)(field << 3 | 2));
    put_byte(out, count);
    for (unsigned i = 0; i < count; i++)
        put_byte(out, ((const uint8_t *)bytes)[i]);
}

/* ---- Before Hello ------------------------------------------------------------------- */

START_TEST(the_first_request_must_be_hello)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 1};
    struct buffer out = wire_begin(wire);

    tries("message-order");
    ck_assert(codec_put_operation(&out, &alloc));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "first request is Hello");
}
END_TEST

START_TEST(hello_comes_alone)
{
    const struct hello hello = {.version_min = 1, .version_max = 1};
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 1};
    struct buffer out = wire_begin(wire);

    tries("message-order");
    ck_assert(codec_put_hello(&out, &hello) && codec_put_operation(&out, &alloc));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "nothing else");
}
END_TEST

START_TEST(a_silent_connection_is_timed_out)
{
    tries("silent");
    wire_expect_goodbye(wire, STATUS_HELLO_TIMEOUT, "no Hello in time");
}
END_TEST

static void refuse_hello(const struct hello *hello, enum status status, const char *field, const char *part)
{
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_hello(&out, hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.id, wire->last_id);
    ck_assert(wire->reply.has_error && !wire->reply.has_welcome);
    ck_assert_int_eq(wire->reply.error.status, status);
    ck_assert_str_eq(wire->reply.error.field, field);
    ck_assert_msg(strstr(wire->reply.error.text, part) != NULL, "said: %s", wire->reply.error.text);
    ck_assert_uint_eq(wire->record.fds_count, 0);
    wire_expect_end(wire);
}

START_TEST(versions_without_overlap_are_refused)
{
    tries("fields");
    refuse_hello(&(struct hello){.version_min = 2, .version_max = 9}, STATUS_VERSION, "version_max",
                 "2 to 9");
}
END_TEST

START_TEST(version_zero_is_refused)
{
    tries("fields");
    refuse_hello(&(struct hello){.version_min = 0, .version_max = 0}, STATUS_VERSION, "version_max",
                 "0 to 0");
}
END_TEST

START_TEST(an_inverted_version_range_is_refused)
{
    tries("fields");
    refuse_hello(&(struct hello){.version_min = 2, .version_max = 1}, STATUS_INVALID, "version_min", "above");
}
END_TEST

START_TEST(an_unknown_write_mode_is_refused)
{
    tries("fields");
    refuse_hello(&(struct hello){.version_min = 1, .version_max = 1, .write_mode = 3}, STATUS_INVALID,
                 "write_mode", "3");
}
END_TEST

START_TEST(a_wider_version_range_gets_ours_and_unknown_features_are_not_granted)
{
    const struct hello hello = {.version_min = 1, .version_max = 1000, .features = ~FEATURE_RING};
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_welcome);
    ck_assert_uint_eq(wire->reply.welcome.version, 1);
    ck_assert_uint_eq(wire->reply.welcome.features, FEATURE_IMMEDIATE_RELEASE | FEATURE_EXECUTORS);
    ck_assert_uint_eq(wire->record.fds_count, 1);
    ck_assert_uint_eq(wire->reply.welcome.record_max_bytes, RECORD_MAX_BYTES);
    ck_assert_uint_eq(wire->reply.welcome.write_max_bytes, WRITE_MAX_BYTES);
    ck_assert_uint_eq(wire->reply.welcome.operations_max, OPERATIONS_MAX);
}
END_TEST

START_TEST(an_unknown_field_of_hello_is_ignored)
{
    struct buffer out = wire_begin(wire);
    const uint8_t hello[] = {0x08, 1, 0x10, 1, 0x78, 5}; /* version_min, version_max, field 15 */

    put_bytes_field(&out, 2, hello, sizeof hello);
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_welcome);
}
END_TEST

/* ---- Records that end a session -------------------------------------------------------- */

START_TEST(garbage_ends_the_session)
{
    const uint8_t garbage[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

    tries("message-truncated");
    wire_hello(wire);
    wire_send_bytes(wire, garbage, sizeof garbage);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "no request");
}
END_TEST

START_TEST(a_truncated_request_ends_the_session)
{
    uint8_t data[100] = {0};
    const struct request write = {
        .operation = OPERATION_WRITE, .span = 64, .data = data, .data_bytes = sizeof data};
    struct buffer out;

    tries("message-truncated");
    wire_hello(wire);
    out = wire_begin(wire);
    ck_assert(codec_put_operation(&out, &write));
    out.used--;
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "no request");
}
END_TEST

START_TEST(a_record_of_the_largest_size_is_read_and_one_byte_more_ends_the_session)
{
    uint8_t *bytes = calloc(1, RECORD_MAX_BYTES + 1);
    uint32_t fill = RECORD_MAX_BYTES - 6;

    tries("message-oversized");
    wire_hello(wire);
    /* id 9, then the unknown bytes field 15: 3 bytes of length for the rest. */
    bytes[0] = 0x08;
    bytes[1] = 9;
    bytes[2] = 0x7A;
    bytes[3] = (uint8_t)(0x80 | (fill & 0x7F));
    bytes[4] = (uint8_t)(0x80 | (fill >> 7 & 0x7F));
    bytes[5] = (uint8_t)(fill >> 14);
    wire_send_bytes(wire, bytes, RECORD_MAX_BYTES);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.id, 9);
    ck_assert_int_eq(wire->reply.error.status, STATUS_UNKNOWN_FIELD);
    wire_send_bytes(wire, bytes, RECORD_MAX_BYTES + 1);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "larger");
    free(bytes);
}
END_TEST

START_TEST(request_id_zero_ends_the_session)
{
    struct buffer out;

    tries("fields");
    wire_hello(wire);
    out = wire_begin(wire);
    out.used = 0;
    ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_STATISTICS}));
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "id 0");
}
END_TEST

START_TEST(descriptors_nobody_asked_for_end_the_session_and_reach_no_one)
{
    int fds[4];
    struct buffer out;
    long before;

    tries("fds");
    wire_hello(wire);
    before = broker_fds(&broker);
    for (int i = 0; i < 4; i++)
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    out = wire_begin(wire);
    ck_assert_int_eq(record_send(wire->socket, true, out.bytes, out.used, fds, 4), 0);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "descriptors");
    if (before >= 0)
        ck_assert_int_lt(broker_fds(&broker), before);
    for (int i = 0; i < 4; i++)
        (void)close(fds[i]);
}
END_TEST

START_TEST(more_parts_than_a_record_may_have_end_the_session)
{
    struct buffer out;

    tries("message-oversized");
    wire_hello(wire);
    out = wire_begin(wire);
    while (out.used + 2 <= out.capacity)
        put_bytes_field(&out, 3, NULL, 0);
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "too many parts");
}
END_TEST

/* ---- Requests that are refused, and the session goes on ------------------------------------- */

static void expect_request_error(enum status status, const char *part)
{
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.id, wire->last_id);
    ck_assert(wire->reply.has_error);
    ck_assert_int_eq(wire->reply.error.status, status);
    ck_assert_uint_eq(wire->reply.results_count, 0);
    ck_assert_msg(strstr(wire->reply.error.text, part) != NULL, "said: %s", wire->reply.error.text);
    (void)alloc_span(1); /* it goes on */
}

START_TEST(a_second_hello_is_refused)
{
    const struct hello hello = {.version_min = 1, .version_max = 1};
    struct buffer out;

    tries("message-order");
    wire_hello(wire);
    out = wire_begin(wire);
    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    expect_request_error(STATUS_PROTOCOL, "Hello already");
}
END_TEST

START_TEST(an_unknown_field_of_the_request_is_refused)
{
    struct buffer out;

    tries("message-unknown");
    wire_hello(wire);
    out = wire_begin(wire);
    put_bytes_field(&out, 9, "x", 1);
    wire_send(wire, &out);
    expect_request_error(STATUS_UNKNOWN_FIELD, "field");
}
END_TEST

START_TEST(operations_256_pass_and_257_are_refused_whole)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 1};
    struct buffer out;

    tries("message-oversized");
    wire_hello(wire);
    out = wire_begin(wire);
    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        ck_assert(codec_put_operation(&out, &alloc));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(!wire->reply.has_error);
    ck_assert_uint_eq(wire->reply.results_count, OPERATIONS_MAX);

    out = wire_begin(wire);
    for (unsigned i = 0; i < OPERATIONS_MAX + 1; i++)
        ck_assert(codec_put_operation(&out, &alloc));
    wire_send(wire, &out);
    expect_request_error(STATUS_INVALID, "at most 256");
    {
        const struct request statistics = {.operation = OPERATION_STATISTICS};

        ck_assert_uint_eq(wire_run(wire, &statistics).usage.spans, OPERATIONS_MAX + 1);
    }
}
END_TEST

static struct result run_raw(const void *operation, uint8_t count)
{
    struct buffer out = wire_begin(wire);
    struct result result;

    put_bytes_field(&out, 3, operation, count);
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.results_count, 1);
    codec_result(&wire->reply, 0, &result);
    attack_met_status((int)result.status);
    return result;
}

START_TEST(an_unknown_operation_is_answered)
{
    const uint8_t future[] = {0x7A, 0}; /* field 15, empty */
    struct result result;

    tries("message-unknown");
    wire_hello(wire);
    result = run_raw(future, sizeof future);
    ck_assert_int_eq(result.status, STATUS_UNKNOWN_OPERATION);
    ck_assert_msg(strstr(result.text, "15") != NULL, "said: %s", result.text);
    (void)alloc_span(1);
}
END_TEST

START_TEST(an_unknown_field_of_an_operation_is_answered_and_nothing_done)
{
    const uint8_t alloc[] = {0x0A, 4, 0x08, 64, 0x78, 1}; /* alloc { size 64, field 15 } */
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    struct result result;

    tries("message-unknown");
    wire_hello(wire);
    result = run_raw(alloc, sizeof alloc);
    ck_assert_int_eq(result.status, STATUS_UNKNOWN_FIELD);
    ck_assert_msg(strstr(result.text, "15 of alloc") != NULL, "said: %s", result.text);
    ck_assert_uint_eq(wire_run(wire, &statistics).usage.spans, 0);
}
END_TEST

START_TEST(an_empty_operation_is_refused)
{
    struct result result;

    tries("message-unknown");
    wire_hello(wire);
    result = run_raw(NULL, 0);
    ck_assert_int_eq(result.status, STATUS_INVALID);
    (void)alloc_span(1);
}
END_TEST

START_TEST(an_empty_request_is_answered)
{
    struct buffer out;

    wire_hello(wire);
    out = wire_begin(wire);
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.id, wire->last_id);
    ck_assert(!wire->reply.has_error);
    ck_assert_uint_eq(wire->reply.results_count, 0);
}
END_TEST

/* The library checks ranges itself; here only the daemon does. */
START_TEST(the_daemon_refuses_what_lies_outside_a_span_exactly)
{
    uint8_t data[65] = {0};
    struct request request = {.operation = OPERATION_WRITE, .data = data, .data_bytes = 64};
    uint64_t span;

    tries("past-end");
    wire_hello(wire);
    span = alloc_span(64);
    (void)alloc_span(64); /* what a write past the end would hit */
    request.span = span;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_OK);
    request.data_bytes = 65;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_OUT_OF_RANGE);
    request.data_bytes = 64;
    request.at = 1;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_OUT_OF_RANGE);
    request.at = UINT64_MAX - 63;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_OUT_OF_RANGE);
    request.at = UINT64_MAX;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_OUT_OF_RANGE);
    request.at = 0;
    request.span = span + 1;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_NO_SPAN);
    request.span = 0; /* the trap granule */
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_NO_SPAN);
    request.span = UINT64_MAX - 63;
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_NO_SPAN);
    request = (struct request){.operation = OPERATION_RELEASE, .span = UINT64_MAX};
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_NO_SPAN);
    request = (struct request){.operation = OPERATION_QUERY, .span = UINT64_MAX};
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_NO_SPAN);
    request = (struct request){.operation = OPERATION_PATCH, .span = span, .at = 64, .width = 8};
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_OUT_OF_RANGE);
    request = (struct request){.operation = OPERATION_SHRINK, .span = span, .size = 0};
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_INVALID);
    request = (struct request){.operation = OPERATION_SHRINK, .span = span, .size = UINT64_MAX};
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_INVALID);
    request = (struct request){.operation = OPERATION_RESET, .kind = 2};
    ck_assert_int_eq(wire_run(wire, &request).status, STATUS_INVALID);
}
END_TEST

START_TEST(operations_of_one_request_are_done_in_order_with_a_result_each)
{
    uint8_t data[4] = {1, 2, 3, 4};
    struct buffer out;
    struct result result;
    uint64_t span;

    wire_hello(wire);
    span = alloc_span(64);
    out = wire_begin(wire);
    ck_assert(codec_put_operation(
        &out, &(struct request){.operation = OPERATION_WRITE, .span = span, .data = data, .data_bytes = 4}));
    ck_assert(codec_put_operation(
        &out,
        &(struct request){
            .operation = OPERATION_PATCH, .span = span, .width = 4, .expected = 0x04030201, .desired = 5}));
    ck_assert(codec_put_operation(
        &out,
        &(struct request){
            .operation = OPERATION_PATCH, .span = span, .width = 4, .expected = 0x04030201, .desired = 6}));
    ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_RELEASE, .span = span}));
    ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_RELEASE, .span = span}));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.results_count, 5);
    codec_result(&wire->reply, 0, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    codec_result(&wire->reply, 1, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    codec_result(&wire->reply, 2, &result);
    ck_assert_int_eq(result.status, STATUS_MISMATCH);
    ck_assert_uint_eq(result.found, 5);
    codec_result(&wire->reply, 3, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    codec_result(&wire->reply, 4, &result);
    ck_assert_int_eq(result.status, STATUS_NO_SPAN);
}
END_TEST

START_TEST(requests_may_be_pipelined)
{
    enum { REQUESTS = 50 };
    uint64_t first;

    wire_hello(wire);
    first = wire->last_id + 1;
    for (int i = 0; i < REQUESTS; i++) {
        struct buffer out = wire_begin(wire);

        ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_ALLOC, .size = 64}));
        wire_send(wire, &out);
    }
    for (uint64_t i = 0; i < REQUESTS; i++) {
        wire_receive(wire);
        ck_assert_uint_eq(wire->reply.id, first + i);
    }
}
END_TEST

/* Sends until the daemon takes no more: it holds back who does not read its answers. */
START_TEST(who_reads_no_answers_is_held_back_and_loses_nothing)
{
    struct buffer out;
    uint64_t sent = 0;
    long before;
    int error;

    tries("unread");
    wire_hello(wire);
    before = broker_shared_bytes(&broker);
    out = wire_begin(wire);
    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_QUERY, .span = 1}));
    for (;;) {
        error = record_send(wire->socket, false, out.bytes, out.used, NULL, 0);
        if (error == -EAGAIN) {
            (void)usleep(100000); /* the daemon may still be reading */
            error = record_send(wire->socket, false, out.bytes, out.used, NULL, 0);
            if (error == -EAGAIN)
                break;
        }
        ck_assert_int_eq(error, 0);
        ck_assert_uint_lt(++sent, 10000);
    }
    ck_assert_int_eq(broker_shared_bytes(&broker), before);
    for (uint64_t i = 0; i < sent; i++) {
        wire_receive(wire);
        ck_assert_uint_eq(wire->reply.results_count, OPERATIONS_MAX);
    }
    attack_met("held back");
    (void)alloc_span(1);
}
END_TEST

START_TEST(a_large_batch_lets_others_have_their_turn)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 16u << 20};
    uint64_t answered = 0;
    struct buffer out;
    struct result result;
    uint64_t span;

    wire_hello(wire);
    span = wire_run(wire, &alloc).offset;
    out = wire_begin(wire);
    for (int i = 0; i < 50; i++) {
        /* The one at the start of the arena is given back and taken again each time. */
        ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_RELEASE, .span = span}));
        ck_assert(codec_put_operation(&out, &alloc));
    }
    wire_send(wire, &out);
    /* One core or two: the bystander is answered again and again before the batch is. */
    for (;;) {
        ssize_t got = recv(wire->socket, wire->in_bytes, sizeof wire->in_bytes, MSG_DONTWAIT | MSG_PEEK);

        if (got > 0)
            break;
        result = wire_run(bystander, &statistics);
        ck_assert_int_eq(result.status, STATUS_OK);
        answered++;
    }
    ck_assert_uint_ge(answered, 20);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.results_count, 100);
    for (size_t i = 0; i < 100; i++) {
        codec_result(&wire->reply, i, &result);
        ck_assert_int_eq(result.status, STATUS_OK);
    }
}
END_TEST

START_TEST(a_client_may_go_in_the_middle_of_a_large_batch)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 16u << 20};
    struct buffer out;
    uint64_t span;

    wire_hello(wire);
    span = wire_run(wire, &alloc).offset;
    out = wire_begin(wire);
    for (int i = 0; i < 20; i++) {
        ck_assert(codec_put_operation(&out, &(struct request){.operation = OPERATION_RELEASE, .span = span}));
        ck_assert(codec_put_operation(&out, &alloc));
    }
    wire_send(wire, &out);
    ck_assert_int_eq(shutdown(wire->socket, SHUT_RDWR), 0);
}
END_TEST

START_TEST(the_memory_of_an_ended_session_is_gone_even_where_it_is_mapped)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = 1u << 20};
    struct stat status;
    volatile uint8_t *mapping;
    pid_t pid;
    int how;
    int fd;

    if (!are_we_root() && getuid() == broker.uid)
        skip("the daemon has this user's uid, whose arena is sealed and keeps its memory");
    wire_hello(wire);
    fd = dup(wire->record.fds[0]);
    mapping = mmap(NULL, wire->reply.welcome.arena_bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne((const void *)(uintptr_t)mapping, MAP_FAILED);
    ck_assert_int_eq(wire_run(wire, &alloc).status, STATUS_OK);
    ck_assert_uint_ne(mapping[(1u << 20) + 3], 0); /* of AArch64's fill the first two bytes are */
    ck_assert_int_eq(fstat(fd, &status), 0);
    ck_assert_int_ge(status.st_size, 1 << 20);

    ck_assert_int_eq(shutdown(wire->socket, SHUT_RDWR), 0);
    do {
        (void)usleep(1000);
        ck_assert_int_eq(fstat(fd, &status), 0);
    } while (status.st_size != 0 || status.st_blocks != 0);
    pid = fork();
    if (pid == 0) {
        (void)signal(SIGBUS, SIG_DFL);
        _exit(mapping[0]);
    }
    ck_assert_int_eq(waitpid(pid, &how, 0), pid);
    ck_assert(WIFSIGNALED(how));
    ck_assert_int_eq(WTERMSIG(how), SIGBUS);
    (void)close(fd);
}
END_TEST

START_TEST(refusals_and_reasons_are_logged)
{
    const struct request release = {.operation = OPERATION_RELEASE, .span = 64};
    unsigned before = broker_log_count(&broker, "operation=release reason=\"no live span");

    wire_hello(wire);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(wire_run(wire, &release).status, STATUS_NO_SPAN);
    /* A client can't fill the log: the rest is counted. */
    ck_assert_uint_eq(broker_log_count(&broker, "operation=release reason=\"no live span"), before + 8);
    wire_send_bytes(wire, "\xFF", 1);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "");
    ck_assert_uint_ge(broker_log_count(&broker, "refusals=100"), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("protocol");
    TCase *all = tcase_create("all");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_add_checked_fixture(all, connect_both, check_bystander);
    tcase_set_timeout(all, 0);
    tcase_add_test(all, the_first_request_must_be_hello);
    tcase_add_test(all, hello_comes_alone);
    tcase_add_test(all, a_silent_connection_is_timed_out);
    tcase_add_test(all, versions_without_overlap_are_refused);
    tcase_add_test(all, version_zero_is_refused);
    tcase_add_test(all, an_inverted_version_range_is_refused);
    tcase_add_test(all, an_unknown_write_mode_is_refused);
    tcase_add_test(all, a_wider_version_range_gets_ours_and_unknown_features_are_not_granted);
    tcase_add_test(all, an_unknown_field_of_hello_is_ignored);
    tcase_add_test(all, garbage_ends_the_session);
    tcase_add_test(all, a_truncated_request_ends_the_session);
    tcase_add_test(all, a_record_of_the_largest_size_is_read_and_one_byte_more_ends_the_session);
    tcase_add_test(all, request_id_zero_ends_the_session);
    tcase_add_test(all, descriptors_nobody_asked_for_end_the_session_and_reach_no_one);
    tcase_add_test(all, more_parts_than_a_record_may_have_end_the_session);
    tcase_add_test(all, a_second_hello_is_refused);
    tcase_add_test(all, an_unknown_field_of_the_request_is_refused);
    tcase_add_test(all, operations_256_pass_and_257_are_refused_whole);
    tcase_add_test(all, an_unknown_operation_is_answered);
    tcase_add_test(all, an_unknown_field_of_an_operation_is_answered_and_nothing_done);
    tcase_add_test(all, an_empty_operation_is_refused);
    tcase_add_test(all, an_empty_request_is_answered);
    tcase_add_test(all, the_daemon_refuses_what_lies_outside_a_span_exactly);
    tcase_add_test(all, operations_of_one_request_are_done_in_order_with_a_result_each);
    tcase_add_test(all, requests_may_be_pipelined);
    tcase_add_test(all, who_reads_no_answers_is_held_back_and_loses_nothing);
    tcase_add_test(all, a_large_batch_lets_others_have_their_turn);
    tcase_add_test(all, a_client_may_go_in_the_middle_of_a_large_batch);
    tcase_add_test(all, the_memory_of_an_ended_session_is_gone_even_where_it_is_mapped);
    tcase_add_test(all, refusals_and_reasons_are_logged);
    suite_add_tcase(suite, all);

    return suite_run(suite);
}
