/* SPDX-License-Identifier: MIT */
/*
 * The daemon's loop in this process, and two clients that put into their rings what they like: entries
 * that make sense and entries that don't, anything into the header, the results and the staging.
 *
 * What the daemon should do is found out by a session of its own ("twin") for each client, which
 * is given the same operations one by one, without any ring:
 *
 * - The answers are the twin's, they are in the slots of their entries, and in no other.
 * - head and `refused` count what was served and what of it was refused.
 * - An entry that makes no sense, or a tail beyond the ring, ends that session and no other, and
 *   what was asked for before it was done.
 * - The arena holds what the twin's holds, and where no span lives it is trap fill.
 * - However it ends, no descriptor and no mapping is left, and nothing is charged to anyone.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/operation.h"
#include "daemon/server.h"
#include "proto/record.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/own_fds.h"
#include "tests/fuzz/target.h"

#define CLIENTS 2u
#define OTHER_UID 1001u
#define INSTRUCTIONS_MAX 400
#define SERVED_MAX 3000u /* entries per input, so that none takes seconds */
#define TURNS_MAX 20000
#define RATE 400000u
#define NOT_WRITTEN 0xA5

#define OPTION_DIRECT 0x01u
#define OPTION_RATE 0x02u
#define OPTION_IMMEDIATE 0x04u
#define OPTION_LIMITS 0x08u
#define OPTION_SPIN 0x10u
#define OPTION_SAME_USER 0x20u

static struct client {
    int fd; /* -1: not connected */
    int bell;
    void *memory;
    struct ring ring;
    struct connection *connection;
    struct session *twin;
    struct account *account; /* the twin's */
    uint64_t next;           /* entry to be put */
    uint64_t head;           /* as it should be */
    uint64_t refused;
    uint64_t last_id;
    uint64_t offset; /* of the last span or lease that was granted */
} clients[CLIENTS];

static struct server server;
static struct policy *policy; /* the server's last */
static struct quota twin_quota;
static unsigned options;
static uint32_t granularity;
static unsigned served;
static uint8_t in[RECORD_MAX_BYTES];
static uint8_t pool_bytes[CODEC_POOL_BYTES] __attribute__((aligned(16)));

/* ---- The daemon ------------------------------------------------------------------------- */

static void set_up(struct input *input)
{
    struct class *class;

    options = input_byte(input);
    granularity = 64u << (options >> 6) % 3;
    policy = config_defaults("fuzzed");
    must(policy != NULL);
    class = policy->classes[0];
    class->arena_bytes = UINT64_C(1) << 20;
    class->write_direct = (options & OPTION_DIRECT) != 0;
    policy->spin_us = (options & OPTION_SPIN) != 0 ? 10 : 0;
    if ((options & OPTION_RATE) != 0)
        class->rate = RATE;
    if ((options & OPTION_LIMITS) != 0) {
        class->bytes_max = 4 * (uint64_t)BLOCK_BYTES;
        class->span_max = 6;
    }
    log_set_level(LOG_ERROR);
    must_be(server_init(&server, policy), 0);
    (void)policy_unref(policy);
}

static void turn(void)
{
    (void)uv_run(&server.loop, UV_RUN_NOWAIT);
}

/* ---- Clients ------------------------------------------------------------------------------ */

/* The next record from the daemon; false: it has closed. */
static bool receive(struct client *client, struct reply_record *reply, struct record *record)
{
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        struct codec_pool pool = {.bytes = pool_bytes, .capacity = sizeof pool_bytes};
        int flaw = record_recv(client->fd, false, in, sizeof in, RECORD_FDS_MAX, record);

        if (flaw == -EAGAIN) {
            turn();
            continue;
        }
        if (flaw != RECORD_WHOLE)
            return false;
        must(codec_decode_reply(&pool, in, record->bytes, reply));
        return true;
    }
    must_be(client->fd, -1); /* no answer */
    return false;
}

static void send_out(struct client *client, const struct buffer *out)
{
    must_be(record_send(client->fd, false, out->bytes, out->used, NULL, 0), 0);
}

static uid_t uid_of(const struct client *client)
{
    bool other = geteuid() == 0 && (client != &clients[0] || (options & OPTION_SAME_USER) != 0);

    return other ? OTHER_UID : geteuid();
}

