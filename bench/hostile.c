/* SPDX-License-Identifier: MIT */
#include "hostile.h"

#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator.h"
#include "broker.h"
#include "ours.h"
#include "raw.h"
#include "trouble.h"

#define HOSTILE_UID 64902u /* of nobody on the machine */
#define SESSIONS 8u
#define UNREAD_SESSIONS 64u
#define LARGE_BYTES (UINT64_C(256) << 20) /* an arena of the default policy */
#define FIRST_SPAN UINT64_C(64)
#define WATCHES 1000u /* by each of */
#define WATCHERS 20u
#define WARM_UP_US 50e3
#define TRIALS 5u
#define FULL_US 20        /* less than what is in a full ring takes the daemon */
#define SESSION_TRIES 200 /* of 5 ms */

static uint8_t record_bytes[RECORD_MAX_BYTES];
static const uint8_t data[WRITE_MAX_BYTES];

static const struct request small = {.operation = OPERATION_ALLOC, .size = 256};
static const struct request large = {.operation = OPERATION_ALLOC, .size = SPAN_LIMIT_BYTES};
static const struct request release_first = {.operation = OPERATION_RELEASE, .span = FIRST_SPAN};
static const struct request write_first = {
    .operation = OPERATION_WRITE, .span = FIRST_SPAN, .data = data, .data_bytes = 256};
static const struct request unknown = {.operation = OPERATION_RELEASE, .span = FIRST_SPAN + 1};

/* ---- Attacks: none of them returns ------------------------------------------------------------ */

static void open_or_die(struct raw *raw, const char *path, uint64_t arena_bytes)
{
    /* Those of the attack before it may not all be gone. */
    for (int i = 0; !raw_open(raw, path, arena_bytes); i++) {
        if (i == SESSION_TRIES)
            die_because("a hostile client got no session");
        sleep_us(5000);
    }
}

static void open_all(struct raw *raws, unsigned count, const char *path)
{
    for (unsigned i = 0; i < count; i++)
        open_or_die(&raws[i], path, 0);
}

/* As many of those requests as the sockets take, and their answers thrown away. */
_Noreturn static void flood_sockets(const char *path, const struct buffer *request)
{
    static struct raw raws[SESSIONS];

    open_all(raws, SESSIONS, path);
    for (;;) {
        for (unsigned i = 0; i < SESSIONS; i++) {
            (void)raw_send(&raws[i], request);
            (void)raw_drain(&raws[i]);
        }
    }
}

static void flood_refused(const char *path)
{
    struct buffer out = raw_begin(record_bytes);

    (void)codec_put_operation(&out, &unknown);
    flood_sockets(path, &out);
}

static void flood_batches(const char *path)
{
    struct buffer out = raw_begin(record_bytes);

    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        (void)codec_put_operation(&out, i % 2 == 0 ? &small : &release_first);
    flood_sockets(path, &out);
}

static void flood_malformed(const char *path)
{
    for (;;) {
        struct raw raw = {.socket = raw_socket(path)};

        (void)record_send(raw.socket, false, "\xFF\xFF", 2, NULL, 0);
        (void)close(raw.socket);
    }
}

static void flood_sessions(const char *path)
{
    for (;;) {
        struct raw raw;

        if (raw_open(&raw, path, 0))
            raw_close(&raw);
    }
}

/* Sends on and on, and reads nothing. */
static void never_read(const char *path)
{
    static struct raw raws[UNREAD_SESSIONS];
    struct buffer out = raw_begin(record_bytes);

    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        (void)codec_put_operation(&out, &unknown);
    open_all(raws, UNREAD_SESSIONS, path);
    for (;;) {
        for (unsigned i = 0; i < UNREAD_SESSIONS; i++)
            (void)raw_send(&raws[i], &out);
    }
}

/* The requests by turns, each ring always full: as soon as there is room again, or nearly so. */
_Noreturn static void flood_rings(struct raw *raws, unsigned count, const struct request *const *requests,
                                  unsigned requests_count)
{
    for (;;) {
        bool was_full = true;

        for (unsigned i = 0; i < count; i++) {
            if (!raw_has_room(&raws[i]))
                continue;
            was_full = false;
            while (raw_has_room(&raws[i]))
                raw_put(&raws[i], requests[raws[i].tail % requests_count]);
            raw_publish(&raws[i]);
        }
        if (was_full)
            sleep_us(FULL_US);
    }
}

