/* SPDX-License-Identifier: MIT */
/*
 * A session that a daemon leaves in the middle of something, of which then anything is changed: its ledger's
 * page, answer, units and write-once bits, its ring, how long its files are, which descriptors are there and
 * under what name. The daemon's loop in this process adopts it and goes on with it, is stopped, and another
 * one adopts it once more.
 *
 * - Where nothing was changed it is adopted.
 * - What is adopted has a heap like any other, and is charged as what it holds.
 * - However it ends, no descriptor is left, and nothing is charged to anyone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/adoption.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/memfd.h"
#include "daemon/operation.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/own_fds.h"
#include "tests/fuzz/target.h"
#include "tests/harness/parcel.h"

#include "tests/unit/heap_check.h"

#define ROUNDS 2u
#define UNITS_MAX 4u
#define OPERATIONS_LIMIT 24u
#define SPOILS_MAX 24u
#define TURNS_MAX 100000

#define OPTION_KIND 0x03u /* enum arena_kind */
#define OPTION_WRITE_ONCE 0x04u
#define OPTION_RING 0x08u
#define OPTION_EXECUTOR 0x10u
#define OPTION_SCAN 0x20u
#define OPTION_IMMEDIATE 0x40u
#define OPTION_ORPHANED 0x80u

static struct server server;
static int manager = -1; /* what the daemon tells its manager comes here */
static unsigned options;

/* What is left of the session; -1: there is none. */
static int parts[PARTS];
static unsigned parts_count;
static int executor; /* the daemon's end */
static int owner_end;
static int executor_end;
static char name[64];
static struct ledger ledger; /* all of it, to be changed */
static uint8_t *ring_memory;
static bool spoiled;
static uint64_t last_id;

static uint8_t in[RECORD_MAX_BYTES];

/* ---- A session that is left --------------------------------------------------------------- */

static struct request make_request(struct input *input)
{
    static const uint8_t data[1024] = {0x90, 0x0F, 0x05};
    uint8_t form = input_byte(input);
    uint64_t first = input_number(input, 2);
    uint64_t second = input_number(input, 2) << (form >> 4 & 0x07);

    return (struct request){
        .operation = (enum operation)((form & 0x0F) % OPERATION_COUNT),
        .span = first * 64,
        .size = second,
        .at = second & 0xFF8,
        .data = data,
        .data_bytes = second & 0x3FF,
        .width = 1u << (first & 0x03),
        .desired = second & 0xFF,
        .expected = FILL_PATTERN_DEFAULT & (UINT64_MAX >> (64 - (8u << (first & 0x03)))),
        .kind = first & 0x01,
    };
}

/* As by the ring, or as by the socket; the last one may not be said to be done. */
static void operate(struct session *session, struct input *input)
{
    unsigned count = input_byte(input) % OPERATIONS_LIMIT;
    struct ledger *of = &session->ledger;
    struct result result;

    while (count-- > 0) {
        uint8_t how = input_byte(input);
        struct request request = make_request(input);
        struct buffer out = {.bytes = ledger_answer(of), .capacity = RECORD_MAX_BYTES};
        bool by_socket = (how & 0x01) != 0;
        bool is_done;

        if (by_socket) {
            must_be(ledger_reserve_answer(of, 2 * RESULT_MAX_BYTES), 0);
            must(codec_put_reply(&out, ++last_id));
            ledger_begin_answer(of, last_id, out.used);
        }
        of->key = by_socket ? of->page->progress | LEDGER_KEY_SOCKET : of->page->head;
        is_done = operation_run(session, &request, OPERATION_STEP_BYTES, &result);
        if (!is_done || (count == 0 && (how & 0x02) != 0))
            break;
        if (!by_socket) {
            ledger_commit_entry(of, of->page->refused[of->page->head & 1] + (result.status != STATUS_OK));
            continue;
        }
        must(codec_put_result(&out, &result));
        ledger_commit_answer(of, 1, out.used);
        if ((how & 0x04) != 0)
            ledger_mark_answer(of, (how & 0x08) != 0 ? LEDGER_SENT : LEDGER_READY, out.used);
        if ((how & 0x10) != 0)
            ledger_end_answer(of);
    }
}

