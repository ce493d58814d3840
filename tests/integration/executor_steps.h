/* SPDX-License-Identifier: MIT */
/*
 * The two sides of a session with executors. As root the owner, its executors and the daemon are different
 * users.
 */
#ifndef TESTS_INTEGRATION_EXECUTOR_STEPS_H
#define TESTS_INTEGRATION_EXECUTOR_STEPS_H

#include <check.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "proto/record.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

static struct broker broker;

static inline void start_default(void)
{
    broker_start(&broker, NULL);
}

static inline void stop(void)
{
    broker_stop(&broker);
}

/* ---- Both sides --------------------------------------------------------------------------- */

static inline const uint8_t *base_of(jitc_client *client)
{
    jitc_info info = {.struct_size = sizeof info};

    assert_status(JITC_OK, "", jitc_describe(client, &info));
    return info.base;
}

static inline uint64_t offset_of(jitc_client *owner, const jitc_span *span)
{
    return (uint64_t)((const uint8_t *)span->rx - base_of(owner));
}

/* A span that returns `value`. */
static inline jitc_span make_code(jitc_client *owner, uint32_t value)
{
    uint8_t code[CODE_RETURN_BYTES];
    jitc_span span;

    code_return(code, value);
    assert_status(JITC_OK, "", jitc_alloc(owner, &span, sizeof code));
    assert_status(JITC_OK, "", jitc_write(owner, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return span;
}

static inline int open_end(jitc_client *owner)
{
    int fd = -1;

    assert_status(JITC_OK, "", jitc_open_executor(owner, &fd));
    ck_assert_int_ge(fd, 0);
    return fd;
}

static inline jitc_client *attach(int fd)
{
    jitc_client *executor = NULL;

    assert_status(JITC_OK, "", jitc_attach(&executor, fd));
    return executor;
}

/* A process of another user, which has the end only. It says where it has got to by `channel`. */
struct other {
    pid_t pid;
    int channel;
};

/* In the other process. */
static inline uint64_t hear(int channel)
{
    uint64_t word = 0;

    if (read(channel, &word, sizeof word) != sizeof word)
        _exit(EXIT_FAILURE);
    return word;
}

static inline void say(int channel, uint64_t word)
{
    ck_assert_int_eq(send(channel, &word, sizeof word, MSG_NOSIGNAL), sizeof word);
}

static inline uint64_t hear_other(const struct other *other)
{
    uint64_t word = 0;

    ck_assert_int_eq(read(other->channel, &word, sizeof word), sizeof word);
    return word;
}

/*
 * Starts it before there is anything to inherit. It attaches to the end that it is sent, and runs
 * `work` with it.
 */
static inline struct other start_other(void (*work)(jitc_client *executor, int channel))
{
    struct other other;
    struct record record;
    int channel[2];
    char byte;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    other.channel = channel[0];
    other.pid = check_fork();
    if (other.pid != 0) {
        (void)close(channel[1]);
        return other;
    }
    (void)close(channel[0]);
    become(OTHER_WORKER_UID);
    if (record_recv(channel[1], true, &byte, 1, 1, &record) != RECORD_WHOLE || record.fds_count != 1)
        exit(EXIT_FAILURE);
    work(attach(record.fds[0]), channel[1]);
    exit(EXIT_SUCCESS);
}

/* Passes the end on, and keeps no copy. */
static inline void pass(const struct other *other, int fd)
{
    ck_assert_int_eq(record_send(other->channel, true, "", 1, &fd, 1), 0);
    (void)close(fd);
}

static inline void wait_for(const struct other *other)
{
    int status = -1;

    ck_assert_int_eq(waitpid(other->pid, &status, 0), other->pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process ended with status %x",
                  (unsigned)status);
    (void)close(other->channel);
}

/* A daemon for each, whose log tells of that test alone. */
static inline void add_case(Suite *suite, const char *name, void (*start)(void), const TTest *const *tests)
{
    for (; *tests != NULL; tests++) {
        TCase *tcase = tcase_create(name);

        tcase_add_unchecked_fixture(tcase, start, stop);
        tcase_set_timeout(tcase, 0);
        tcase_add_test(tcase, *tests);
        suite_add_tcase(suite, tcase);
    }
}

#define ADD_CASE(suite, name, start, ...) \
    add_case(suite, name, start, (const TTest *const[]){__VA_ARGS__, NULL})

#endif