static void flood_entries(const char *path)
{
    static const struct request *const requests[] = {&small, &write_first, &release_first};
    static struct raw raws[SESSIONS];

    open_all(raws, SESSIONS, path);
    flood_rings(raws, SESSIONS, requests, 3);
}

static void flood_large_spans(const char *path)
{
    static const struct request *const requests[] = {&large, &release_first};
    struct raw raw;

    open_or_die(&raw, path, LARGE_BYTES);
    flood_rings(&raw, 1, requests, 2);
}

static void flood_resets(const char *path)
{
    static const struct request reset = {.operation = OPERATION_RESET, .kind = RESET_SOFT};
    static const struct request *const requests[] = {&reset};
    struct raw raw;

    open_or_die(&raw, path, LARGE_BYTES);
    for (uint64_t bytes = 0; bytes + SPAN_LIMIT_BYTES < LARGE_BYTES; bytes += SPAN_LIMIT_BYTES)
        raw_put(&raw, &large);
    raw_publish(&raw);
    flood_rings(&raw, 1, requests, 1);
}

static void flood_bells(const char *path)
{
    static const uint64_t once = 1;
    static struct raw raws[SESSIONS];

    open_all(raws, SESSIONS, path);
    for (;;) {
        for (unsigned i = 0; i < SESSIONS; i++)
            (void)!write(raws[i].bell, &once, sizeof once);
    }
}

/* Noise in the whole ring, and a new session when that has ended this one. */
static void flood_noise(const char *path)
{
    unsigned random = 1;

    for (;;) {
        struct raw raw;

        if (!raw_open(&raw, path, 0))
            continue;
        for (unsigned i = 0; i < RING_ENTRIES * sizeof(struct ring_entry); i++)
            ((uint8_t *)raw.ring.entries)[i] = (uint8_t)rand_r(&random);
        for (unsigned i = 0; i < RING_ENTRIES; i++) /* some that go on for a while */
            raw.ring.entries[i].operation =
                (uint8_t)(raw.ring.entries[i].operation % (OPERATION_COUNT + (i % 16 == 0 ? 1u : 0u)));
        while (ring_head(&raw.ring) != RING_ENDED) {
            raw.tail = ring_head(&raw.ring) + (unsigned)rand_r(&random) % (RING_ENTRIES + 2);
            raw_publish(&raw);
        }
        raw_close(&raw);
    }
}

/* Many watches of the bell, all of which the kernel goes through when it rings or is silenced. */
static void flood_watched_bell(const char *path)
{
    static const uint64_t once = 1;
    struct epoll_event none = {.events = EPOLLIN | EPOLLET};
    int bells[WATCHES];
    struct raw raw;

    open_or_die(&raw, path, 0);
    for (unsigned i = 0; i < WATCHES; i++)
        bells[i] = dup(raw.bell);
    for (unsigned i = 0; i < WATCHERS; i++) {
        int watcher = epoll_create1(EPOLL_CLOEXEC);

        for (unsigned k = 0; k < WATCHES; k++) {
            if (epoll_ctl(watcher, EPOLL_CTL_ADD, bells[k], &none) != 0)
                die("watches of a hostile client");
        }
    }
    for (;;) {
        (void)!write(raw.bell, &once, sizeof once);
        sleep_us(50);
    }
}

/* No attack at all: what a third busy process costs by itself. */
static void burn(const char *path)
{
    (void)path;
    for (;;)
        spin_us(1e6);
}

static const struct attack {
    const char *name; /* of the rows hostile.NAME and hostile.NAME-p99 */
    void (*run)(const char *path);
} attacks[] = {
    {"refused", flood_refused},   {"malformed", flood_malformed}, {"batches", flood_batches},
    {"sessions", flood_sessions}, {"unread", never_read},         {"entries", flood_entries},
    {"noise", flood_noise},       {"bells", flood_bells},         {"watches", flood_watched_bell},
    {"spans", flood_large_spans}, {"resets", flood_resets},
};

