/* SPDX-License-Identifier: MIT */
#include "proto/ring.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void ring_attach(struct ring *ring, void *memory)
{
    uint8_t *bytes = memory;

    *ring = (struct ring){
        .header = memory,
        .entries = (struct ring_entry *)(void *)(bytes + RING_ENTRIES_AT),
        .results = (struct ring_result *)(void *)(bytes + RING_RESULTS_AT),
        .staging = bytes + RING_STAGING_AT,
    };
}

/* What a client sleeps on: its word that it waits, since whoever takes that back wakes it. */
static uint32_t *futex_of(const struct ring *ring)
{
    return (uint32_t *)(void *)&ring->header->waiting;
}

/* Written only when it changes: the other side reads it often. */
static void note_cpu(_Atomic uint32_t *where, int cpu)
{
    if (atomic_load_explicit(where, memory_order_relaxed) != (uint32_t)cpu + 1)
        atomic_store_explicit(where, (uint32_t)cpu + 1, memory_order_relaxed);
}

static bool was_on(const _Atomic uint32_t *where, int cpu)
{
    return atomic_load_explicit(where, memory_order_relaxed) == (uint32_t)cpu + 1;
}

/* ---- The client's side ---------------------------------------------------------------- */

void ring_encode(struct ring *ring, uint64_t number, const struct request *request, uint64_t data)
{
    struct ring_entry entry = {
        .operation = (uint8_t)request->operation,
        .span = request->span,
        .number = request->size,
        .flags = request->filled ? RING_FILLED : 0,
    };

    switch (request->operation) {
    case OPERATION_WRITE:
        entry.bytes = (uint32_t)request->data_bytes;
        entry.number = request->at;
        entry.data = data;
        break;
    case OPERATION_PATCH:
        entry.width = (uint8_t)(request->width <= UINT8_MAX ? request->width : 0); /* 0 is refused as well */
        entry.number = request->at;
        entry.data = data;
        break;
    case OPERATION_RESET:
        entry.number = request->kind;
        break;
    default:
        break;
    }
    ring->entries[number % RING_ENTRIES] = entry;
}

bool ring_publish(struct ring *ring, uint64_t tail)
{
    (void)atomic_exchange(&ring->header->tail, tail);
    return atomic_load(&ring->header->asleep) != 0 && atomic_exchange(&ring->header->asleep, 0) != 0;
}

bool ring_is_asleep(const struct ring *ring)
{
    return atomic_load_explicit(&ring->header->asleep, memory_order_relaxed) != 0;
}

uint64_t ring_head(const struct ring *ring)
{
    return atomic_load_explicit(&ring->header->head, memory_order_acquire);
}

uint64_t ring_refused(const struct ring *ring)
{
    return atomic_load_explicit(&ring->header->refused, memory_order_relaxed);
}

/* Of all whom one wakeup of the daemon's is for, it has reached the calling thread alone. */
static void wake_others(struct ring *ring)
{
    uint32_t taken = atomic_load(&ring->header->waiting) / 2;

    /*
     * Who waits from now on is not counted perhaps, but its word is younger than `taken`; who has an
     * older word is counted.
     */
    if (atomic_exchange(&ring->chained, taken) != taken && atomic_load(&ring->sleepers) > 1)
        ring_wake_all(ring);
}

bool ring_wait(struct ring *ring, uint64_t seen, uint32_t timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    bool in_time = true;
    uint32_t word;

    (void)atomic_fetch_add(&ring->sleepers, 1);
    word = atomic_fetch_or(&ring->header->waiting, 1) | 1;
    if (atomic_load(&ring->header->head) == seen) {
        if (syscall(SYS_futex, futex_of(ring), FUTEX_WAIT, word, &timeout, NULL, 0) == 0)
            wake_others(ring);
        else
            in_time = errno != ETIMEDOUT;
    }
    (void)atomic_fetch_sub(&ring->sleepers, 1);
    return in_time;
}

