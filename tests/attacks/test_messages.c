/* SPDX-License-Identifier: MIT */
/*
 * Records and ring entries that are cut, doubled, or have each of their numbers at its bounds. Each is
 * answered, or ends the session that it came from with a reason; another user's session never notices.
 */
#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/ring_client.h"
#include "tests/attacks/victim.h"
#include "tests/harness/suite.h"

#define ARENA (UINT64_C(1) << 20)
#define SPAN UINT64_C(64) /* the first one in an arena */
#define SPAN_BYTES UINT64_C(128)
#define LARGEST (ARENA - 64)

static struct broker broker;
static struct victim victim; /* of another uid */

static void start(void)
{
    broker_start(&broker, "[class default]\narena=1M\narena_max=2M\n");
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void stop(void)
{
    victim_stop(&victim);
    broker_stop(&broker);
}

static void become_worker(void)
{
    become(WORKER_UID);
}

static void check_victim(void)
{
    victim_check(&victim);
}

/* ---- Cut and doubled -------------------------------------------------------------------------- */

static const struct hello plain_hello = {.version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION};
static const uint8_t data[WRITE_MAX_BYTES + 1];

/* One of each, with numbers in all fields. */
static const struct request samples[OPERATION_COUNT] = {
    [OPERATION_ALLOC] = {.operation = OPERATION_ALLOC, .size = 1000},
    [OPERATION_RELEASE] = {.operation = OPERATION_RELEASE, .span = SPAN},
    [OPERATION_SHRINK] = {.operation = OPERATION_SHRINK, .span = SPAN, .size = 1},
    [OPERATION_QUERY] = {.operation = OPERATION_QUERY, .span = SPAN},
    [OPERATION_WRITE] = {.operation = OPERATION_WRITE, .span = SPAN, .at = 1, .data = data, .data_bytes = 20},
    [OPERATION_PATCH] = {.operation = OPERATION_PATCH,
                         .span = SPAN,
                         .at = 4,
                         .width = 4,
                         .expected = 0xCCCCCCCC,
                         .desired = 1},
    [OPERATION_SEAL] = {.operation = OPERATION_SEAL, .span = SPAN},
    [OPERATION_RESET] = {.operation = OPERATION_RESET, .kind = RESET_HARD},
    [OPERATION_STATISTICS] = {.operation = OPERATION_STATISTICS},
    [OPERATION_LEASE] = {.operation = OPERATION_LEASE, .size = 64},
    [OPERATION_CARVE] = {.operation = OPERATION_CARVE, .span = SPAN, .size = 64},
    [OPERATION_RETURN] = {.operation = OPERATION_RETURN, .span = BLOCK_BYTES},
};

static struct wire *connect_plainly(void)
{
    struct wire *wire = wire_new(broker_socket(&broker));

    wire_hello(wire);
    return wire;
}

/* What comes of the first `bytes` of the request. */
static void send_cut(struct wire *wire, const struct buffer *request, size_t bytes)
{
    const size_t id_bytes = 2;

    wire_send_bytes(wire, request->bytes, bytes);
    if (bytes == 0) { /* no different from a close */
        wire_expect_end(wire);
        attack_met("the session ended");
        return;
    }
    wire_receive(wire);
    if (bytes == id_bytes && !wire->reply.has_error) { /* a request of nothing */
        ck_assert_uint_eq(wire->reply.results_count, 0);
        return;
    }
    ck_assert(wire->reply.has_error);
    ck_assert(wire->reply.error.status == STATUS_MALFORMED || wire->reply.error.status == STATUS_PROTOCOL);
    ck_assert_str_ne(wire->reply.error.text, "");
    ck_assert_uint_eq(wire->record.fds_count, 0);
    wire_expect_end(wire);
}

START_TEST(a_record_cut_at_any_byte_is_an_error)
{
    tries("message-truncated");
    if (_i == OPERATION_COUNT) {
        struct wire *wire;
        struct buffer out;

        for (size_t bytes = 0;; bytes++) {
            wire = wire_new(broker_socket(&broker));
            out = wire_begin(wire);
            ck_assert(codec_put_hello(&out, &plain_hello));
            if (bytes == out.used)
                break;
            send_cut(wire, &out, bytes);
            wire = wire_free(wire);
        }
        wire = wire_free(wire);
        return;
    }
    for (size_t bytes = 0;; bytes++) {
        struct wire *wire = connect_plainly();
        struct buffer out = wire_begin(wire);

        ck_assert(codec_put_operation(&out, &samples[_i]));
        if (bytes < out.used)
            send_cut(wire, &out, bytes);
        wire = wire_free(wire);
        if (bytes == out.used)
            break;
    }
}
END_TEST

START_TEST(a_record_sent_twice_is_two_requests)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = SPAN_BYTES};
    struct wire *wire = connect_plainly();
    struct result result;
    struct buffer out;

    tries("message-duplicated");
    ck_assert_int_eq(wire_run(wire, &alloc).status, STATUS_OK);
    out = wire_begin(wire);
    ck_assert(codec_put_operation(&out, &samples[OPERATION_RELEASE]));
    wire_send(wire, &out);
    wire_send(wire, &out);
    for (int i = 0; i < 2; i++) {
        wire_receive(wire);
        ck_assert_uint_eq(wire->reply.id, wire->last_id);
        codec_result(&wire->reply, 0, &result);
        ck_assert_int_eq(result.status, i == 0 ? STATUS_OK : STATUS_NO_SPAN);
    }
    attack_met_status((int)result.status);
    wire = wire_free(wire);
}
END_TEST

