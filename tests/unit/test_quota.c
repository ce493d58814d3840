/* SPDX-License-Identifier: MIT */
/* Who holds how much: nothing above the limit, nothing lost, nothing left over. */
#include <stdlib.h>
#include <string.h>

#include "daemon/quota.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"

static struct quota quota;
static uint64_t seed;

START_TEST(exactly_the_limit_is_granted)
{
    struct account *account = quota_account(&quota, 1000);
    struct charge charge;

    charge_init(&charge, account, QUOTA_BYTES);
    ck_assert_uint_eq(charge.amount, 0);
    ck_assert(!charge_set(&charge, 513, 512));
    ck_assert_uint_eq(charge.amount, 0);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    ck_assert(charge_set(&charge, 512, 512));
    ck_assert_uint_eq(charge.amount, 512);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 512);
    ck_assert(!charge_set(&charge, 513, 512));
    ck_assert_uint_eq(charge.amount, 512);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 512);
    ck_assert(charge_set(&charge, 513, 513));
    charge_deinit(&charge);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    ck_assert_ptr_null(account_unref(&quota, account));
}
END_TEST

START_TEST(a_limit_of_0_grants_nothing)
{
    struct account *account = quota_account(&quota, 0);
    struct charge charge;

    charge_init(&charge, account, QUOTA_SESSIONS);
    ck_assert(charge_set(&charge, 0, 0));
    ck_assert(!charge_set(&charge, 1, 0));
    charge_deinit(&charge);
    (void)account_unref(&quota, account);
}
END_TEST

START_TEST(the_charges_of_one_user_add_up)
{
    struct account *account = quota_account(&quota, 1000);
    struct charge first;
    struct charge second;

    charge_init(&first, account, QUOTA_BYTES);
    charge_init(&second, account, QUOTA_BYTES);
    ck_assert(charge_set(&first, 300, 512));
    ck_assert(!charge_set(&second, 213, 512));
    ck_assert(charge_set(&second, 212, 512));
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 512);
    ck_assert(!charge_set(&first, 301, 512));
    ck_assert(charge_set(&first, 299, 512));
    ck_assert(charge_set(&second, 213, 512));
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 512);
    charge_deinit(&first);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 213);
    ck_assert(charge_set(&second, 512, 512));
    charge_deinit(&second);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    (void)account_unref(&quota, account);
}
END_TEST

START_TEST(users_and_kinds_are_counted_apart)
{
    struct account *one = quota_account(&quota, 1000);
    struct account *other = quota_account(&quota, 1001);
    struct charge charges[3];

    ck_assert_ptr_ne(one, other);
    charge_init(&charges[0], one, QUOTA_BYTES);
    charge_init(&charges[1], other, QUOTA_BYTES);
    charge_init(&charges[2], one, QUOTA_SESSIONS);
    for (int i = 0; i < 3; i++) {
        ck_assert(charge_set(&charges[i], 100, 100));
        ck_assert(!charge_set(&charges[i], 101, 100));
    }
    charge_deinit(&charges[0]);
    ck_assert_uint_eq(one->held[QUOTA_BYTES], 0);
    ck_assert_uint_eq(one->held[QUOTA_SESSIONS], 100);
    ck_assert_uint_eq(other->held[QUOTA_BYTES], 100);
    charge_deinit(&charges[1]);
    charge_deinit(&charges[2]);
    (void)account_unref(&quota, one);
    (void)account_unref(&quota, other);
    ck_assert_ptr_null(quota.accounts);
}
END_TEST

START_TEST(who_holds_more_than_a_lowered_limit_may_only_give_back)
{
    struct account *account = quota_account(&quota, 1000);
    struct charge charge;
    struct charge other;

    charge_init(&charge, account, QUOTA_BYTES);
    charge_init(&other, account, QUOTA_BYTES);
    ck_assert(charge_set(&charge, 1000, 1000));
    ck_assert(charge_set(&charge, 1000, 10)); /* as much as before */
    ck_assert(!charge_set(&charge, 1001, 10));
    ck_assert(!charge_set(&other, 1, 10));
    ck_assert(charge_set(&charge, 999, 10)); /* still above, but less */
    ck_assert(!charge_set(&charge, 1000, 10));
    ck_assert(charge_set(&charge, 10, 10));
    ck_assert(!charge_set(&other, 1, 10));
    ck_assert(charge_set(&charge, 9, 10));
    ck_assert(charge_set(&other, 1, 10));
    charge_deinit(&charge);
    charge_deinit(&other);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    (void)account_unref(&quota, account);
}
END_TEST