/* ---- What it costs -------------------------------------------------------------------------------- */

static pid_t start(const struct broker *broker, const struct attack *attack)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid != 0)
        return pid;
    /* Without root it is the same user, who shares what one user gets. */
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(HOSTILE_UID, HOSTILE_UID, HOSTILE_UID) != 0 ||
                           setresuid(HOSTILE_UID, HOSTILE_UID, HOSTILE_UID) != 0))
        die("becoming another user");
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    attack->run(broker->socket);
    _exit(EXIT_FAILURE);
}

/* As soon as the attack before this one has been cleared away: it may have left no room for anyone. */
static jitc_client *connect_at_last(const struct broker *broker)
{
    jitc_client *client = NULL;
    int status = 0;

    for (int i = 0; i < SESSION_TRIES; i++) {
        status = broker_try_connect(broker, &client, JITC_WRITE_THROUGH, 0);
        if (status == JITC_OK)
            return client;
        sleep_us(5000);
    }
    die_of_status(status, "connecting");
}

/* A good client's cycle, while the attack goes on (NULL: alone). It came first: it would be served anyway. */
static struct sample measure(const struct bench *bench, const struct broker *broker,
                             const struct attack *attack)
{
    const struct effort effort = {bench->effort.rounds, bench->effort.seconds / TRIALS};
    jitc_client *client = connect_at_last(broker);
    const struct allocator allocator = ours_by_write(client);
    pid_t pid = attack != NULL ? start(broker, attack) : 0;
    struct sample sample;
    int status = 0;

    sleep_us(WARM_UP_US);
    sample = allocator_cycle(&allocator, bench->options.bytes, &effort, 1);
    if (pid != 0 && waitpid(pid, &status, WNOHANG) != 0)
        die_because("the hostile client of row hostile.%s ended with status %x", attack->name,
                    (unsigned)status);
    if (pid != 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    (void)jitc_close(client);
    return sample;
}

struct trial {
    struct sample under;
    struct sample beside;
};

static int compare_p50(const void *a, const void *b)
{
    const struct trial *left = a;
    const struct trial *right = b;
    double difference = left->under.p50_us * right->beside.p50_us - right->under.p50_us * left->beside.p50_us;

    return (difference > 0) - (difference < 0);
}

static int compare_p99(const void *a, const void *b)
{
    const struct trial *left = a;
    const struct trial *right = b;
    double difference = left->under.p99_us * right->beside.p99_us - right->under.p99_us * left->beside.p99_us;

    return (difference > 0) - (difference < 0);
}

/* Each by turns with what it is compared with, since the machine drifts; the median ratio counts. */
static void report_attack(struct bench *bench, const struct broker *broker, const struct attack *attack,
                          const struct attack *control)
{
    struct trial trials[TRIALS];
    const struct trial *median = &trials[TRIALS / 2];
    char row[32];

    (void)snprintf(row, sizeof row, "hostile.%s", attack->name);
    if (!report_wants(&bench->report, row))
        return;
    for (unsigned i = 0; i < TRIALS; i++) {
        trials[i].beside = measure(bench, broker, control);
        trials[i].under = measure(bench, broker, attack);
    }
    qsort(trials, TRIALS, sizeof trials[0], compare_p50);
    report_compared(&bench->report, row, &median->under, &median->beside, NULL);
    qsort(trials, TRIALS, sizeof trials[0], compare_p99);
    (void)snprintf(row, sizeof row, "hostile.%s-p99", attack->name);
    report_figure(
        &bench->report,
        &(struct figure){.row = row, .value = median->under.p99_us, .against = median->beside.p99_us});
}

void hostile_report(struct bench *bench)
{
    static const struct attack burner = {"burner", burn};
    struct broker broker;

    report_heading(&bench->report, "A good client beside a hostile one of another user");
    cpus_pin(&bench->cpus, SIDE_ANY); /* who is where is the kernel's business, as in life */
    broker_start(&broker, bench, SIDE_ANY);
    if (chmod(broker.folder, 0711) != 0) /* another user has to get to the socket */
        die(broker.folder);
    report_attack(bench, &broker, &burner, NULL);
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++)
        report_attack(bench, &broker, &attacks[i], &burner);
    broker_stop(&broker);
}
