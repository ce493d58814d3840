/* SPDX-License-Identifier: MIT */
/*
 * What somebody does with an executor's end who would rather write, or take from others what they need.
 * The session's owner is a process of its own, which looks whether all is as it was.
 */
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

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/attack.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

enum { SPAN_BYTES = 4096, VALUE = 4711, ENDS = 8, ROUNDS = 40 };

static struct broker broker;
static struct victim victim;

static void start(void)
{
    broker_start(&broker, "[daemon]\nreply_timeout_ms=100\n[class default]\nsession_max=64\n");
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void start_ending(void)
{
    broker_start(&broker, "[daemon]\nreply_timeout_ms=100\n[class default]\nsession_max=64\norphans=end\n");
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void stop(void)
{
    victim_stop(&victim);
    broker_stop(&broker);
}

/* ---- The owner --------------------------------------------------------------------------- */

struct owner {
    pid_t pid;
    int channel;
    uint64_t span; /* in the arena */
};

static void make_content(uint8_t *bytes)
{
    for (int i = 0; i < SPAN_BYTES; i++)
        bytes[i] = (uint8_t)(i * 7);
    code_return(bytes, VALUE);
}

/* 'e': an end, please; 'c': is all well? */
static void be_owner(int channel)
{
    jitc_client *client = broker_connect(&broker, NULL);
    jitc_info info = {.struct_size = sizeof info};
    uint8_t content[SPAN_BYTES];
    jitc_span span;
    uint64_t offset;
    char command;

    make_content(content);
    assert_ok(jitc_alloc(client, &span, SPAN_BYTES));
    assert_ok(jitc_write(client, &span, 0, content, SPAN_BYTES, JITC_WRITE_DEFAULT));
    assert_ok(jitc_describe(client, &info));
    offset = (uint64_t)((const uint8_t *)span.rx - (const uint8_t *)info.base);
    ck_assert_int_eq(write(channel, &offset, sizeof offset), sizeof offset);
    while (read(channel, &command, 1) == 1) {
        jitc_stats stats = {.struct_size = sizeof stats};
        int fd = -1;

        if (command == 'e') {
            assert_ok(jitc_open_executor(client, &fd));
            ck_assert_int_eq(record_send(channel, true, "", 1, &fd, 1), 0);
            (void)close(fd);
            continue;
        }
        ck_assert_mem_eq(span.rx, content, SPAN_BYTES);
        assert_ok(jitc_statistics(client, &stats));
        ck_assert_uint_eq(stats.allocation_count, 1);
        ck_assert_int_eq(write(channel, "", 1), 1);
    }
    (void)jitc_close(client);
}

static struct owner start_owner(uid_t uid)
{
    struct owner owner;
    int channel[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    owner.channel = channel[0];
    owner.pid = check_fork();
    if (owner.pid == 0) {
        (void)close(channel[0]);
        become(uid);
        be_owner(channel[1]);
        exit(EXIT_SUCCESS);
    }
    (void)close(channel[1]);
    ck_assert_int_eq(read(owner.channel, &owner.span, sizeof owner.span), sizeof owner.span);
    return owner;
}

static int ask_end(const struct owner *owner)
{
    struct record record;
    char byte;

    ck_assert_int_eq(write(owner->channel, "e", 1), 1);
    ck_assert_int_eq(record_recv(owner->channel, true, &byte, 1, 1, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.fds_count, 1);
    return record.fds[0];
}

static void check_owner(const struct owner *owner)
{
    char byte;

    ck_assert_int_eq(write(owner->channel, "c", 1), 1);
    ck_assert_msg(read(owner->channel, &byte, 1) == 1, "the owner noticed: see its line above");
}

static void stop_owner(const struct owner *owner)
{
    int status = -1;

    check_owner(owner);
    ck_assert_int_eq(shutdown(owner->channel, SHUT_RDWR), 0);
    ck_assert_int_eq(waitpid(owner->pid, &status, 0), owner->pid);
    ck_assert_int_eq(status, 0);
    (void)close(owner->channel);
}

/* The session's owner has the same uid as the attacker, where that makes the arena a sealed one. */
static struct owner start_owner_for(enum attacker attacker)
{
    if (attacker == ATTACKER_DAEMON_UID)
        return start_owner(broker.uid);
    return start_owner(attacker == ATTACKER_ROOT ? 0 : WORKER_UID);
}

/* As another user than the owner, where that is no such uid. */
static void become_executor(enum attacker attacker)
{
    if (attacker == ATTACKER_WORKER && are_we_root())
        become(OTHER_WORKER_UID);
    else
        attacker_become(attacker, &broker);
}

/* ---- The memory ------------------------------------------------------------------------------ */

START_TEST(no_way_leads_from_its_descriptor_to_writing)
{
    struct owner owner;
    struct wire *wire;
    const uint8_t *rx;
    uint64_t bytes;
    int fd;

    if (!are_we_root() && _i != ATTACKER_DAEMON_UID)
        skip("needs root, to be another user than the daemon");
    owner = start_owner_for((enum attacker)_i);
    fd = ask_end(&owner);
    become_executor((enum attacker)_i);
    wire = wire_new(fd);
    wire_hello(wire);
    ck_assert_uint_eq(wire->record.fds_count, 1);
    ck_assert_int_eq(wire->reply.welcome.sealed, _i != ATTACKER_WORKER);
    fd = wire->record.fds[0];
    bytes = wire->reply.welcome.arena_bytes;
    rx = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(rx, MAP_FAILED);
    ck_assert_uint_eq(code_call(rx + owner.span), VALUE);

    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)owner.span), -1);
    assert_refused(EINVAL, ftruncate(fd, 0));
    assert_refused(EBADF, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    assert_refused(EPERM, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    ck_assert_ptr_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_refused(EACCES, mprotect((void *)(uintptr_t)rx, 4096, PROT_READ | PROT_WRITE));
    ck_assert_int_eq(madvise((void *)(uintptr_t)rx, 65536, MADV_REMOVE), -1);
    if (_i == ATTACKER_WORKER) {
        assert_refused(EACCES, open(fd_path(fd), O_RDWR | O_CLOEXEC));
        assert_refused(EACCES, open(fd_path(fd), O_WRONLY | O_CLOEXEC));
        assert_refused(EACCES, open(fd_path(fd), O_RDONLY | O_TRUNC | O_CLOEXEC));
        assert_refused(EPERM, fchmod(fd, 0666));
    } else {
        /* Such a peer opens it, and then can do nothing with it. */
        int again = open(fd_path(fd), O_RDWR | O_CLOEXEC);

        if (again >= 0) {
            assert_refused(EPERM, pwrite(again, "x", 1, (off_t)owner.span));
            assert_refused(EPERM, fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536));
            assert_refused(EPERM, ftruncate(again, 0));
            ck_assert_ptr_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
        }
    }
    fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)(uintptr_t)(rx + owner.span)), -1);
    ck_assert_uint_eq(code_call(rx + owner.span), VALUE);
    (void)wire_free(wire);
    stop_owner(&owner);
}
END_TEST

