/* SPDX-License-Identifier: MIT */
#include "daemon/poller.h"

#include <sched.h>
#include <stddef.h>

#include "daemon/connection.h"
#include "daemon/plane.h"
#include "daemon/quota.h"

/* Sweeps between two looks at the clock, unless they move so many bytes. */
#define SWEEPS_PER_LOOK 8u
#define BYTES_PER_LOOK (UINT64_C(64) << 10)
/* As long as spin_us permits, a plane stays awake so long: a release follows its write at once. */
#define SPIN_MIN_NS UINT64_C(5000)

static void on_idle(uv_idle_t *idle);

void poller_init(struct poller *poller, uv_loop_t *loop)
{
    *poller = (struct poller){0};
    (void)uv_idle_init(loop, &poller->idle);
    poller->idle.data = poller;
}

void poller_set_spin(struct poller *poller, uint64_t max_ns)
{
    poller->spin_max_ns = max_ns;
    poller->spin_ns = max_ns;
}

void poller_deinit(struct poller *poller)
{
    uv_close((uv_handle_t *)&poller->idle, NULL);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Somebody has woken us: was it worth to sleep? */
static void adapt(struct poller *poller)
{
    if (uv_hrtime() - poller->slept_at_ns < poller->spin_max_ns)
        poller->spin_ns = least(poller->spin_ns * 2, poller->spin_max_ns);
    else if (poller->spin_ns > SPIN_MIN_NS)
        poller->spin_ns = least(poller->spin_ns / 2 + SPIN_MIN_NS / 2, poller->spin_max_ns);
}

void poller_add(struct poller *poller, struct plane *plane)
{
    struct account *account = plane->connection->account;

    plane->idle_since_ns = 0;
    if (poller->accounts == NULL)
        adapt(poller);
    if (account->awake == NULL) {
        plane->next = plane;
        plane->prev = plane;
        account->awake = plane;
        account->next_awake = poller->accounts;
        poller->accounts = account;
        (void)uv_idle_start(&poller->idle, on_idle);
        return;
    }
    plane->next = account->awake;
    plane->prev = account->awake->prev;
    plane->prev->next = plane;
    plane->next->prev = plane;
}

void poller_remove(struct poller *poller, struct plane *plane)
{
    struct account *account = plane->connection->account;

    if (plane->next == NULL)
        return;
    if (plane->next == plane) {
        account->awake = NULL;
        for (struct account **link = &poller->accounts; *link != NULL; link = &(*link)->next_awake) {
            if (*link == account) {
                *link = account->next_awake;
                break;
            }
        }
        if (poller->accounts == NULL) {
            poller->slept_at_ns = uv_hrtime();
            (void)uv_idle_stop(&poller->idle);
        }
    } else {
        plane->next->prev = plane->prev;
        plane->prev->next = plane->next;
        if (account->awake == plane)
            account->awake = plane->next;
    }
    plane->next = NULL;
    plane->prev = NULL;
}

/* Whether anyone else waits for what this user would use. */
static bool is_alone(const struct poller *poller, const struct account *account)
{
    return poller->accounts == account && account->next_awake == NULL && account->awake != NULL &&
           account->awake->next == account->awake;
}

/* Goes once around the user's planes, or until its slice is over. Returns whether there was work. */
static bool sweep_account(struct poller *poller, struct account *account, uint64_t now_ns)
{
    const struct plane *last = account->awake->prev;
    bool worked = false;
    uint64_t end_ns = 0;
    bool is_last;

    do {
        struct plane *plane = account->awake;

        is_last = plane == last;
        account->awake = plane->next;
        if (plane_serve(plane)) {
            worked = true;
            if (plane->next == NULL) /* paused; or ended, and perhaps its account with it */
                return true;
            if (is_alone(poller, account))
                return true;
            if (end_ns == 0)
                end_ns = uv_hrtime() + POLLER_SLICE_NS;
            else if (uv_hrtime() > end_ns)
                return true;
            continue;
        }
        if (plane->idle_since_ns == 0)
            plane->idle_since_ns = now_ns;
        plane_rest(plane, now_ns - plane->idle_since_ns, poller->spin_ns);
    } while (!is_last && account->awake != NULL);
    return worked;
}

static bool sweep(struct poller *poller, uint64_t now_ns)
{
    bool worked = false;

    for (struct account *account = poller->accounts; account != NULL;) {
        struct account *next = account->next_awake;

        worked = sweep_account(poller, account, now_ns) || worked;
        account = next;
    }
    return worked;
}

static void on_idle(uv_idle_t *idle)
{
    struct poller *poller = idle->data;
    uint64_t began_ns = uv_hrtime();
    uint64_t now_ns = began_ns;

    poller->cpu = sched_getcpu();
    for (unsigned sweeps = 1; poller->accounts != NULL && now_ns - began_ns < POLLER_TURN_NS; sweeps++) {
#if defined(__x86_64__) || defined(__i386__)
        if (!sweep(poller, now_ns))
            __builtin_ia32_pause();
#else
        (void)sweep(poller, now_ns);
#endif
        if (sweeps % SWEEPS_PER_LOOK != 0 && poller->moved_bytes < BYTES_PER_LOOK)
            continue;
        poller->moved_bytes = 0;
        now_ns = uv_hrtime();
    }
}
