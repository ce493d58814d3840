/* SPDX-License-Identifier: MIT */
#include "client/plane.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/call.h"
#include "client/client.h"
#include "client/failure.h"
#include "client/patience.h"
#include "client/span.h"
#include "client/stage.h"

/* The longest look at head before sleeping. */
#define SPIN_MAX_NS 100000u
/* What an awake daemon needs at most, busy with others, to notice that a ring's bell rang. */
#define SPIN_MIN_NS 30000u
#define LOOKS_PER_CLOCK 64u
/* How often a thread that sleeps sees whether the daemon is still there. */
#define SLICE_MS 100u
#define NS_PER_MS UINT64_C(1000000)
/* Entries that may wait to be told while the daemon sleeps. */
#define UNTOLD_MAX (RING_ENTRIES / 2)

int plane_init(struct plane *plane, int memory_fd, int bell)
{
    void *memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);

    *plane = (struct plane){.bell = -1, .spin_ns = SPIN_MAX_NS, .room = RING_ENTRIES};
    if (memory == MAP_FAILED)
        return failure_set(JITC_E_SYSTEM, "mapping the ring (%u bytes): %m", RING_BYTES);
    /* A child that wrote there would speak for its parent. */
    (void)madvise(memory, RING_BYTES, MADV_DONTFORK);
    (void)close(memory_fd);
    ring_attach(&plane->ring, memory);
    plane->memory = memory;
    plane->bell = bell;
    plane->late.result = &plane->ignored;
    return JITC_OK;
}

void plane_deinit(struct plane *plane, bool inherited)
{
    if (plane->memory == NULL)
        return;
    if (!inherited)
        (void)munmap(plane->memory, RING_BYTES);
    (void)close(plane->bell);
    plane->memory = NULL;
}

/* ---- Answers --------------------------------------------------------------------------- */

static void tell_sink(struct sink *sink, const struct result *result)
{
    if (sink->result != NULL) {
        *sink->result = *result;
        sink->result->field = "";
    }
    if (result->status != STATUS_OK && sink->failure.status == JITC_OK)
        failure_note(&sink->failure, result);
}

static void collect_one(struct jitc_client *client, uint64_t number)
{
    struct plane *plane = &client->plane;
    const struct put put = plane->put[number % RING_ENTRIES];
    struct result result;
    char field[16];

    plane->wanted -= put.is_wanted;
    if (!ring_result(&plane->ring, number, put.operation, &result, field) && !put.is_wanted)
        return;
    if (put.sink != &plane->late)
        tell_sink(put.sink != NULL ? put.sink : &plane->unanswered, &result);
    else if (put.resets == (uint32_t)client->lessee.resets)
        lessee_take_late(client, put.operation, &result);
    if (result.status != STATUS_OK)
        (void)atomic_fetch_add(&plane->refused, 1); /* last: who reads it knows that the sink was told */
}

/* Takes the answers of all that is done. What that puts has the room of what brought it. */
static void collect(struct jitc_client *client, uint64_t head)
{
    struct plane *plane = &client->plane;
    uint64_t tail = plane->tail;

    if (head == RING_ENDED || head <= plane->collected)
        return;
    plane->staged_done = plane->put[(head - 1) % RING_ENTRIES].staged;
    /* Mostly there is nothing to be seen. */
    if (plane->wanted > 0 || ring_refused(&plane->ring) != plane->refused) {
        for (uint64_t number = plane->collected; number < head; number++)
            collect_one(client, number);
    }
    plane->collected = head;
    if (plane->overdue != 0 && head >= plane->overdue)
        plane->overdue = 0;
    if (plane->tail != tail)
        plane_publish(plane);
}

void plane_collect(struct jitc_client *client)
{
    collect(client, ring_head(&client->plane.ring));
}

/* Nobody is told any more of the sink's entries. With the lock held. */
static void give_up(struct jitc_client *client, const struct sink *sink)
{
    struct plane *plane = &client->plane;

    for (uint64_t number = plane->collected; number < plane->tail; number++) {
        struct put *put = &plane->put[number % RING_ENTRIES];

        if (put->sink != sink)
            continue;
        if (put->is_wanted && put->resets == (uint32_t)client->lessee.resets &&
            lessee_expects_late(client, put->operation)) {
            put->sink = &plane->late;
            continue;
        }
        plane->wanted -= put->is_wanted;
        put->is_wanted = false;
        put->sink = &plane->nobody;
    }
}

