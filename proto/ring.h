/* SPDX-License-Identifier: MIT */
/*
 * The data plane: memory that a client and the daemon share, so that an operation needs no
 * system call while both are awake.
 *
 *   header    who is how far, and who sleeps
 *   entries   RING_ENTRIES of 32 bytes: what the client asks for, in order
 *   results   one slot of 256 bytes an entry: what the daemon has to say beyond "done"
 *   staging   RING_STAGING_BYTES: the bytes to be written, where entries say they are
 *
 * There is one producer (the client, under a lock of its own) and one consumer (the daemon).
 * Entries are numbered from 0 on and for ever; number n is at n % RING_ENTRIES. `tail` entries were
 * published and `head` of them done: each side writes only its own number, so nothing is ever
 * locked. The client keeps tail - head within RING_ENTRIES, and does not reuse an entry or
 * staged bytes before head has passed them; the daemon believes none of it, see ring_pending().
 * Nor does it publish entry n + RING_ENTRIES before the result of n has been read: both have one
 * slot, and without its result a refusal looks like success.
 * An entry is done in order, and says nothing when it succeeds, unless its operation yields
 * something: then, and when it is refused, its result is in its slot before head passes it, and
 * `refused` counts the refusals. So whoever waits looks at one cache line.
 *
 * Sleeping. Neither side waits for ever by looking: after a while it says that it sleeps, looks
 * once more, and sleeps; the other one publishes, then looks whether somebody sleeps:
 *
 *   daemon sleeps:  asleep = 1;    look at tail     client publishes:  tail = n;  look at asleep
 *   client sleeps:  waiting |= 1;  look at head     daemon publishes:  head = n;  look at waiting
 *
 * All of these are sequentially consistent, so they have one order that all see. If the sleeper's look
 * came after the publication in it, the sleeper saw that and does not sleep. If it came before, so did the
 * word that it sleeps, and the publisher's look, which comes after the publication, finds it.
 * Whoever finds the word takes it back (just one does) and wakes. That may happen before the sleeper is
 * asleep, and for a publication that it has seen already, so that it would be right to sleep if its word
 * still stood: a wakeup must not be spent on nobody. The daemon's eventfd keeps it until it is read.
 * The clients' word is a number, odd while somebody waits; the daemon takes it back by adding 1,
 * and FUTEX_WAIT compares it with what it was when this sleeper said that it waits: it does not sleep on a
 * word that was taken since. (With head as the futex it would.) So no wakeup is lost.
 * The daemon wakes one waiter, and ring_wait() of that one wakes the others of its process, so that their
 * number is not the daemon's burden: each time that the word was taken once, or those who sleep
 * again would be woken again by those whom they woke, and so on.
 * tests/model/ring.pml has all this for a model checker.
 *
 * The memory is a memfd of the daemon's of fixed length, sealed so that nobody changes that.
 * Numbers are in the machine's own byte order. docs/protocol.md has the layout in bytes.
 */
#ifndef PROTO_RING_H
#define PROTO_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/request.h"
#include "proto/result.h"

#define RING_ENTRIES 512u
#define RING_STAGING_BYTES (256u << 10)
/* What two sides write is never in one line, nor in the one beside it, which processors fetch along. */
#define RING_LINE_BYTES 128u

/* As head: the session is over, the socket has the reason, and no entry will be done any more. */
#define RING_ENDED UINT64_MAX

struct ring_header {
    _Alignas(RING_LINE_BYTES) _Atomic uint64_t tail;    /* the client's */
    _Alignas(RING_LINE_BYTES) _Atomic uint64_t head;    /* the daemon's, or RING_ENDED */
    _Atomic uint64_t refused;                           /* entries so far; the daemon's as well */
    _Alignas(RING_LINE_BYTES) _Atomic uint32_t asleep;  /* the daemon sets it, the client clears it */
    _Atomic uint32_t daemon_cpu;                        /* 1 + where it ran last; a hint */
    _Alignas(RING_LINE_BYTES) _Atomic uint32_t waiting; /* odd: somebody does; the daemon makes it even */
    _Atomic uint32_t client_cpu;                        /* 1 + where a thread waits; a hint */
};

struct ring_entry {
    uint8_t operation; /* enum operation */
    uint8_t width;     /* patch */
    uint16_t flags;    /* RING_FILLED */
    uint32_t bytes;    /* write: of data */
    uint64_t span;
    uint64_t number; /* alloc, shrink, carve, lease: size; write, patch: at; reset: kind */
    uint64_t data;   /* write, patch: where it is staged, modulo RING_STAGING_BYTES; never across the end */
};

#define RING_FILLED 0x1u /* release, shrink: request.filled */
/* What a patch stages: `expected`, then `desired`, 8 bytes each. */
#define RING_PATCH_BYTES 16u

