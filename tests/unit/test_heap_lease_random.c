/* SPDX-License-Identifier: MIT */
/*
 * A million random steps of a client that leases: it places spans in a heap of its own, and
 * what that proposes is carved in the daemon's. After each step both agree with a simple
 * model; neither heap is ever refused what the other gave.
 *
 * JITBROKER_SEED replays a run, JITBROKER_OPERATIONS sets its length.
 */
#include <string.h>

#include "proto/heap.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"
#include "tests/unit/model.h"

#define OPERATIONS_DEFAULT UINT64_C(1000000)
#define UNITS_LIMIT 24
#define GRANULES_LIMIT (UNITS_LIMIT * (BLOCK_BYTES / GRANULARITY_MIN_BYTES))

static uint64_t seed;

/* What is run: each of these with each granularity. */
static const struct setting {
    uint32_t units;
    uint64_t reserve_bytes; /* free memory that stays at the arena's end */
} settings[] = {{1, 0}, {2, BLOCK_BYTES}, {6, 0}, {UNITS_LIMIT, 2 * BLOCK_BYTES}};
#define SETTINGS (sizeof settings / sizeof settings[0])
#define GRANULARITIES 3

static struct dice dice;
static struct heap daemon_heap;
static struct heap lessee;
static struct model model; /* of the daemon's */

/* What is the lessee's of it. */
static bool mine[GRANULES_LIMIT]; /* by granule: in a span of the lessee's */
static uint32_t mine_spans;
static struct lent {
    uint32_t first; /* granule, 0: not lent */
    bool dirty;     /* the rest is to be counted again */
    uint32_t owned;
    uint32_t runs;
    uint32_t longest;
} lent[UNITS_LIMIT];

/* ---- What the lessee should know ----------------------------------------------------------- */

static const struct lent *count_lent(uint32_t unit)
{
    struct lent *of = &lent[unit];
    uint32_t run = 0;

    if (of->first == 0 || !of->dirty)
        return of;
    *of = (struct lent){.first = of->first};
    for (uint32_t at = of->first; at < model.unit_granules; at++) {
        bool is_mine = mine[unit * model.unit_granules + at];

        run = is_mine ? 0 : run + 1;
        of->owned += is_mine;
        of->runs += run == 1;
        if (run > of->longest)
            of->longest = run;
    }
    return of;
}

/* The shortest of the blocks' longest runs that has so many granules, or 0. */
static uint32_t least_room(uint64_t granules)
{
    uint32_t least = 0;

    for (uint32_t unit = 0; unit < model.units; unit++) {
        uint32_t longest = count_lent(unit)->longest;

        if (lent[unit].first != 0 && longest >= granules && (least == 0 || longest < least))
            least = longest;
    }
    return least;
}

static void set_mine(uint64_t offset, uint64_t bytes, bool is_mine)
{
    uint64_t first = offset / model.granularity;

    if (bytes == 0)
        return; /* perhaps behind the arena */
    for (uint64_t at = first; at < first + bytes / model.granularity; at++)
        mine[at] = is_mine;
    lent[offset / BLOCK_BYTES].dirty = true;
}

/* ---- Checks ------------------------------------------------------------------------------ */

static void check_daemon(void)
{
    must_be(daemon_heap.spans, model.count);
    must_be(daemon_heap.blocks, model.blocks);
    must_be(daemon_heap.free_runs, model_free_runs(&model));
    must_be(heap_used_bytes(&daemon_heap), model.used);
    must_be(heap_leased_bytes(&daemon_heap), model_leased_bytes(&model));
    must_be(heap_largest_free_bytes(&daemon_heap), model_largest_free_bytes(&model));
    must_be(heap_grown_bytes(&daemon_heap), model.reserved);
    must_be(heap_end_bytes(&daemon_heap), model_end(&model));
}

static void check_lessee(void)
{
    uint64_t blocks = 0;
    uint64_t owned = 0;
    uint64_t runs = 0;
    uint64_t largest = 0;

    for (uint32_t unit = 0; unit < model.units; unit++) {
        const struct lent *of = count_lent(unit);

        must_be(of->first != 0, model.leased[unit]);
        if (of->first == 0)
            continue;
        blocks += of->owned != 0;
        owned += of->owned;
        runs += of->runs;
        if (of->longest > largest)
            largest = of->longest;
        must_be(heap_is_vacant(&lessee, unit * (uint64_t)BLOCK_BYTES), of->owned == 0);
    }
    must_be(lessee.spans, mine_spans);
    must_be(lessee.blocks, blocks);
    must_be(lessee.free_runs, runs);
    must_be(lessee.leased_granules, 0);
    must_be(heap_used_bytes(&lessee), owned * model.granularity);
    must_be(heap_largest_free_bytes(&lessee), largest * model.granularity);
}