int plane_tell_refusal(struct jitc_client *client)
{
    struct sink *unanswered = &client->plane.unanswered;
    int status = client_lock(client);

    if (status != JITC_OK)
        return status;
    plane_collect(client);
    if (unanswered->failure.status != JITC_OK)
        status = failure_set(unanswered->failure.status, "an earlier operation was refused: %s",
                             unanswered->failure.detail);
    unanswered->failure.status = JITC_OK;
    client_unlock(client);
    return status;
}

/* ---- Putting ------------------------------------------------------------------------------ */

void plane_publish(struct plane *plane)
{
    static const uint64_t once = 1;

    if (plane->published == plane->tail)
        return;
    plane->published = plane->tail;
    /* By syscall(): write() could be a place where the thread is cancelled. */
    if (ring_publish(&plane->ring, plane->tail))
        (void)syscall(SYS_write, plane->bell, &once, sizeof once);
}

void plane_publish_lazily(struct plane *plane, unsigned gathered)
{
    uint64_t untold = plane->tail - plane->published;

    if (untold >= gathered && (untold >= UNTOLD_MAX || !ring_is_asleep(&plane->ring)))
        plane_publish(plane);
}

/* Where a run of so many bytes is staged next: from a line's start on, and not across the end. */
static uint64_t stage_at(const struct plane *plane, size_t bytes)
{
    uint64_t start = (plane->staged + STAGE_LINE_BYTES - 1) & ~(uint64_t)(STAGE_LINE_BYTES - 1);
    uint64_t at = start % RING_STAGING_BYTES;

    return at + bytes <= RING_STAGING_BYTES ? start : start + RING_STAGING_BYTES - at;
}

static bool has_room(const struct plane *plane, unsigned entries, size_t bytes)
{
    return plane_has_entries(plane, entries) &&
           (bytes == 0 || stage_at(plane, bytes) + bytes - plane->staged_done <= RING_STAGING_BYTES);
}

static int await(struct jitc_client *client, uint64_t number);

int plane_reserve(struct jitc_client *client, unsigned entries, size_t bytes)
{
    struct plane *plane = &client->plane;
    int status = JITC_OK;

    for (;;) {
        uint64_t collected = plane->collected;

        if (client->is_lost)
            return call_lost(client);
        if ((plane->room > 0 || lessee_pay(client)) && has_room(plane, entries, bytes))
            return JITC_OK;
        plane_collect(client);
        if (plane->collected > collected)
            continue;
        if (status != JITC_OK)
            return status;
        plane_publish(plane);
        client_unlock(client);
        status = await(client, collected);
        client_relock(client);
    }
}

int plane_await_overdue(struct jitc_client *client)
{
    uint64_t overdue = client->plane.overdue;
    int status;

    client_unlock(client);
    status = overdue > 0 ? await(client, overdue - 1) : JITC_OK;
    client_relock(client);
    if (status == JITC_OK)
        plane_collect(client);
    return status;
}

/* Where the bytes, for which there is room, are staged. */
static uint64_t stage(struct plane *plane, const void *data, size_t bytes)
{
    uint64_t at = stage_at(plane, bytes);

    stage_copy(plane->ring.staging + at % RING_STAGING_BYTES, data, bytes);
    plane->staged = at + bytes;
    return at;
}

static uint64_t stage_request(struct plane *plane, const struct request *request)
{
    const uint64_t patch[2] = {request->expected, request->desired};

    if (request->operation == OPERATION_PATCH)
        return stage(plane, patch, sizeof patch);
    return request->data_bytes > 0 ? stage(plane, request->data, request->data_bytes) : plane->staged;
}

uint64_t plane_put(struct jitc_client *client, const struct request *request, struct sink *sink)
{
    struct plane *plane = &client->plane;
    uint64_t number = plane->tail++;
    struct put *put = &plane->put[number % RING_ENTRIES];
    bool has_data = request->operation == OPERATION_WRITE || request->operation == OPERATION_PATCH;
    uint64_t at = has_data ? stage_request(plane, request) : 0;

    put->sink = sink;
    put->staged = plane->staged;
    put->resets = (uint32_t)client->lessee.resets;
    put->operation = (uint8_t)request->operation;
    put->is_wanted = sink != NULL && sink->result != NULL;
    plane->wanted += put->is_wanted;
    ring_encode(&plane->ring, number, request, at);
    return number;
}