/* Of a field that is there twice the last counts, so it is that one which is checked. */
START_TEST(of_a_field_said_twice_the_checked_one_is_the_one_that_counts)
{
    static const uint8_t two_sizes[] = {0x08, 7, 0x1A, 6, 0x0A, 4, 0x08, 64, 0x08, 0};
    static const uint8_t two_operations[] = {0x08, 7, 0x1A, 7, 0x0A, 2, 0x08, 64, 0x12, 1, 0x08};
    static const uint8_t alloc_then_release[] = {0x08, 7, 0x1A, 8, 0x0A, 2, 0x08, 64, 0x12, 2, 0x08, 64};
    static const uint8_t two_ids[] = {0x08, 7, 0x08, 0};
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    struct wire *wire = connect_plainly();
    struct result result;

    tries("message-duplicated");
    wire_send_bytes(wire, two_sizes, sizeof two_sizes);
    wire_receive(wire);
    codec_result(&wire->reply, 0, &result);
    ck_assert_int_eq(result.status, STATUS_INVALID);
    attack_met_status((int)result.status);
    wire_send_bytes(wire, alloc_then_release, sizeof alloc_then_release);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.results_count, 1);
    codec_result(&wire->reply, 0, &result);
    ck_assert_int_eq(result.status, STATUS_NO_SPAN);
    attack_met_status((int)result.status);
    ck_assert_uint_eq(wire_run(wire, &statistics).usage.spans, 0);
    wire_send_bytes(wire, two_ids, sizeof two_ids);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "id 0");
    wire = wire_free(wire);

    wire = connect_plainly();
    wire_send_bytes(wire, two_operations, sizeof two_operations);
    wire_expect_goodbye(wire, STATUS_MALFORMED, "");
    wire = wire_free(wire);
}
END_TEST

/* ---- Every field at its bounds ------------------------------------------------------------------ */

#define IS(row_, status_, ...)                                         \
    {                                                                  \
        .row = (row_), .status = (status_), .request = { __VA_ARGS__ } \
    }
#define AT(row_, status_, operation_, span_, ...) \
    IS(row_, status_, .operation = (operation_), .span = (span_), __VA_ARGS__)

#define SPAN_FIELD(operation_, ...)                                                             \
    AT("fields", STATUS_NO_SPAN, operation_, 0, __VA_ARGS__),                                   \
        AT("fields", STATUS_NO_SPAN, operation_, 1, __VA_ARGS__),                               \
        AT("fields", STATUS_NO_SPAN, operation_, SPAN - 1, __VA_ARGS__),                        \
        AT("fields", STATUS_OK, operation_, SPAN, __VA_ARGS__),                                 \
        AT("interior", STATUS_NO_SPAN, operation_, SPAN + 1, __VA_ARGS__),                      \
        AT("interior", STATUS_NO_SPAN, operation_, SPAN + 64, __VA_ARGS__),                     \
        AT("fields", STATUS_NO_SPAN, operation_, ARENA - 64, __VA_ARGS__),                      \
        AT("fields", STATUS_NO_SPAN, operation_, ARENA - 1, __VA_ARGS__),                       \
        AT("fields", STATUS_NO_SPAN, operation_, ARENA, __VA_ARGS__),                           \
        AT("fields", STATUS_NO_SPAN, operation_, ARENA + 1, __VA_ARGS__),                       \
        AT("fields", STATUS_NO_SPAN, operation_, UINT32_MAX + UINT64_C(1) + SPAN, __VA_ARGS__), \
        AT("fields", STATUS_NO_SPAN, operation_, INT64_MAX, __VA_ARGS__),                       \
        AT("fields", STATUS_NO_SPAN, operation_, UINT64_MAX, __VA_ARGS__)

