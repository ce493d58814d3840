/* SPDX-License-Identifier: MIT */
/*
 * What the daemon has to know of one session, in a memfd that outlives it: from the ledger, the arena,
 * the ring and the client's socket the next daemon goes on where this one stopped, between whichever two
 * instructions that was.
 *
 *   page     who it is, what it was granted, how far both planes are, one intent
 *   answer   the reply that is being made for the socket, or was made last; begins in the page
 *   units    the heap's, see heap.h: which granule belongs to which span
 *   written  of a write-once session: which granules were written
 *
 * How nothing is done twice, and nothing is lost. An operation is done when one 64-bit store says so: to
 * `head` for an entry of the ring, to `progress` for one on the socket. Until then its entry is still in
 * the ring, or its record still in the client's socket: whoever starts anew finds it there, and runs it. So
 * that it can be run once more, what it changes is put back first. For that it says beforehand, in the
 * intent, what it is going to change:
 *
 *   TAKE, CUT, LEASE, RETURN  of the heap: undone, from whatever part of it was done
 *   CLEAR                     of the whole heap: done to its end instead
 *   WRITE                     where code is written once: its granules are fill again, as those of a PATCH
 *   PATCH, RELEASED, RETURNED can't be taken back: what they changed is no more what it was. The operation,
 *                             when it is run once more, finds here that it was done, and only answers.
 *
 * All else can be done once more without harm. An intent counts only while the operation that it was written
 * for (its `key`) is the next one; to say that this is done is to forget it.
 *
 * Whose doing it is when a daemon dies. Before anything that a session asks for is looked at, its page says
 * so, and not any more when that was got through, see ledger_blame(). What it asks for is still there for the
 * next daemon: so a session that is the end of LEDGER_DEATHS_MAX daemons in a row ends itself, and the others
 * go on. An executor is blamed by itself, as it may be somebody else than the session's owner.
 *
 * Stores have to reach memory in their order: a process that is killed has made all of them up to an
 * instruction, and none after it, so it is the compiler alone that has to be kept from mending the order.
 *
 * The format. Fields are added at the page's end, and the version tells which are there; a field does not
 * change its place or meaning. A ledger is believed nothing when it is adopted, see ledger_adopt().
 */
#ifndef DAEMON_LEDGER_H
#define DAEMON_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define LEDGER_MAGIC "JITBLEDG"
#define LEDGER_VERSION 2u
#define LEDGER_PAGE_BYTES 4096u
/* Where the answer begins; one to a single operation is all in the page. */
#define LEDGER_ANSWER_AT 2048u
#define LEDGER_UNIT_MAX_BYTES 255u
#define LEDGER_CLASS_MAX_BYTES 31u
/* Of one result in the answer, and of what is before the first. */
#define RESULT_MAX_BYTES (ERROR_TEXT_MAX_BYTES + 200u)

/* An operation's key is the number of its entry, or the progress before it with this bit. */
#define LEDGER_KEY_SOCKET (UINT64_C(1) << 63)
/* In `progress`: the reply is complete; it was sent. Below are the operations done (32 bits up) and its
 * bytes. */
#define LEDGER_READY (UINT64_C(1) << 62)
#define LEDGER_SENT (UINT64_C(1) << 61)

/*
 * How often in a row what a session, or an executor, asks for first may be the end of the daemon before it is
 * its own end. What killed the daemon it can't tell: so more often than by whoever kills it at random, even
 * while it starts, it would ever come to that.
 */
#define LEDGER_DEATHS_MAX 5u

enum ledger_state {
    LEDGER_NEW = 0,
    LEDGER_LIVE = 1,
    LEDGER_ENDED = 2,
    LEDGER_ORPHANED = 3 /* its owner is gone, and has no part in it any more; executors are there */
};

enum intent_kind {
    INTENT_NONE = 0,
    INTENT_TAKE,
    INTENT_CUT,
    INTENT_LEASE,
    INTENT_RETURN,
    INTENT_CLEAR,
    INTENT_WRITE,
    INTENT_PATCH,
    INTENT_RELEASED,
    INTENT_RETURNED,
    INTENT_COUNT
};

struct ledger_intent {
    uint64_t key;
    uint32_t kind; /* enum intent_kind; written last */
    uint32_t flag; /* CUT: the span is sealed; CLEAR: gives back; PATCH: width */
    uint64_t offset;
    uint64_t bytes; /* PATCH: expected */
    uint64_t desired;
};

/* What the policy granted; the session keeps it, whatever the next daemon's policy says. */
struct ledger_grants {
    char class[LEDGER_CLASS_MAX_BYTES + 1];
    uint64_t bytes_max;
    uint64_t rate_bytes;
    uint32_t session_max;
    uint32_t span_max;
    uint32_t executor_max;
    uint32_t rate;
    uint32_t forbid;
    uint8_t orphans_run;
    uint8_t write_once;
    uint8_t scan;
    uint8_t audit;
};

