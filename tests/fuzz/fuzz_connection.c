/* SPDX-License-Identifier: MIT */
/*
 * The daemon's loop in this process, and up to three clients that send it what they like:
 * records of any bytes, well-formed ones in any order, too large or in pieces, with
 * descriptors, again and again, and without reading the answers; and that go away.
 *
 * - Every record that can be decoded is answered once, in order, one result for each
 *   operation, until the daemon ends the connection.
 * - Descriptors come with Welcome, the first of them read-only, and where an executor was opened. What is in
 * a ring is fuzz_ring's.
 * - An executor's socket becomes one more client, if there is room for it.
 * - However it ends, no descriptor is left, and nothing is charged to anyone.
 *
 * As root the second and third client are another user's, so that they get arenas that
 * aren't sealed; otherwise all are of the daemon's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "proto/record.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/own_fds.h"
#include "tests/fuzz/target.h"

#define CLIENTS 3u
#define OTHER_UID 1001u
#define INSTRUCTIONS_MAX 200
/* A request may have 256 operations, each of them as many steps as an arena has blocks. */
#define TURNS_MAX 1000000
/* Per input, so that none takes seconds; it is a little more than what the rate lets pass at once. */
#define OPERATIONS_TOTAL_MAX 6000u
#define RECORDS_TOTAL_MAX 1000u
#define RATE 50000u
#define SEND_BUFFER_BYTES 70000 /* doubled by Linux: a full record, and not much more */

/* Of make_operations(), beside those that stand for an operation. */
#define FORM_OPEN_EXECUTOR 0x0Fu

#define OPTION_DIRECT 0x01u
#define OPTION_RATE 0x02u
#define OPTION_TIMEOUT 0x04u
#define OPTION_LIMITS 0x08u
#define OPTION_ONLY 0x10u
#define OPTION_STOP 0x20u
#define OPTION_NONE 0x40u
#define OPTION_UIDS 0x80u

/* A record that the daemon can decode, in the order it was sent. */
struct unanswered {
    uint64_t id;
    size_t operations;
    bool opens_executor;
};

static struct client {
    int fd;     /* -1: never connected, or closed */
    bool ended; /* the daemon said so, or can't be heard any more */
    bool goodbye;
    bool is_executor;
    struct unanswered unanswered[RECORDS_TOTAL_MAX];
    size_t first;
    size_t count;
} clients[CLIENTS];

static struct server server;
static struct policy *policy; /* the server's last */
static unsigned options;
static int passed_fd = -1;                     /* what clients send to a daemon that wants none */
static uint8_t record[RECORD_MAX_BYTES + 256]; /* the last one, to be sent again */
static size_t record_bytes;
static size_t records_total;
static size_t operations_total;
static uint8_t reply[RECORD_MAX_BYTES];
static uint8_t pool_bytes[CODEC_POOL_BYTES] __attribute__((aligned(16)));

/* ---- The daemon ------------------------------------------------------------------------- */

static void set_up(void)
{
    struct class *class;

    policy = config_defaults("fuzzed");
    must(policy != NULL);
    class = policy->classes[0];
    class->arena_bytes = UINT64_C(1) << 20;
    class->arena_max_bytes = UINT64_C(4) << 20;
    class->write_direct = (options & OPTION_DIRECT) != 0;
    if ((options & OPTION_RATE) != 0)
        class->rate = RATE;
    if ((options & OPTION_TIMEOUT) != 0)
        policy->hello_timeout_ms = 1;
    if ((options & OPTION_LIMITS) != 0) {
        policy->sessions_max = 2;
        class->session_max = 1;
        class->bytes_max = 2 * (uint64_t)BLOCK_BYTES;
        class->span_max = 8;
    }
    if ((options & OPTION_NONE) != 0)
        class->write_through = class->write_direct = false;
    if ((options & OPTION_UIDS) != 0)
        class->uids = (struct id_set){{{OTHER_UID, OTHER_UID}}, 1};
    class->orphans_run = (options & OPTION_RATE) == 0;
    log_set_level(LOG_ERROR);
    must_be(server_init(&server, policy), 0);
    (void)policy_unref(policy);
}

static bool can(int fd, short events)
{
    struct pollfd entry = {.fd = fd, .events = events};

    return poll(&entry, 1, 0) == 1;
}

enum outlook { QUIET, LATER, NOW };