static void make_ring(void)
{
    parts[PART_RING] = memfd_new("fuzz-ring");
    must(parts[PART_RING] >= 0 && ftruncate(parts[PART_RING], RING_BYTES) == 0);
    must(fcntl(parts[PART_RING], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    ring_memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, parts[PART_RING], 0);
    must(ring_memory != MAP_FAILED);
    parts[PART_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(parts[PART_BELL] >= 0);
    parts_count = PARTS;
    ledger.page->ring_inode = memfd_inode(parts[PART_RING]);
    ledger.page->features |= FEATURE_RING;
    ((struct ring_header *)(void *)ring_memory)->tail = ledger.page->head;
}

static void make_sockets(void)
{
    int ends[2];

    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    owner_end = ends[0];
    parts[PART_SOCKET] = ends[1];
    if ((options & OPTION_EXECUTOR) == 0)
        return;
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    executor_end = ends[0];
    executor = ends[1];
}

/* Our own view of the ledger, which is the same memory. */
static void keep(const struct session *session)
{
    ledger = session->ledger;
    ledger.fd = fcntl(ledger.fd, F_DUPFD_CLOEXEC, 0);
    must(ledger.fd >= 0);
    ledger.page = mmap(NULL, ledger.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ledger.fd, 0);
    must(ledger.page != MAP_FAILED);
    parts[PART_LEDGER] = fcntl(ledger.fd, F_DUPFD_CLOEXEC, 0);
    parts[PART_ARENA] = fcntl(session->arena.fd, F_DUPFD_CLOEXEC, 0);
    must(parts[PART_LEDGER] >= 0 && parts[PART_ARENA] >= 0);
    parts_count = PART_SOCKET + 1;
}

static void leave_session(struct input *input)
{
    uint8_t shape = input_byte(input);
    enum arena_kind kind = (enum arena_kind)((options & OPTION_KIND) % 3);
    struct hello hello = {
        .version_max = PROTOCOL_VERSION,
        .features = (options & OPTION_IMMEDIATE) != 0 ? FEATURE_IMMEDIATE_RELEASE : 0,
        .write_mode = kind == ARENA_DIRECT ? WRITE_DIRECT : WRITE_THROUGH,
        .arena_bytes = (uint64_t)(1 + (shape >> 2) % UNITS_MAX) * BLOCK_BYTES,
        .granularity = 64u << (shape & 0x03) % 3,
    };
    /* Another's than the daemon's, or the arena would be sealed; the socket will be ours. */
    struct peer peer = {.uid = geteuid() + (kind == ARENA_THROUGH)};
    struct policy *policy = config_defaults("left");
    struct class *class = policy->classes[0];
    struct quota quota = {.accounts = NULL};
    struct account *account = quota_account(&quota, peer.uid);
    struct result result;
    struct session *session;

    class->write_direct = kind == ARENA_DIRECT;
    class->write_once = (options & OPTION_WRITE_ONCE) != 0;
    class->scan = (options & OPTION_SCAN) != 0 ? SCAN_DENY : SCAN_OFF;
    class->orphans_run = (shape & 0x10) != 0;
    class->executor_max = 4;
    class->span_max = 16;
    result_init(&result);
    must_be(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, class, &peer, account, &hello, &result);
    must(session != NULL);
    operate(session, input);
    session->ledger.page->uid = geteuid();
    session->ledger.page->state = (options & OPTION_ORPHANED) != 0 ? LEDGER_ORPHANED : LEDGER_LIVE;
    keep(session);
    (void)session_unref(session);
    (void)account_unref(&quota, account);
    (void)policy_unref(policy);
    make_sockets();
    if ((options & OPTION_RING) != 0)
        make_ring();
}

/* ---- What its clients ask for -------------------------------------------------------------- */

/* The next request, or the same again; of more than one operation if the input says so. */
static void ask(int end, struct input *input)
{
    static uint8_t bytes[RECORD_MAX_BYTES];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};
    uint8_t how = input_byte(input);
    struct request request = make_request(input);

    must(codec_put_request(&out, (how & 0x80) != 0 ? last_id : ++last_id));
    if ((how & 0x70) == 0x70)
        must(codec_put_open_executor(&out));
    for (unsigned i = 0; i <= (how & 0x0Fu); i++)
        must(codec_put_operation(&out, &request));
    if (end >= 0)
        (void)record_send(end, false, out.bytes, out.used, NULL, 0);
}

static void put_entry(struct input *input)
{
    struct request request = make_request(input);
    struct ring_header *header = (void *)ring_memory;
    struct ring_entry *entries;

    if (ring_memory == NULL)
        return;
    entries = (void *)(ring_memory + RING_ENTRIES_AT);
    entries[header->tail % RING_ENTRIES] = (struct ring_entry){
        .operation = (uint8_t)request.operation,
        .width = (uint8_t)request.width,
        .bytes = (uint32_t)request.data_bytes,
        .span = request.span,
        .number = request.operation == OPERATION_RESET ? request.kind
                  : request.operation == OPERATION_WRITE || request.operation == OPERATION_PATCH
                      ? request.at
                      : request.size,
        .data = request.span & 0xFFFF,
    };
    header->tail++;
    (void)eventfd_write(parts[PART_BELL], 1);
}

static void hear(int end)
{
    struct record record;
    int flaw;

    while (end >= 0 && (flaw = record_recv(end, false, in, sizeof in, RECORD_FDS_MAX, &record)) >= 0) {
        while (flaw == RECORD_WHOLE && record.fds_count > 0)
            (void)close(record.fds[--record.fds_count]);
        if (flaw == RECORD_E_END) /* or a record of no bytes, by an answer that was changed */
            return;
    }
}

/* ---- What is changed -------------------------------------------------------------------------- */

static void store(uint8_t *memory, size_t bytes, struct input *input)
{
    size_t at = input_number(input, 3) % bytes;
    uint8_t how = input_byte(input);
    uint64_t number = input_number(input, 1 + (how & 0x07)) << (how >> 3 & 0x03) * 6;

    if ((how & 0x80) != 0) {
        memory[at] ^= (uint8_t)number;
        return;
    }
    at -= at % 8;
    memcpy(memory + at, &number, bytes - at < 8 ? bytes - at : 8);
}

static void put_intent(struct input *input)
{
    uint8_t how = input_byte(input);
    struct ledger_page *page = ledger.page;

    page->intent = (struct ledger_intent){
        .key = (how & 0x80) != 0 ? page->progress | LEDGER_KEY_SOCKET : page->head,
        .kind = how & 0x0F,
        .flag = input_byte(input),
        .offset = input_number(input, 2) * 64 + (how >> 4 & 0x01),
        .bytes = input_number(input, 2) * 64,
        .desired = input_byte(input),
    };
}

static void put_progress(struct input *input)
{
    struct ledger_page *page = ledger.page;
    uint8_t how = input_byte(input);

    page->answer_id = last_id + (how & 0x01);
    page->progress = (uint64_t)(how >> 4) << 32 | input_number(input, 3) |
                     ((how & 0x02) != 0 ? LEDGER_READY : 0) | ((how & 0x04) != 0 ? LEDGER_SENT : 0);
}

/* The same ledger, but longer or shorter, or without its seals. */
static void copy_ledger(struct input *input)
{
    uint8_t how = input_byte(input);
    off_t bytes = (off_t)ledger.bytes + (int8_t)input_byte(input) * (off_t)((how & 0x01) != 0 ? 4096 : 1);
    int fd = memfd_new("fuzz-ledger");

    must(fd >= 0);
    if (bytes > 0 && (size_t)bytes < 4 * ledger.bytes) {
        must(ftruncate(fd, bytes) == 0);
        (void)!pwrite(fd, ledger.page, (size_t)bytes < ledger.bytes ? (size_t)bytes : ledger.bytes, 0);
    }
    must(fcntl(fd, F_ADD_SEALS, (how >> 1) & (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)) == 0);
    must(dup3(fd, parts[PART_LEDGER], O_CLOEXEC) >= 0);
    (void)close(fd);
}

static void change_arena(struct input *input)
{
    uint8_t pages = input_byte(input);

    (void)!ftruncate(parts[PART_ARENA], (off_t)pages * 4096); /* the kernel says no if it is sealed */
}

/* Another part in its place, one too few, or other things. */
static void change_parts(struct input *input)
{
    uint8_t how = input_byte(input);
    unsigned which = how % parts_count;
    int fd;

    switch (how >> 5) {
    case 0:
        fd = fcntl(parts[(how >> 3) % parts_count], F_DUPFD_CLOEXEC, 0);
        break;
    case 1:
        fd = memfd_new("fuzz-other");
        break;
    case 2:
        fd = eventfd(0, EFD_CLOEXEC);
        break;
    case 3:
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        break;
    case 4:
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        break;
    default:
        if (parts_count > 1)
            (void)close(parts[--parts_count]);
        return;
    }
    must(fd >= 0);
    (void)close(parts[which]);
    parts[which] = fd;
}

static void rename_session(struct input *input)
{
    static const char *const names[] = {"session-",   "session-2",  "session-1-1", "session-01",
                                        "session-1x", "session--1", "executor-1-1"};

    (void)snprintf(name, sizeof name, "%s", names[input_byte(input) % (sizeof names / sizeof names[0])]);
}

static void spoil(struct input *input)
{
    uint8_t instruction = input_byte(input);

    spoiled = spoiled || instruction % 12 < 10;
    switch (instruction % 12) {
    case 0:
    case 1:
        store((uint8_t *)ledger.page, sizeof *ledger.page, input);
        break;
    case 2:
        put_intent(input);
        break;
    case 3:
        put_progress(input);
        break;
    case 4:
        store(ledger_answer(&ledger), 1024, input);
        break;
    case 5:
        store(ledger_units(&ledger),
              (ledger.page->grown_bytes / BLOCK_BYTES % UNITS_MAX + 1) * sizeof(struct unit), input);
        break;
    case 6:
        store((uint8_t *)ledger.page + ledger.bytes - 4096, 4096,
              input); /* the write-once bits, if there are any */
        break;
    case 7:
        if (ring_memory != NULL)
            store(ring_memory, RING_ENTRIES_AT + 1024, input);
        break;
    case 8:
        if ((instruction & 0x80) != 0)
            copy_ledger(input);
        else
            change_arena(input);
        break;
    case 9:
        if ((instruction & 0x80) != 0)
            change_parts(input);
        else
            rename_session(input);
        break;
    case 10:
        put_entry(input);
        break;
    default:
        ask((instruction & 0x80) != 0 ? executor_end : owner_end, input);
        break;
    }
}

/* ---- A daemon ----------------------------------------------------------------------------- */

static void begin(void)
{
    struct policy *policy = config_defaults("next");

    policy->sessions_max = 8;
    log_set_level(LOG_ERROR);
    must_be(server_init(&server, policy), 0);
    (void)policy_unref(policy);
}

static unsigned adopt(void)
{
    struct stored stored[2] = {{name, parcel_new(parts, parts_count)}};
    unsigned count = 1;
    uint64_t arena_bytes = 0;

    must(stored[0].fd >= 0);
    if (executor >= 0)
        stored[count++] = (struct stored){"executor-1-1", fcntl(executor, F_DUPFD_CLOEXEC, 0)};
    return adoption_run(&server, stored, count, count, &arena_bytes);
}

static void check_session(void)
{
    const struct session *session = NULL;

    for (const struct connection *at = server.connections; at != NULL; at = at->next)
        session = at->session != NULL ? at->session : session;
    if (session == NULL)
        return;
    heap_check(&session->heap);
    must_be(session->bytes.account->held[QUOTA_BYTES], session->arena.grown_bytes);
    must_be(session->bytes.account->held[QUOTA_SPANS], session->heap.spans);
    must_be(session->heap.units_grown * (uint64_t)BLOCK_BYTES, session->arena.grown_bytes);
}

static void turn(unsigned turns)
{
    while (turns-- > 0) {
        (void)uv_run(&server.loop, UV_RUN_NOWAIT);
        check_session();
    }
    hear(owner_end);
    hear(executor_end);
}

/* See fuzz_connection.c. */
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
        if (turns > 10)
            (void)usleep(100);
        (void)uv_run(&server.loop, UV_RUN_NOWAIT);
    }
}

