/* SPDX-License-Identifier: MIT */
/*
 * One client's arena, the spans in it and what they are charged to. A session knows
 * nothing of sockets: connection.c feeds it requests, whichever way they came.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include "daemon/arena.h"
#include "daemon/ledger.h"
#include "daemon/peer.h"
#include "daemon/policy.h"
#include "daemon/quota.h"
#include "daemon/written.h"
#include "proto/heap.h"
#include "proto/hello.h"
#include "proto/request.h"

/* Free memory at the arena's end that a session keeps for its next spans. */
#define SESSION_RESERVE_BYTES (UINT64_C(1) << 20)

struct session {
    uint64_t id;
    unsigned refs;             /* its owner's, and one for each executor */
    const struct class *class; /* what it was granted by; outlives it */
    uint64_t began_ns;         /* by CLOCK_MONOTONIC */
    struct shape shape;
    struct arena arena;
    struct ledger ledger;   /* all of it that outlives the daemon, but for the arena's bytes */
    struct heap heap;       /* its units are the ledger's */
    struct written written; /* where the class has write_once; the ledger's */
    struct charge bytes;    /* the arena's memory */
    struct charge spans;
    bool immediate_release;
    bool is_stored;
    bool is_frozen;       /* its arena was sealed by an earlier daemon: nothing of it can change */
    bool has_grown_ahead; /* for an alloc that is not done yet */
};

/*
 * Grants what `hello` (validated) asks for as far as the peer's class allows. NULL: *result is the refusal.
 * The class and the account must outlive the session.
 */
struct session *session_new(uint64_t id, const struct class *class, const struct peer *peer,
                            struct account *account, const struct hello *hello, struct result *result);

/*
 * Goes on with the session that the ledger and the arena are of, whatever they hold: an operation that was
 * cut off in the middle is as if it had not begun, or as if it were done, see ledger.h. Takes both over; what
 * it grants comes from the ledger, into the class, which is the caller's and has to outlive it. It is charged
 * to the account whatever that holds. NULL: *flaw is the reason, and the ledger is the caller's still.
 */
struct session *session_adopt(struct ledger *ledger, int arena_fd, const struct class *class,
                              struct account *account, const char **flaw);
/* Says in *welcome what a peer has to know of it. */
void session_describe(const struct session *session, struct welcome *welcome);
/* By what name arena and ledger are in the fd store; `name` holds STORE_NAME_MAX_BYTES. */
void session_store_name(const struct session *session, char *name);

struct session *session_ref(struct session *session);
/*
 * NULL is allowed. Returns NULL. With the last reference it goes; a client's mapping, if it still has one, is
 * its own from there on.
 */
struct session *session_unref(struct session *session);

/*
 * Makes the arena, or the heap's view of it, reach to `bytes`: charged first, grown
 * second. STATUS_OK, or the refusal in *result with nothing changed.
 */
enum status session_grow(struct session *session, uint64_t bytes, struct result *result);

/* Gives free memory at the arena's end, beyond `keep_bytes` of it, back to the system. */
void session_trim(struct session *session, uint64_t keep_bytes);

#endif