int plane_put_write(struct jitc_client *client, const struct request *request, struct sink *sink,
                    uint64_t *number)
{
    struct request chunk = *request;
    size_t left = request->data_bytes;
    int before = sink->failure.status; /* an earlier write's */

    do {
        int status;

        chunk.data_bytes = span_part_bytes(client, chunk.at, left, PLANE_CHUNK_BYTES);
        status = plane_reserve(client, 1, chunk.data_bytes);
        if (status != JITC_OK) {
            give_up(client, sink);
            return status;
        }
        *number = plane_put(client, &chunk, sink);
        chunk.at += chunk.data_bytes;
        chunk.data += chunk.data_bytes;
        left -= chunk.data_bytes;
        /* The daemon copies this one while we stage the next, for which it has as long again. */
        if (left > 0) {
            plane_publish(&client->plane);
            patience_begin();
        }
    } while (left > 0 && sink->failure.status == before);
    return JITC_OK;
}

bool plane_take_back(struct plane *plane, uint64_t span)
{
    const struct ring_entry *entry = &plane->ring.entries[(plane->tail - 1) % RING_ENTRIES];

    if (plane->tail == plane->published || entry->operation != OPERATION_CARVE || entry->span != span)
        return false;
    plane->tail--;
    return true;
}

/* ---- Waiting -------------------------------------------------------------------------------- */

/* Longer next time if that would have been enough, else shorter. */
static void adapt(struct plane *plane, uint64_t waited_ns)
{
    uint32_t spin_ns = atomic_load_explicit(&plane->spin_ns, memory_order_relaxed);

    if (waited_ns < SPIN_MAX_NS)
        spin_ns = spin_ns * 2 < SPIN_MAX_NS ? spin_ns * 2 : SPIN_MAX_NS;
    else
        spin_ns = spin_ns / 2 > SPIN_MIN_NS ? spin_ns / 2 : SPIN_MIN_NS;
    atomic_store_explicit(&plane->spin_ns, spin_ns, memory_order_relaxed);
}

/*
 * With many threads the daemon hardly ever sleeps, and each that does costs it a wakeup: it gets our turn
 * instead. (A single thread that sleeps lets it run at once.)
 */
static bool yield_to_daemon(struct plane *plane, uint64_t number)
{
    (void)sched_yield();
    return ring_head(&plane->ring) > number;
}

/* Looks at head for as long as that is worth it. False: the entry is not done yet. */
static bool look(struct plane *plane, uint64_t number, int cpu)
{
    uint32_t spin_ns = atomic_load_explicit(&plane->spin_ns, memory_order_relaxed);
    uint64_t began_ns = 0;

    if (ring_head(&plane->ring) > number)
        return true;
    /* On our own processor the daemon can't run while we look. */
    if (ring_daemon_was_on(&plane->ring, cpu))
        return lessee_is_shared() && yield_to_daemon(plane, number);
    ring_forget_shared_cpu(&plane->ring, cpu);
    for (unsigned looks = 1; ring_head(&plane->ring) <= number; looks++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
        if (looks % LOOKS_PER_CLOCK != 0)
            continue;
        if (began_ns == 0)
            began_ns = patience_now_ns();
        else if (patience_now_ns() - began_ns > spin_ns)
            return false;
    }
    if (began_ns != 0)
        adapt(plane, 0);
    return true;
}

static bool is_daemon_there(struct jitc_client *client)
{
    struct pollfd socket = {.fd = client->socket, .events = POLLIN};
    const struct timespec at_once = {0};

    return syscall(SYS_ppoll, &socket, 1, &at_once, NULL, 0) == 0 || call_listen(client);
}

enum waited { WAITED_DONE, WAITED_LATE, WAITED_GONE };

/* Sleeps until the entry is done. */
static enum waited sleep_until(struct jitc_client *client, uint64_t number)
{
    struct plane *plane = &client->plane;
    uint64_t began_ns = patience_now_ns();
    uint64_t looked_ns = began_ns;
    uint64_t head = ring_head(&plane->ring);
    enum waited waited = WAITED_DONE;