static void expect_no_effect(struct wire *wire, struct buffer *out, size_t operations)
{
    wire_send(wire, out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->record.fds_count, 0);
    if (wire->reply.has_error)
        return;
    ck_assert_uint_eq(wire->reply.results_count, operations);
    for (size_t i = 0; i < operations; i++) {
        struct result result;

        codec_result(&wire->reply, i, &result);
        ck_assert_int_eq(result.status, STATUS_REFUSED);
    }
}

START_TEST(no_record_changes_anything)
{
    struct owner owner = start_owner(WORKER_UID);
    struct wire *wire = wire_new(ask_end(&owner));
    uint8_t bytes[SPAN_BYTES] = {0};
    struct request request;
    struct buffer out;

    become_executor(ATTACKER_WORKER);
    wire_hello(wire);
    for (enum operation operation = 0; operation < OPERATION_COUNT; operation++) {
        const uint64_t offsets[] = {0, owner.span, owner.span + 64, 65536, UINT64_MAX};

        if (operation_only_reads(operation))
            continue;
        for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
            request = (struct request){.operation = operation,
                                       .span = offsets[i],
                                       .size = 64,
                                       .data = bytes,
                                       .data_bytes = sizeof bytes,
                                       .width = 1,
                                       .expected = ((const uint8_t[]){VALUE & 0xFF})[0],
                                       .kind = RESET_HARD};
            out = wire_begin(wire);
            ck_assert(codec_put_operation(&out, &request));
            expect_no_effect(wire, &out, 1);
        }
        /* As many as there may be, and one more. */
        request.span = owner.span;
        request.data_bytes = 100;
        out = wire_begin(wire);
        for (unsigned i = 0; i < OPERATIONS_MAX; i++)
            ck_assert(codec_put_operation(&out, &request));
        expect_no_effect(wire, &out, OPERATIONS_MAX);
        out = wire_begin(wire);
        for (unsigned i = 0; i <= OPERATIONS_MAX; i++)
            ck_assert(codec_put_operation(&out, &request));
        expect_no_effect(wire, &out, 0);
        ck_assert(wire->reply.has_error);
    }
    check_owner(&owner);
    /* Requests and operations of later versions. */
    for (uint8_t field = 5; field < 16; field++) {
        const uint8_t unknown[] = {(uint8_t)(field << 3 | 2), 0};

        out = wire_begin(wire);
        memcpy(out.bytes + out.used, unknown, sizeof unknown);
        out.used += sizeof unknown;
        expect_no_effect(wire, &out, 0);
        ck_assert(wire->reply.has_error);
    }
    (void)wire_free(wire);
    stop_owner(&owner);
}
END_TEST

