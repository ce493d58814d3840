/* SPDX-License-Identifier: MIT */
/* Records over a socketpair: what arrives is whole, and no descriptor comes that nobody asked for. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/record.h"
#include "tests/harness/suite.h"

#define SCM_RIGHTS_MAX 253u /* the kernel's */
#define PIECES 4

static int near;
static int far;
static int pieces[PIECES]; /* four different files to send */
static uint8_t in[RECORD_MAX_BYTES];

static void open_sockets(void)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    near = ends[0];
    far = ends[1];
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = memfd_create("piece", MFD_CLOEXEC);
        ck_assert_int_ge(pieces[i], 0);
    }
}

static unsigned open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

/* As record_send(), for a peer that keeps to no rule. */
static void send_rights(const void *data, size_t bytes, int fd, unsigned count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * SCM_RIGHTS_MAX)];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(sizeof(int) * count),
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    ck_assert_int_eq(sendmsg(far, &message, 0), (ssize_t)bytes);
}

static bool same_file(int one, int other)
{
    struct stat a;
    struct stat b;

    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Bytes --------------------------------------------------------------------------- */

START_TEST(records_arrive_one_by_one_and_whole)
{
    struct record record;

    ck_assert_int_eq(record_send(far, false, "one", 3, NULL, 0), 0);
    ck_assert_int_eq(record_send(far, true, "", 1, NULL, 0), 0);
    ck_assert_int_eq(record_send(far, true, "three", 5, NULL, 0), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.bytes, 3);
    ck_assert_uint_eq(record.fds_count, 0);
    ck_assert_mem_eq(in, "one", 3);
    ck_assert_int_eq(record_recv(near, true, in, sizeof in, 4, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.bytes, 1);
    ck_assert_uint_eq(record.fds_count, 0);
    ck_assert_int_eq(record_recv(near, true, in, 5, 0, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.bytes, 5);
    ck_assert_mem_eq(in, "three", 5);
}
END_TEST

START_TEST(the_largest_record_fits_a_socket_as_it_is)
{
    static uint8_t out[RECORD_MAX_BYTES];
    struct record record;

    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7 + i / 256);
    ck_assert_int_eq(record_send(far, false, out, sizeof out, pieces, PIECES), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, PIECES, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.bytes, sizeof out);
    ck_assert_mem_eq(in, out, sizeof out);
    ck_assert_uint_eq(record.fds_count, PIECES);
}
END_TEST

START_TEST(a_record_longer_than_the_buffer_is_oversized_and_the_next_is_not)
{
    struct record record;

    ck_assert_int_eq(record_send(far, false, "0123456789abcdef", 16, NULL, 0), 0);
    ck_assert_int_eq(record_send(far, false, "0123456789abcdefg", 17, NULL, 0), 0);
    ck_assert_int_eq(record_send(far, false, "next", 4, NULL, 0), 0);
    ck_assert_int_eq(record_recv(near, false, in, 16, 0, &record), RECORD_WHOLE);
    ck_assert_int_eq(record_recv(near, false, in, 16, 0, &record), RECORD_E_OVERSIZED);
    ck_assert_int_eq(record_recv(near, false, in, 16, 0, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.bytes, 4);
    ck_assert_mem_eq(in, "next", 4);
}
END_TEST

START_TEST(what_no_socket_buffer_holds_is_an_error_of_the_sender)
{
    size_t bytes = 64u << 20;
    uint8_t *large = calloc(1, bytes);
    struct record record;

    ck_assert_int_eq(record_send(far, false, large, bytes, NULL, 0), -EMSGSIZE);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), -EAGAIN);
    free(large);
}
END_TEST

/* ---- Descriptors --------------------------------------------------------------------- */

START_TEST(descriptors_come_in_order_and_close_on_exec)
{
    struct record record;
    unsigned before = open_fds();

    for (unsigned count = 1; count <= PIECES; count++) {
        ck_assert_int_eq(record_send(far, false, "x", 1, pieces, count), 0);
        ck_assert_int_eq(record_recv(near, false, in, sizeof in, count, &record), RECORD_WHOLE);
        ck_assert_uint_eq(record.fds_count, count);
        for (unsigned i = 0; i < count; i++) {
            ck_assert(same_file(record.fds[i], pieces[i]));
            ck_assert_int_ne(record.fds[i], pieces[i]);
            ck_assert_int_eq(fcntl(record.fds[i], F_GETFD), FD_CLOEXEC);
            ck_assert_int_eq(close(record.fds[i]), 0);
        }
    }
    ck_assert_uint_eq(open_fds(), before); /* the sender's are still its own */
}
END_TEST

START_TEST(fewer_descriptors_than_asked_for_are_no_flaw)
{
    struct record record;

    ck_assert_int_eq(record_send(far, false, "x", 1, pieces, 1), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, PIECES, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.fds_count, 1);
    ck_assert(same_file(record.fds[0], pieces[0]));
}
END_TEST

START_TEST(who_asks_for_no_descriptor_gets_none)
{
    const unsigned counts[] = {1, 2, 4, 5, SCM_RIGHTS_MAX};
    struct record record;
    unsigned before = open_fds();

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        send_rights("x", 1, pieces[0], counts[i]);
        ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_E_FDS);
        ck_assert_uint_eq(record.fds_count, 0);
        ck_assert_uint_eq(open_fds(), before);
    }
    /* And the connection is still good. */
    ck_assert_int_eq(record_send(far, false, "y", 1, NULL, 0), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_WHOLE);
}
END_TEST

