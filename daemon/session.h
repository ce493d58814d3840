/* SPDX-License-Identifier: MIT */
/*
 * One client's arena, the spans in it and what they are charged to. A session knows
 * nothing of sockets: connection.c feeds it requests, whichever way they came.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include "daemon/arena.h"
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
    struct heap heap;
    struct written written; /* where the class has write_once */
    struct charge bytes;    /* the arena's memory */
    struct charge spans;
    uint64_t reserved_peak_bytes;
    bool immediate_release;
    uint64_t findings; /* writes and patches with an instruction that the class forbids, done or refused */
    /* Of a reset that is not done yet: what is below holds code still, so nothing is changed before. */
    uint64_t unfilled_bytes;
    bool gives_back;      /* it is a hard one */
    bool has_grown_ahead; /* for an alloc that is not done yet */
};

/*
 * Grants what `hello` (validated) asks for as far as the peer's class allows, and
 * says in *welcome what that is. NULL: *result is the refusal. The class and the account must
 * outlive the session.
 */
struct session *session_new(uint64_t id, const struct class *class, const struct peer *peer,
                            struct account *account, const struct hello *hello, struct welcome *welcome,
                            struct result *result);
/* Says in *welcome what a peer has to know of it; its features are the caller's to say. */
void session_describe(const struct session *session, struct welcome *welcome);

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
