/* SPDX-License-Identifier: MIT */
/* A daemon that is stopped by a signal, so that it is away, and a client of it that looks what it has. */
#ifndef TESTS_INTEGRATION_COMEBACK_STEPS_H
#define TESTS_INTEGRATION_COMEBACK_STEPS_H

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/fixture.h"
#include "tests/harness/suite.h"

enum {
    TIMEOUT_MS = 50,
    PATIENT_MS = 60000,
    SMALL_BYTES = 100,
    LARGE_BYTES = 200000, /* no block has room for it */
};

static jitc_client *client;

static inline bool has_ring(void)
{
    return client->plane.memory != NULL;
}

/* How long calls wait: little only while the daemon is away, since it may be slow when it is not. */
static inline void wait_at_most(uint32_t ms)
{
    const struct timeval timeout = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

    client->timeout_ms = ms;
    ck_assert_int_eq(setsockopt(client->socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
}

static inline void connect_with(uint32_t flags)
{
    jitc_options options = broker_options(&broker);

    options.flags = flags;
    options.timeout_ms = PATIENT_MS;
    client = broker_connect(&broker, &options);
}

static inline void close_client(void)
{
    client = jitc_close(client);
}

static inline char state_of(pid_t pid)
{
    char path[32];
    char line[256];
    FILE *file;
    char *end;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    (void)fclose(file);
    end = strrchr(line, ')');
    ck_assert_ptr_nonnull(end);
    return end[2];
}

static inline void stop_daemon(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGSTOP), 0);
    while (state_of(broker.pid) != 'T')
        (void)usleep(1000);
}

static inline void continue_daemon(void)
{
    ck_assert_int_eq(kill(broker.pid, SIGCONT), 0);
}

static inline void send_away(void)
{
    stop_daemon();
    wait_at_most(TIMEOUT_MS);
}

static inline void call_back(void)
{
    wait_at_most(PATIENT_MS);
    continue_daemon();
}

#define assert_late(call) assert_status(JITC_E_TIMEOUT, "no answer within", call)

static inline jitc_span publish(size_t size, uint32_t value)
{
    jitc_span span;
    uint8_t code[CODE_RETURN_BYTES];

    assert_status(JITC_OK, "", jitc_alloc(client, &span, size));
    code_return(code, value);
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return span;
}

static inline jitc_stats statistics(void)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    assert_status(JITC_OK, "", jitc_statistics(client, &stats));
    return stats;
}

/* After all was waited for. */
static inline void assert_spans(uint64_t count)
{
    assert_status(JITC_OK, "", jitc_flush(client));
    ck_assert_uint_eq(statistics().allocation_count, count);
    if (has_ring())
        ck_assert_int_eq((int64_t)client->lessee.heap.spans + client->lessee.foreign, (int64_t)count);
}

static inline int write_return(jitc_span *span, void *user)
{
    code_return(span->rw, *(const uint32_t *)user);
    return 0;
}

/* Tests with a daemon that each of them gets back as it was. */
static inline TCase *add_case(Suite *suite, const char *name, void (*starter)(void), void (*stopper)(void))
{
    TCase *tcase = tcase_create(name);

    tcase_add_unchecked_fixture(tcase, starter, stopper);
    tcase_add_checked_fixture(tcase, continue_daemon, NULL); /* after a test that failed */
    tcase_set_timeout(tcase, 0);
    suite_add_tcase(suite, tcase);
    return tcase;
}

#endif