START_TEST(a_second_hello_brings_no_second_descriptor)
{
    struct owner owner = start_owner(WORKER_UID);
    const struct hello hello = {.version_min = 1, .version_max = 1, .features = UINT64_MAX};
    struct wire *wire = wire_new(ask_end(&owner));

    become_executor(ATTACKER_WORKER);
    for (int i = 0; i < 20; i++) {
        struct buffer out = wire_begin(wire);

        ck_assert(codec_put_hello(&out, &hello));
        wire_send(wire, &out);
    }
    wire_receive(wire);
    ck_assert(wire->reply.has_welcome && wire->record.fds_count == 1);
    for (int i = 1; i < 20; i++) {
        wire_receive(wire);
        ck_assert(wire->reply.has_error && wire->reply.error.status == STATUS_PROTOCOL);
        ck_assert_uint_eq(wire->record.fds_count, 0);
    }
    (void)wire_free(wire);
    stop_owner(&owner);
}
END_TEST

/* ---- What it holds -------------------------------------------------------------------------------- */

/* True for a daemon that has no more descriptors than that; false where /proc does not tell. */
static bool has_settled(long fds)
{
    while (fds >= 0 && broker_fds(&broker) != fds)
        (void)usleep(10000);
    return fds >= 0;
}

/* Sends a record with a descriptor over `socket`. */
static void send_fd(int socket, int fd)
{
    (void)record_send(socket, false, "\xFF", 1, &fd, 1);
}

static void send_hello(int socket)
{
    const struct hello hello = {.version_min = 1, .version_max = 1};
    uint8_t bytes[64];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};

    ck_assert(codec_put_request(&out, 1) && codec_put_hello(&out, &hello));
    (void)record_send(socket, false, out.bytes, out.used, NULL, 0);
}

/* A record that is small, and its answer large. */
static void send_batch(int socket)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    uint8_t bytes[4096];
    struct buffer out = {.bytes = bytes, .capacity = sizeof bytes};

    ck_assert(codec_put_request(&out, 1));
    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        ck_assert(codec_put_operation(&out, &statistics));
    (void)record_send(socket, false, out.bytes, out.used, NULL, 0);
}