/* What the daemon will do without anything more from its clients: nothing, something later, or now. */
static enum outlook outlook(void)
{
    enum outlook found = QUIET;

    for (const struct connection *at = server.connections; at != NULL; at = at->next) {
        bool listens = uv_is_active((const uv_handle_t *)&at->poll) != 0;

        if (listens && can(at->fd, at->pending != NULL ? POLLOUT : POLLIN))
            return NOW;
        if (at->unfinished != NULL) /* a step each turn */
            return NOW;
        if (!listens && at->session != NULL) /* its timer goes on with it */
            found = LATER;
    }
    return found;
}

static void settle(void)
{
    for (int turns = 0; outlook() != QUIET; turns++) {
        must(turns < TURNS_MAX);
        if (outlook() == LATER)
            (void)usleep(100);
        (void)uv_run(&server.loop, UV_RUN_NOWAIT);
    }
    must(server.connections_count <= policy->sessions_max);
}

/* Who has ended, but left answers unread, is looked at again by a timer: let that be soon. */
static void wait_for_all_to_end(void)
{
    for (int turns = 0; server.connections != NULL; turns++) {
        must(turns < TURNS_MAX);
        for (struct connection *at = server.connections; at != NULL; at = at->next) {
            if (at->session != NULL || uv_is_active((const uv_handle_t *)&at->poll) != 0 ||
                uv_timer_get_repeat(&at->timer) == 1)
                continue;
            uv_timer_set_repeat(&at->timer, 1);
            must_be(uv_timer_again(&at->timer), 0);
        }
        (void)usleep(100);
        (void)uv_run(&server.loop, UV_RUN_NOWAIT);
    }
}

static void turn(unsigned turns)
{
    for (; turns > 0; turns--)
        (void)uv_run(&server.loop, UV_RUN_NOWAIT);
}

/* ---- Replies ------------------------------------------------------------------------------ */

static void check_fds(const struct reply_record *got, const struct record *with,
                      const struct unanswered *asked, bool is_executor)
{
    if (!got->has_welcome) {
        must_be(with->fds_count, got->id != 0 && !got->has_error && asked->opens_executor ? 1u : 0u);
        return;
    }
    must(got->welcome.executor == is_executor);
    must(!is_executor || with->fds_count == 1);
    must_be(with->fds_count,
            (got->welcome.write_mode == WRITE_DIRECT ? 2u : 1u) + (got->welcome.ring_bytes != 0 ? 2u : 0u));
    must_be(fcntl(with->fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
    must((fcntl(with->fds[0], F_GET_SEALS) & F_SEAL_SEAL) != 0);
}

static void check_reply(struct client *client, const struct reply_record *got)
{
    const struct unanswered *asked;

    if (got->id == 0) {
        must(got->has_error && !got->has_welcome && got->results_count == 0);
        client->goodbye = true;
        return;
    }
    must(client->count > 0);
    asked = &client->unanswered[client->first];
    client->first = (client->first + 1) % RECORDS_TOTAL_MAX;
    client->count--;
    must_be(got->id, asked->id);
    if (got->has_error || got->has_welcome)
        must(got->results_count == 0 && got->has_error != got->has_welcome);
    else
        must_be(got->results_count, asked->operations);
    for (size_t i = 0; i < got->results_count; i++) {
        struct result result;

        codec_result(got, i, &result);
        must(result.status < STATUS_COUNT);
        must(result.status == STATUS_OK || result.text[0] != '\0');
    }
}

/* True if there is room for one more client. */
static bool take_executor(int fd)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].fd >= 0)
            continue;
        clients[i].fd = fd;
        clients[i].is_executor = true;
        clients[i].ended = clients[i].goodbye = false;
        clients[i].first = clients[i].count = 0;
        return true;
    }
    return false;
}

/* Reads all there is. */
static void drain(struct client *client)
{
    while (client->fd >= 0 && !client->ended) {
        struct codec_pool pool = {.bytes = pool_bytes, .capacity = sizeof pool_bytes};
        struct reply_record got;
        struct record with;
        int flaw = record_recv(client->fd, false, reply, sizeof reply, RECORD_FDS_MAX, &with);

        if (flaw == -EAGAIN)
            return;
        if (flaw != RECORD_WHOLE) {
            must(flaw == RECORD_E_END || flaw == -ECONNRESET);
            client->ended = true;
            return;
        }
        must(!client->goodbye);
        must(codec_decode_reply(&pool, reply, with.bytes, &got));
        must(got.id == 0 || client->count > 0);
        check_fds(&got, &with, &client->unanswered[client->first], client->is_executor);
        if (!got.has_welcome && with.fds_count == 1)
            with.fds_count -= take_executor(with.fds[0]);
        while (with.fds_count > 0)
            (void)close(with.fds[--with.fds_count]);
        check_reply(client, &got);
    }
}

