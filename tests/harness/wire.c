/* SPDX-License-Identifier: MIT */
#include "tests/harness/wire.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/harness/attack.h"

struct wire *wire_new(int socket)
{
    const struct timeval patience = {.tv_sec = 60};
    struct wire *wire = calloc(1, sizeof *wire);

    ck_assert_ptr_nonnull(wire);
    wire->socket = socket;
    wire->pool.bytes = malloc(CODEC_POOL_BYTES);
    wire->pool.capacity = CODEC_POOL_BYTES;
    ck_assert_ptr_nonnull(wire->pool.bytes);
    ck_assert_int_eq(setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return wire;
}

struct wire *wire_free(struct wire *wire)
{
    wire_close_fds(wire);
    (void)close(wire->socket);
    free(wire->pool.bytes);
    free(wire);
    return NULL;
}

void wire_close_fds(struct wire *wire)
{
    while (wire->record.fds_count > 0)
        (void)close(wire->record.fds[--wire->record.fds_count]);
}

struct buffer wire_begin(struct wire *wire)
{
    struct buffer out = {.bytes = wire->out_bytes, .capacity = sizeof wire->out_bytes};

    ck_assert(codec_put_request(&out, ++wire->last_id));
    return out;
}

void wire_send_bytes(struct wire *wire, const void *bytes, size_t count)
{
    ck_assert_int_eq(record_send(wire->socket, true, bytes, count, NULL, 0), 0);
}

void wire_send(struct wire *wire, const struct buffer *request)
{
    wire_send_bytes(wire, request->bytes, request->used);
}

/* After a close with unread records Linux reports ECONNRESET first; what was sent before can be read still.
 */
static int receive(struct wire *wire)
{
    int flaw;

    wire_close_fds(wire);
    do {
        flaw = record_recv(wire->socket, true, wire->in_bytes, sizeof wire->in_bytes, RECORD_FDS_MAX,
                           &wire->record);
    } while (flaw == -EINTR || flaw == -ECONNRESET);
    return flaw;
}

void wire_receive(struct wire *wire)
{
    int flaw = receive(wire);

    ck_assert_msg(flaw == RECORD_WHOLE, "no reply: %d", flaw);
    ck_assert(codec_decode_reply(&wire->pool, wire->in_bytes, wire->record.bytes, &wire->reply));
    if (wire->reply.has_error)
        attack_met_status((int)wire->reply.error.status);
}

void wire_hello(struct wire *wire)
{
    const struct hello hello = {.version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION};
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_msg(wire->reply.has_welcome, "no Welcome: %s", wire->reply.error.text);
    ck_assert_uint_eq(wire->reply.id, wire->last_id);
}

struct result wire_run(struct wire *wire, const struct request *request)
{
    struct buffer out = wire_begin(wire);
    struct result result;

    ck_assert(codec_put_operation(&out, request));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.id, wire->last_id);
    ck_assert(!wire->reply.has_error);
    ck_assert_uint_eq(wire->reply.results_count, 1);
    codec_result(&wire->reply, 0, &result);
    if (result.status != STATUS_OK)
        attack_met_status((int)result.status);
    return result;
}

void wire_expect_goodbye(struct wire *wire, enum status status, const char *part)
{
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.id, 0);
    ck_assert(wire->reply.has_error);
    ck_assert_msg(wire->reply.error.status == status && strstr(wire->reply.error.text, part) != NULL,
                  "said %d: %s", (int)wire->reply.error.status, wire->reply.error.text);
    wire_expect_end(wire);
}

void wire_expect_end(struct wire *wire)
{
    int flaw = receive(wire);

    ck_assert_msg(flaw == RECORD_E_END, "the connection is not closed: %d", flaw);
}