static int own(struct wire **wire)
{
    struct buffer out;
    int fd;

    *wire = wire_new(broker_socket(&broker));
    wire_hello(*wire);
    wire_close_fds(*wire);
    out = wire_begin(*wire);
    ck_assert(codec_put_open_executor(&out));
    wire_send(*wire, &out);
    wire_receive(*wire);
    ck_assert_msg((*wire)->record.fds_count == 1, "no end: %s", (*wire)->reply.error.text);
    fd = (*wire)->record.fds[0];
    (*wire)->record.fds_count = 0;
    return fd;
}

/* One way to leave sockets within sockets behind, and be gone. */
static void nest(int way)
{
    struct wire *wire;
    int end = own(&wire);
    int other;
    int pair[2];

    switch (way) {
    case 0: /* over itself, before Hello */
        send_fd(end, end);
        break;
    case 1: /* over itself, with Welcome unread: behind what ends it, nobody would read it */
        send_hello(end);
        (void)record_send(end, false, "\xFF", 1, NULL, 0);
        for (int i = 0; i < 5; i++)
            send_fd(end, end);
        break;
    case 2: /* the same behind records of no bytes, which look like the end */
        send_hello(end);
        (void)record_send(end, false, "\xFF", 1, NULL, 0);
        for (int i = 0; i < 5; i++)
            (void)send(end, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL);
        send_fd(end, end);
        break;
    case 3: /* over its owner's socket, and that over the end */
        send_hello(end);
        send_fd(wire->socket, end);
        send_fd(end, wire->socket);
        break;
    case 4: /* two ends over each other, both with Welcome unread */
        other = own(&wire);
        send_hello(end);
        send_hello(other);
        (void)record_send(end, false, "\xFF", 1, NULL, 0);
        (void)record_send(other, false, "\xFF", 1, NULL, 0);
        send_fd(end, other);
        send_fd(other, end);
        break;
    case 5: /* where the daemon waits for it to read, and so reads no more itself */
        send_hello(end);
        for (int i = 0; i < 64; i++)
            send_batch(end);
        send_fd(end, end);
        break;
    default: /* in a socketpair that holds itself: the kernel's to collect */
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        send_fd(pair[0], end);
        send_fd(pair[0], pair[1]);
        send_fd(pair[1], pair[0]);
        break;
    }
    _exit(0);
}

START_TEST(sockets_within_sockets_hold_nothing_when_their_sender_is_gone)
{
    long fds = broker_fds(&broker);

    for (int i = 0; i < ROUNDS; i++) {
        pid_t pid = check_fork();

        if (pid == 0) {
            become(WORKER_UID);
            nest(_i);
        }
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        /* Those who linger are charged, and gone within a second or two. */
        if (i % 20 == 19)
            (void)has_settled(fds);
    }
    if (!has_settled(fds))
        skip("the daemon's descriptors can't be counted");
    victim_check(&victim);
}
END_TEST

/* As many sessions with as many ends as there may be, all of them in flight; then waits to be killed. */
static void fill(int ready)
{
    static struct wire *wires[64];
    unsigned ends = 0;
    unsigned count = 0;
    int pair[2];

    become(WORKER_UID);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    for (; ends + count < 64; count++) {
        wires[count] = wire_new(broker_socket(&broker));
        wire_hello(wires[count]);
        wire_close_fds(wires[count]);
        for (int i = 0; i <= ENDS; i++) {
            struct buffer out = wire_begin(wires[count]);

            ck_assert(codec_put_open_executor(&out));
            wire_send(wires[count], &out);
            wire_receive(wires[count]);
            if (wires[count]->record.fds_count == 0) {
                ck_assert_int_eq(wires[count]->reply.error.status, STATUS_QUOTA_SESSIONS);
                attack_met_status(STATUS_QUOTA_SESSIONS);
                break;
            }
            ck_assert_int_lt(i, ENDS);
            send_hello(wires[count]->record.fds[0]); /* its Welcome is in flight in what is in flight */
            ck_assert_int_eq(record_send(pair[0], false, "", 1, wires[count]->record.fds, 1), 0);
            wire_close_fds(wires[count]);
            ends++;
        }
    }
    ck_assert_uint_eq(ends + count, 64);
    ck_assert_int_eq(write(ready, "", 1), 1);
    for (;;)
        (void)pause();
}