#define ALLOC(size_) .operation = OPERATION_ALLOC, .size = (size_)
#define SHRINK(size_) .operation = OPERATION_SHRINK, .span = SPAN, .size = (size_)
#define QUERY(span_) .operation = OPERATION_QUERY, .span = (span_)
#define WRITE(at_, bytes_) \
    .operation = OPERATION_WRITE, .span = SPAN, .at = (at_), .data = data, .data_bytes = (bytes_)
#define PATCH(at_, width_, expected_, desired_)                                                          \
    .operation = OPERATION_PATCH, .span = SPAN, .at = (at_), .width = (width_), .expected = (expected_), \
    .desired = (desired_)
#define RESET(kind_) .operation = OPERATION_RESET, .kind = (kind_)
#define LEASE(size_) .operation = OPERATION_LEASE, .size = (size_)
#define RETURN(span_) .operation = OPERATION_RETURN, .span = (span_)

/* In a session with one span of SPAN_BYTES, of trap fill. */
static const struct bound {
    struct request request;
    enum status status;
    const char *row;
} bounds[] = {
    IS("fields", STATUS_INVALID, ALLOC(0)),
    IS("fields", STATUS_OK, ALLOC(1)),
    IS("fields", STATUS_ARENA_FULL, ALLOC(LARGEST - 1)),
    IS("fields", STATUS_ARENA_FULL, ALLOC(LARGEST)),
    IS("fields", STATUS_TOO_LARGE, ALLOC(LARGEST + 1)),
    IS("fields", STATUS_TOO_LARGE, ALLOC(INT64_MAX)),
    IS("overflow", STATUS_TOO_LARGE, ALLOC(UINT64_MAX - 63)),
    IS("overflow", STATUS_TOO_LARGE, ALLOC(UINT64_MAX)),
    SPAN_FIELD(OPERATION_RELEASE),
    SPAN_FIELD(OPERATION_SHRINK, .size = 1),
    IS("fields", STATUS_INVALID, SHRINK(0)),
    IS("fields", STATUS_OK, SHRINK(1)),
    IS("fields", STATUS_OK, SHRINK(SPAN_BYTES - 1)),
    IS("fields", STATUS_OK, SHRINK(SPAN_BYTES)),
    IS("past-end", STATUS_INVALID, SHRINK(SPAN_BYTES + 1)),
    IS("overflow", STATUS_INVALID, SHRINK(UINT64_MAX)),
    IS("fields", STATUS_NO_SPAN, QUERY(0)),
    IS("fields", STATUS_NO_SPAN, QUERY(1)),
    IS("fields", STATUS_NO_SPAN, QUERY(SPAN - 1)),
    IS("fields", STATUS_OK, QUERY(SPAN)),
    IS("fields", STATUS_OK, QUERY(SPAN + SPAN_BYTES - 1)),
    IS("past-end", STATUS_NO_SPAN, QUERY(SPAN + SPAN_BYTES)),
    IS("fields", STATUS_NO_SPAN, QUERY(ARENA - 1)),
    IS("fields", STATUS_NO_SPAN, QUERY(ARENA)),
    IS("fields", STATUS_NO_SPAN, QUERY(ARENA + 1)),
    IS("fields", STATUS_NO_SPAN, QUERY(UINT64_MAX)),
    SPAN_FIELD(OPERATION_WRITE, .data = data, .data_bytes = 1),
    IS("fields", STATUS_OK, WRITE(0, 0)),
    IS("fields", STATUS_OK, WRITE(0, 1)),
    IS("fields", STATUS_OK, WRITE(SPAN_BYTES - 1, 1)),
    IS("fields", STATUS_OK, WRITE(SPAN_BYTES, 0)),
    IS("past-end", STATUS_OUT_OF_RANGE, WRITE(SPAN_BYTES, 1)),
    IS("past-end", STATUS_OUT_OF_RANGE, WRITE(SPAN_BYTES + 1, 0)),
    IS("fields", STATUS_OK, WRITE(0, SPAN_BYTES)),
    IS("past-end", STATUS_OUT_OF_RANGE, WRITE(0, SPAN_BYTES + 1)),
    IS("past-end", STATUS_OUT_OF_RANGE, WRITE(1, SPAN_BYTES)),
    IS("fields", STATUS_OUT_OF_RANGE, WRITE(0, WRITE_MAX_BYTES - 1)),
    IS("fields", STATUS_OUT_OF_RANGE, WRITE(0, WRITE_MAX_BYTES)),
    IS("fields", STATUS_TOO_LARGE, WRITE(0, WRITE_MAX_BYTES + 1)),
    IS("fields", STATUS_OUT_OF_RANGE, WRITE(ARENA - SPAN, 1)),
    IS("fields", STATUS_OUT_OF_RANGE, WRITE(ARENA, 1)),
    IS("overflow", STATUS_OUT_OF_RANGE, WRITE(UINT64_MAX - SPAN, 1)),
    IS("overflow", STATUS_OUT_OF_RANGE, WRITE(UINT64_MAX, 1)),
    IS("overflow", STATUS_OUT_OF_RANGE, WRITE(UINT64_MAX - SPAN_BYTES + 1, SPAN_BYTES)),
    SPAN_FIELD(OPERATION_PATCH, .width = 1, .expected = 0xCC, .desired = 1),
    IS("fields", STATUS_INVALID, PATCH(0, 0, 0, 0)),
    IS("fields", STATUS_OK, PATCH(0, 1, 0xCC, 1)),
    IS("fields", STATUS_OK, PATCH(0, 2, 0xCCCC, 1)),
    IS("fields", STATUS_INVALID, PATCH(0, 3, 0xCC, 1)),
    IS("fields", STATUS_OK, PATCH(0, 4, 0xCCCCCCCC, 1)),
    IS("fields", STATUS_INVALID, PATCH(0, 5, 0xCC, 1)),
    IS("fields", STATUS_INVALID, PATCH(0, 7, 0xCC, 1)),
    IS("fields", STATUS_OK, PATCH(0, 8, 0xCCCCCCCCCCCCCCCC, UINT64_MAX)),
    IS("fields", STATUS_INVALID, PATCH(0, 9, 0xCC, 1)),
    IS("fields", STATUS_INVALID, PATCH(0, 16, 0xCC, 1)),
    IS("fields", STATUS_INVALID, PATCH(0, 255, 0xCC, 1)),
    IS("fields", STATUS_MISMATCH, PATCH(0, 1, 0xFF, 0xFF)),
    IS("fields", STATUS_INVALID, PATCH(0, 1, 0x100, 1)),
    IS("fields", STATUS_INVALID, PATCH(0, 1, 0xCC, 0x100)),
    IS("fields", STATUS_INVALID, PATCH(0, 4, 0xCC, UINT64_C(1) << 32)),
    IS("fields", STATUS_OK, PATCH(SPAN_BYTES - 8, 8, 0xCCCCCCCCCCCCCCCC, 1)),
    IS("fields", STATUS_MISALIGNED, PATCH(SPAN_BYTES - 7, 8, 0, 0)),
    IS("fields", STATUS_OK, PATCH(SPAN_BYTES - 1, 1, 0xCC, 1)),
    IS("past-end", STATUS_OUT_OF_RANGE, PATCH(SPAN_BYTES, 1, 0xCC, 1)),
    IS("past-end", STATUS_OUT_OF_RANGE, PATCH(SPAN_BYTES, 8, 0, 0)),
    IS("fields", STATUS_OUT_OF_RANGE, PATCH(ARENA, 8, 0, 0)),
    IS("overflow", STATUS_OUT_OF_RANGE, PATCH(UINT64_MAX - 7, 8, 0, 0)),
    IS("overflow", STATUS_OUT_OF_RANGE, PATCH(UINT64_MAX, 1, 0, 0)),
    SPAN_FIELD(OPERATION_SEAL),
    IS("fields", STATUS_OK, RESET(RESET_SOFT)),
    IS("fields", STATUS_OK, RESET(RESET_HARD)),
    IS("fields", STATUS_INVALID, RESET(2)),
    IS("fields", STATUS_INVALID, RESET(INT32_MAX)),
    IS("fields", STATUS_INVALID, LEASE(0)),
    IS("fields", STATUS_OK, LEASE(1)),
    IS("fields", STATUS_OK, LEASE(BLOCK_BYTES - 64 - 1)),
    IS("fields", STATUS_OK, LEASE(BLOCK_BYTES - 64)),
    IS("fields", STATUS_TOO_LARGE, LEASE(BLOCK_BYTES - 64 + 1)),
    IS("overflow", STATUS_TOO_LARGE, LEASE(UINT64_MAX)),
    IS("fields", STATUS_NO_SPAN, .operation = OPERATION_CARVE, .span = SPAN, .size = 64),
    IS("fields", STATUS_INVALID, .operation = OPERATION_CARVE, .span = SPAN, .size = 0),
    IS("fields", STATUS_INVALID, .operation = OPERATION_CARVE, .span = SPAN, .size = BLOCK_BYTES - SPAN + 1),
    IS("overflow", STATUS_INVALID, .operation = OPERATION_CARVE, .span = SPAN, .size = UINT64_MAX),
    IS("overflow", STATUS_NO_SPAN, .operation = OPERATION_CARVE, .span = UINT64_MAX - 63, .size = 64),
    IS("fields", STATUS_NO_SPAN, RETURN(0)),
    IS("fields", STATUS_NO_SPAN, RETURN(1)),
    IS("fields", STATUS_NO_SPAN, RETURN(BLOCK_BYTES)),
    IS("fields", STATUS_NO_SPAN, RETURN(ARENA - BLOCK_BYTES)),
    IS("fields", STATUS_NO_SPAN, RETURN(ARENA)),
    IS("fields", STATUS_NO_SPAN, RETURN(UINT64_MAX)),
};

