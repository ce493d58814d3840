/* SPDX-License-Identifier: MIT */
#include "tests/attacks/victim.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/code.h"

enum { SPANS = 64, SPAN_BYTES = 1000, VALUE = 0x1000 };

/* Runs in the victim, where a failed check has nobody to tell but stderr. */
#define must(condition)                                                                  \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            (void)fprintf(stderr, "victim: line %d: not %s: %s\n", __LINE__, #condition, \
                          jitc_error_detail());                                          \
            _exit(EXIT_FAILURE);                                                         \
        }                                                                                \
    } while (0)

static void make_content(unsigned index, uint8_t *bytes)
{
    for (unsigned i = 0; i < SPAN_BYTES; i++)
        bytes[i] = (uint8_t)(index * 7 + i);
    code_return(bytes, VALUE + index);
}

static void check_spans(jitc_client *client, const jitc_span *spans)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    uint8_t bytes[SPAN_BYTES];

    for (unsigned i = 0; i < SPANS; i++) {
        make_content(i, bytes);
        must(memcmp(spans[i].rx, bytes, sizeof bytes) == 0);
        must(code_call(spans[i].rx) == VALUE + i);
    }
    must(jitc_statistics(client, &stats) == JITC_OK);
    must(stats.allocation_count == SPANS && stats.used_bytes == SPANS * 1024);
}

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void work_once(jitc_client *client, uint32_t value)
{
    uint8_t bytes[SPAN_BYTES];
    jitc_span span;

    make_content(value, bytes);
    must(jitc_alloc(client, &span, SPAN_BYTES) == JITC_OK);
    must(jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT) == JITC_OK);
    must(memcmp(span.rx, bytes, sizeof bytes) == 0);
    must(code_call(span.rx) == VALUE + value);
    must(jitc_release(client, span.rx) == JITC_OK);
}

/* Until it is told to stop. */
static void work(jitc_client *client, int channel, struct victim_secret *secret)
{
    uint64_t began_us = now_us();
    char command;

    secret->rounds = 0;
    secret->longest_us = 0;
    while (recv(channel, &command, 1, MSG_DONTWAIT) != 1) {
        uint64_t from_us = now_us();
        uint64_t took_us;

        work_once(client, (uint32_t)secret->rounds);
        took_us = now_us() - from_us;
        __atomic_store_n(&secret->rounds, secret->rounds + 1, __ATOMIC_RELAXED); /* others look on */
        if (took_us > secret->longest_us)
            secret->longest_us = took_us;
    }
    secret->mean_us = (now_us() - began_us) / (secret->rounds + 1);
    must(jitc_flush(client) == JITC_OK);
}

static void be_victim(const struct broker *broker, int channel, struct victim_secret *secret)
{
    const jitc_options options = broker_options(broker);
    jitc_info info = {.struct_size = sizeof info};
    jitc_span spans[SPANS];
    jitc_client *client;
    uint8_t bytes[SPAN_BYTES];
    char command = 0;

    secret->socket = broker_socket(broker);
    must(jitc_adopt(&client, secret->socket, &options) == JITC_OK);
    must(jitc_describe(client, &info) == JITC_OK);
    for (unsigned i = 0; i < SPANS; i++) {
        make_content(i, bytes);
        must(jitc_alloc(client, &spans[i], SPAN_BYTES) == JITC_OK);
        must(jitc_write(client, &spans[i], 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT) == JITC_OK);
    }
    secret->base = info.base;
    secret->rx = spans[0].rx;
    secret->offset = (uint64_t)((const uint8_t *)spans[0].rx - secret->base);
    do {
        if (command == 'w')
            work(client, channel, secret);
        check_spans(client, spans);
        must(write(channel, &command, 1) == 1);
    } while (read(channel, &command, 1) == 1);
    (void)jitc_close(client);
    _exit(EXIT_SUCCESS);
}

/* Its word that all is well. */
static void hear(const struct victim *victim)
{
    char answer;

    ck_assert_msg(read(victim->channel, &answer, 1) == 1, "the victim noticed: see its line above");
}

void victim_start(struct victim *victim, const struct broker *broker, uid_t uid)
{
    int channel[2];
    struct victim_secret *secret =
        mmap(NULL, sizeof *secret, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(secret, MAP_FAILED);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
    (void)fflush(NULL);
    victim->pid = fork();
    ck_assert_int_ge(victim->pid, 0);
    if (victim->pid == 0) {
        (void)close(channel[0]);
        become(uid);
        be_victim(broker, channel[1], secret);
    }
    (void)close(channel[1]);
    victim->channel = channel[0];
    victim->secret = secret;
    hear(victim);
}

void victim_check(const struct victim *victim)
{
    ck_assert_int_eq(send(victim->channel, "c", 1, MSG_NOSIGNAL), 1);
    hear(victim);
}

void victim_work(const struct victim *victim)
{
    ck_assert_int_eq(send(victim->channel, "w", 1, MSG_NOSIGNAL), 1);
}

uint64_t victim_rest(const struct victim *victim, const char *meanwhile)
{
    ck_assert_int_eq(send(victim->channel, "r", 1, MSG_NOSIGNAL), 1);
    hear(victim);
    (void)printf("%s: another one's round took %" PRIu64 " us, the longest of %" PRIu64 " %" PRIu64 " us\n",
                 meanwhile, victim->secret->mean_us, victim->secret->rounds, victim->secret->longest_us);
    return victim->secret->rounds;
}

void victim_stop(struct victim *victim)
{
    int status = 0;

    if (victim->pid == 0)
        return;
    victim_check(victim);
    ck_assert_int_eq(shutdown(victim->channel, SHUT_RDWR), 0);
    ck_assert_int_eq(waitpid(victim->pid, &status, 0), victim->pid);
    ck_assert_int_eq(status, 0);
    (void)close(victim->channel);
    (void)munmap((void *)(uintptr_t)victim->secret, sizeof *victim->secret);
    victim->pid = 0;
}