struct ring_result {
    uint64_t number; /* 1 + that of the entry */
    uint32_t status;
    uint32_t flags;
    uint64_t offset;
    uint64_t size;
    uint64_t found;
    char field[16];
    union {
        char text[ERROR_TEXT_MAX_BYTES]; /* where status is not STATUS_OK */
        struct usage usage;
    };
};

#define RING_HEADER_BYTES 4096u
#define RING_ENTRIES_AT RING_HEADER_BYTES
#define RING_RESULTS_AT (RING_ENTRIES_AT + RING_ENTRIES * (uint32_t)sizeof(struct ring_entry))
#define RING_STAGING_AT (RING_RESULTS_AT + RING_ENTRIES * (uint32_t)sizeof(struct ring_result))
#define RING_BYTES (RING_STAGING_AT + RING_STAGING_BYTES)

_Static_assert(sizeof(struct ring_header) <= RING_HEADER_BYTES, "the header has its page");
_Static_assert(sizeof(struct ring_entry) == 32 && sizeof(struct ring_result) == 256, "no padding");
_Static_assert(RING_RESULTS_AT % 4096 == 0 && RING_STAGING_AT % 4096 == 0, "parts begin with a page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared between processes");

/* One side's view of the memory, which it mapped and owns. A client's threads share one. */
struct ring {
    struct ring_header *header;
    struct ring_entry *entries;
    struct ring_result *results;
    uint8_t *staging;
    _Atomic uint32_t sleepers; /* threads in ring_wait() */
    _Atomic uint32_t chained;  /* how often the word had been taken when all were woken for the last time */
};

void ring_attach(struct ring *ring, void *memory);

/* ---- The client's side ------------------------------------------------------------ */

/* Puts the request into entry `number`, its data being staged at `data` already. */
void ring_encode(struct ring *ring, uint64_t number, const struct request *request, uint64_t data);
/* Publishes the entries below `tail`. True: the daemon sleeps, and the caller has to ring. */
bool ring_publish(struct ring *ring, uint64_t tail);
/* True, with nothing to ring for, where the daemon sleeps: publishing now would cost a wakeup. */
bool ring_is_asleep(const struct ring *ring);
/* The entries that are done, or RING_ENDED. */
uint64_t ring_head(const struct ring *ring);
/* Those of them that were refused; to be read after head. */
uint64_t ring_refused(const struct ring *ring);
/*
 * Sleeps until head is no longer `seen`, it is woken, or timeout_ms have passed (returns false). Any thread;
 * it may be woken for another's sake.
 */
bool ring_wait(struct ring *ring, uint64_t seen, uint32_t timeout_ms);
/* Wakes every thread that is in ring_wait(), for reasons of the client's own. */
void ring_wake_all(struct ring *ring);
/*
 * What entry `number`, which is done, was answered; false if its slot says nothing: it succeeded.
 * *field is where result->field is kept.
 */
bool ring_result(const struct ring *ring, uint64_t number, enum operation operation, struct result *result,
                 char field[16]);

/* Leave a hint where this side runs, and whether the other one ran last on that processor. */
void ring_note_client_cpu(struct ring *ring, int cpu);
bool ring_daemon_was_on(const struct ring *ring, int cpu);
/* Takes the hint back that a thread waits on the daemon's processor: one on `cpu`, another one, looks. */
void ring_forget_shared_cpu(struct ring *ring, int cpu);

/* ---- The daemon's side --------------------------------------------------------------- */

/* How many entries wait beyond `head`, or more than RING_ENTRIES where the client's tail is nonsense. */
uint64_t ring_pending(const struct ring *ring, uint64_t head);
/* What will be read first is on its way from the client's processor: entry `number`, and data at `data`. */
void ring_prefetch(const struct ring *ring, uint64_t number, uint64_t data);
/*
 * Entry `number`, copied out before it is looked at. False: it is nonsense. The data of a write is still
 * the client's to change: it is to be read once.
 */
bool ring_decode(const struct ring *ring, uint64_t number, struct request *request);
/* The answer to entry `number`, to be seen with the next ring_complete(). */
void ring_answer(struct ring *ring, uint64_t number, const struct result *result);
/* Entries below `head` are done. True: somebody waits, and ring_wake() is due. */
bool ring_complete(struct ring *ring, uint64_t head, uint64_t refused);
void ring_wake(struct ring *ring);
void ring_note_daemon_cpu(struct ring *ring, int cpu);
bool ring_client_was_on(const struct ring *ring, int cpu);
/* The daemon is about to sleep. False: there is something to do beyond `head`, and it is awake again. */
bool ring_sleep(struct ring *ring, uint64_t head);
/* The same the other way round. */
void ring_stay_awake(struct ring *ring);
/* Makes head RING_ENDED, and wakes who waits. */
void ring_end(struct ring *ring);

#endif