static void open_socket(struct client *client)
{
    bool other = uid_of(client) != geteuid();
    int fds[2];

    must(!other || seteuid(OTHER_UID) == 0);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    must(!other || seteuid(0) == 0);
    client->fd = fds[0];
    admission_accept(&server, fds[1]);
    client->connection = server.connections;
}

static void make_twin(struct client *client, const struct hello *hello)
{
    struct peer peer = {.uid = uid_of(client)};
    struct result result;

    result_init(&result);
    client->account = quota_account(&twin_quota, peer.uid);
    must(client->account != NULL);
    client->twin = session_new(1, policy->classes[0], &peer, client->account, hello, &result);
    must(client->twin != NULL);
}

static void connect_client(struct client *client)
{
    struct hello hello = {
        .version_max = PROTOCOL_VERSION,
        .features = FEATURE_RING | ((options & OPTION_IMMEDIATE) != 0 ? FEATURE_IMMEDIATE_RELEASE : 0),
        .granularity = granularity,
    };
    struct buffer out = {.bytes = in, .capacity = sizeof in};
    struct reply_record reply;
    struct record record;
    struct result result;

    if (client->fd >= 0)
        return;
    *client = (struct client){.fd = -1};
    open_socket(client);
    must(codec_put_request(&out, ++client->last_id) && codec_put_hello(&out, &hello));
    send_out(client, &out);
    must(receive(client, &reply, &record) && reply.has_welcome);
    must_be(reply.welcome.ring_bytes, RING_BYTES);
    must_be(record.fds_count, reply.welcome.write_mode == WRITE_DIRECT ? 4 : 3);
    client->bell = record.fds[record.fds_count - 1];
    client->memory =
        mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, record.fds[record.fds_count - 2], 0);
    must(client->memory != MAP_FAILED);
    for (unsigned i = 0; i + 1 < record.fds_count; i++)
        (void)close(record.fds[i]);
    ring_attach(&client->ring, client->memory);
    result_init(&result);
    must_be(hello_validate(&hello, &result), STATUS_OK);
    make_twin(client, &hello);
}

/* This side's things; the daemon's go with the connection. */
static void let_go(struct client *client)
{
    (void)close(client->fd);
    (void)close(client->bell);
    (void)munmap(client->memory, RING_BYTES);
    client->twin = session_unref(client->twin);
    client->account = account_unref(&twin_quota, client->account);
    client->fd = -1;
    for (int i = 0; i < 3; i++)
        turn();
}

/* ---- What should be there ------------------------------------------------------------------ */

/* Only live spans hold anything but the fill. Not so in a direct session: its client writes where it likes.
 */
static void check_fill(const struct session *session)
{
    static uint8_t filled[GRANULARITY_MAX_BYTES];
    uint32_t step = session->shape.granularity;
    struct heap_span span;

    fill_pattern_spread(filled, sizeof filled, session->arena.fill_pattern);
    for (uint64_t at = 0; at < session->arena.grown_bytes; at += step) {
        if (!heap_find_around(&session->heap, at, &span))
            must(memcmp(session->arena.bytes + at, filled, step) == 0);
    }
}

/* The heap's sums are those of the spans that it finds, and these lie one behind the other. */
static void check_spans(const struct heap *heap)
{
    uint64_t used_bytes = 0;
    uint64_t end = 0;
    uint32_t spans = 0;
    struct heap_span span;

    for (uint64_t at = 0; at < heap_grown_bytes(heap); at += heap->granularity) {
        if (!heap_find(heap, at, &span))
            continue;
        must(span.offset == at && span.bytes > 0 && at >= end);
        end = at + span.bytes;
        used_bytes += span.bytes;
        spans++;
    }
    must(end <= heap_end_bytes(heap));
    must_be(spans, heap->spans);
    must_be(used_bytes, heap_used_bytes(heap));
    must(used_bytes + heap_leased_bytes(heap) <= heap_grown_bytes(heap));
}

static void check_arena(const struct client *client, bool all)
{
    const struct session *session = client->connection->session;
    const struct session *twin = client->twin;

    must_be(session->arena.grown_bytes, twin->arena.grown_bytes);
    must(memcmp(session->arena.bytes, twin->arena.bytes, twin->arena.grown_bytes) == 0);
    must_be(session->heap.spans, twin->heap.spans);
    must_be(session->bytes.amount, twin->bytes.amount);
    must_be(client->connection->account->held[QUOTA_BYTES], client->account->held[QUOTA_BYTES]);
    if (all)
        check_spans(&session->heap);
    if (all && session->arena.kind != ARENA_DIRECT)
        check_fill(session);
}

