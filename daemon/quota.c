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
        account->uid = uid;
        account->next = quota->accounts;
        quota->accounts = account;
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
            break;
        }
    }
    free(account);
    return NULL;
}

void charge_init(struct charge *charge, struct account *account, enum quota_kind kind)
{
    *charge = (struct charge){.account = account, .kind = kind};
}

bool charge_set(struct charge *charge, uint64_t amount, uint64_t limit)
{
    uint64_t *held = &charge->account->held[charge->kind];
    uint64_t others = *held - charge->amount;

    if (amount > charge->amount && (others > limit || amount > limit - others))
        return false;
    *held = others + amount;
    charge->amount = amount;
    return true;
}

void charge_deinit(struct charge *charge)
{
    if (charge->account != NULL)
        (void)charge_set(charge, 0, 0);
    *charge = (struct charge){0};
}
