/* SPDX-License-Identifier: MIT */
/*
 * The daemon's loop in this process, with askers who send its admin socket what they like, read their
 * answers or don't, and go away, while clients come, allocate, and go.
 *
 * - Every request that can be decoded is answered in order, by records that end with one that has no `more`,
 *   until the daemon ends the connection; spans are told by their offsets.
 * - There are never more connections than there may be.
 * - However it ends, no descriptor is left, and nothing is charged to anyone.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "proto/admin.h"
#include "proto/record.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/own_fds.h"
#include "tests/fuzz/target.h"

#define ASKERS (ADMIN_CONNECTIONS_MAX + 1)
#define CLIENTS 3u
#define INSTRUCTIONS_MAX 200
#define ASKED_MAX (INSTRUCTIONS_MAX + 1)
#define TURNS_MAX 100000
#define SPANS_AT_ONCE 64u
#define REPLY_TIMEOUT_MS 20 /* longer than most inputs take, else nobody could leave an answer unread */

static struct asker {
    int fd; /* -1: not connected */
    bool ended;
    uint64_t asked[ASKED_MAX]; /* ids that are to be answered */
    size_t asked_count;
    size_t answered;
    uint64_t offset; /* of the last span of this answer */
} askers[ASKERS];

static struct server server;
static struct sockaddr_un address;
static socklen_t address_bytes;
static int clients[CLIENTS];
static uint64_t last_id;
static unsigned waiting_count; /* connections that were not accepted yet, at most: a turn accepts one */

/* ---- The daemon --------------------------------------------------------------------------- */

static void on_reload(struct server *of)
{
    (void)snprintf(of->policy_mistake, sizeof of->policy_mistake, "%s",
                   of->policy_mistake[0] == '\0' ? "file:1: a mistake" : "");
}

static void set_up(void)
{
    struct policy *policy = config_defaults("fuzzed");
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    must(policy != NULL && listener >= 0);
    policy->classes[0]->arena_bytes = UINT64_C(4) << 20;
    policy->classes[0]->orphans_run = true;
    policy->reply_timeout_ms = REPLY_TIMEOUT_MS;
    log_set_level(LOG_ERROR);
    must_be(server_init(&server, policy), 0);
    (void)policy_unref(policy);
    server.on_reload = on_reload;
    address = (struct sockaddr_un){.sun_family = AF_UNIX}; /* the kernel finds it a name */
    must_be(bind(listener, (struct sockaddr *)&address, sizeof address.sun_family), 0);
    must_be(listen(listener, ASKERS), 0);
    address_bytes = sizeof address;
    must_be(getsockname(listener, (struct sockaddr *)&address, &address_bytes), 0);
    must_be(admin_listen(&server.admin, &server, listener), 0);
}

static void turn_once(uv_run_mode mode)
{
    (void)uv_run(&server.loop, mode);
    waiting_count -= waiting_count > 0;
    must(server.admin.connections_count <= ADMIN_CONNECTIONS_MAX);
    log_set_level(LOG_ERROR); /* one of them may have changed it */
}

static void turn(unsigned turns)
{
    for (; turns > 0; turns--)
        turn_once(UV_RUN_NOWAIT);
}

/* ---- Operators ------------------------------------------------------------------------------ */