/* What the heap finds there is that span, or none (NULL). */
static void check_found(const struct heap *heap, uint64_t offset, const struct live *live)
{
    struct heap_span span;
    bool starts = live != NULL && live->offset == offset;

    must_be(heap_find(heap, offset, &span), starts);
    if (starts)
        must(span.bytes == live->bytes && span.sealed == live->sealed, "0x%" PRIx64 " is another span",
             offset);
    must_be(heap_find_around(heap, offset + model.granularity - 1, &span), live != NULL);
    if (live != NULL)
        must_be(span.offset, live->offset);
}

static void check_all(void)
{
    for (uint64_t granule = 0; granule < model.granules; granule++) {
        uint64_t offset = granule * model.granularity;
        const struct live *live = model_find_around(&model, offset);

        check_found(&daemon_heap, offset, live);
        check_found(&lessee, offset, mine[granule] ? live : NULL);
    }
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + model.granularity - 1) / model.granularity * model.granularity;
}

/* As a session does when a block becomes free. */
static void trim(void)
{
    uint64_t bytes = heap_end_bytes(&daemon_heap) + model.reserve_bytes;

    if (bytes < heap_grown_bytes(&daemon_heap))
        heap_set_grown(&daemon_heap, bytes);
}

static void grow(uint64_t bytes)
{
    if (bytes > heap_grown_bytes(&daemon_heap))
        heap_set_grown(&daemon_heap, bytes);
    model_reserve(&model, bytes);
}

static void give_back(uint32_t unit)
{
    must(heap_return(&daemon_heap, unit * (uint64_t)BLOCK_BYTES), "unit %u is not leased", unit);
    must(!heap_return(&daemon_heap, unit * (uint64_t)BLOCK_BYTES), "unit %u is leased twice", unit);
    trim();
    heap_disown(&lessee, unit * (uint64_t)BLOCK_BYTES);
    lent[unit] = (struct lent){0};
    model_return(&model, unit);
}

/* By the daemon; false if there is no room. */
static bool allocate(uint64_t bytes)
{
    uint64_t granules = round_up(bytes) / model.granularity;
    struct placement placement;
    struct heap_span span;
    uint32_t longest;
    uint32_t unit = model_place(&model, granules, &longest);

    must_be(heap_place(&daemon_heap, bytes, &placement), unit != MODEL_NO_UNIT);
    if (unit == MODEL_NO_UNIT)
        return false;
    if (longest == 0) {
        must_be(placement.granule, (uint64_t)unit * model.unit_granules + 1);
        must_be(placement.grown_bytes, (unit + granules / model.unit_granules + 1) * BLOCK_BYTES);
    } else {
        unit = (uint32_t)(placement.granule / model.unit_granules);
        must(!model.leased[unit], "a span was placed in a leased block");
        must_be(model_longest(&model, unit), longest);
        must_be(model_run(&model, placement.granule), model_shortest(&model, unit, granules));
    }
    grow(placement.grown_bytes);
    span = heap_take(&daemon_heap, &placement);
    must_be(span.bytes, granules * model.granularity);
    must_be(span.clean, model_add(&model, span.offset, span.bytes));
    return true;
}