/* ---- Clients ------------------------------------------------------------------------------ */

static void connect_client(struct client *client)
{
    bool other = client != &clients[0] && geteuid() == 0;
    int bytes = SEND_BUFFER_BYTES;
    int fds[2];

    if (client->fd >= 0 || server.stopping)
        return;
    must(!other || seteuid(OTHER_UID) == 0);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    must(!other || seteuid(0) == 0);
    must(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
    client->fd = fds[0];
    client->is_executor = false;
    client->ended = client->goodbye = false;
    client->first = client->count = 0;
    if (client == &clients[0] && (options & OPTION_ONLY) != 0)
        (void)server_serve_only(&server, fds[1]);
    else
        admission_accept(&server, fds[1]);
}

static void close_client(struct client *client)
{
    if (client->fd >= 0)
        (void)close(client->fd);
    client->fd = -1;
}

/* Notes what has been sent, if it is something to be answered. */
static void expect_reply(struct client *client, const uint8_t *bytes, size_t count)
{
    struct codec_pool pool = {.bytes = pool_bytes, .capacity = sizeof pool_bytes};
    struct request_record request;

    if (!codec_decode_request(&pool, bytes, count, &request))
        return;
    client->unanswered[(client->first + client->count) % RECORDS_TOTAL_MAX] =
        (struct unanswered){.id = request.id,
                            .operations = request.operations_count,
                            .opens_executor = request.has_open_executor};
    client->count++;
    operations_total += request.operations_count;
}

static void send_bytes(struct client *client, const uint8_t *bytes, size_t count, unsigned fds_count)
{
    const int fds[] = {passed_fd, passed_fd, passed_fd};

    if (records_total == RECORDS_TOTAL_MAX || operations_total > OPERATIONS_TOTAL_MAX)
        return;
    records_total++;
    connect_client(client);
    if (client->fd < 0)
        return;
    if (record_send(client->fd, false, bytes, count, fds, fds_count) == 0 && fds_count == 0)
        expect_reply(client, bytes, count);
}

/* ---- Records ------------------------------------------------------------------------------ */

static void make_raw(struct input *input)
{
    const uint8_t *start;

    record_bytes = input_number(input, 2);
    start = input_bytes(input, &record_bytes);
    if (record_bytes > 0)
        memcpy(record, start, record_bytes);
}

static struct buffer begin(uint64_t id)
{
    struct buffer out = {.bytes = record, .capacity = RECORD_MAX_BYTES};

    must(codec_put_request(&out, id));
    return out;
}

static void make_hello(struct input *input)
{
    uint8_t wishes = input_byte(input);
    uint8_t blocks = input_byte(input);
    struct hello hello = {
        .version_min = (wishes & 0xC0) == 0xC0,
        .version_max = (wishes & 0xC0) == 0x40 ? 0 : PROTOCOL_VERSION,
        .features = ((wishes & 0x01) != 0 ? FEATURE_IMMEDIATE_RELEASE : 0) |
                    ((blocks & 0x40) != 0 ? FEATURE_RING : 0),
        .write_mode = (wishes >> 1) & 0x03,
        .arena_bytes = (uint64_t)blocks << 15,
        .granularity = 64u * ((wishes >> 3) & 0x07),
    };
    struct buffer out = begin(1);

    must(codec_put_hello(&out, &hello));
    record_bytes = out.used;
}

static void make_operations(struct input *input)
{
    static uint8_t data[1024];
    uint8_t form = input_byte(input);
    unsigned repeat = 1 + input_byte(input);
    uint64_t first = input_number(input, 2);
    uint64_t second = input_number(input, 2) << (form >> 4 & 0x07);
    struct request request = {
        .operation = (enum operation)((form & 0x0F) % OPERATION_COUNT),
        .span = first * 64,
        .size = second,
        .at = second,
        .data = data,
        .width = 1u << (first & 0x03),
        .desired = second & 0xFF,
        .expected = 0xCC,
        .kind = first & 0x01,
    };
    struct buffer out = begin(first + 1);

    if ((form & 0x0F) == FORM_OPEN_EXECUTOR) {
        must(codec_put_open_executor(&out));
        record_bytes = out.used;
        return;
    }
    if (request.operation == OPERATION_WRITE) {
        request.data_bytes = second & 0x3FF;
        request.at = 0;
    }
    while (repeat-- > 0 && codec_put_operation(&out, &request))
        continue;
    if ((form & 0x80) != 0)
        (void)codec_put_operation(&out, &(struct request){.operation = OPERATION_STATISTICS});
    record_bytes = out.used;
}

/* The last record, behind it zeros, up to just below or above the limit. */
static void make_large(struct input *input)
{
    size_t bytes = RECORD_MAX_BYTES - 128 + input_byte(input);

    memset(record + record_bytes, 0, bytes > record_bytes ? bytes - record_bytes : 0);
    record_bytes = bytes;
}

static void send_again(struct client *client, unsigned times, unsigned fds_count)
{
    for (; times > 0; times--) {
        send_bytes(client, record, record_bytes, fds_count);
        turn(1);
    }
}

static void leave(struct client *client, uint8_t how)
{
    if (client->fd < 0)
        return;
    drain(client);
    if ((how & 0x03) == 0)
        close_client(client);
    else
        (void)shutdown(client->fd, (how & 0x01) != 0 ? SHUT_WR : SHUT_RD);
}

static void instruct(struct input *input)
{
    uint8_t instruction = input_byte(input);
    struct client *client = &clients[(instruction >> 3 & 0x03) % CLIENTS];
    unsigned fds_count = (instruction & 0xE0) == 0xE0 ? 1 + input_byte(input) % 3 : 0;
    bool split = (instruction & 0xE0) == 0xC0;

    switch (instruction & 0x07) {
    case 0:
        make_raw(input);
        break;
    case 1:
        make_hello(input);
        break;
    case 2:
        make_operations(input);
        break;
    case 3:
        make_large(input);
        break;
    case 4:
        send_again(client, input_byte(input), fds_count);
        return;
    case 5:
        leave(client, input_byte(input));
        return;
    case 6:
        drain(client);
        settle();
        return;
    default:
        if ((options & OPTION_TIMEOUT) != 0)
            (void)usleep(1500);
        turn(1 + (instruction >> 5));
        return;
    }
    if (split) {
        send_bytes(client, record, record_bytes / 2, 0);
        send_bytes(client, record + record_bytes / 2, record_bytes - record_bytes / 2, 0);
    } else {
        send_bytes(client, record, record_bytes, fds_count);
    }
    if ((instruction & 0xE0) != 0x20)
        turn(2);
}

/* ---- The end -------------------------------------------------------------------------------- */

static void drain_all(void)
{
    for (;;) {
        size_t before = 0;
        size_t after = 0;

        for (unsigned i = 0; i < CLIENTS; i++)
            before += clients[i].count;
        settle();
        for (unsigned i = 0; i < CLIENTS; i++) {
            drain(&clients[i]);
            after += clients[i].count;
        }
        if (before == after && outlook() == QUIET)
            return;
    }
}

static void tear_down(void)
{
    drain_all();
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].fd >= 0 && !clients[i].ended)
            must_be(clients[i].count, 0);
    }
    if ((options & OPTION_STOP) != 0) {
        server_deinit(&server);
        for (unsigned i = 0; i < CLIENTS; i++)
            drain(&clients[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    if ((options & OPTION_STOP) == 0) {
        settle();
        wait_for_all_to_end();
        must_be(server.connections_count, 0);
        must(server.quota.accounts == NULL);
        server_deinit(&server);
    }
}

static void play(struct input *input)
{
    options = input_byte(input);
    record_bytes = 0;
    records_total = 0;
    operations_total = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = (struct client){.fd = -1};
    set_up();
    for (int done = 0; input->left > 0 && done < INSTRUCTIONS_MAX; done++)
        instruct(input);
    tear_down();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {.at = data, .left = bytes};
    unsigned fds;

    if (passed_fd < 0) { /* what stays open after the first use: this, and libuv's signal pipe */
        passed_fd = memfd_create("fuzz-connection", MFD_CLOEXEC);
        must(passed_fd >= 0);
        play(&(struct input){0});
    }
    fds = count_fds();
    play(&input);
    must_be(count_fds(), fds);
    return 0;
}
