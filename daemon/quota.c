/* SPDX-License-Identifier: MIT */
#include "daemon/quota.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

struct account *quota_account(struct quota *quota, uid_t uid)
{
    struct account *account = quota->accounts;

    while (account != NULL && account->uid != uid)
        account = account->next;
    if (account == NULL) {
        account = calloc(1, sizeof *account);
        if (account == NULL)
            return NULL;
        account->quota = quota;
        account->uid = uid;
        account->next = quota->accounts;
        quota->accounts = account;
        quota->accounts_count++;
    }
    account->refs++;
    return account;
}

struct account *account_unref(struct quota *quota, struct account *account)
{
    if (account == NULL || --account->refs > 0)
        return NULL;
    for (int kind = 0; kind < QUOTA_COUNT; kind++)
        assert(account->held[kind] == 0);
    for (struct account **link = &quota->accounts; *link != NULL; link = &(*link)->next) {
        if (*link == account) {
            *link = account->next;
            quota->accounts_count--;
            break;
        }
    }
    free(account);
    return NULL;
}

bool account_may_run(struct account *account, uint64_t turn, uint64_t now_ns, uint64_t *round)
{
    if (account->turn != turn) {
        if (!account->passed_over)
            account->round++;
        account->passed_over = false;
        account->turn = turn;
        account->turn_end_ns = now_ns + QUOTA_SLICE_NS;
    }
    if (*round == account->round)
        return false;
    if (now_ns > account->turn_end_ns) {
        account->passed_over = true;
        return false;
    }
    *round = account->round;
    return true;
}

void charge_init(struct charge *charge, struct account *account, enum quota_kind kind)
{
    *charge = (struct charge){.account = account, .kind = kind};
}

/* Whether the account would hold more than that. */
static bool would_exceed(const struct charge *charge, uint64_t amount, uint64_t limit)
{
    uint64_t others = charge->account->held[charge->kind] - charge->amount;

    return others > limit || amount > limit - others;
}

static bool is_within_share(const struct charge *charge, uint64_t amount)
{
    const struct account *account = charge->account;
    const struct pool *pool = &account->quota->pools[charge->kind];
    uint64_t others = pool->held - account->held[charge->kind];
    uint64_t left = pool->total > others ? pool->total - others : 0;

    if (pool->total == 0)
        return true;
    if (account->held[charge->kind] == 0)
        return amount <= left;
    return !would_exceed(charge, amount, left / (account->quota->accounts_count + 1));
}

bool charge_exceeds_share(const struct charge *charge, uint64_t amount, uint64_t limit)
{
    return !would_exceed(charge, amount, limit) && !is_within_share(charge, amount);
}

void charge_restore(struct charge *charge, uint64_t amount)
{
    struct pool *pool = &charge->account->quota->pools[charge->kind];

    /* Unsigned: the difference may be negative. */
    charge->account->held[charge->kind] += amount - charge->amount;
    pool->held += amount - charge->amount;
    charge->amount = amount;
}

bool charge_set(struct charge *charge, uint64_t amount, uint64_t limit)
{
    if (amount > charge->amount && (would_exceed(charge, amount, limit) || !is_within_share(charge, amount)))
        return false;
    charge_restore(charge, amount);
    return true;
}

void charge_deinit(struct charge *charge)
{
    if (charge->account != NULL)
        (void)charge_set(charge, 0, 0);
    *charge = (struct charge){0};
}