/* With room for so many bytes; false if there is none. */
static bool take_lease(uint64_t bytes)
{
    struct lease_place place = model_place_lease(&model, round_up(bytes) / model.granularity);
    struct placement placement;
    struct lease lease;
    bool found = heap_place_lease(&daemon_heap, bytes, &placement);
    bool clean = true;
    uint32_t unit;

    if (place.must_be_tail && place.tail != 0)
        must(found, "an end of %u granules is not leased", place.tail);
    else
        must(found || place.unit == MODEL_NO_UNIT, "unit %u is not leased", place.unit);
    if (!found)
        return false;
    grow(placement.grown_bytes);
    lease = heap_lease(&daemon_heap, &placement);
    unit = (uint32_t)(lease.offset / BLOCK_BYTES);
    must_be(lease.offset + lease.bytes, (unit + 1) * (uint64_t)BLOCK_BYTES);
    must(lease.bytes >= bytes, "a lease without room");
    if (unit == place.unit) {
        must(place.tail == 0 || !place.must_be_tail, "a block was leased, not another's end");
        must_be(lease.offset % BLOCK_BYTES, model.granularity);
    } else {
        must_be(lease.bytes, (uint64_t)place.tail * model.granularity);
        must_be(lease.offset % BLOCK_BYTES, (uint64_t)model_tail(&model, unit) * model.granularity);
    }
    for (uint64_t at = lease.offset / model.granularity; at < (unit + 1) * (uint64_t)model.unit_granules;
         at++)
        clean = clean && !model.stale[at];
    must_be(lease.clean, clean);
    model_lease(&model, unit);
    heap_adopt(&lessee, &lease);
    lent[unit] =
        (struct lent){.first = (uint32_t)(lease.offset % BLOCK_BYTES / model.granularity), .dirty = true};
    return true;
}

/* By the lessee; false if it needs another lease. */
static bool carve(uint64_t bytes)
{
    uint64_t granules = round_up(bytes) / model.granularity;
    uint32_t least = least_room(granules);
    struct placement placement;
    struct heap_span proposed;
    struct heap_span carved;
    uint32_t unit;

    must_be(heap_place(&lessee, bytes, &placement), least != 0);
    if (least == 0)
        return false;
    must_be(placement.grown_bytes, 0);
    unit = (uint32_t)(placement.granule / model.unit_granules);
    must(lent[unit].first != 0 && placement.granule % model.unit_granules >= lent[unit].first,
         "a place that was not lent");
    must_be(lent[unit].longest, least);
    /* A run that begins the lease may go on before it in the daemon's heap, when what was there is gone. */
    if (placement.granule % model.unit_granules != lent[unit].first)
        must(model_run(&model, placement.granule) >= granules, "a place that is not the start of a run");
    proposed = heap_take(&lessee, &placement);
    must(heap_carve(&daemon_heap, proposed.offset, bytes, &carved), "what the lessee placed can't be carved");
    must(!heap_carve(&daemon_heap, proposed.offset, bytes, &carved), "carved twice");
    must(proposed.offset == carved.offset && proposed.bytes == carved.bytes, "another span was carved");
    must(carved.clean || !proposed.clean, "the lessee takes for clean what is not");
    must_be(carved.clean, model_add(&model, carved.offset, carved.bytes));
    set_mine(carved.offset, carved.bytes, true);
    mine_spans++;
    return true;
}

static uint64_t some_size(void)
{
    uint64_t largest = model.granules * model.granularity - model.granularity;
    uint64_t lot = dice_below(&dice, 1000);
    uint64_t size;

    if (lot < 700)
        size = 1 + dice_below(&dice, 1024);
    else if (lot < 900)
        size = 1 + dice_below(&dice, 8192);
    else if (lot < 950)
        size = 1 + dice_below(&dice, BLOCK_BYTES);
    else if (lot < 970)
        size = BLOCK_BYTES - 3 * model.granularity + dice_below(&dice, 5 * model.granularity);
    else
        size = 1 + dice_below(&dice, 4 * (uint64_t)BLOCK_BYTES);
    return size > largest ? largest : size;
}

static void do_alloc(void)
{
    uint64_t bytes = some_size();

    if (bytes <= BLOCK_BYTES - model.granularity && !dice_percent(&dice, 15)) {
        if (carve(bytes))
            return;
        if (take_lease(bytes)) {
            must(carve(bytes), "a new lease has no room");
            return;
        }
    }
    (void)allocate(bytes);
}

/* To that many bytes, or less: it is rounded up. */
static void cut(struct live *live, uint64_t bytes)
{
    uint64_t keep = round_up(bytes);
    uint64_t offset = live->offset;
    uint32_t blocks = daemon_heap.blocks;
    struct heap_span span;

    if (mine[offset / model.granularity]) {
        must(heap_find(&lessee, offset, &span), "the lessee lost 0x%" PRIx64, offset);
        must_be(span.bytes, live->bytes);
        heap_cut(&lessee, &span, bytes);
        set_mine(offset + keep, live->bytes - keep, false);
        mine_spans -= keep == 0;
    } else {
        must(!heap_find(&lessee, offset, &span), "the lessee has found 0x%" PRIx64, offset);
    }
    must(heap_find(&daemon_heap, offset, &span), "the daemon lost 0x%" PRIx64, offset);
    must_be(span.bytes, live->bytes);
    heap_cut(&daemon_heap, &span, bytes);
    if (daemon_heap.blocks < blocks)
        trim();
    model_cut(&model, live, keep, false);
}