void ring_wake_all(struct ring *ring)
{
    (void)syscall(SYS_futex, futex_of(ring), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool ring_result(const struct ring *ring, uint64_t number, enum operation operation, struct result *result,
                 char field[16])
{
    const struct ring_result *slot = &ring->results[number % RING_ENTRIES];

    result_init(result);
    if (slot->number != number + 1)
        return false;
    result->status = (enum status)slot->status;
    result->found = slot->found;
    if (result->status != STATUS_OK) {
        memcpy(field, slot->field, 15);
        field[15] = '\0';
        result->field = field;
        memcpy(result->text, slot->text, sizeof result->text - 1);
        result->text[sizeof result->text - 1] = '\0';
        return true;
    }
    result->has_span = slot->size != 0;
    result->offset = slot->offset;
    result->size = slot->size;
    result->flags = slot->flags;
    result->has_usage = operation == OPERATION_STATISTICS;
    if (result->has_usage)
        result->usage = slot->usage;
    return true;
}

void ring_note_client_cpu(struct ring *ring, int cpu)
{
    note_cpu(&ring->header->client_cpu, cpu);
}

bool ring_daemon_was_on(const struct ring *ring, int cpu)
{
    return was_on(&ring->header->daemon_cpu, cpu);
}

void ring_forget_shared_cpu(struct ring *ring, int cpu)
{
    uint32_t daemon_cpu = atomic_load_explicit(&ring->header->daemon_cpu, memory_order_relaxed);

    if (atomic_load_explicit(&ring->header->client_cpu, memory_order_relaxed) == daemon_cpu)
        note_cpu(&ring->header->client_cpu, cpu);
}

/* ---- The daemon's side ------------------------------------------------------------------ */

uint64_t ring_pending(const struct ring *ring, uint64_t head)
{
    return atomic_load_explicit(&ring->header->tail, memory_order_acquire) - head;
}

void ring_prefetch(const struct ring *ring, uint64_t number, uint64_t data)
{
    const uint8_t *staging = ring->staging + data % RING_STAGING_BYTES;

    __builtin_prefetch(&ring->entries[number % RING_ENTRIES]);
    __builtin_prefetch(&ring->entries[(number + 1) % RING_ENTRIES]);
    for (size_t line = 0; line < 4; line++)
        __builtin_prefetch(staging + line * 64);
}

/* Word by word, each read once: what it becomes afterwards is the client's business. */
static struct ring_entry copy_entry(const struct ring *ring, uint64_t number)
{
    const uint64_t *from = (const uint64_t *)(const void *)&ring->entries[number % RING_ENTRIES];
    uint64_t words[sizeof(struct ring_entry) / sizeof(uint64_t)];
    struct ring_entry entry;

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    memcpy(&entry, words, sizeof entry);
    return entry;
}

/* Where `bytes` staged at `data` are, or NULL where they cross the end. */
static const uint8_t *staged(const struct ring *ring, uint64_t data, uint64_t bytes)
{
    uint64_t at = data % RING_STAGING_BYTES;

    return bytes <= RING_STAGING_BYTES - at ? ring->staging + at : NULL;
}

bool ring_decode(const struct ring *ring, uint64_t number, struct request *request)
{
    struct ring_entry entry = copy_entry(ring, number);
    uint64_t patch[2];
    const uint8_t *data;

    if (entry.operation >= OPERATION_COUNT || (entry.flags & ~RING_FILLED) != 0)
        return false;
    *request = (struct request){
        .operation = (enum operation)entry.operation,
        .span = entry.span,
        .size = entry.number,
        .filled = (entry.flags & RING_FILLED) != 0,
    };
    switch (request->operation) {
    case OPERATION_WRITE:
        data = staged(ring, entry.data, entry.bytes);
        request->at = entry.number;
        request->data = data;
        request->data_bytes = entry.bytes;
        return data != NULL;
    case OPERATION_PATCH:
        data = staged(ring, entry.data, sizeof patch);
        if (data == NULL)
            return false;
        memcpy(patch, data, sizeof patch);
        request->at = entry.number;
        request->width = entry.width;
        request->expected = patch[0];
        request->desired = patch[1];
        return true;
    case OPERATION_RESET:
        request->kind = entry.number <= UINT32_MAX ? (uint32_t)entry.number : UINT32_MAX;
        return true;
    default:
        return true;
    }
}

void ring_answer(struct ring *ring, uint64_t number, const struct result *result)
{
    struct ring_result *slot = &ring->results[number % RING_ENTRIES];

    slot->number = number + 1;
    slot->status = (uint32_t)result->status;
    slot->flags = result->flags;
    slot->offset = result->offset;
    slot->size = result->has_span ? result->size : 0;
    slot->found = result->found;
    if (result->status != STATUS_OK) {
        size_t length = strnlen(result->field, sizeof slot->field - 1);

        memcpy(slot->field, result->field, length);
        slot->field[length] = '\0';
        memcpy(slot->text, result->text, strnlen(result->text, sizeof slot->text - 1) + 1);
    } else if (result->has_usage) {
        slot->usage = result->usage;
    }
}

/* True: somebody waits, and is to be woken. */
static bool publish_head(struct ring *ring, uint64_t head)
{
    (void)atomic_exchange(&ring->header->head, head);
    if ((atomic_load(&ring->header->waiting) & 1) == 0)
        return false;
    (void)atomic_fetch_add(&ring->header->waiting, 1);
    return true;
}

bool ring_complete(struct ring *ring, uint64_t head, uint64_t refused)
{
    atomic_store_explicit(&ring->header->refused, refused, memory_order_relaxed);
    return publish_head(ring, head);
}

void ring_wake(struct ring *ring)
{
    (void)syscall(SYS_futex, futex_of(ring), FUTEX_WAKE, 1, NULL, NULL, 0);
}

void ring_note_daemon_cpu(struct ring *ring, int cpu)
{
    note_cpu(&ring->header->daemon_cpu, cpu);
}

bool ring_client_was_on(const struct ring *ring, int cpu)
{
    return was_on(&ring->header->client_cpu, cpu);
}

bool ring_sleep(struct ring *ring, uint64_t head)
{
    (void)atomic_exchange(&ring->header->asleep, 1);
    if (atomic_load(&ring->header->tail) == head)
        return true;
    ring_stay_awake(ring);
    return false;
}

void ring_stay_awake(struct ring *ring)
{
    atomic_store_explicit(&ring->header->asleep, 0, memory_order_relaxed);
}

void ring_end(struct ring *ring)
{
    if (publish_head(ring, RING_ENDED))
        ring_wake(ring);
}
