/* SPDX-License-Identifier: MIT */
#include "tests/attacks/ring_client.h"

#include <check.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/harness/attack.h"

#define PATIENCE_MS 20000

static void say_hello(struct wire *wire, uint64_t features)
{
    const struct hello hello = {
        .version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION, .features = features};
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_msg(wire->reply.has_welcome, "no Welcome: %s", wire->reply.error.text);
}

void ring_client_start(struct ring_client *client, const struct broker *broker, uint64_t features)
{
    const struct welcome *welcome;
    unsigned fds;

    *client = (struct ring_client){.wire = wire_new(broker_socket(broker))};
    say_hello(client->wire, features | FEATURE_RING);
    welcome = &client->wire->reply.welcome;
    ck_assert_uint_eq(welcome->features & FEATURE_RING, FEATURE_RING);
    ck_assert_uint_eq(welcome->ring_bytes, RING_BYTES);
    fds = client->wire->record.fds_count;
    ck_assert_uint_eq(fds, welcome->write_mode == WRITE_DIRECT ? 4 : 3);
    client->memory_fd = dup(client->wire->record.fds[fds - 2]);
    client->bell = dup(client->wire->record.fds[fds - 1]);
    client->arena_bytes = welcome->arena_bytes;
    client->rx =
        mmap(NULL, welcome->arena_bytes, PROT_READ | PROT_EXEC, MAP_SHARED, client->wire->record.fds[0], 0);
    ck_assert_ptr_ne(client->rx, MAP_FAILED);
    if (welcome->write_mode == WRITE_DIRECT) {
        client->rw = mmap(NULL, welcome->arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                          client->wire->record.fds[1], 0);
        ck_assert_ptr_ne(client->rw, MAP_FAILED);
    }
    client->memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, client->memory_fd, 0);
    ck_assert_ptr_ne(client->memory, MAP_FAILED);
    ring_attach(&client->ring, client->memory);
    wire_close_fds(client->wire);
}

void ring_client_stop(struct ring_client *client)
{
    client->wire = wire_free(client->wire);
    (void)close(client->memory_fd);
    (void)close(client->bell);
    (void)munmap(client->memory, RING_BYTES);
    (void)munmap((void *)(uintptr_t)client->rx, client->arena_bytes);
    if (client->rw != NULL)
        (void)munmap(client->rw, client->arena_bytes);
}

void ring_client_put(struct ring_client *client, const struct ring_entry *entry)
{
    client->ring.entries[client->tail++ % RING_ENTRIES] = *entry;
}

void ring_client_publish_as(struct ring_client *client, uint64_t tail)
{
    static const uint64_t once = 1;

    /* Whether it sleeps or not: it may have been told lies about that. */
    (void)ring_publish(&client->ring, tail);
    (void)!write(client->bell, &once, sizeof once);
}

void ring_client_publish(struct ring_client *client)
{
    ring_client_publish_as(client, client->tail);
}

bool ring_client_await(struct ring_client *client)
{
    uint64_t head = 0;

    for (int waited = 0; waited < PATIENCE_MS * 10; waited++) {
        head = ring_head(&client->ring);
        if (head == RING_ENDED)
            return true;
        if (head == client->tail)
            return false;
        (void)usleep(100);
    }
    ck_abort_msg("of %ju entries %ju were done", (uintmax_t)client->tail, (uintmax_t)head);
}

struct result ring_client_run(struct ring_client *client, const struct ring_entry *entry)
{
    static char field[16];
    uint64_t number = client->tail;
    struct result result;

    ring_client_put(client, entry);
    ring_client_publish(client);
    ck_assert(!ring_client_await(client));
    (void)ring_result(&client->ring, number, (enum operation)entry->operation, &result, field);
    if (result.status != STATUS_OK)
        attack_met_status((int)result.status);
    return result;
}

uint64_t ring_client_alloc(struct ring_client *client, uint64_t size)
{
    struct result result =
        ring_client_run(client, &(struct ring_entry){.operation = OPERATION_ALLOC, .number = size});

    ck_assert_msg(result.status == STATUS_OK && result.has_span, "alloc of %ju: %s", (uintmax_t)size,
                  result.text);
    return result.offset;
}

void ring_client_expect_end(struct ring_client *client, const char *part)
{
    wire_expect_goodbye(client->wire, STATUS_MALFORMED, part);
    ck_assert_uint_eq(ring_head(&client->ring), RING_ENDED);
}