/* ---- What the daemon should make of the ring -------------------------------------------------- */

/* As docs/protocol.md has it, not as the daemon does it. False: nonsense. */
static bool decode(const struct client *client, uint64_t number, struct request *request)
{
    const uint8_t *entry = (const uint8_t *)client->memory + 4096 + number % 512 * 32;
    const uint8_t *staging = (const uint8_t *)client->memory + 4096 + 512 * 32 + 512 * 256;
    uint16_t flags;
    uint32_t bytes;
    uint64_t fields[3]; /* span, number, data */
    uint64_t at;

    memcpy(&flags, entry + 2, sizeof flags);
    memcpy(&bytes, entry + 4, sizeof bytes);
    memcpy(fields, entry + 8, sizeof fields);
    if (entry[0] >= OPERATION_COUNT || flags > 1)
        return false;
    at = fields[2] % (256u << 10);
    *request = (struct request){
        .operation = (enum operation)entry[0], .span = fields[0], .size = fields[1], .filled = flags != 0};
    if (request->operation == OPERATION_WRITE) {
        request->at = fields[1];
        request->data = staging + at;
        request->data_bytes = bytes;
        return at + bytes <= 256u << 10;
    }
    if (request->operation == OPERATION_PATCH) {
        if (at + 16 > 256u << 10)
            return false;
        request->at = fields[1];
        request->width = entry[1];
        memcpy(&request->expected, staging + at, 8);
        memcpy(&request->desired, staging + at + 8, 8);
    }
    if (request->operation == OPERATION_RESET)
        request->kind = fields[1] > UINT32_MAX ? UINT32_MAX : (uint32_t)fields[1];
    return true;
}

static struct answer {
    bool is_there;
    struct result result;
} answers[RING_ENTRIES];

/* Has the twin do what the ring asks for; false: the session is to end. `from` to client->head was done. */
static bool foresee(struct client *client, uint64_t pending)
{
    memset(answers, 0, sizeof answers);
    if (pending > RING_ENTRIES)
        return false;
    for (uint64_t end = client->head + pending; client->head < end; client->head++) {
        struct answer *answer = &answers[client->head % RING_ENTRIES];
        struct request request;

        if (!decode(client, client->head, &request))
            return false;
        served++;
        must(operation_run(client->twin, &request, UINT64_MAX / 2, &answer->result));
        if (answer->result.status != STATUS_OK)
            client->refused++;
        else if (answer->result.has_span)
            client->offset = answer->result.offset;
        answer->is_there = answer->result.status != STATUS_OK || answer->result.has_span ||
                           answer->result.has_usage || request.operation == OPERATION_PATCH;
    }
    return true;
}

static uint8_t not_written[sizeof(struct ring_result)];

static void check_slot(const struct client *client, uint64_t number)
{
    const struct answer *answer = &answers[number % RING_ENTRIES];
    const struct ring_result *slot = &client->ring.results[number % RING_ENTRIES];

    if (!answer->is_there) {
        must(memcmp(slot, not_written, sizeof *slot) == 0);
        return;
    }
    must_be(slot->number, number + 1);
    must_be(slot->status, answer->result.status);
    must_be(slot->found, answer->result.found);
    if (answer->result.status != STATUS_OK) {
        must(strcmp(slot->text, answer->result.text) == 0);
        must(strcmp(slot->field, answer->result.field) == 0);
        return;
    }
    must_be(slot->size, answer->result.has_span ? answer->result.size : 0);
    must_be(slot->offset, answer->result.offset);
    must_be(slot->flags, answer->result.flags);
    if (answer->result.has_usage)
        must(memcmp(&slot->usage, &answer->result.usage, sizeof slot->usage) == 0);
}

static void check_slots(const struct client *client, uint64_t from)
{
    for (uint64_t number = client->head; number < from + RING_ENTRIES; number++)
        must(!answers[number % RING_ENTRIES].is_there);
    for (uint64_t number = from; number < from + RING_ENTRIES; number++)
        check_slot(client, number);
}

