/* SPDX-License-Identifier: MIT */
#include "floors.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator.h"
#include "trouble.h"

#define CACHE_LINE_BYTES 64

/* A process at the other end, that answers until it is killed, or until this one ends. */
static pid_t start_server(const struct bench *bench, enum side side, void (*serve)(void *), void *user)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        cpus_pin(&bench->cpus, side);
        serve(user);
        _exit(0);
    }
    return pid;
}

static void stop_server(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* ---- Shared memory ----------------------------------------------------------------------- */

/* Request and answer count up, each on a cache line of its own; the function lies beside them. */
struct mailbox {
    alignas(CACHE_LINE_BYTES) _Atomic uint32_t request;
    size_t bytes; /* of a function; does not change */
    alignas(CACHE_LINE_BYTES) _Atomic uint32_t answer;
    alignas(CACHE_LINE_BYTES) uint8_t staging[FUNCTION_MAX_BYTES];
    uint8_t code[FUNCTION_MAX_BYTES]; /* the server's copy */
    uint8_t source[FUNCTION_MAX_BYTES];
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void poll_for(_Atomic uint32_t *word, uint32_t value)
{
    while (atomic_load_explicit(word, memory_order_acquire) != value)
        relax();
}

static void serve_polled(void *user)
{
    struct mailbox *box = user;

    for (uint32_t next = 1;; next++) {
        poll_for(&box->request, next);
        memcpy(box->code, box->staging, box->bytes);
        atomic_store_explicit(&box->answer, next, memory_order_release);
    }
}

static void step_polled(void *user)
{
    struct mailbox *box = user;
    uint32_t next = atomic_load_explicit(&box->request, memory_order_relaxed) + 1;

    memcpy(box->staging, box->source, box->bytes);
    atomic_store_explicit(&box->request, next, memory_order_release);
    poll_for(&box->answer, next);
}

static void futex_set(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_wait_for(_Atomic uint32_t *word, uint32_t value)
{
    uint32_t now;

    while ((now = atomic_load_explicit(word, memory_order_acquire)) != value)
        (void)syscall(SYS_futex, word, FUTEX_WAIT, now, NULL, NULL, 0);
}

static void serve_futex(void *user)
{
    struct mailbox *box = user;

    for (uint32_t next = 1;; next++) {
        futex_wait_for(&box->request, next);
        memcpy(box->code, box->staging, box->bytes);
        futex_set(&box->answer, next);
    }
}

static void step_futex(void *user)
{
    struct mailbox *box = user;
    uint32_t next = atomic_load_explicit(&box->request, memory_order_relaxed) + 1;

    memcpy(box->staging, box->source, box->bytes);
    futex_set(&box->request, next);
    futex_wait_for(&box->answer, next);
}

static struct sample measure_mailbox(const struct bench *bench, unsigned batch, void (*serve)(void *),
                                     sample_step step)
{
    struct mailbox *box =
        mmap(NULL, sizeof *box, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct sample sample;
    pid_t server;

    if (box == MAP_FAILED)
        die("memory for a mailbox");
    box->bytes = bench->options.bytes;
    server = start_server(bench, SIDE_SERVER, serve, box);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    sample = sample_take(&bench->effort, batch, step, box);
    stop_server(server);
    (void)munmap(box, sizeof *box);
    return sample;
}

struct sample floor_polled(const struct bench *bench)
{
    return measure_mailbox(bench, BATCH_STEPS, serve_polled, step_polled);
}

struct sample floor_futex(const struct bench *bench)
{
    return measure_mailbox(bench, 1, serve_futex, step_futex);
}

/* ---- Sockets ----------------------------------------------------------------------------- */

struct line {
    int fd;
    size_t bytes;
    char record[FUNCTION_MAX_BYTES];
};

static void serve_socket(void *user)
{
    struct line *line = user;
    ssize_t got;

    while ((got = recv(line->fd, line->record, sizeof line->record, 0)) > 0) {
        if (send(line->fd, line->record, (size_t)got, MSG_NOSIGNAL) < 0)
            return;
    }
}

static void step_socket(void *user)
{
    struct line *line = user;

    if (send(line->fd, line->record, line->bytes, MSG_NOSIGNAL) < 0 ||
        recv(line->fd, line->record, sizeof line->record, 0) <= 0)
        die("SEQPACKET round trip");
}

static struct sample measure_socket(const struct bench *bench, enum side side, bool paused)
{
    struct line *line = calloc(1, sizeof *line);
    struct sample sample;
    int pair[2];
    pid_t server;

    if (line == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        die("socketpair");
    line->bytes = bench->options.bytes;
    line->fd = pair[1];
    server = start_server(bench, side, serve_socket, line);
    (void)close(pair[1]);
    line->fd = pair[0];
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    sample = paused ? sample_take_paused(&bench->slow_effort, step_socket, line)
                    : sample_take(&bench->effort, 1, step_socket, line);
    (void)close(pair[0]);
    stop_server(server);
    free(line);
    return sample;
}

struct sample floor_socket(const struct bench *bench)
{
    return measure_socket(bench, SIDE_SERVER, false);
}

struct sample floor_socket_one_cpu(const struct bench *bench)
{
    return measure_socket(bench, SIDE_CLIENT, false);
}

struct sample floor_socket_paused(const struct bench *bench)
{
    return measure_socket(bench, SIDE_SERVER, true);
}

/* ---- The clock --------------------------------------------------------------------------- */

static void step_clock(void *user)
{
    *(double *)user = clock_us();
}

struct sample floor_clock(const struct bench *bench)
{
    double now;

    cpus_pin(&bench->cpus, SIDE_CLIENT);
    return sample_take(&bench->effort, BATCH_STEPS, step_clock, &now);
}