START_TEST(sums_near_the_largest_number_do_not_wrap)
{
    struct account *account = quota_account(&quota, 1000);
    struct charge charge;
    struct charge other;

    charge_init(&charge, account, QUOTA_BYTES);
    charge_init(&other, account, QUOTA_BYTES);
    ck_assert(charge_set(&charge, UINT64_MAX - 1, UINT64_MAX));
    ck_assert(!charge_set(&other, 2, UINT64_MAX));
    ck_assert(!charge_set(&other, UINT64_MAX, UINT64_MAX));
    ck_assert(!charge_set(&other, UINT64_MAX, 1000));
    ck_assert(charge_set(&other, 1, UINT64_MAX));
    ck_assert_uint_eq(account->held[QUOTA_BYTES], UINT64_MAX);
    ck_assert(!charge_set(&charge, UINT64_MAX, UINT64_MAX));
    charge_deinit(&charge);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 1);
    ck_assert(!charge_set(&other, UINT64_MAX, UINT64_MAX - 1));
    ck_assert(charge_set(&other, UINT64_MAX, UINT64_MAX));
    charge_deinit(&other);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    (void)account_unref(&quota, account);
}
END_TEST

START_TEST(an_account_lives_as_long_as_someone_refers_to_it)
{
    struct account *account = quota_account(&quota, 1000);
    struct charge charge;

    ck_assert_ptr_eq(quota_account(&quota, 1000), account);
    ck_assert_uint_eq(account->refs, 2);
    charge_init(&charge, account, QUOTA_BYTES);
    ck_assert(charge_set(&charge, 5, 5));
    ck_assert_ptr_null(account_unref(&quota, account));
    ck_assert_ptr_eq(quota.accounts, account);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 5);
    charge_deinit(&charge);
    ck_assert_ptr_null(account_unref(&quota, account));
    ck_assert_ptr_null(quota.accounts);
    /* A new one starts from nothing. */
    account = quota_account(&quota, 1000);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    ck_assert_uint_eq(account->refs, 1);
    (void)account_unref(&quota, account);
}
END_TEST

START_TEST(accounts_leave_the_list_in_any_order)
{
    enum { USERS = 5 };
    const unsigned orders[][USERS] = {{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}};

    for (size_t order = 0; order < sizeof orders / sizeof orders[0]; order++) {
        struct account *accounts[USERS];

        for (unsigned i = 0; i < USERS; i++)
            accounts[i] = quota_account(&quota, i == 4 ? (uid_t)UINT32_MAX - 1 : i);
        for (unsigned i = 0; i < USERS; i++) {
            (void)account_unref(&quota, accounts[orders[order][i]]);
            for (unsigned j = i + 1; j < USERS; j++) {
                struct account *left = accounts[orders[order][j]];

                ck_assert_ptr_eq(quota_account(&quota, left->uid), left);
                (void)account_unref(&quota, left);
            }
        }
        ck_assert_ptr_null(quota.accounts);
    }
}
END_TEST

START_TEST(ends_that_never_began_are_allowed)
{
    struct charge charge = {0};

    charge_deinit(&charge);
    charge_deinit(&charge);
    ck_assert_ptr_null(account_unref(&quota, NULL));
}
END_TEST

