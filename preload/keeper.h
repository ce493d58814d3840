/* SPDX-License-Identifier: MIT */
/* The process that owns a family's code, see family.h; and what it is asked by. */
#ifndef PRELOAD_KEEPER_H
#define PRELOAD_KEEPER_H

#include <stdatomic.h>
#include <stdint.h>

#define KEEPER_STAGING_BYTES (UINT64_C(64) << 10)
#define KEEPER_MEMBERS_MAX 1024u

enum keeper_operation { KEEPER_TAKE, KEEPER_WRITE };

/* In memory that keeper and family share. What is asked is looked at by the keeper while `done` is behind
 * `asked`, and changed by who has the turn while it is not. */
struct keeper_desk {
    _Atomic uint32_t members[KEEPER_MEMBERS_MAX]; /* processes of the family, or 0 */
    _Atomic uint32_t writers;                     /* those in which the memory is writable */
    _Atomic uint32_t turn;                        /* the one that asks, or 0 */
    _Atomic uint32_t asked;
    _Atomic uint32_t done;
    int32_t error; /* of what is done: 0 or a negative errno */
    uint32_t operation;
    uint32_t window;
    uint64_t offset;
    uint64_t bytes;
    uint64_t windows;
    uint8_t staging[KEEPER_STAGING_BYTES];
    _Atomic uint64_t places[]; /* of each window's chunk in the arena, and 1; 0: it has none */
};

/* What the keeper sends first, and with it, where the error is 0, an executor's end. */
struct keeper_greeting {
    int32_t error;
};

/* The keeper's life. Each record on the socket says that something was asked. */
_Noreturn void keeper_run(int socket, struct keeper_desk *desk);

#endif