static struct result run_by_ring(struct ring_client *client, const struct request *request)
{
    static char field[16];
    uint64_t number = client->tail;
    struct result result;

    if (request->operation == OPERATION_WRITE) {
        memcpy(client->ring.staging, request->data, request->data_bytes);
    } else {
        memcpy(client->ring.staging, &request->expected, 8);
        memcpy(client->ring.staging + 8, &request->desired, 8);
    }
    ring_encode(&client->ring, number, request, 0);
    client->tail++;
    ring_client_publish(client);
    ck_assert(!ring_client_await(client));
    (void)ring_result(&client->ring, number, request->operation, &result, field);
    return result;
}

/* _i: 0 by the socket, 1 by the ring. Each has a session of its own: what others did is not in its way. */
START_TEST(every_field_at_its_bounds_is_done_or_refused_with_its_status)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = SPAN_BYTES};
    const struct request statistics = {.operation = OPERATION_STATISTICS};

    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        const struct bound *bound = &bounds[i];
        struct ring_client client;
        struct result result;

        ring_client_start(&client, &broker, 0);
        ck_assert_uint_eq(wire_run(client.wire, &alloc).offset, SPAN);
        tries(bound->row);
        result = _i == 0 ? wire_run(client.wire, &bound->request) : run_by_ring(&client, &bound->request);
        ck_assert_msg(result.status == bound->status, "%s, bound %zu: said %d: %s",
                      operation_name(bound->request.operation), i, (int)result.status, result.text);
        if (result.status != STATUS_OK)
            attack_met_status((int)result.status);
        if (result.status != STATUS_OK && result.status != STATUS_MISMATCH) {
            ck_assert_str_ne(result.text, "");
            ck_assert_uint_eq(wire_run(client.wire, &statistics).usage.spans, 1);
            for (uint64_t at = 0; at < SPAN_BYTES; at++)
                ck_assert_uint_eq(client.rx[SPAN + at], FILL_PATTERN_DEFAULT & 0xFF);
        }
        ring_client_stop(&client);
    }
}
END_TEST

