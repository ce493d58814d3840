/* SPDX-License-Identifier: MIT */
/*
 * The two sides of the ring race, and go to sleep at every opportunity: each entry must be done once
 * and in order, with what was put into it, and nobody may sleep on when there is something for him.
 *
 * What entry n holds follows from n and the seed, so either side knows it without the other.
 * A lost wakeup is found by a watchdog: who sleeps for that long although the other side has
 * published will not be woken any more. It is no bound on how fast anything has to be.
 *
 * JITBROKER_SEED replays what was chosen (not how the threads met), JITBROKER_ENTRIES sets the length.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/ring.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"

#define ENTRIES_DEFAULT UINT64_C(1000000)
#define WATCHDOG_MS 10000u
#define SILENCES_MAX 12u /* watchdogs in a row in which the other side did nothing: it is stuck itself */
#define THREADS_MAX 4u

static uint64_t seed;
static uint64_t entries;

/* Ends the process from whichever thread; a test's process has no other way to fail than this. */
#define must(condition, ...)                                                      \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            (void)fprintf(stderr, __VA_ARGS__);                                   \
            (void)fprintf(stderr, "\n");                                          \
            abort();                                                              \
        }                                                                         \
    } while (0)

/* ---- What is shared ------------------------------------------------------------------ */

/* One mapping, which both sides have, by threads or by fork(). */
static void *memory;
static int doorbell;
static uint64_t first; /* the number of the first entry */
static uint64_t last;  /* ... and of that behind the last */
static unsigned refused_percent;

static void set_up(uint64_t first_number, uint64_t count, unsigned percent)
{
    struct ring ring;
    int fd = memfd_create("ring", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, RING_BYTES), 0);
    memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    ck_assert_int_eq(close(fd), 0);
    doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(doorbell, 0);
    first = first_number;
    last = first + count;
    refused_percent = percent;
    ring_attach(&ring, memory);
    (void)ring_publish(&ring, first);
    (void)ring_complete(&ring, first, 0);
}

static struct dice dice_of(uint64_t number)
{
    return (struct dice){.state = seed ^ (number * UINT64_C(0xD1B54A32D192ED03))};
}

static bool is_refused(uint64_t number)
{
    struct dice dice = dice_of(number + 1);

    return dice_percent(&dice, refused_percent);
}

/* Entry `number`; a write's bytes are write_byte(). */
static struct request request_of(uint64_t number)
{
    struct dice dice = dice_of(number);
    struct request request = {.span = dice_next(&dice)};

    switch (dice_below(&dice, 8)) {
    case 0:
    case 1:
    case 2:
        request.operation = OPERATION_WRITE;
        request.at = dice_next(&dice);
        request.data_bytes = 1 + dice_below(&dice, 100);
        if (dice_percent(&dice, 2))
            request.data_bytes = 1 + dice_below(&dice, 8000);
        if (dice_below(&dice, 8000) == 0)
            request.data_bytes = RING_STAGING_BYTES;
        break;
    case 3:
        request.operation = OPERATION_PATCH;
        request.at = dice_next(&dice);
        request.width = 1u << dice_below(&dice, 4);
        request.expected = dice_next(&dice);
        request.desired = dice_next(&dice);
        break;
    case 4:
        request.operation = OPERATION_RELEASE;
        request.size = dice_next(&dice);
        request.filled = dice_percent(&dice, 50);
        break;
    case 5:
        request.operation = OPERATION_RESET;
        request.kind = (uint32_t)dice_below(&dice, 2);
        break;
    default:
        request.operation = OPERATION_ALLOC;
        request.size = dice_next(&dice);
        break;
    }
    return request;
}

