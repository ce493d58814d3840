/* SPDX-License-Identifier: MIT */
/*
 * One client's arena, the spans in it and what they are charged to. A session knows
 * nothing of sockets: connection.c feeds it requests, whichever way they came.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include "daemon/arena.h"
#include "daemon/config.h"
#include "daemon/peer.h"
#include "daemon/quota.h"
#include "proto/heap.h"
#include "proto/hello.h"
#include "proto/request.h"

/* Free memory at the arena's end that a session keeps for its next spans. */
#define SESSION_RESERVE_BYTES (UINT64_C(1) << 20)

struct session {
    uint64_t id;
    struct shape shape;
    struct arena arena;
    struct heap heap;
    struct charge bytes; /* the arena's memory */
    uint64_t bytes_max;
    uint64_t reserved_peak_bytes;
    uint32_t span_max;
    bool immediate_release;
    /* Of a reset that is not done yet: what is below holds code still, so nothing else is done before. */
    uint64_t unfilled_bytes;
    bool gives_back; /* it is a hard one */
};

/*
 * Grants what `hello` (validated) asks for as far as the configuration allows, and
 * says in *welcome what that is. NULL: *result is the refusal. The account must
 * outlive the session.
 */
struct session *session_new(uint64_t id, const struct config *config, const struct peer *peer,
                            struct account *account, const struct hello *hello, struct welcome *welcome,
                            struct result *result);
/* NULL is allowed. Returns NULL. The client's mapping, if it still has one, is its own from here on. */
struct session *session_free(struct session *session);

/*
 * Makes the arena, or the heap's view of it, reach to `bytes`: charged first, grown
 * second. STATUS_OK, or the refusal in *result with nothing changed.
 */
enum status session_grow(struct session *session, uint64_t bytes, struct result *result);

/* Gives free memory at the arena's end, beyond `keep_bytes` of it, back to the system. */
void session_trim(struct session *session, uint64_t keep_bytes);

#endif