static void serve(struct input *input)
{
    unsigned count = input_byte(input) % OPERATIONS_LIMIT;

    turn(2);
    while (count-- > 0) {
        if ((input_byte(input) & 0x01) != 0)
            put_entry(input);
        else
            ask(owner_end, input);
        turn(2);
    }
}

/* What it tells its manager; descriptors of ours, as it stores nothing new. */
static void hear_manager(void)
{
    char text[512];
    struct record record;
    int flaw;

    while ((flaw = record_recv(manager, false, text, sizeof text, 1, &record)) >= 0) {
        while (flaw == RECORD_WHOLE && record.fds_count > 0)
            (void)close(record.fds[--record.fds_count]);
    }
}

static int close_end(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static void play_round(struct input *input, bool is_last)
{
    unsigned count = input_byte(input) % SPOILS_MAX;
    unsigned sessions;

    while (count-- > 0)
        spoil(input);
    begin();
    sessions = adopt();
    if (!spoiled)
        must_be(sessions, 1);
    if (!spoiled && (options & (OPTION_ORPHANED | OPTION_RING)) == 0)
        must(server.connections_count >= 1u);
    check_session();
    serve(input);
    if (is_last) {
        owner_end = close_end(owner_end);
        executor_end = close_end(executor_end);
        wait_for_all_to_end();
        must(server.quota.accounts == NULL);
    }
    server_deinit(&server);
    hear_manager();
}

static void play(struct input *input)
{
    options = input_byte(input);
    spoiled = false;
    last_id = 1;
    executor = owner_end = executor_end = -1;
    ring_memory = NULL;
    (void)snprintf(name, sizeof name, "session-1");
    leave_session(input);
    for (unsigned round = 0; round < ROUNDS; round++) {
        play_round(input, round + 1 == ROUNDS);
        spoiled = true; /* what came of it, nobody keeps book of */
    }
    ledger_deinit(&ledger);
    if (ring_memory != NULL)
        (void)munmap(ring_memory, RING_BYTES);
    while (parts_count > 0)
        (void)close(parts[--parts_count]);
    executor = close_end(executor);
}

static void begin_manager(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "@fuzz-adoption-%d", (int)getpid());

    must(setenv("NOTIFY_SOCKET", address.sun_path, 1) == 0);
    address.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(manager >= 0);
    must(bind(manager, (const struct sockaddr *)&address,
              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {.at = data, .left = bytes};
    unsigned fds;

    if (manager < 0) { /* what stays open after the first use: this, and libuv's signal pipe */
        begin_manager();
        play(&(struct input){0});
    }
    fds = count_fds();
    play(&input);
    must_be(count_fds(), fds);
    return 0;
}