struct ledger_page {
    char magic[8];
    uint32_t version;
    uint32_t state; /* enum ledger_state */
    uint64_t session;
    uint32_t uid;
    uint32_t kind; /* enum arena_kind */
    uint64_t arena_bytes;
    uint64_t features;
    uint32_t granularity;
    uint32_t fill_pattern;
    uint64_t arena_inode;
    uint64_t ring_inode; /* 0: it has none */
    uint64_t hello_id;   /* of the request that Welcome answers */
    struct ledger_grants grants;
    char unit[LEDGER_UNIT_MAX_BYTES + 1];

    _Alignas(64) uint64_t steps; /* odd: something of the session is looked at, or done */
    uint64_t head;               /* entries of the ring that are done */
    uint64_t refused[2];         /* of them, refused; by whether head is odd */
    uint64_t answer_id;          /* the request on the socket; 0: none */
    uint64_t progress;
    uint64_t grown_bytes;
    uint64_t unfilled_bytes; /* of a reset: what is below holds code still */
    struct ledger_intent intent;
    uint64_t reserved_peak_bytes;
    uint64_t findings;
    uint32_t gives_back; /* the reset is a hard one */
    uint32_t deaths;     /* in a row */
    uint64_t died_at;    /* steps */

    /* Since version 2; 0 where the daemon did not know of it. */
    uint64_t began_ns; /* the session, by CLOCK_MONOTONIC; 0: not known */
    uint64_t operations;
    uint64_t refusals;
    uint64_t executor;        /* the number of the one that is looked at; 0: none */
    uint64_t executor_died;   /* the same, when a daemon died last */
    uint64_t executor_deaths; /* in a row */
    uint64_t due_ns;          /* what its owner owes to its rate, by CLOCK_MONOTONIC; 0: nothing */
    uint64_t due_bytes_ns;    /* ... and to that of bytes */
};

_Static_assert(sizeof(struct ledger_page) <= LEDGER_ANSWER_AT, "page and answer share the first page");

struct ledger {
    int fd;
    struct ledger_page *page; /* NULL: none */
    size_t bytes;             /* all of it */
    size_t answer_bytes;      /* that have memory */
    uint64_t units_bytes;     /* the same */
    uint64_t key;             /* of the operation in hand */
    struct ledger_intent
        done; /* what was found to be done by the last daemon, and is answered first of all */
};

/* 0 or -errno. All zeros but for magic and version. */
int ledger_init(struct ledger *ledger, uint64_t arena_bytes, uint32_t granularity, bool write_once);
/* Its memory is left as it is, for who adopts it. */
void ledger_deinit(struct ledger *ledger);

/*
 * Takes the ledger over that `fd` is, which is anything at all: checks that each of its numbers is one that
 * the daemon could have written, and that it can't be made shorter. NULL, or what is wrong: then there is
 * nothing to deinit, and the descriptor is the caller's still. What its intent and its units say is for the
 * session to check, and its units have no memory before it knows how long the arena is.
 */
const char *ledger_adopt(struct ledger *ledger, int fd);

/* Where the heap's units and the write-once bits are. */
void *ledger_units(const struct ledger *ledger);
uint64_t *ledger_written(const struct ledger *ledger);
uint8_t *ledger_answer(const struct ledger *ledger);

/*
 * Gets memory for the answer, or for what belongs to that much of the arena: a touch that finds none would
 * end the daemon. 0 or -errno.
 */
int ledger_reserve_answer(struct ledger *ledger, size_t bytes);
int ledger_reserve_units(struct ledger *ledger, uint64_t arena_bytes);
/* Forgets what belongs to the arena beyond `arena_bytes`. */
void ledger_cut_units(struct ledger *ledger, uint64_t arena_bytes);

/* For tests that end the daemon at each of these places in turn, or where it is that one's turn. */
#ifdef JITBROKER_KILL_POINTS
void ledger_step(void);
void ledger_step_of(const char *what, uint64_t number);
#define LEDGER_STEP() ledger_step()
#define LEDGER_STEP_OF(what, number) ledger_step_of(what, number)
#else
#define LEDGER_STEP() ((void)0)
#define LEDGER_STEP_OF(what, number) ((void)0)
#endif

/* What was stored before is stored before what follows. */
static inline void ledger_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    LEDGER_STEP();
}

/* ---- Whose doing it is when a daemon dies -------------------------------------------------- */

/* From here on it is the session's; until it was got through, or the session has ended. */
static inline void ledger_blame(struct ledger *ledger)
{
    ledger->page->steps |= 1;
    ledger_order();
    LEDGER_STEP_OF("session", ledger->page->session);
}

static inline void ledger_absolve(struct ledger *ledger)
{
    ledger_order();
    ledger->page->steps += ledger->page->steps & 1;
}

