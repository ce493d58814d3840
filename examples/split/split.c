/* SPDX-License-Identifier: MIT */
/*
 * A compiler and its workers, in processes of their own. The compiler owns the session; a worker
 * gets an executor's end, locks itself down, and has the compiler translate what it wants to run. What the
 * compiler wrote is there for all of them, once; and none of them can write.
 *
 * The workers are started before there is a connection, so that they inherit none.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expression.h"
#include "jitclient.h"

enum { WORKERS = 4, EXPRESSIONS_MAX = 64, TEXT_MAX = 1024, CODE_MAX = 16384 };

/* What a worker has found out when it is done. */
struct report {
    uint64_t mapped_kib; /* of the arena, what it has in memory ... */
    uint64_t share_kib; /* ... and what of that is its own, shared memory being divided by all who share it */
    int alloc;          /* statuses of its attempts to write */
    int write;
    int protect; /* errno */
    int32_t missing;
};

static void fail(const char *what)
{
    (void)fprintf(stderr, "split: %s\n", what);
    exit(EXIT_FAILURE);
}

static void check(int status)
{
    if (status != JITC_OK)
        fail(jitc_error_detail());
}

/* ---- The worker ------------------------------------------------------------------------- */

static int receive_fd(int channel)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    int fd;

    if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == NULL)
        exit(EXIT_FAILURE); /* the compiler has said why */
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static uint64_t smaps_kib(const void *address, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    bool is_it = false;
    uint64_t from, to;
    uint64_t kib = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            is_it = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (is_it && strncmp(line, name, strlen(name)) == 0)
            kib = strtoull(line + strlen(name), NULL, 10);
    }
    if (file != NULL)
        (void)fclose(file);
    return kib;
}

static struct report make_report(jitc_client *client, const void *base, const void *code)
{
    struct report report = {.mapped_kib = smaps_kib(base, "Rss:"), .share_kib = smaps_kib(base, "Pss:")};
    jitc_span span;

    report.alloc = jitc_alloc(client, &span, 64);
    check(jitc_query(client, &span, code));
    report.write = jitc_write(client, &span, 0, "x", 1, JITC_WRITE_DEFAULT);
    errno = 0;
    (void)mprotect((void *)(uintptr_t)base, 4096, PROT_READ | PROT_WRITE);
    report.protect = errno;
    return report;
}

static void work(int channel, int64_t number, const char *const *texts, int count)
{
    jitc_client *client;
    jitc_info info = {.struct_size = sizeof info};
    const uint8_t *code = NULL;
    struct report report;
    uint32_t missing;
    char byte;

    check(jitc_attach(&client, receive_fd(channel)));
    check(jitc_describe(client, &info));
    missing = jitc_lockdown(0);
    for (int i = 0; i < count; i++) {
        expression_function function;
        uint64_t offset = 0;

        if (send(channel, texts[i], strlen(texts[i]) + 1, MSG_NOSIGNAL) < 0 ||
            recv(channel, &offset, sizeof offset, 0) != sizeof offset)
            exit(EXIT_FAILURE);
        if (offset == 0) {
            (void)printf("worker %" PRId64 ": %s is no expression\n", number, texts[i]);
            continue;
        }
        code = (const uint8_t *)info.base + offset;
        memcpy(&function, &code, sizeof function);
        (void)printf("worker %" PRId64 ": %s = %" PRId64 "\n", number, texts[i], function(number));
    }
    (void)fflush(stdout);
    /* Of no bytes: all is done. It is answered when the others are as far. */
    (void)send(channel, "", 0, MSG_NOSIGNAL);
    if (code == NULL || recv(channel, &byte, 1, 0) != 1)
        exit(EXIT_FAILURE);
    report = make_report(client, info.base, code);
    report.missing = (int32_t)missing;
    (void)send(channel, &report, sizeof report, MSG_NOSIGNAL);
    (void)recv(channel, &byte, 1, 0); /* the others' shares are not to change meanwhile */
    (void)jitc_close(client);
    exit(EXIT_SUCCESS);
}

/* ---- The compiler ------------------------------------------------------------------------- */

/* What was compiled, once for all who ask. */
static struct known {
    char text[TEXT_MAX];
    uint64_t offset; /* from the arena's start; 0: it is no expression */
} known[EXPRESSIONS_MAX];
static int known_count;

static uint64_t compile(jitc_client *client, const char *text)
{
    jitc_info info = {.struct_size = sizeof info};
    uint8_t code[CODE_MAX];
    size_t size = expression_compile(text, code, sizeof code);
    jitc_span span;

    if (size == 0)
        return 0;
    check(jitc_describe(client, &info));
    check(jitc_alloc(client, &span, size));
    check(jitc_write(client, &span, 0, code, size, JITC_WRITE_DEFAULT));
    return (uint64_t)((const uint8_t *)span.rx - (const uint8_t *)info.base);
}