START_TEST(what_is_held_is_always_the_sum_of_the_charges)
{
    enum { USERS = 3, CHARGES = 8, LIMIT = 1000, ROUNDS = 20000 };
    struct dice dice = {seed};
    struct account *accounts[USERS];
    struct charge charges[USERS * CHARGES];

    for (unsigned i = 0; i < USERS; i++)
        accounts[i] = quota_account(&quota, i);
    for (unsigned i = 0; i < USERS * CHARGES; i++)
        charge_init(&charges[i], accounts[i % USERS], QUOTA_BYTES);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned chosen = (unsigned)dice_below(&dice, USERS * CHARGES);
        uint64_t amount = dice_below(&dice, LIMIT / 2);
        uint64_t others = 0;
        bool granted;

        for (unsigned i = chosen % USERS; i < USERS * CHARGES; i += USERS)
            others += i == chosen ? 0 : charges[i].amount;
        granted = charge_set(&charges[chosen], amount, LIMIT);
        if (granted != (others + amount <= LIMIT) || (granted && charges[chosen].amount != amount) ||
            accounts[chosen % USERS]->held[QUOTA_BYTES] != others + charges[chosen].amount)
            ck_abort_msg("round %u", round);
    }
    for (unsigned i = 0; i < USERS * CHARGES; i++)
        charge_deinit(&charges[i]);
    for (unsigned i = 0; i < USERS; i++)
        (void)account_unref(&quota, accounts[i]); /* which asserts that nothing is held */
    ck_assert_ptr_null(quota.accounts);
}
END_TEST

/* ---- Time --------------------------------------------------------------------------- */

START_TEST(a_users_connections_share_one_slice_a_turn)
{
    struct account account = {0};
    uint64_t rounds[3] = {0};

    ck_assert(account_may_run(&account, 1, 1000, &rounds[0]));
    ck_assert(!account_may_run(&account, 1, 1000, &rounds[0])); /* one record a turn */
    ck_assert(account_may_run(&account, 1, 1000 + QUOTA_SLICE_NS, &rounds[1]));
    ck_assert(!account_may_run(&account, 1, 1001 + QUOTA_SLICE_NS, &rounds[2]));
    /* The one that was passed over comes before those that were served. */
    ck_assert(!account_may_run(&account, 2, 5 * QUOTA_SLICE_NS, &rounds[0]));
    ck_assert(!account_may_run(&account, 2, 5 * QUOTA_SLICE_NS, &rounds[1]));
    ck_assert(account_may_run(&account, 2, 5 * QUOTA_SLICE_NS, &rounds[2]));
    /* Then a new round begins. */
    ck_assert(account_may_run(&account, 3, 9 * QUOTA_SLICE_NS, &rounds[0]));
    ck_assert(account_may_run(&account, 4, 9 * QUOTA_SLICE_NS, &rounds[0]));
}
END_TEST

START_TEST(who_was_passed_over_and_is_gone_holds_nobody_up)
{
    struct account account = {0};
    uint64_t rounds[2] = {0};

    ck_assert(account_may_run(&account, 1, 0, &rounds[0]));
    ck_assert(!account_may_run(&account, 1, 2 * QUOTA_SLICE_NS, &rounds[1]));
    ck_assert(!account_may_run(&account, 2, 3 * QUOTA_SLICE_NS, &rounds[0]));
    ck_assert(account_may_run(&account, 3, 4 * QUOTA_SLICE_NS, &rounds[0]));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quota");
    TCase *all = tcase_create("quota");

    seed = dice_seed();
    tcase_add_test(all, exactly_the_limit_is_granted);
    tcase_add_test(all, a_limit_of_0_grants_nothing);
    tcase_add_test(all, the_charges_of_one_user_add_up);
    tcase_add_test(all, users_and_kinds_are_counted_apart);
    tcase_add_test(all, who_holds_more_than_a_lowered_limit_may_only_give_back);
    tcase_add_test(all, sums_near_the_largest_number_do_not_wrap);
    tcase_add_test(all, an_account_lives_as_long_as_someone_refers_to_it);
    tcase_add_test(all, accounts_leave_the_list_in_any_order);
    tcase_add_test(all, ends_that_never_began_are_allowed);
    tcase_add_test(all, what_is_held_is_always_the_sum_of_the_charges);
    suite_add_tcase(suite, all);
    tcase_add_test(all, a_users_connections_share_one_slice_a_turn);
    tcase_add_test(all, who_was_passed_over_and_is_gone_holds_nobody_up);
    return suite_run(suite);
}