START_TEST(one_descriptor_too_many_closes_all)
{
    struct record record;
    unsigned before = open_fds();

    for (unsigned asked = 1; asked <= RECORD_FDS_MAX; asked++) {
        send_rights("x", 1, pieces[0], asked);
        ck_assert_int_eq(record_recv(near, false, in, sizeof in, asked, &record), RECORD_WHOLE);
        while (record.fds_count > 0)
            ck_assert_int_eq(close(record.fds[--record.fds_count]), 0);
        send_rights("x", 1, pieces[0], asked + 1);
        ck_assert_int_eq(record_recv(near, false, in, sizeof in, asked, &record), RECORD_E_FDS);
        ck_assert_uint_eq(record.fds_count, 0);
        ck_assert_uint_eq(open_fds(), before);
        send_rights("x", 1, pieces[0], SCM_RIGHTS_MAX);
        ck_assert_int_eq(record_recv(near, false, in, sizeof in, asked, &record), RECORD_E_FDS);
        ck_assert_uint_eq(record.fds_count, 0);
        ck_assert_uint_eq(open_fds(), before);
    }
}
END_TEST

START_TEST(no_descriptor_outlives_a_flaw)
{
    struct record record;
    unsigned before = open_fds();

    send_rights("0123456789", 10, pieces[0], 2);
    ck_assert_int_eq(record_recv(near, false, in, 9, 2, &record), RECORD_E_OVERSIZED);
    ck_assert_uint_eq(record.fds_count, 0);
    ck_assert_uint_eq(open_fds(), before);
    send_rights("", 0, pieces[0], 2);
    ck_assert_int_eq(record_recv(near, false, in, 9, 2, &record), RECORD_E_END);
    ck_assert_uint_eq(record.fds_count, 0);
    ck_assert_uint_eq(open_fds(), before);
}
END_TEST

START_TEST(a_process_without_room_for_descriptors_says_so)
{
    struct rlimit limit;
    struct record record;
    unsigned before = open_fds();

    if (getenv("JITBROKER_TEST_BY_TOOL") != NULL) {
        (void)printf("skipped: the tool that runs this keeps the limit of descriptors to itself\n");
        return;
    }
    send_rights("x", 1, pieces[0], 2);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)dup(near) + 1; /* one free place after this */
    ck_assert_int_eq(close((int)limit.rlim_cur - 1), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 2, &record), RECORD_E_NO_FDS);
    ck_assert_uint_eq(record.fds_count, 0);
    ck_assert_uint_eq(open_fds(), before);
}
END_TEST

