/* SPDX-License-Identifier: MIT */
/*
 * What each user holds, against what it may hold. A charge is embedded in the object
 * that it pays for, is made before that object gets anything from the system, and is
 * refunded by the object's destructor.
 *
 * Two bounds hold: the limit that the policy gives the user, and its share. Of what the
 * daemon has in all (a pool) a user may hold at most 1/(n + 1) of what the others have left, n
 * being the users at present, itself included: the first one half, and the n-th to come still
 * 1/(n * (n + 1)) of all, whatever those before it hold. Who holds nothing yet gets its first all
 * the same, as long as it is there. (dbus-broker's users share by a rule of this kind.)
 */
#ifndef DAEMON_QUOTA_H
#define DAEMON_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define QUOTA_SLICE_NS UINT64_C(50000)

enum quota_kind {
    QUOTA_SESSIONS, /* connections */
    QUOTA_BYTES,    /* code memory */
    QUOTA_SPANS,
    QUOTA_FDS,
    QUOTA_QUEUED, /* bytes of answers and requests that wait */
    QUOTA_COUNT
};

struct plane;

/* One user. Lives while something is charged to it. */
struct account {
    struct quota *quota;
    struct account *next;
    uid_t uid;
    unsigned refs;
    uint64_t held[QUOTA_COUNT];
    /* Its share of the daemon's time, see account_may_run(). */
    uint64_t turn;
    uint64_t turn_end_ns;
    uint64_t round;
    bool passed_over;
    unsigned put_off; /* requests of its connections whose slice was over */
    /* Its planes that are awake, the next to be looked at first; the poller's. */
    struct plane *awake;
    struct account *next_awake;
};

struct pool {
    uint64_t total; /* 0: as much as each may have */
    uint64_t held;
};

struct quota {
    struct account *accounts;
    unsigned accounts_count;
    struct pool pools[QUOTA_COUNT];
};

struct charge {
    struct account *account;
    enum quota_kind kind;
    uint64_t amount;
};

/* The account of that uid, with a reference for the caller; NULL without memory. */
struct account *quota_account(struct quota *quota, uid_t uid);
struct account *account_unref(struct quota *quota, struct account *account);

/*
 * Whether one of the user's connections may be served at `now_ns` in this turn of the loop.
 * A user has QUOTA_SLICE_NS a turn, for all its connections together, so that many of
 * them get no more than one. They take turns in rounds: one that was served in this round (it
 * keeps that in *round) waits until none of the others is passed over for want of time.
 */
bool account_may_run(struct account *account, uint64_t turn, uint64_t now_ns, uint64_t *round);

/* An empty charge; it refers to the account, so the account must outlive it. */
void charge_init(struct charge *charge, struct account *account, enum quota_kind kind);
/*
 * Sets what the charge holds. False, and nothing changes, if the account would then hold more than
 * `limit`, or than its share.
 */
bool charge_set(struct charge *charge, uint64_t amount, uint64_t limit);
/* The same without asking whether it may: it was granted once. */
void charge_restore(struct charge *charge, uint64_t amount);
/* After a refusal: true if it was for the share, and `limit` would have allowed it. */
bool charge_exceeds_share(const struct charge *charge, uint64_t amount, uint64_t limit);
void charge_deinit(struct charge *charge);

#endif