START_TEST(a_span_is_released_once)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = SPAN_BYTES};
    const struct request release = samples[OPERATION_RELEASE];
    struct ring_client client;
    struct wire *other = connect_plainly();

    ring_client_start(&client, &broker, 0);
    ck_assert_uint_eq(wire_run(client.wire, &alloc).offset, SPAN);
    /* This session's span lies where the other one has none. */
    tries("others-span");
    ck_assert_int_eq(wire_run(other, &release).status, STATUS_NO_SPAN);
    tries("double-release");
    ck_assert_int_eq(run_by_ring(&client, &release).status, STATUS_OK);
    ck_assert_int_eq(wire_run(client.wire, &release).status, STATUS_NO_SPAN);
    ck_assert_int_eq(run_by_ring(&client, &release).status, STATUS_NO_SPAN);
    ring_client_stop(&client);
    other = wire_free(other);
}
END_TEST

static const struct hello_bound {
    struct hello hello;
    enum status status;
} hello_bounds[] = {
    {{.version_min = 0, .version_max = 0}, STATUS_VERSION},
    {{.version_min = 0, .version_max = 1}, STATUS_OK},
    {{.version_min = 1, .version_max = 1}, STATUS_OK},
    {{.version_min = 1, .version_max = 0}, STATUS_INVALID},
    {{.version_min = 2, .version_max = 2}, STATUS_VERSION},
    {{.version_min = 0, .version_max = UINT32_MAX}, STATUS_OK},
    {{.version_min = UINT32_MAX, .version_max = UINT32_MAX}, STATUS_VERSION},
#define HELLO .version_min = 1, .version_max = 1
    {{HELLO, .features = UINT64_MAX}, STATUS_OK},
    {{HELLO, .write_mode = WRITE_THROUGH}, STATUS_OK},
    {{HELLO, .write_mode = WRITE_DIRECT}, STATUS_REFUSED},
    {{HELLO, .write_mode = 3}, STATUS_INVALID},
    {{HELLO, .write_mode = INT32_MAX}, STATUS_INVALID},
    {{HELLO, .arena_bytes = 1}, STATUS_OK},
    {{HELLO, .arena_bytes = BLOCK_BYTES}, STATUS_OK},
    {{HELLO, .arena_bytes = 2 * ARENA - 1}, STATUS_OK},
    {{HELLO, .arena_bytes = 2 * ARENA}, STATUS_OK},
    {{HELLO, .arena_bytes = 2 * ARENA + 1}, STATUS_TOO_LARGE},
    {{HELLO, .arena_bytes = ARENA_LIMIT_BYTES + 1}, STATUS_TOO_LARGE},
    {{HELLO, .arena_bytes = UINT64_MAX}, STATUS_TOO_LARGE},
    {{HELLO, .granularity = 1}, STATUS_INVALID},
    {{HELLO, .granularity = 63}, STATUS_INVALID},
    {{HELLO, .granularity = 64}, STATUS_OK},
    {{HELLO, .granularity = 65}, STATUS_INVALID},
    {{HELLO, .granularity = 256}, STATUS_OK},
    {{HELLO, .granularity = 257}, STATUS_INVALID},
    {{HELLO, .granularity = 512}, STATUS_INVALID},
    {{HELLO, .granularity = UINT32_MAX}, STATUS_INVALID},
    {{HELLO, .fill_pattern = 1}, STATUS_INVALID},
    {{HELLO, .fill_pattern = FILL_PATTERN_DEFAULT}, STATUS_OK},
    {{HELLO, .fill_pattern = UINT32_MAX}, STATUS_INVALID},
};