START_TEST(descriptors_that_nobody_receives_do_not_stay)
{
    int pipe_ends[2];
    char byte;

    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
    send_rights("x", 1, pipe_ends[1], 1);
    ck_assert_int_eq(close(pipe_ends[1]), 0);
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), -1); /* in flight, so the pipe has a writer */
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &(struct record){0}), RECORD_E_FDS);
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 0);
}
END_TEST

/* ---- Ends and waits ------------------------------------------------------------------ */

START_TEST(a_closed_peer_is_the_end)
{
    struct record record;

    ck_assert_int_eq(record_send(far, false, "last", 4, NULL, 0), 0);
    ck_assert_int_eq(close(far), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_WHOLE);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_E_END);
    ck_assert_int_eq(record_recv(near, true, in, sizeof in, 4, &record), RECORD_E_END);
}
END_TEST

START_TEST(a_record_of_no_bytes_is_the_end)
{
    struct record record;

    ck_assert_int_eq(send(far, "", 0, 0), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_E_END);
    ck_assert_uint_eq(record.bytes, 0);
}
END_TEST

START_TEST(a_peer_that_left_without_reading_is_an_error)
{
    struct record record;

    ck_assert_int_eq(record_send(near, false, "unread", 6, NULL, 0), 0);
    ck_assert_int_eq(close(far), 0);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), -ECONNRESET);
}
END_TEST

START_TEST(sending_to_nobody_is_an_error_and_no_signal)
{
    ck_assert_ptr_eq(signal(SIGPIPE, SIG_DFL), SIG_DFL); /* it would end this test */
    ck_assert_int_eq(close(far), 0);
    ck_assert_int_eq(record_send(near, false, "x", 1, NULL, 0), -EPIPE);
    ck_assert_int_eq(record_send(near, true, "x", 1, pieces, 1), -EPIPE);
}
END_TEST

START_TEST(nothing_there_is_told_at_once_without_wait)
{
    struct record record;

    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), -EAGAIN);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 4, &record), -EAGAIN);
    ck_assert_uint_eq(record.fds_count, 0);
}
END_TEST

START_TEST(a_wait_ends_with_the_sockets_timeout)
{
    const struct timeval timeout = {.tv_usec = 100000};
    struct record record;
    int64_t start = now_ms();

    ck_assert_int_eq(setsockopt(near, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
    ck_assert_int_eq(record_recv(near, true, in, sizeof in, 0, &record), -EAGAIN);
    ck_assert_int_ge(now_ms() - start, 90);
    start = now_ms();
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), -EAGAIN);
    ck_assert_int_lt(now_ms() - start, 90);
}
END_TEST

START_TEST(a_full_socket_is_told_and_takes_more_once_it_is_read)
{
    const struct timeval timeout = {.tv_usec = 100000};
    struct record record;
    unsigned sent = 0;
    int64_t start;

    while (record_send(far, false, in, 4096, NULL, 0) == 0)
        sent++;
    ck_assert_uint_gt(sent, 0);
    ck_assert_int_eq(record_send(far, false, in, 4096, NULL, 0), -EAGAIN);
    ck_assert_int_eq(setsockopt(far, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout), 0);
    start = now_ms();
    ck_assert_int_eq(record_send(far, true, in, 4096, NULL, 0), -EAGAIN);
    ck_assert_int_ge(now_ms() - start, 90);
    for (; sent > 0; sent--)
        ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_WHOLE);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), -EAGAIN);
    ck_assert_int_eq(record_send(far, false, in, 4096, NULL, 0), 0);
}
END_TEST

static void on_alarm(int signal)
{
    (void)signal;
}

START_TEST(a_signal_ends_a_wait)
{
    const struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    const struct itimerval timer = {.it_value = {.tv_usec = 50000}};
    struct record record;

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &timer, NULL), 0);
    ck_assert_int_eq(record_recv(near, true, in, sizeof in, 0, &record), -EINTR);
}
END_TEST

