/* SPDX-License-Identifier: MIT */
#include "tests/durability/chores.h"

#include <string.h>

enum {
    SMALL_BYTES = 256,
    MIDDLE_BYTES = 4096,
    MOVED_BYTES = 20 << 10,  /* a step is a byte of it, where the processor repeats an instruction */
    BLOCK_BYTES = 60 << 10,  /* with a counter it leaves room for less than MIDDLE_BYTES in a block */
    LARGE_BYTES = 200 << 10, /* several blocks */
    BATCH = 4,
    PATCH_AT = 16, /* behind the code */
};

/* ---- Alloc, release, leases --------------------------------------------------------------- */

static void run_alloc(struct chores *chores)
{
    (void)witness_take(&chores->witness, SMALL_BYTES);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void run_alloc_large(struct chores *chores)
{
    (void)witness_take(&chores->witness, LARGE_BYTES);
}

static void prepare_block(struct chores *chores)
{
    chores->spans[0] = witness_take(&chores->witness, BLOCK_BYTES);
}

/* With a ring no block has room for that, so one is leased. */
static void run_alloc_block(struct chores *chores)
{
    prepare_block(chores);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void prepare_small(struct chores *chores)
{
    chores->spans[0] = witness_take(&chores->witness, SMALL_BYTES);
    witness_write(&chores->witness, chores->spans[0], SMALL_BYTES);
}

static void prepare_moved(struct chores *chores)
{
    chores->spans[0] = witness_take(&chores->witness, MOVED_BYTES);
    witness_write(&chores->witness, chores->spans[0], MOVED_BYTES);
}

/* One that no client's lease has room for: only the daemon knows of it. */
static void prepare_large(struct chores *chores)
{
    chores->spans[0] = witness_take(&chores->witness, LARGE_BYTES);
}

/* The last span in a block, where another is vacant: with a ring the client keeps one, and returns the other.
 */
static void prepare_last(struct chores *chores)
{
    struct witness_span *vacant;

    (void)witness_take(&chores->witness, BLOCK_BYTES); /* beside the counter */
    vacant = witness_take(&chores->witness, BLOCK_BYTES);
    chores->spans[0] = witness_take(&chores->witness, MIDDLE_BYTES);
    witness_release(&chores->witness, vacant);
}

static void run_release(struct chores *chores)
{
    witness_release(&chores->witness, chores->spans[0]);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void run_shrink(struct chores *chores)
{
    witness_shrink(&chores->witness, chores->spans[0], chores->spans[0]->span.size / 2);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

/* ---- Writing ------------------------------------------------------------------------------ */

static void prepare_empty(struct chores *chores)
{
    for (int i = 0; i < BATCH; i++)
        chores->spans[i] = witness_take(&chores->witness, MIDDLE_BYTES);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void prepare_small_empty(struct chores *chores)
{
    chores->spans[0] = witness_take(&chores->witness, SMALL_BYTES);
}

static void prepare_empty_moved(struct chores *chores)
{
    chores->spans[0] = witness_take(&chores->witness, MOVED_BYTES);
}

static void run_write(struct chores *chores)
{
    witness_write(&chores->witness, chores->spans[0], SMALL_BYTES);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void run_write_all(struct chores *chores)
{
    witness_write(&chores->witness, chores->spans[0], chores->spans[0]->span.size);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void run_write_fn(struct chores *chores)
{
    witness_write_fn(&chores->witness, chores->spans[0]);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void run_scope(struct chores *chores)
{
    jitc_scope *scope;

    must(jitc_scope_begin(chores->witness.client, &scope, JITC_WRITE_DEFAULT) == JITC_OK);
    for (int i = 0; i < BATCH; i++)
        witness_write_in(&chores->witness, scope, chores->spans[i], SMALL_BYTES);
    must(jitc_scope_end(scope) == JITC_OK);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

static void patch(struct chores *chores, bool fits)
{
    struct witness_span *own = chores->spans[0];
    uint64_t expected;
    uint64_t desired;
    uint64_t found;

    memcpy(&expected, own->bytes + PATCH_AT, sizeof expected);
    desired = expected * 7 + 1;
    must(jitc_patch(chores->witness.client, &own->span, PATCH_AT, sizeof expected, expected ^ !fits, desired,
                    &found) == (fits ? JITC_OK : JITC_E_MISMATCH));
    must(found == expected);
    if (!fits)
        return;
    memcpy(own->bytes + PATCH_AT, &desired, sizeof desired);
    own->is_written = true;
}

static void run_patch(struct chores *chores)
{
    patch(chores, true);
}

static void run_mismatch(struct chores *chores)
{
    patch(chores, false);
}

static void run_count(struct chores *chores)
{
    witness_do(&chores->witness, WITNESS_COUNT);
}

static void run_seal(struct chores *chores)
{
    witness_seal(&chores->witness, chores->spans[0]);
}

/* ---- What changes nothing ------------------------------------------------------------------- */

static void run_query(struct chores *chores)
{
    jitc_span found;

    must(jitc_query(chores->witness.client, &found, chores->spans[0]->span.rx) == JITC_OK);
    must(found.size == chores->spans[0]->span.size);
}

static void run_statistics(struct chores *chores)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    must(jitc_statistics(chores->witness.client, &stats) == JITC_OK);
    must(stats.allocation_count == witness_count(&chores->witness));
}

/* ---- The whole session ---------------------------------------------------------------------- */

static void reset(struct chores *chores, enum jitc_reset_kind kind)
{
    must(jitc_reset(chores->witness.client, kind) == JITC_OK);
    chores->is_reset = true;
}

static void begin_again(struct witness *witness)
{
    jitc_client *client = witness->client;
    unsigned seed = witness->random;
    bool is_once = witness->is_once;

    witness_deinit(witness);
    witness_init(witness, client, seed, is_once);
}

/* In an arena that has nothing else: a reset fills all of it. */
static void prepare_reset(struct chores *chores)
{
    must(jitc_reset(chores->witness.client, JITC_RESET_HARD) == JITC_OK);
    begin_again(&chores->witness);
    prepare_moved(chores);
}

static void run_reset_soft(struct chores *chores)
{
    reset(chores, JITC_RESET_SOFT);
}

static void run_reset_hard(struct chores *chores)
{
    reset(chores, JITC_RESET_HARD);
}

static void run_open_executor(struct chores *chores)
{
    int fd;

    must(jitc_open_executor(chores->witness.client, &fd) == JITC_OK);
    must(jitc_attach(&chores->other, fd) == JITC_OK);
}

/* Whoever was not served yet may lose his connection with the daemon. */
jitc_client *chores_connect(const struct broker *broker)
{
    jitc_options options = broker_options(broker);
    jitc_client *client = NULL;
    int status = jitc_connect(&client, &options);

    for (int i = 0; i < 3 && (status == JITC_E_DISCONNECTED || status == JITC_E_NO_BROKER); i++)
        status = jitc_connect(&client, &options);
    must(status == JITC_OK);
    return client;
}

static void run_connect(struct chores *chores)
{
    chores->other = chores_connect(chores->broker);
}

static void prepare_other(struct chores *chores)
{
    struct witness other;

    chores->other = chores_connect(chores->broker);
    witness_init(&other, chores->other, 1, chores->witness.is_once);
    (void)witness_take(&other, LARGE_BYTES);
    witness_deinit(&other);
}

static void prepare_other_executor(struct chores *chores)
{
    run_open_executor(chores);
}

static void run_close(struct chores *chores)
{
    chores->other = jitc_close(chores->other);
}

const struct chore chores_all[] = {
    {"alloc", NULL, run_alloc, false},
    {"alloc-large", NULL, run_alloc_large, false},
    {"lease", prepare_block, run_alloc_block, false},
    {"release", prepare_small, run_release, false},
    {"release-large", prepare_moved, run_release, false},
    {"return", prepare_last, run_release, false},
    {"shrink", prepare_small, run_shrink, false},
    {"shrink-large", prepare_moved, run_shrink, false},
    {"write", prepare_empty, run_write, false},
    {"write-large", prepare_empty_moved, run_write_all, false},
    {"write-fn", prepare_small_empty, run_write_fn, false},
    {"scope", prepare_empty, run_scope, false},
    {"patch", prepare_empty, run_patch, false},
    {"mismatch", prepare_empty, run_mismatch, false},
    {"count", NULL, run_count, false},
    {"seal", prepare_small, run_seal, false},
    {"query", prepare_large, run_query, false},
    {"statistics", prepare_small, run_statistics, false},
    {"reset-soft", prepare_reset, run_reset_soft, true},
    {"reset-hard", prepare_reset, run_reset_hard, true},
    {"open-executor", NULL, run_open_executor, false},
    {"close-executor", prepare_other_executor, run_close, false},
    {"connect", NULL, run_connect, false},
    {"close", prepare_other, run_close, false},
};

const unsigned chores_count = sizeof chores_all / sizeof chores_all[0];

/* ---- Before and after ------------------------------------------------------------------------ */

void chores_init(struct chores *chores, const struct broker *broker, unsigned seed, bool is_once)
{
    int fd;

    *chores = (struct chores){.broker = broker};
    witness_init(&chores->witness, chores_connect(broker), seed, is_once);
    must(jitc_open_executor(chores->witness.client, &fd) == JITC_OK);
    must(jitc_attach(&chores->executor, fd) == JITC_OK);
}

void chores_deinit(struct chores *chores)
{
    jitc_client *client = chores->witness.client;

    witness_deinit(&chores->witness);
    (void)jitc_close(chores->executor);
    (void)jitc_close(client);
}

void chores_prepare(struct chores *chores, const struct chore *chore)
{
    witness_release_all(&chores->witness);
    if (chore->prepare != NULL)
        chore->prepare(chores);
    must(jitc_flush(chores->witness.client) == JITC_OK);
}

/* That the other one is what it should be, before it goes. */
static void check_other(struct chores *chores)
{
    jitc_info info = {.struct_size = sizeof info};

    must(jitc_describe(chores->other, &info) == JITC_OK);
    if (!info.is_executor) {
        struct witness other;

        witness_init(&other, chores->other, 1, chores->witness.is_once);
        must(witness_take(&other, SMALL_BYTES) != NULL);
        witness_check(&other);
        witness_deinit(&other);
    }
    chores->other = jitc_close(chores->other);
}

void chores_tidy(struct chores *chores)
{
    if (chores->is_reset)
        begin_again(&chores->witness);
    chores->is_reset = false;
    /* The end that a repeated answer brings is nobody's, and is there until that answer is read. */
    run_statistics(chores);
    if (chores->other != NULL)
        check_other(chores);
}

void chores_check(struct chores *chores)
{
    struct witness *witness = &chores->witness;

    witness_check_session(witness, chores->executor);
    witness_check_spans_quota(witness->client, witness_count(witness), CHORES_SPANS_MAX);
    if (chores->checks++ % 8 == 0)
        witness_check_bytes_quota(witness->client, CHORES_BYTES_MAX);
}