static uint64_t find(jitc_client *client, const char *text)
{
    for (int i = 0; i < known_count; i++) {
        if (strcmp(known[i].text, text) == 0)
            return known[i].offset;
    }
    if (known_count == EXPRESSIONS_MAX)
        return 0;
    (void)snprintf(known[known_count].text, TEXT_MAX, "%s", text);
    known[known_count].offset = compile(client, text);
    return known[known_count++].offset;
}

/* Answers one request; true if the worker is done. */
static bool serve(jitc_client *client, int channel)
{
    char text[TEXT_MAX];
    ssize_t length = recv(channel, text, sizeof text, MSG_TRUNC);
    uint64_t offset = 0; /* too long is no expression, too */

    if (length <= 0)
        return true;
    if ((size_t)length <= sizeof text && text[length - 1] == '\0')
        offset = find(client, text);
    (void)send(channel, &offset, sizeof offset, MSG_NOSIGNAL);
    return false;
}

static void send_end(jitc_client *client, int channel)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec data = {(char[]){0}, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    int fd;

    check(jitc_open_executor(client, &fd));
    *rights =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    if (sendmsg(channel, &message, MSG_NOSIGNAL) != 1)
        fail("a worker is gone");
    (void)close(fd);
}

/* Until all are done. */
static void serve_all(jitc_client *client, const int *channels)
{
    struct pollfd polled[WORKERS];
    int busy = WORKERS;

    for (int i = 0; i < WORKERS; i++)
        polled[i] = (struct pollfd){.fd = channels[i], .events = POLLIN};
    while (busy > 0 && poll(polled, WORKERS, -1) > 0) {
        for (int i = 0; i < WORKERS; i++) {
            if (polled[i].revents != 0 && serve(client, channels[i])) {
                polled[i].fd = -1;
                busy--;
            }
        }
    }
}

/* Prints what the workers found out. True if it is as it should be. */
static bool tell(const int *channels)
{
    uint64_t mapped = 0, share = 0, largest = 0;
    bool good = true;

    for (int i = 0; i < WORKERS; i++) {
        struct report report;

        if (send(channels[i], "", 1, MSG_NOSIGNAL) != 1 ||
            recv(channels[i], &report, sizeof report, 0) != sizeof report)
            fail("a worker is gone");
        (void)printf("worker %d: alloc: %s; write: %s; mprotect: %s\n", i + 1, jitc_strerror(report.alloc),
                     jitc_strerror(report.write), strerror(report.protect));
        if (report.missing != 0)
            (void)printf("worker %d: the lockdown lacks %#x here\n", i + 1, (unsigned)report.missing);
        good =
            good && report.alloc == JITC_E_REFUSED && report.write == JITC_E_REFUSED && report.protect != 0;
        mapped += report.mapped_kib;
        share += report.share_kib;
        largest = report.mapped_kib > largest ? report.mapped_kib : largest;
    }
    (void)printf("memory: %d workers have %" PRIu64 " KiB of code mapped; their shares of it are %" PRIu64
                 " KiB: %s\n",
                 WORKERS, mapped, share,
                 share <= largest ? "it is there once" : "IT IS THERE MORE THAN ONCE");
    return good && share <= largest;
}

int main(int argc, char **argv)
{
    static const char *const examples[] = {"x * x + 1", "(x - 10) * (x + 10)", "-x * 1000000007"};
    bool is_private = argc > 1 && strcmp(argv[1], "--private-broker") == 0;
    const char *const *texts = argc > 1 + is_private ? (const char *const *)argv + 1 + is_private : examples;
    int count = argc > 1 + is_private ? argc - 1 - is_private : (int)(sizeof examples / sizeof examples[0]);
    int channels[WORKERS];
    jitc_client *client;
    int status;
    bool good;

    for (int i = 0; i < WORKERS; i++) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
            fail(strerror(errno));
        if (fork() == 0) {
            for (int other = 0; other < i; other++)
                (void)close(channels[other]);
            (void)close(pair[0]);
            work(pair[1], i + 1, texts, count);
        }
        (void)close(pair[1]);
        channels[i] = pair[0];
    }
    check(is_private ? jitc_spawn(&client, NULL) : jitc_connect(&client, NULL));
    for (int i = 0; i < WORKERS; i++)
        send_end(client, channels[i]);
    serve_all(client, channels);
    (void)printf("compiler: %d expressions compiled\n", known_count);
    good = tell(channels);
    for (int i = 0; i < WORKERS; i++) {
        (void)close(channels[i]);
        if (wait(&status) < 0 || status != 0)
            good = false;
    }
    (void)jitc_close(client);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