/* It was told why, and the ring's memory is gone but for the page that says so. */
static void check_ended(struct client *client)
{
    const uint8_t *memory = client->memory;
    struct reply_record reply;
    struct record record;

    must_be(ring_head(&client->ring), RING_ENDED);
    must(memory[RING_ENTRIES_AT] == 0 && memcmp(memory + RING_ENTRIES_AT, memory + RING_ENTRIES_AT + 1,
                                                RING_BYTES - RING_ENTRIES_AT - 1) == 0);
    must(receive(client, &reply, &record));
    must(reply.id == 0 && reply.has_error);
    must_be(reply.error.status, STATUS_MALFORMED);
    must(!receive(client, &reply, &record));
    let_go(client);
}

/* Lets the daemon look at the ring, and compares. Due whenever tail changed: it may look at any time. */
static void serve(struct client *client)
{
    static const uint64_t once = 1;
    uint64_t from = client->head;
    uint64_t pending = atomic_load(&client->ring.header->tail) - from;
    uint64_t target;
    bool lives;

    if (pending <= RING_ENTRIES && served + pending > SERVED_MAX) {
        atomic_store(&client->ring.header->tail, from);
        return;
    }
    memset(not_written, NOT_WRITTEN, sizeof not_written);
    memset(client->ring.results, NOT_WRITTEN, RING_ENTRIES * sizeof(struct ring_result));
    lives = foresee(client, pending);
    target = lives ? client->head : RING_ENDED;
    /* Not for nothing: who was served already is told nothing again. */
    atomic_store(&client->ring.header->head, from);
    (void)!write(client->bell, &once, sizeof once);
    for (int turns = 0; pending > 0 && ring_head(&client->ring) != target; turns++) {
        must(turns < TURNS_MAX);
        if ((options & OPTION_RATE) != 0 && turns > 50)
            (void)usleep(200);
        turn();
    }
    if (!lives) {
        check_ended(client);
        return;
    }
    turn();
    if (pending > 0)
        must_be(ring_refused(&client->ring), client->refused);
    check_slots(client, from);
    check_arena(client, served % 16 == 0);
}

/* ---- Instructions ---------------------------------------------------------------------------- */

static uint64_t some_span(struct input *input, const struct client *client)
{
    uint8_t which = input_byte(input);

    if (which >= 0xF8)
        return input_number(input, 8);
    if (which >= 0xC0)
        return input_number(input, 2) * granularity;
    if (which >= 0x80)
        return (which & 0x0F) * (uint64_t)BLOCK_BYTES + (which >> 4 & 0x03) * granularity;
    return client->offset + (which & 0x1F) * granularity;
}

static uint64_t some_size(struct input *input)
{
    uint8_t form = input_byte(input);

    if (form >= 0xF8)
        return input_number(input, 8);
    if (form >= 0xF0)
        return (form & 0x07) * (uint64_t)BLOCK_BYTES - input_byte(input);
    return (uint64_t)(form & 0x3F) << (form >> 6) * 3;
}

static void put_sensible(struct input *input, struct client *client, uint8_t form)
{
    struct ring_entry entry = {.operation = (uint8_t)((form >> 4) % OPERATION_COUNT)};

    entry.span = some_span(input, client);
    entry.number = some_size(input);
    if (entry.operation == OPERATION_RELEASE || entry.operation == OPERATION_SHRINK)
        entry.flags = (options & OPTION_DIRECT) != 0 && (entry.number & 1) != 0;
    if (entry.operation == OPERATION_RETURN)
        entry.span -= entry.span % BLOCK_BYTES;
    if (entry.operation == OPERATION_RESET)
        entry.number %= 3;
    if (entry.operation == OPERATION_WRITE || entry.operation == OPERATION_PATCH) {
        entry.width = (uint8_t)(1u << (entry.number & 3));
        entry.bytes = (uint32_t)(some_size(input) & 0x3FFFF);
        entry.data = input_number(input, 2) << 2;
    }
    client->ring.entries[client->next++ % RING_ENTRIES] = entry;
}

static void put_raw(struct input *input, struct client *client)
{
    uint8_t *entry = (uint8_t *)&client->ring.entries[client->next++ % RING_ENTRIES];

    for (size_t i = 0; i < sizeof(struct ring_entry); i++)
        entry[i] = input_byte(input);
}