START_TEST(hundreds_in_flight_meet_the_quota_and_die_with_their_holder)
{
    long fds = broker_fds(&broker);

    tries("endless-executors");
    for (int round = 0; round < 10; round++) {
        int ready[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(ready), 0);
        pid = check_fork();
        if (pid == 0)
            fill(ready[1]);
        (void)close(ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        victim_check(&victim);
        (void)kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        (void)close(ready[0]);
        (void)has_settled(fds);
    }
}
END_TEST

START_TEST(no_end_is_in_flight_beside_another_or_beside_welcome)
{
    const struct hello hello = {.version_min = 1, .version_max = 1};
    struct wire *wire;

    become(WORKER_UID);
    wire = wire_new(broker_socket(&broker));
    for (int i = 0; i < 21; i++) {
        struct buffer out = wire_begin(wire);

        ck_assert(i == 0 ? codec_put_hello(&out, &hello) : codec_put_open_executor(&out));
        wire_send(wire, &out);
    }
    while (record_is_unread(wire->socket)) /* by the daemon */
        (void)usleep(1000);
    wire_receive(wire);
    ck_assert(wire->reply.has_welcome);
    wire_receive(wire);
    ck_assert(wire->reply.has_error && wire->reply.error.status == STATUS_PROTOCOL);
    (void)wire_free(wire);
    victim_check(&victim);
}
END_TEST

START_TEST(who_floods_takes_its_turns_with_its_owner_s_user)
{
    struct owner owner = start_owner(WORKER_UID);
    struct wire *wires[ENDS];
    struct request query = {.operation = OPERATION_QUERY, .span = owner.span};
    struct buffer out;

    for (int i = 0; i < ENDS; i++)
        wires[i] = wire_new(ask_end(&owner));
    become_executor(ATTACKER_WORKER);
    victim_work(&victim);
    for (int i = 0; i < ENDS; i++)
        wire_hello(wires[i]);
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < ENDS; i++) {
            out = wire_begin(wires[i]);
            for (unsigned n = 0; n < OPERATIONS_MAX; n++)
                ck_assert(codec_put_operation(&out, &query));
            wire_send(wires[i], &out);
        }
        for (int i = 0; i < ENDS; i++)
            wire_receive(wires[i]);
    }
    ck_assert_uint_gt(victim_rest(&victim, "8 executors that query without end"), 0);
    for (int i = 0; i < ENDS; i++)
        (void)wire_free(wires[i]);
    stop_owner(&owner);
}
END_TEST

static void add_case(Suite *suite, const char *name, void (*set_up)(void), bool ending)
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, set_up, stop);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, sockets_within_sockets_hold_nothing_when_their_sender_is_gone, 0, 7);
    tcase_add_test(tcase, hundreds_in_flight_meet_the_quota_and_die_with_their_holder);
    if (!ending) {
        tcase_add_loop_test(tcase, no_way_leads_from_its_descriptor_to_writing, 0, ATTACKER_COUNT);
        tcase_add_test(tcase, no_record_changes_anything);
        tcase_add_test(tcase, a_second_hello_brings_no_second_descriptor);
        tcase_add_test(tcase, no_end_is_in_flight_beside_another_or_beside_welcome);
        tcase_add_test(tcase, who_floods_takes_its_turns_with_its_owner_s_user);
    }
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    Suite *suite = suite_create("executors' attacks");

    add_case(suite, "orphans run", start, false);
    add_case(suite, "orphans end", start_ending, true);
    return suite_run(suite);
}