static uint8_t write_byte(uint64_t number, uint64_t i)
{
    return (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static void result_of(uint64_t number, struct result *result)
{
    result_init(result);
    if (is_refused(number)) {
        (void)result_refuse(result, STATUS_MISMATCH, "expected", "entry %" PRIu64, number);
        result->found = ~number;
        return;
    }
    result->has_span = true;
    result->offset = number * 64;
    result->size = number * 128 + 1;
}

/* Mostly nothing: races need both sides to be about as fast. */
static void loiter(struct dice *dice)
{
    uint64_t what = dice_below(dice, 1000);

    if (what < 150) {
        for (volatile uint64_t i = dice_below(dice, 400); i > 0; i--)
            ;
    } else if (what < 160) {
        (void)sched_yield();
    } else if (what < 165) {
        const struct timespec pause = {.tv_nsec = (long)dice_below(dice, 60000)};

        (void)nanosleep(&pause, NULL);
    }
}

/* ---- The daemon's side --------------------------------------------------------------- */

static void sleep_as_daemon(struct ring *ring, uint64_t head, struct dice *dice)
{
    struct pollfd bell = {.fd = doorbell, .events = POLLIN};
    uint64_t rings;

    if (!ring_sleep(ring, head))
        return;
    if (dice_percent(dice, 5)) {
        ring_stay_awake(ring); /* as if another descriptor had become readable */
        return;
    }
    for (unsigned silences = 0; poll(&bell, 1, (int)WATCHDOG_MS) == 0; silences++) {
        must(ring_pending(ring, head) == 0, "the bell was lost: %" PRIu64 " entries wait behind %" PRIu64,
             ring_pending(ring, head), head);
        must(silences < SILENCES_MAX, "nothing came behind %" PRIu64, head);
    }
    must(read(doorbell, &rings, sizeof rings) == sizeof rings, "an eventfd that is readable has something");
}

static void consume(const struct ring *ring, uint64_t number)
{
    const struct request wanted = request_of(number);
    struct request request;

    must(ring_decode(ring, number, &request), "%" PRIu64 " is nonsense", number);
    must(request.operation == wanted.operation && request.span == wanted.span && request.at == wanted.at &&
             request.data_bytes == wanted.data_bytes && request.width == wanted.width &&
             request.expected == wanted.expected && request.desired == wanted.desired &&
             request.kind == wanted.kind && request.filled == wanted.filled,
         "%" PRIu64 " is another entry", number);
    for (size_t i = 0; i < request.data_bytes; i++)
        must(request.data[i] == write_byte(number, i), "%" PRIu64 ": byte %zu of %zu is another", number, i,
             request.data_bytes);
}

static void *run_daemon(void *unused)
{
    struct dice dice = {.state = seed ^ 1};
    struct result result;
    struct ring ring;
    uint64_t refused = 0;
    uint64_t head = first;

    (void)unused;
    ring_attach(&ring, memory);
    while (head != last) {
        uint64_t pending = ring_pending(&ring, head);
        uint64_t count = pending;

        must(pending <= RING_ENTRIES, "%" PRIu64 " entries wait behind %" PRIu64, pending, head);
        if (pending == 0) {
            sleep_as_daemon(&ring, head, &dice);
            continue;
        }
        if (dice_percent(&dice, 70))
            count = 1 + dice_below(&dice, pending < 4 ? pending : 4);
        for (; count > 0; count--, head++) {
            consume(&ring, head);
            result_of(head, &result);
            if (result.status != STATUS_OK || request_of(head).operation == OPERATION_ALLOC)
                ring_answer(&ring, head, &result);
            refused += result.status != STATUS_OK;
        }
        loiter(&dice);
        if (ring_complete(&ring, head, refused)) {
            loiter(&dice);
            ring_wake(&ring);
        }
        loiter(&dice);
    }
    ring_end(&ring);
    return NULL;
}

/* ---- The client's side --------------------------------------------------------------- */

/* One client, which several threads share. */
static struct client {
    struct ring ring;
    pthread_mutex_t mutex; /* for all below */
    uint64_t tail;
    uint64_t staged;                     /* bytes so far, and those left out at the end of a lap */
    uint64_t staged_until[RING_ENTRIES]; /* ... up to the entry */
    bool is_unread[RING_ENTRIES];        /* whoever put it there did not look at its result yet */
    _Atomic uint64_t waits;
} client;

struct thread {
    struct dice dice;
    uint64_t own[RING_ENTRIES]; /* its entries that it did not look at yet, in order */
    unsigned own_count;
};

static void wait_as_client(uint64_t seen)
{
    for (unsigned silences = 0; !ring_wait(&client.ring, seen, WATCHDOG_MS); silences++) {
        must(ring_head(&client.ring) == seen, "a wakeup was lost: %" PRIu64 " entries are done, not %" PRIu64,
             ring_head(&client.ring), seen);
        must(silences < SILENCES_MAX, "nothing is done behind %" PRIu64, seen);
    }
    (void)atomic_fetch_add(&client.waits, 1);
}

/* Where in the staging `bytes` find room, or UINT64_MAX; with the lock. */
static uint64_t place(uint64_t head, uint64_t bytes)
{
    uint64_t at = client.staged;
    uint64_t left = RING_STAGING_BYTES - at % RING_STAGING_BYTES;

    if (bytes > left)
        at += left;
    if (head == client.tail ||
        at + bytes - client.staged_until[(head + RING_ENTRIES - 1) % RING_ENTRIES] <= RING_STAGING_BYTES)
        return at;
    return UINT64_MAX;
}

static bool put(struct thread *thread, uint64_t number, uint64_t head)
{
    const struct request request = request_of(number);
    uint64_t bytes = request.operation == OPERATION_PATCH ? RING_PATCH_BYTES : request.data_bytes;
    uint64_t at = place(head, bytes);
    uint8_t *to = client.ring.staging + at % RING_STAGING_BYTES;

    if (at == UINT64_MAX)
        return false;
    if (request.operation == OPERATION_PATCH) {
        memcpy(to, &request.expected, 8);
        memcpy(to + 8, &request.desired, 8);
    }
    for (size_t i = 0; i < request.data_bytes; i++)
        to[i] = write_byte(number, i);
    ring_encode(&client.ring, number, &request, at);
    client.staged = at + bytes;
    client.staged_until[number % RING_ENTRIES] = client.staged;
    client.is_unread[number % RING_ENTRIES] = true;
    thread->own[thread->own_count++] = number;
    return true;
}

enum progress { PROGRESS_SOME, PROGRESS_DAEMON_IS_DUE, PROGRESS_OTHERS_ARE_DUE, PROGRESS_FINISHED };

/* Puts up to `count` entries, and publishes them together. *seen is the head that had no room. */
static enum progress publish(struct thread *thread, uint64_t count, uint64_t *seen)
{
    enum progress progress = PROGRESS_SOME;
    const uint64_t one = 1;
    uint64_t tail;

    (void)pthread_mutex_lock(&client.mutex);
    tail = client.tail;
    for (; count > 0 && progress == PROGRESS_SOME; count--) {
        *seen = ring_head(&client.ring);
        if (client.tail == last)
            progress = PROGRESS_FINISHED;
        else if (client.tail - *seen == RING_ENTRIES)
            progress = PROGRESS_DAEMON_IS_DUE;
        else if (client.is_unread[client.tail % RING_ENTRIES])
            progress = PROGRESS_OTHERS_ARE_DUE;
        else if (!put(thread, client.tail, *seen))
            progress = PROGRESS_DAEMON_IS_DUE;
        else
            client.tail++;
    }
    if (client.tail != tail) {
        loiter(&thread->dice);
        if (ring_publish(&client.ring, client.tail)) {
            loiter(&thread->dice);
            must(write(doorbell, &one, sizeof one) == sizeof one, "the bell has no limit");
        }
        progress = progress == PROGRESS_FINISHED ? PROGRESS_FINISHED : PROGRESS_SOME;
    }
    (void)pthread_mutex_unlock(&client.mutex);
    return progress;
}

static void look_at_result(uint64_t number)
{
    enum operation operation = request_of(number).operation;
    struct result wanted;
    struct result result;
    char field[16];
    bool says;

    result_of(number, &wanted);
    says = ring_result(&client.ring, number, operation, &result, field);
    must(says == (wanted.status != STATUS_OK || operation == OPERATION_ALLOC), "%" PRIu64, number);
    must(result.status == (says ? wanted.status : STATUS_OK), "%" PRIu64 ": status %d", number,
         result.status);
    if (result.status != STATUS_OK)
        must(strcmp(result.field, "expected") == 0 && strcmp(result.text, wanted.text) == 0 &&
                 result.found == wanted.found,
             "%" PRIu64 ": %s", number, result.text);
    else if (says)
        must(result.offset == wanted.offset && result.size == wanted.size, "%" PRIu64, number);
    (void)pthread_mutex_lock(&client.mutex);
    client.is_unread[number % RING_ENTRIES] = false;
    (void)pthread_mutex_unlock(&client.mutex);
}

/* Looks at what is done of its own. */
static void collect(struct thread *thread)
{
    uint64_t head = ring_head(&client.ring);
    unsigned count = 0;

    while (count < thread->own_count && thread->own[count] < head)
        look_at_result(thread->own[count++]);
    thread->own_count -= count;
    memmove(thread->own, thread->own + count, thread->own_count * sizeof thread->own[0]);
}

static void collect_all(struct thread *thread)
{
    for (;;) {
        uint64_t seen = ring_head(&client.ring);

        collect(thread);
        if (thread->own_count == 0)
            return;
        if (seen <= thread->own[0])
            wait_as_client(seen);
    }
}

static void *run_thread(void *number)
{
    static struct thread threads[THREADS_MAX];
    struct thread *thread = &threads[(uintptr_t)number];
    enum progress progress;

    *thread = (struct thread){.dice = {.state = seed ^ (2 + (uintptr_t)number)}};
    do {
        uint64_t count = dice_percent(&thread->dice, 3) ? RING_ENTRIES : 1 + dice_below(&thread->dice, 4);
        uint64_t seen;

        progress = publish(thread, count, &seen);
        loiter(&thread->dice);
        collect(thread);
        if (progress == PROGRESS_DAEMON_IS_DUE)
            wait_as_client(seen);
        else if (progress == PROGRESS_OTHERS_ARE_DUE)
            (void)sched_yield();
        else if (dice_percent(&thread->dice, 60))
            collect_all(thread);
    } while (progress != PROGRESS_FINISHED);
    collect_all(thread);
    for (uint64_t seen = ring_head(&client.ring); seen != RING_ENDED; seen = ring_head(&client.ring))
        wait_as_client(seen);
    return NULL;
}

static void run_client(unsigned threads)
{
    pthread_t ids[THREADS_MAX];

    ring_attach(&client.ring, memory);
    (void)pthread_mutex_init(&client.mutex, NULL);
    client.tail = first;
    for (uintptr_t i = 0; i < threads; i++)
        must(pthread_create(&ids[i], NULL, run_thread, (void *)i) == 0, "thread");
    for (unsigned i = 0; i < threads; i++)
        must(pthread_join(ids[i], NULL) == 0, "thread");
    printf("%u threads: %" PRIu64 " entries, %" PRIu64 " waits\n", threads, last - first,
           atomic_load(&client.waits));
    (void)fflush(stdout);
}

/* ---- The two together ---------------------------------------------------------------- */

static void race_as_threads(unsigned threads)
{
    pthread_t daemon;

    ck_assert_int_eq(pthread_create(&daemon, NULL, run_daemon, NULL), 0);
    run_client(threads);
    ck_assert_int_eq(pthread_join(daemon, NULL), 0);
}

static void race_as_processes(unsigned threads)
{
    pid_t daemon = fork();
    int status;

    ck_assert_int_ge(daemon, 0);
    if (daemon == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)run_daemon(NULL);
        _exit(EXIT_SUCCESS);
    }
    run_client(threads);
    ck_assert_int_eq(waitpid(daemon, &status, 0), daemon);
    ck_assert_int_eq(status, 0);
}

START_TEST(one_thread_and_the_daemon_in_one_process)
{
    set_up(0, entries * 3 / 10, 1);
    race_as_threads(1);
}
END_TEST

START_TEST(several_threads_and_the_daemon_in_one_process)
{
    set_up(0, entries * 3 / 10, 1);
    race_as_threads(THREADS_MAX);
}
END_TEST

START_TEST(one_thread_and_the_daemon_in_another_process)
{
    set_up(0, entries * 2 / 10, 50);
    race_as_processes(1);
}
END_TEST

/* Where a half of the numbers is round, and like the end's before that. */
START_TEST(several_threads_and_the_daemon_in_another_process)
{
    set_up((UINT64_C(1) << 32) - entries / 10, entries * 2 / 10, 0);
    race_as_processes(THREADS_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring, in a race");
    TCase *all = tcase_create("race");

    seed = dice_seed();
    entries = dice_environment("JITBROKER_ENTRIES", ENTRIES_DEFAULT);
    tcase_set_timeout(all, 800);
    tcase_add_test(all, one_thread_and_the_daemon_in_one_process);
    tcase_add_test(all, several_threads_and_the_daemon_in_one_process);
    tcase_add_test(all, one_thread_and_the_daemon_in_another_process);
    tcase_add_test(all, several_threads_and_the_daemon_in_another_process);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
