/* SPDX-License-Identifier: MIT */
#include "tests/attacks/victim.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
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