START_TEST(what_is_no_socket_is_an_error)
{
    struct record record;

    ck_assert_int_eq(record_recv(-1, false, in, sizeof in, 0, &record), -EBADF);
    ck_assert_int_eq(record_recv(pieces[0], false, in, sizeof in, 0, &record), -ENOTSOCK);
    ck_assert_int_eq(record_send(-1, false, in, 1, NULL, 0), -EBADF);
    ck_assert_int_eq(record_send(far, false, in, 1, (const int[]){-1}, 1), -EBADF);
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), -EAGAIN);
}
END_TEST

START_TEST(what_was_sent_is_unread_until_all_of_it_was_received)
{
    struct record record;

    ck_assert(!record_is_unread(far));
    ck_assert_int_eq(record_send(far, false, "a", 1, NULL, 0), 0);
    ck_assert_int_eq(record_send(far, false, "b", 1, pieces, 1), 0);
    ck_assert(record_is_unread(far) && !record_is_unread(near));
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_WHOLE);
    ck_assert(record_is_unread(far));
    ck_assert_int_eq(record_recv(near, false, in, sizeof in, 0, &record), RECORD_E_FDS);
    ck_assert(!record_is_unread(far));
    ck_assert(!record_is_unread(-1));
}
END_TEST

START_TEST(what_is_dropped_was_all_and_closes_a_socket_that_was_in_it)
{
    struct record record;

    ck_assert_int_eq(record_send(near, false, "unread", 6, NULL, 0), 0);
    ck_assert_int_eq(record_send(far, false, "a", 1, NULL, 0), 0);
    ck_assert_int_eq(send(far, "", 0, 0), 0); /* looks like the end */
    ck_assert_int_eq(record_send(far, false, in, 1000, NULL, 0), 0);
    send_rights("", 0, far, 3);
    send_rights("x", 1, far, 1);
    (void)close(far);
    ck_assert(record_is_unread(near)); /* far is in what lies at near */
    (void)shutdown(near, SHUT_RDWR);
    record_drop(near);
    ck_assert(!record_is_unread(near));
    /* Nothing there, and nobody: both are fine. */
    record_drop(near);
    open_sockets();
    record_drop(near);
    ck_assert_int_eq(record_send(far, false, "b", 1, NULL, 0), 0);
    ck_assert_int_eq(record_recv(near, false, in, 1, 0, &record),
                     RECORD_E_FDS); /* it asks for credentials now */
    record_drop(-1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record");
    TCase *all = tcase_create("socketpair");

    tcase_add_checked_fixture(all, open_sockets, NULL);
    tcase_add_test(all, records_arrive_one_by_one_and_whole);
    tcase_add_test(all, the_largest_record_fits_a_socket_as_it_is);
    tcase_add_test(all, a_record_longer_than_the_buffer_is_oversized_and_the_next_is_not);
    tcase_add_test(all, what_no_socket_buffer_holds_is_an_error_of_the_sender);
    tcase_add_test(all, descriptors_come_in_order_and_close_on_exec);
    tcase_add_test(all, fewer_descriptors_than_asked_for_are_no_flaw);
    tcase_add_test(all, who_asks_for_no_descriptor_gets_none);
    tcase_add_test(all, one_descriptor_too_many_closes_all);
    tcase_add_test(all, no_descriptor_outlives_a_flaw);
    tcase_add_test(all, a_process_without_room_for_descriptors_says_so);
    tcase_add_test(all, descriptors_that_nobody_receives_do_not_stay);
    tcase_add_test(all, a_closed_peer_is_the_end);
    tcase_add_test(all, a_record_of_no_bytes_is_the_end);
    tcase_add_test(all, a_peer_that_left_without_reading_is_an_error);
    tcase_add_test(all, sending_to_nobody_is_an_error_and_no_signal);
    tcase_add_test(all, nothing_there_is_told_at_once_without_wait);
    tcase_add_test(all, a_wait_ends_with_the_sockets_timeout);
    tcase_add_test(all, a_full_socket_is_told_and_takes_more_once_it_is_read);
    tcase_add_test(all, a_signal_ends_a_wait);
    tcase_add_test(all, what_is_no_socket_is_an_error);
    tcase_add_test(all, what_was_sent_is_unread_until_all_of_it_was_received);
    tcase_add_test(all, what_is_dropped_was_all_and_closes_a_socket_that_was_in_it);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
