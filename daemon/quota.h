/* SPDX-License-Identifier: MIT */
/*
 * What each user holds, against what it may hold. A charge is embedded in the object
 * that it pays for, is made before that object gets anything from the system, and is
 * refunded by the object's destructor.
 */
#ifndef DAEMON_QUOTA_H
#define DAEMON_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum quota_kind { QUOTA_SESSIONS, QUOTA_BYTES, QUOTA_COUNT };

/* One user. Lives while something is charged to it. */
struct account {
    struct account *next;
    uid_t uid;
    unsigned refs;
    uint64_t held[QUOTA_COUNT];
};

struct quota {
    struct account *accounts;
};

struct charge {
    struct account *account;
    enum quota_kind kind;
    uint64_t amount;
};

/* The account of that uid, with a reference for the caller; NULL without memory. */
struct account *quota_account(struct quota *quota, uid_t uid);
struct account *account_unref(struct quota *quota, struct account *account);

/* An empty charge; it refers to the account, so the account must outlive it. */
void charge_init(struct charge *charge, struct account *account, enum quota_kind kind);
/* Sets what the charge holds. False, and nothing changes, if the account would then hold more than `limit`.
 */
bool charge_set(struct charge *charge, uint64_t amount, uint64_t limit);
void charge_deinit(struct charge *charge);

#endif