static void connect_operator(struct asker *asker)
{
    if (asker->fd >= 0)
        return;
    if (waiting_count == ASKERS) /* the backlog */
        turn(1);
    waiting_count++;
    *asker = (struct asker){.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    must_be(connect(asker->fd, (struct sockaddr *)&address, address_bytes), 0);
}

static void close_operator(struct asker *asker)
{
    if (asker->fd >= 0)
        (void)close(asker->fd);
    asker->fd = -1;
}

static void check_reply(struct asker *asker, const Admin__Reply *reply)
{
    if (reply->id == 0) {
        must(reply->error != NULL && !reply->more);
        asker->ended = true;
        return;
    }
    must(asker->answered < asker->asked_count);
    must_be(reply->id, asker->asked[asker->answered]);
    must(reply->error == NULL || !reply->more);
    must(reply->error == NULL || (reply->error->code != ADMIN__CODE__DONE && reply->error->text[0] != '\0'));
    for (size_t i = 0; i < reply->n_spans; i++) {
        must(reply->spans[i]->size > 0 && reply->spans[i]->offset >= asker->offset);
        asker->offset = reply->spans[i]->offset + reply->spans[i]->size;
    }
    if (reply->more)
        return;
    asker->answered++;
    asker->offset = 0;
}

/* False: there is nothing to read. */
static bool read_reply(struct asker *asker)
{
    static uint8_t bytes[ADMIN_REPLY_MAX_BYTES];
    struct record record;
    Admin__Reply *reply;
    int flaw;

    if (asker->fd < 0)
        return false;
    flaw = record_recv(asker->fd, false, bytes, sizeof bytes, 0, &record);
    if (flaw == -ECONNRESET)
        return true;
    if (flaw != RECORD_WHOLE) {
        must(flaw == -EAGAIN || flaw == RECORD_E_END);
        asker->ended = asker->ended || flaw == RECORD_E_END;
        return false;
    }
    must(!asker->ended);
    reply = admin__reply__unpack(NULL, record.bytes, bytes);
    must(reply != NULL);
    check_reply(asker, reply);
    admin__reply__free_unpacked(reply, NULL);
    return true;
}

static void send_bytes(struct asker *asker, const uint8_t *bytes, size_t count, bool with_fd)
{
    Admin__Request *request;

    if (asker->asked_count == ASKED_MAX)
        return;
    connect_operator(asker);
    if (record_send(asker->fd, false, bytes, count, &asker->fd, with_fd) != 0 || with_fd ||
        count > ADMIN_REQUEST_MAX_BYTES)
        return;
    request = admin__request__unpack(NULL, count, bytes);
    if (request == NULL)
        return;
    if (request->id != 0)
        asker->asked[asker->asked_count++] = request->id;
    admin__request__free_unpacked(request, NULL);
}

static void send_request(struct asker *asker, struct input *input)
{
    Admin__Request request = ADMIN__REQUEST__INIT;
    uint8_t bytes[ADMIN_REQUEST_MAX_BYTES];
    uint8_t what = input_byte(input);

    request.id = ++last_id;
    request.verb = (Admin__Verb)(what & 0x0F);
    if (request.verb == ADMIN__VERB__SPANS || request.verb == ADMIN__VERB__CODE ||
        request.verb == ADMIN__VERB__REVOKE || (what & 0x80) != 0)
        request.session = input_byte(input) % 8;
    if (request.verb == ADMIN__VERB__CODE || (what & 0x40) != 0)
        request.offset = input_number(input, 3);
    if (request.verb == ADMIN__VERB__LOG_LEVEL || (what & 0x20) != 0)
        request.level = input_byte(input) % 9;
    send_bytes(asker, bytes, admin__request__pack(&request, bytes), false);
}

/* ---- Clients ---------------------------------------------------------------------------------- */

static void send_to_client(int fd, const struct buffer *out)
{
    (void)record_send(fd, false, out->bytes, out->used, NULL, 0);
}

/* Answers are of no interest here, but their descriptors are. */
static void read_as_client(int fd)
{
    static uint8_t bytes[RECORD_MAX_BYTES];
    struct record record;

    while (record_recv(fd, false, bytes, sizeof bytes, RECORD_FDS_MAX, &record) == RECORD_WHOLE) {
        while (record.fds_count > 0)
            (void)close(record.fds[--record.fds_count]);
    }
}

static void connect_client(int *client)
{
    const struct hello hello = {
        .version_min = PROTOCOL_VERSION, .version_max = PROTOCOL_VERSION, .features = FEATURE_EXECUTORS};
    uint8_t bytes[256];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};
    int fds[2];

    if (*client >= 0)
        return;
    must_be(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    *client = fds[0];
    admission_accept(&server, fds[1]);
    must(codec_put_request(&out, 1) && codec_put_hello(&out, &hello));
    send_to_client(*client, &out);
}

static void close_client(int *client)
{
    if (*client >= 0)
        (void)close(*client);
    *client = -1;
}

static void have_client_do(int *client, struct input *input)
{
    static uint8_t bytes[RECORD_MAX_BYTES];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};
    struct request request = {.operation = (enum operation)(input_byte(input) % OPERATION_COUNT)};
    unsigned times = 1 + input_byte(input) % SPANS_AT_ONCE;

    connect_client(client);
    must(codec_put_request(&out, 2));
    request.size = 1 + input_number(input, 3) % (UINT64_C(1) << 21);
    request.span = input_byte(input) * UINT64_C(64);
    if (request.operation == OPERATION_WRITE) {
        request.data = bytes;
        request.data_bytes = 1;
    }
    while (times-- > 0)
        must(codec_put_operation(&out, &request));
    send_to_client(*client, &out);
    read_as_client(*client);
}