static void do_release(void)
{
    uint64_t offset;

    if (model.count == 0)
        return;
    offset = model.spans[dice_below(&dice, model.count)].offset;
    cut(model_find(&model, offset), 0);
    if (lent[offset / BLOCK_BYTES].first != 0 && heap_is_vacant(&lessee, offset) && dice_percent(&dice, 30))
        give_back((uint32_t)(offset / BLOCK_BYTES));
}

static void do_shrink(void)
{
    struct live *live;

    if (model.count == 0)
        return;
    live = &model.spans[dice_below(&dice, model.count)];
    cut(live, 1 + dice_below(&dice, live->bytes));
}

static void do_seal(void)
{
    struct heap_span span;
    struct live *live;

    if (model.count == 0)
        return;
    live = &model.spans[dice_below(&dice, model.count)];
    if (heap_find(&lessee, live->offset, &span))
        heap_seal(&lessee, &span);
    must(heap_find(&daemon_heap, live->offset, &span), "the daemon lost 0x%" PRIx64, live->offset);
    heap_seal(&daemon_heap, &span);
    live->sealed = true;
}

static void do_give_back(void)
{
    uint32_t unit = (uint32_t)dice_below(&dice, model.units);

    if (lent[unit].first != 0 && heap_is_vacant(&lessee, unit * (uint64_t)BLOCK_BYTES))
        give_back(unit);
}

static void do_reset(void)
{
    heap_clear(&daemon_heap);
    heap_clear(&lessee);
    model_clear(&model);
    memset(mine, false, sizeof mine);
    memset(lent, 0, sizeof lent);
    mine_spans = 0;
}

static void do_something(unsigned alloc_percent)
{
    uint64_t lot = dice_below(&dice, 100);

    if (dice_below(&dice, 10000) == 0)
        do_reset();
    else if (lot < alloc_percent)
        do_alloc();
    else if (lot < 80)
        do_release();
    else if (lot < 95)
        do_shrink();
    else if (lot < 97)
        do_seal();
    else
        do_give_back();
}

START_TEST(both_heaps_agree_with_the_model)
{
    const struct setting *setting = &settings[(size_t)_i % SETTINGS];
    uint64_t total = dice_environment("JITBROKER_OPERATIONS", OPERATIONS_DEFAULT);
    uint64_t operations = total / (SETTINGS * GRANULARITIES) + 1;
    unsigned alloc_percent = 45;

    dice.state = seed + (uint64_t)_i;
    model = (struct model){
        .units = setting->units,
        .granularity = 64u << ((size_t)_i / SETTINGS),
        .trims = true,
        .reserve_bytes = setting->reserve_bytes,
    };
    model_init(&model);
    ck_assert_int_eq(heap_init(&daemon_heap, (uint64_t)model.units * BLOCK_BYTES, model.granularity, NULL),
                     0);
    ck_assert_int_eq(heap_init(&lessee, (uint64_t)model.units * BLOCK_BYTES, model.granularity, NULL), 0);
    heap_become_lessee(&lessee);
    for (uint64_t done = 0; done < operations; done++) {
        /* The arena fills for a while, and empties for a while. */
        if (dice_below(&dice, 1000) == 0)
            alloc_percent = 25 + (unsigned)dice_below(&dice, 41);
        do_something(alloc_percent);
        check_daemon();
        check_lessee();
        if (dice_below(&dice, 1000) == 0)
            check_all();
    }
    while (model.count > 0)
        cut(&model.spans[dice_below(&dice, model.count)], 0);
    for (uint32_t unit = 0; unit < model.units; unit++) {
        if (lent[unit].first != 0)
            give_back(unit);
    }
    check_daemon();
    check_lessee();
    check_all();
    ck_assert_uint_eq(heap_end_bytes(&daemon_heap), 0);
    heap_deinit(&daemon_heap);
    heap_deinit(&lessee);
    model_deinit(&model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap: leases at random");
    TCase *all = tcase_create("every setting, each with 64, 128, 256");

    seed = dice_seed();
    tcase_add_loop_test(all, both_heaps_agree_with_the_model, 0, SETTINGS * GRANULARITIES);
    tcase_set_timeout(all, 0);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