START_TEST(every_field_of_hello_at_its_bounds_is_granted_or_refused_with_its_status)
{
    tries("fields");
    for (size_t i = 0; i < sizeof hello_bounds / sizeof hello_bounds[0]; i++) {
        struct wire *wire = wire_new(broker_socket(&broker));
        struct buffer out = wire_begin(wire);

        ck_assert(codec_put_hello(&out, &hello_bounds[i].hello));
        wire_send(wire, &out);
        wire_receive(wire);
        if (hello_bounds[i].status == STATUS_OK) {
            ck_assert_msg(wire->reply.has_welcome, "hello %zu: %s", i, wire->reply.error.text);
        } else {
            ck_assert(wire->reply.has_error && wire->record.fds_count == 0);
            ck_assert_msg(wire->reply.error.status == hello_bounds[i].status, "hello %zu: said %d: %s", i,
                          (int)wire->reply.error.status, wire->reply.error.text);
            wire_expect_end(wire);
        }
        wire = wire_free(wire);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("messages");
    TCase *tcase = tcase_create("all");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_checked_fixture(tcase, become_worker, check_victim);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, a_record_cut_at_any_byte_is_an_error, 0, OPERATION_COUNT + 1);
    tcase_add_test(tcase, a_record_sent_twice_is_two_requests);
    tcase_add_test(tcase, of_a_field_said_twice_the_checked_one_is_the_one_that_counts);
    tcase_add_loop_test(tcase, every_field_at_its_bounds_is_done_or_refused_with_its_status, 0, 2);
    tcase_add_test(tcase, a_span_is_released_once);
    tcase_add_test(tcase, every_field_of_hello_at_its_bounds_is_granted_or_refused_with_its_status);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