    while (head <= number && waited == WAITED_DONE) {
        uint32_t left_ms = patience_left_ms(client->timeout_ms);

        if (left_ms > 0)
            (void)ring_wait(&plane->ring, head, left_ms < SLICE_MS ? left_ms : SLICE_MS);
        else
            waited = WAITED_LATE;
        head = ring_head(&plane->ring);
        /* By the clock: signals may come so often that no slice is ever slept to its end. */
        if (head <= number && (left_ms == 0 || patience_now_ns() - looked_ns >= SLICE_MS * NS_PER_MS)) {
            looked_ns = patience_now_ns();
            if (!is_daemon_there(client))
                waited = WAITED_GONE;
        }
    }
    adapt(plane, patience_now_ns() - began_ns);
    return head > number ? WAITED_DONE : waited;
}

/* Whether it is known without waiting that there will be no answer: an earlier call has waited for nothing.
 */
static bool fails_at_once(struct jitc_client *client)
{
    struct plane *plane = &client->plane;

    return client->fails_fast && ring_head(&plane->ring) < plane->overdue;
}

/* By who doesn't wait, now and then: most often it costs no system call. */
static enum waited fail_at_once(struct jitc_client *client)
{
    uint64_t now = patience_now_ns();

    if (now - client->plane.looked_ns < SLICE_MS * NS_PER_MS)
        return WAITED_LATE;
    client->plane.looked_ns = now;
    return is_daemon_there(client) ? WAITED_LATE : WAITED_GONE;
}

static enum waited wait_for(struct jitc_client *client, uint64_t number)
{
    struct plane *plane = &client->plane;
    int cpu;

    if (ring_head(&plane->ring) > number)
        return WAITED_DONE;
    if (fails_at_once(client))
        return fail_at_once(client);
    cpu = sched_getcpu();
    if (look(plane, number, cpu))
        return WAITED_DONE;
    ring_note_client_cpu(&plane->ring, cpu); /* so that the daemon makes room for us there */
    return sleep_until(client, number);
}

/* Waits for the entry to be done: JITC_OK, TIMEOUT, or why the client is lost. */
static int await(struct jitc_client *client, uint64_t number)
{
    struct plane *plane = &client->plane;
    enum waited waited = wait_for(client, number);

    if (ring_head(&plane->ring) == RING_ENDED || waited == WAITED_GONE)
        return call_lose_session(client);
    if (waited == WAITED_DONE)
        return JITC_OK;
    client_relock(client);
    if (plane->overdue <= number)
        plane->overdue = number + 1;
    client_unlock(client);
    return call_late(client);
}

/* After await() for an entry of the sink. */
static int finish_wait(struct jitc_client *client, uint64_t number, const struct sink *sink, int status)
{
    bool has_ended;

    client_relock(client);
    if (!client->is_lost)
        plane_collect(client);
    if (status == JITC_E_TIMEOUT && client->plane.collected > number)
        status = JITC_OK; /* it came at the last moment */
    /* Looked at again: with the end of the session its answers are wiped out, perhaps before we saw them. */
    has_ended = client->is_lost || ring_head(&client->plane.ring) == RING_ENDED;
    if ((status != JITC_OK || has_ended) && sink != NULL)
        give_up(client, sink);
    client_unlock(client);
    return status == JITC_OK && has_ended ? call_lose_session(client) : status;
}

int plane_wait(struct jitc_client *client, uint64_t number, struct sink *sink)
{
    return finish_wait(client, number, sink, await(client, number));
}

int plane_wait_done(struct jitc_client *client, uint64_t number, struct sink *sink)
{
    struct plane *plane = &client->plane;
    int status = await(client, number);

    /* Nothing was refused of what is done, but what its sinks were told of. */
    if (status == JITC_OK &&
        ring_refused(&plane->ring) == atomic_load_explicit(&plane->refused, memory_order_acquire))
        return JITC_OK;
    return finish_wait(client, number, sink, status);
}

int plane_flush(struct jitc_client *client)
{
    uint64_t number;
    int status = client_lock(client);

    if (status != JITC_OK)
        return status;
    plane_publish(&client->plane);
    number = client->plane.tail;
    client_unlock(client);
    return number == 0 ? JITC_OK : plane_wait(client, number - 1, NULL);
}

int plane_run(struct jitc_client *client, const struct request *request, struct result *result)
{
    struct sink sink;
    uint64_t number;
    int status;

    sink_init(&sink, result);
    number = plane_put(client, request, &sink);
    plane_publish(&client->plane);
    client_unlock(client);
    status = plane_wait(client, number, &sink);
    if (status == JITC_OK && sink.failure.status != JITC_OK)
        status = failure_tell(&sink.failure);
    client_relock(client);
    return status;
}