static void scribble(struct input *input, struct client *client)
{
    uint64_t at = input_number(input, 3) % RING_BYTES;
    size_t bytes = input_byte(input);
    const uint8_t *from = input_bytes(input, &bytes);

    if (bytes > RING_BYTES - at)
        bytes = RING_BYTES - at;
    if (bytes > 0)
        memcpy((uint8_t *)client->memory + at, from, bytes);
}

static void scribble_header(struct input *input, struct client *client)
{
    uint8_t where = input_byte(input);
    uint64_t value = input_number(input, 1 + (where >> 5));
    struct ring_header *header = client->ring.header;

    switch (where % 6) {
    case 0:
        atomic_store(&header->tail, client->head + value);
        break;
    case 1:
        atomic_store(&header->head, value);
        break;
    case 2:
        atomic_store(&header->refused, value);
        break;
    case 3:
        atomic_store(&header->asleep, (uint32_t)value);
        break;
    case 4:
        atomic_store(&header->waiting, (uint32_t)value);
        break;
    default:
        atomic_store(&header->client_cpu, (uint32_t)value);
        break;
    }
}

/* The other plane, in the middle of it: after what is in the ring, which is done first here. */
static void by_socket(struct input *input, struct client *client)
{
    struct request request = {.operation = OPERATION_STATISTICS};
    struct buffer out = {.bytes = in, .capacity = sizeof in};
    struct reply_record reply;
    struct record record;
    struct result expected;
    struct result got;

    if ((input_byte(input) & 1) != 0)
        request = (struct request){.operation = OPERATION_ALLOC, .size = 1 + input_number(input, 2)};
    must(operation_run(client->twin, &request, UINT64_MAX / 2, &expected));
    must(codec_put_request(&out, ++client->last_id) && codec_put_operation(&out, &request));
    send_out(client, &out);
    must(receive(client, &reply, &record));
    must_be(reply.results_count, 1);
    codec_result(&reply, 0, &got);
    must_be(got.status, expected.status);
    must_be(got.offset, expected.offset);
    must(!got.has_usage || memcmp(&got.usage, &expected.usage, sizeof got.usage) == 0);
}

static void disturb_bell(struct input *input, struct client *client)
{
    uint8_t how = input_byte(input);
    uint64_t value = how < 0x80 ? how : UINT64_MAX - 1;

    (void)fcntl(client->bell, F_SETFL, (how & 1) != 0 ? O_NONBLOCK : 0);
    if ((how & 2) != 0) {
        (void)fcntl(client->bell, F_SETFL, O_NONBLOCK);
        (void)!write(client->bell, &value, sizeof value);
    }
    turn();
    (void)fcntl(client->bell, F_SETFL, O_NONBLOCK);
    if ((how & 4) != 0)
        (void)!read(client->bell, &value, sizeof value);
}

static void instruct(struct input *input)
{
    uint8_t instruction = input_byte(input);
    struct client *client = &clients[instruction >> 3 & 1];

    connect_client(client);
    switch (instruction & 0x07) {
    case 0:
    case 1:
        put_sensible(input, client, instruction ^ input_byte(input));
        return;
    case 2:
        put_raw(input, client);
        return;
    case 3:
        scribble(input, client);
        break;
    case 4:
        scribble_header(input, client);
        break;
    case 5:
        if ((instruction & 0xF0) == 0)
            let_go(client);
        else if ((instruction & 0xF0) == 0x10)
            disturb_bell(input, client);
        else if (atomic_load(&client->ring.header->tail) == client->head)
            by_socket(input, client);
        return;
    default:
        atomic_store(&client->ring.header->tail, client->next);
        break;
    }
    serve(client);
    if (client->fd >= 0)
        client->next = client->head;
}

static void play(struct input *input)
{
    served = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = (struct client){.fd = -1};
    set_up(input);
    for (int done = 0; input->left > 0 && done < INSTRUCTIONS_MAX; done++)
        instruct(input);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].fd < 0)
            continue;
        check_arena(&clients[i], true);
        let_go(&clients[i]);
    }
    must_be(server.connections_count, 0);
    must(server.quota.accounts == NULL && twin_quota.accounts == NULL);
    must(server.poller.accounts == NULL);
    server_deinit(&server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool used;
    struct input input = {.at = data, .left = bytes};
    unsigned fds;

    if (!used) { /* what stays open after the first use: libuv's signal pipe */
        used = true;
        play(&(struct input){0});
    }
    fds = count_fds();
    play(&input);
    must_be(count_fds(), fds);
    return 0;
}