static void open_executor(int *client)
{
    uint8_t bytes[64];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};

    if (*client < 0)
        return;
    read_as_client(*client);
    must(codec_put_request(&out, 3) && codec_put_open_executor(&out));
    send_to_client(*client, &out);
}

/* ---- One input ---------------------------------------------------------------------------- */

static void play_one(struct input *input)
{
    uint8_t instruction = input_byte(input);
    struct asker *asker = &askers[(instruction >> 4) % ASKERS];
    int *client = &clients[(instruction >> 4) % CLIENTS];
    size_t count = input_byte(input) % (ADMIN_REQUEST_MAX_BYTES + 2);
    static const uint8_t zeros[ADMIN_REQUEST_MAX_BYTES + 2];

    switch (instruction & 0x0F) {
    case 0: {
        const uint8_t *bytes = input_bytes(input, &count);

        send_bytes(asker, bytes, count, false);
        break;
    }
    case 1:
        send_bytes(asker, zeros, count, (count & 1) != 0);
        break;
    case 2:
    case 3:
    case 4:
        send_request(asker, input);
        break;
    case 5:
        (void)read_reply(asker);
        break;
    case 6:
        while (read_reply(asker))
            continue;
        break;
    case 7:
        connect_operator(asker);
        break;
    case 8:
        close_operator(asker);
        break;
    case 9:
        connect_client(client);
        break;
    case 10:
    case 11:
        have_client_do(client, input);
        break;
    case 12:
        close_client(client);
        break;
    case 13:
        open_executor(client);
        break;
    default:
        turn(1 + (unsigned)count);
        break;
    }
}

/* Whoever reads gets all its answers, or the end. */
static void finish(struct asker *asker)
{
    for (int turns = 0; asker->fd >= 0 && !asker->ended && asker->answered < asker->asked_count; turns++) {
        must(turns < TURNS_MAX);
        turn(1);
        while (read_reply(asker))
            continue;
    }
}

static void play(struct input *input)
{
    last_id = 0;
    waiting_count = 0;
    for (unsigned i = 0; i < ASKERS; i++)
        askers[i] = (struct asker){.fd = -1};
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    set_up();
    for (int i = 0; i < INSTRUCTIONS_MAX && input->left > 0; i++)
        play_one(input);
    for (unsigned i = 0; i < ASKERS; i++)
        finish(&askers[i]);
    if (input_byte(input) % 2 == 0) { /* or the daemon stops with them */
        for (unsigned i = 0; i < ASKERS; i++)
            close_operator(&askers[i]);
        turn(waiting_count);
        /* One that sent its own end, and reads no answers, is there until the daemon waited long enough. */
        while (server.admin.connections_count > 0)
            turn_once(UV_RUN_ONCE);
    }
    server_deinit(&server);
    for (unsigned i = 0; i < ASKERS; i++)
        close_operator(&askers[i]);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i] >= 0)
            read_as_client(clients[i]);
        close_client(&clients[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool is_used;
    struct input input = {.at = data, .left = bytes};
    unsigned fds;

    if (!is_used) /* what stays open after the first use */
        play(&(struct input){0});
    is_used = true;
    fds = count_fds();
    play(&input);
    must_be(count_fds(), fds);
    return 0;
}
