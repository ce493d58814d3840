/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end, and what he sends along: descriptors that nobody asked for, single bytes, and
 * connections that are used by somebody else than made them.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

#define FDS_MAX 253       /* that Linux lets one message have */
#define PATIENCE_MS 20000 /* for the kernel to clear up what nobody can reach any more */
#define FLOOD 200

static struct broker broker;
static struct victim victim; /* of another uid */

static void start(void)
{
    broker_start(&broker, NULL);
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

/* ---- Descriptors -------------------------------------------------------------------------------- */

/* Sends a byte with so many of them. 0 or errno. */
static int send_fds(int socket, const int *fds, size_t count)
{
    char control[CMSG_SPACE(sizeof(int) * FDS_MAX)] __attribute__((aligned(8))) = {0};
    struct iovec byte = {(void *)(uintptr_t) "\x08", 1};
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    return outcome(sendmsg(socket, &message, MSG_NOSIGNAL));
}

/* A session, or only a connection. */
static struct wire *connect_worker(bool says_hello)
{
    struct wire *wire = wire_new(broker_socket(&broker));

    if (says_hello)
        wire_hello(wire);
    return wire;
}

static int pipe_end(int *read_end)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    *read_end = ends[0];
    return ends[1];
}

/* Nobody has the write end any more. */
static void assert_closed(int read_end)
{
    struct pollfd end = {.fd = read_end};

    ck_assert_msg(poll(&end, 1, PATIENCE_MS) == 1 && (end.revents & POLLHUP) != 0,
                  "a descriptor that was sent is still open somewhere");
    (void)close(read_end);
}

START_TEST(hundreds_of_descriptors_are_closed_and_end_the_session)
{
    static const size_t counts[] = {1, 4, 5, FDS_MAX};
    int fds[FDS_MAX];
    int read_end;

    tries("fds");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct wire *wire = connect_worker(_i == 1);
        int write_end = pipe_end(&read_end);

        for (size_t k = 0; k < counts[i]; k++)
            fds[k] = write_end;
        ck_assert_int_eq(send_fds(wire->socket, fds, counts[i]), 0);
        (void)close(write_end);
        wire_expect_goodbye(wire, STATUS_PROTOCOL, "descriptors that nobody asked for");
        assert_closed(read_end);
        wire = wire_free(wire);
    }
}
END_TEST

/* `fd` in flight in a socket that nobody reads; takes it over. */
static int wrap(int fd)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_works(send_fds(ends[0], &fd, 1) == 0 ? 0 : -1);
    (void)close(ends[0]);
    (void)close(fd);
    return ends[1];
}

START_TEST(sockets_that_hold_sockets_are_closed_with_all_that_is_in_them)
{
    tries("fds");
    for (int depth = 1; depth <= 4; depth++) { /* Linux lets nobody nest them deeper */
        struct wire *wire = connect_worker(_i == 1);
        int read_end;
        int fd = pipe_end(&read_end);

        for (int i = 0; i < depth; i++)
            fd = wrap(fd);
        ck_assert_int_eq(send_fds(wire->socket, &fd, 1), 0);
        (void)close(fd);
        wire_expect_goodbye(wire, STATUS_PROTOCOL, "descriptors that nobody asked for");
        assert_closed(read_end);
        wire = wire_free(wire);
    }
}
END_TEST

/* Two sockets in flight in one another, with the connection itself: only the kernel's collector finds them.
 */
START_TEST(sockets_that_hold_one_another_and_the_connection_are_closed)
{
    struct wire *wire = connect_worker(_i == 1);
    int read_end;
    int fds[4];
    int ends[2];

    tries("fds");
    fds[2] = pipe_end(&read_end);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    fds[0] = ends[0];
    fds[1] = ends[1];
    fds[3] = wire->socket;
    ck_assert_int_eq(send_fds(ends[0], fds, 4), 0);
    ck_assert_int_eq(send_fds(ends[1], fds, 4), 0);
    ck_assert_int_eq(send_fds(wire->socket, fds, 4), 0);
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "descriptors that nobody asked for");
    wire = wire_free(wire);
    assert_closed(read_end);
}
END_TEST

static void flood_with_descriptors(void)
{
    int fds[FDS_MAX];

    become(WORKER_UID);
    for (int i = 0; i < FDS_MAX; i++)
        fds[i] = STDERR_FILENO;
    for (int i = 0; i < FLOOD; i++) {
        struct wire *wire = connect_worker(i % 2 == 0);

        ck_assert_int_eq(send_fds(wire->socket, fds, FDS_MAX), 0);
        wire_expect_goodbye(wire, STATUS_PROTOCOL, "");
        wire = wire_free(wire);
    }
}

START_TEST(a_flood_of_descriptors_leaves_the_daemon_as_many_as_it_had)
{
    long before = broker_fds(&broker);
    int status = -1;
    pid_t pid;

    if (!are_we_root())
        skip("needs root, to count the daemon's descriptors");
    tries("fds");
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        flood_with_descriptors();
        _exit(EXIT_SUCCESS);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    victim_check(&victim); /* whoever came before has been seen to go */
    ck_assert_int_eq(broker_fds(&broker), before);
}
END_TEST

/* ---- Slowly ------------------------------------------------------------------------------------------ */