/* What it asked for first is done, whatever comes now. Before anyone can know of it, who may then kill. */
static inline void ledger_note_progress(struct ledger *ledger)
{
    ledger->page->steps += 2;
    ledger_order();
}

/*
 * To adopt the session is its doing as well. NULL; or why it is not to be: it was the end of as many daemons
 * as it may.
 */
const char *ledger_begin_adoption(struct ledger *ledger);
/* That it could be adopted says nothing of what it asks for: a death in its next turn is one in a row. */
static inline void ledger_end_adoption(struct ledger *ledger)
{
    ledger_order();
    ledger->page->steps &= ~UINT64_C(1);
}

/* An executor may be somebody else, whose doing is not the session's. */
static inline void ledger_blame_executor(struct ledger *ledger, uint64_t number)
{
    ledger->page->executor = number;
    ledger_order();
    LEDGER_STEP_OF("executor", number);
}

static inline void ledger_absolve_executor(struct ledger *ledger, uint64_t number)
{
    ledger_order();
    ledger->page->executor = 0;
    if (ledger->page->executor_died == number)
        ledger->page->executor_died = 0;
}

/* After adopting. */
static inline bool ledger_died_too_often_of(const struct ledger *ledger, uint64_t executor)
{
    return ledger->page->executor_died == executor && ledger->page->executor_deaths >= LEDGER_DEATHS_MAX;
}

/* ---- Operations ---------------------------------------------------------------------------- */

/* A step of the operation `ledger->key` begins, and is over; whole: the operation is. */
static inline void ledger_begin(struct ledger *ledger)
{
    struct ledger_page *page = ledger->page;

    if (ledger->done.kind == INTENT_NONE)
        page->intent.kind = INTENT_NONE;
    ledger_order();
}

static inline void ledger_end(struct ledger *ledger, bool whole)
{
    struct ledger_page *page = ledger->page;

    ledger_order();
    if (!whole)
        page->intent.kind = INTENT_NONE;
    ledger_order();
}

static inline void ledger_intend(struct ledger *ledger, enum intent_kind kind, uint64_t offset,
                                 uint64_t bytes, uint32_t flag)
{
    struct ledger_intent *intent = &ledger->page->intent;

    intent->kind = INTENT_NONE;
    ledger_order();
    intent->key = ledger->key;
    intent->offset = offset;
    intent->bytes = bytes;
    intent->flag = flag;
    ledger_order();
    intent->kind = kind;
    ledger_order();
}

/* The change that was intended is made, and is not to be undone any more: in one store. */
static inline void ledger_turn(struct ledger *ledger, enum intent_kind kind)
{
    ledger_order();
    ledger->page->intent.kind = kind;
    ledger_order();
}

static inline void ledger_intend_patch(struct ledger *ledger, uint64_t offset, uint32_t width,
                                       uint64_t expected, uint64_t desired)
{
    ledger->page->intent.desired = desired;
    ledger_intend(ledger, INTENT_PATCH, offset, expected, width);
}

/* Whether the operation in hand is one that was done already, by the last daemon. */
static inline bool ledger_was_done(const struct ledger *ledger, enum intent_kind kind, uint64_t offset)
{
    return ledger->done.kind == kind && ledger->done.key == ledger->key && ledger->done.offset == offset;
}

/* The entry is done, and `refused` of all that were so far. */
static inline void ledger_commit_entry(struct ledger *ledger, uint64_t refused)
{
    struct ledger_page *page = ledger->page;

    page->refused[(page->head + 1) & 1] = refused;
    ledger_note_progress(ledger);
    page->head++;
    ledger_order();
}

/* ---- The socket ---------------------------------------------------------------------------- */

/* The answer to request `id` begins, with `used` bytes of it. */
static inline void ledger_begin_answer(struct ledger *ledger, uint64_t id, size_t used)
{
    struct ledger_page *page = ledger->page;

    page->answer_id = 0;
    page->intent.kind = INTENT_NONE;
    ledger_order();
    page->progress = used;
    ledger_order();
    page->answer_id = id;
    ledger_order();
}

/* `done` of its operations are, and their results part of the answer, which has `used` bytes now. */
static inline void ledger_commit_answer(struct ledger *ledger, size_t done, size_t used)
{
    ledger_note_progress(ledger);
    ledger->page->progress = (uint64_t)done << 32 | used;
    ledger_order();
}

/* It is complete, or was sent. */
static inline void ledger_mark_answer(struct ledger *ledger, uint64_t mark, size_t used)
{
    if (ledger->page->progress != (mark | used)) /* it is none to be as far as the last daemon was */
        ledger_note_progress(ledger);
    ledger->page->progress = mark | used;
    ledger_order();
}

/* The request is not in the socket any more. */
static inline void ledger_end_answer(struct ledger *ledger)
{
    ledger->page->answer_id = 0;
    ledger_order();
}

#endif