START_TEST(who_speaks_a_byte_at_a_time_is_ended_at_the_first)
{
    tries("slow");
    for (unsigned byte = 0; byte <= UINT8_MAX; byte++) {
        struct wire *wire = connect_worker(_i == 1);

        wire_send_bytes(wire, &(uint8_t){(uint8_t)byte}, 1);
        wire_expect_goodbye(wire, STATUS_MALFORMED, "");
        wire = wire_free(wire);
    }
}
END_TEST

/* ---- Somebody else than connected --------------------------------------------------------------------- */

static void start_for_one(void)
{
    broker_start(&broker, "[class default]\nuid=64902\n");
}

static void stop_for_one(void)
{
    broker_stop(&broker);
}

static void need_root(void)
{
    if (!are_we_root())
        skip("only root can be several users");
}

/* The daemon learns of a connection only when it goes on: it can't know better than the kernel does. */
static void hold_daemon(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
}

static int connect_as(uid_t uid)
{
    int socket;

    ck_assert_int_eq(seteuid(uid), 0);
    socket = broker_socket(&broker);
    ck_assert_int_eq(seteuid(0), 0);
    return socket;
}

/* Root lets the daemon go on; becoming another one comes after. */
static void let_daemon_go_on(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
}

/* Whoever we are: it is served, and charged to the worker, or refused for the other one's uid. */
static void expect_judgement(int socket, uid_t connected)
{
    struct wire *wire = wire_new(socket);

    if (connected == WORKER_UID) {
        unsigned started = broker_log_count(&broker, "session_started:");
        unsigned of_worker = broker_log_count(&broker, " uid=64902");

        wire_hello(wire);
        ck_assert_uint_eq(broker_log_count(&broker, "session_started:"), started + 1);
        ck_assert_uint_eq(broker_log_count(&broker, " uid=64902"), of_worker + 1);
        attack_met("served as the uid that connected");
    } else {
        wire_expect_goodbye(wire, STATUS_REFUSED, "uid 64903 is in no class");
    }
    wire = wire_free(wire);
}

static const uid_t uids[] = {WORKER_UID, OTHER_WORKER_UID};

/* _i: who connects. The other one speaks. */
START_TEST(a_uid_changed_after_connecting_changes_nothing)
{
    int socket;

    need_root();
    tries("identity-uid");
    hold_daemon();
    socket = connect_as(uids[_i]);
    let_daemon_go_on();
    become(uids[1 - _i]);
    expect_judgement(socket, uids[_i]);
}
END_TEST

/* In a process of that uid, which then ends; its number in *pid. */
static int connect_and_die(uid_t uid, pid_t *pid)
{
    struct record record;
    uint8_t byte;
    int channel[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    *pid = fork();
    ck_assert_int_ge(*pid, 0);
    if (*pid == 0) {
        int socket;

        become(uid);
        socket = broker_socket(&broker);
        _exit(record_send(channel[1], true, "x", 1, &socket, 1));
    }
    ck_assert_int_eq(record_recv(channel[0], true, &byte, 1, 1, &record), RECORD_WHOLE);
    ck_assert_int_eq(waitpid(*pid, NULL, 0), *pid);
    (void)close(channel[0]);
    (void)close(channel[1]);
    return record.fds[0];
}

START_TEST(a_connection_passed_on_stays_that_of_who_made_it)
{
    pid_t pid;
    int socket;

    need_root();
    tries("identity-passed");
    hold_daemon();
    socket = connect_and_die(uids[_i], &pid);
    let_daemon_go_on();
    become(uids[1 - _i]);
    expect_judgement(socket, uids[_i]);
}
END_TEST

/* A child with that number, where the kernel lets us choose. */
static pid_t fork_as(pid_t pid)
{
    struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};

    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

START_TEST(a_dead_process_s_number_taken_by_another_changes_nothing)
{
    int status = -1;
    pid_t again;
    pid_t pid;
    int socket;

    need_root();
    tries("identity-pid");
    hold_daemon();
    socket = connect_and_die(uids[_i], &pid);
    (void)fflush(NULL);
    again = fork_as(pid);
    if (again < 0) {
        let_daemon_go_on();
        skip("this kernel lets nobody choose a process's number");
    }
    if (again == 0) {
        let_daemon_go_on();
        become(uids[1 - _i]);
        expect_judgement(socket, uids[_i]);
        _exit(EXIT_SUCCESS);
    }
    ck_assert_int_eq(again, pid);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peer");
    TCase *tcase = tcase_create("what he sends");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_checked_fixture(tcase, become_worker, check_victim);
    tcase_set_timeout(tcase, 0);
    /* 0: before Hello, 1: after. */
    tcase_add_loop_test(tcase, hundreds_of_descriptors_are_closed_and_end_the_session, 0, 2);
    tcase_add_loop_test(tcase, sockets_that_hold_sockets_are_closed_with_all_that_is_in_them, 0, 2);
    tcase_add_loop_test(tcase, sockets_that_hold_one_another_and_the_connection_are_closed, 0, 2);
    tcase_add_loop_test(tcase, who_speaks_a_byte_at_a_time_is_ended_at_the_first, 0, 2);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("how much");
    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, a_flood_of_descriptors_leaves_the_daemon_as_many_as_it_had);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("who he is");
    tcase_add_unchecked_fixture(tcase, start_for_one, stop_for_one);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, a_uid_changed_after_connecting_changes_nothing, 0, 2);
    tcase_add_loop_test(tcase, a_connection_passed_on_stays_that_of_who_made_it, 0, 2);
    tcase_add_loop_test(tcase, a_dead_process_s_number_taken_by_another_changes_nothing, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
