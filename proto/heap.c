/* SPDX-License-Identifier: MIT */
#include "proto/heap.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Setting up -------------------------------------------------------------------- */

static size_t align_up(size_t bytes, size_t alignment)
{
    return (bytes + alignment - 1) / alignment * alignment;
}

uint64_t heap_units_bytes(uint64_t arena_bytes)
{
    return arena_bytes / BLOCK_BYTES * sizeof(struct unit);
}

int heap_init(struct heap *heap, uint64_t arena_bytes, uint32_t granularity, void *units)
{
    uint32_t count = (uint32_t)(arena_bytes / BLOCK_BYTES);
    uint32_t granules = BLOCK_BYTES / granularity;
    size_t links_bytes = align_up(count * sizeof(struct link), 64);
    size_t taken_bytes = align_up(align_up(count, WORD_BITS) / 8, 64);
    size_t bins_bytes = align_up((granules + 1) * sizeof(uint32_t), 64);
    size_t bins_used_bytes = align_up(align_up(granules + 1, WORD_BITS) / 8, 64);
    size_t beside_bytes = links_bytes + taken_bytes + bins_bytes + bins_used_bytes;
    size_t bytes = beside_bytes + (units == NULL ? heap_units_bytes(arena_bytes) : 0);
    uint8_t *memory;

    assert(arena_bytes % BLOCK_BYTES == 0 && arena_bytes <= ARENA_LIMIT_BYTES);
    assert(granularity >= GRANULARITY_MIN_BYTES && granularity <= GRANULARITY_MAX_BYTES);
    assert((uintptr_t)units % 64 == 0);
    /* Zero pages until they are touched: an idle session costs three or so. */
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    *heap = (struct heap){
        .units = units != NULL ? units : memory + beside_bytes,
        .taken = (uint64_t *)(void *)memory,
        .bins =
            {
                .first = (uint32_t *)(void *)(memory + taken_bytes),
                .used = (uint64_t *)(void *)(memory + taken_bytes + bins_bytes),
                .links = (struct link *)(void *)(memory + taken_bytes + bins_bytes + bins_used_bytes),
            },
        .mapped_bytes = bytes,
        .beside_bytes = beside_bytes,
        .granularity = granularity,
        .granule_shift = (uint32_t)__builtin_ctz(granularity),
        .unit_granules = granules,
        .unit_shift = (uint32_t)__builtin_ctz(granules),
        .units_max = count,
    };
    return 0;
}

void heap_deinit(struct heap *heap)
{
    if (heap->taken != NULL)
        (void)munmap(heap->taken, heap->mapped_bytes);
    *heap = (struct heap){0};
}

uint64_t heap_span_max_bytes(uint64_t arena_bytes, uint32_t granularity)
{
    return arena_bytes - granularity; /* all but the leading trap granule */
}

/* ---- Taking -------------------------------------------------------------------------- */

/* The lowest `count` adjacent units that are in no block, or units_max. */
static uint32_t find_untaken(const struct heap *heap, uint32_t count)
{
    uint32_t from = heap->first_untaken;

    for (;;) {
        uint32_t first = bit_next(heap->taken, from, heap->units_max, UINT64_MAX);
        uint32_t end;

        if (count > heap->units_max - first)
            return heap->units_max;
        end = bit_next(heap->taken, first, first + count, 0);
        if (end == first + count)
            return first;
        from = end;
    }
}

/* The search for the shortest run that is long enough, and for the longest of the others. */
struct fit {
    uint32_t granules;
    uint32_t best; /* where it starts, or NO_BIT */
    uint32_t best_length;
    uint32_t longest;
};

static void fit_run(struct fit *fit, uint32_t end, uint32_t length)
{
    uint32_t other = length;

    if (length >= fit->granules && (fit->best == NO_BIT || length < fit->best_length)) {
        other = fit->best == NO_BIT ? 0 : fit->best_length;
        fit->best = end - length;
        fit->best_length = length;
    }
    if (other > fit->longest)
        fit->longest = other;
}

/*
 * The start of the shortest free run of the unit that holds `granules`, and the longest run
 * left after taking them there; `longest` is what it is now, or 0. Every allocation comes by here: so it goes
 * by words.
 */
static uint32_t best_run(const struct unit *unit, uint32_t longest, uint32_t unit_granules, uint32_t granules,
                         uint32_t *longest_left)
{
    struct fit fit = {.granules = granules, .best = NO_BIT};
    uint32_t run = 0; /* free granules up to where we are */

    for (uint32_t at = 0; at < unit_granules; at += WORD_BITS) {
        uint64_t used = unit->used[at / WORD_BITS];
        uint32_t bit = 0;

        while (used != 0) {
            uint32_t free = (uint32_t)__builtin_ctzll(used);

            run += free;
            bit += free;
            if (run == granules && longest > granules) {
                *longest_left = longest; /* none fits better, and the longest one stays */
                return at + bit - run;
            }
            if (run > 0)
                fit_run(&fit, at + bit, run);
            run = 0;
            used >>= free;
            /* A bit of the word is left, so bit is below 64. */
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
            if (used == UINT64_MAX >> bit) { /* used up to the end of the word */
                bit = WORD_BITS;
                break;
            }
            free = (uint32_t)__builtin_ctzll(~used);
            bit += free;
            used >>= free;
        }
        run += WORD_BITS - bit;
    }
    if (run > 0)
        fit_run(&fit, unit_granules, run);
    if (fit.best != NO_BIT && fit.best_length - granules > fit.longest)
        fit.longest = fit.best_length - granules;
    *longest_left = fit.longest;
    return fit.best;
}

/* All of the unit's free granules are one run, up to its end. */
static bool has_one_run(const struct unit *unit)
{
    return unit->count == unit->rest;
}

/* Where in the unit, which has room, to place them; and what is the longest run then. */
static uint32_t unit_place(const struct heap *heap, uint32_t index, uint32_t granules,
                           struct placement *placement)
{
    const struct unit *unit = &heap->units[index];

    if (!has_one_run(unit))
        return best_run(unit, heap->bins.links[index].longest, heap->unit_granules, granules,
                        &placement->longest_left);
    placement->longest_left = heap->unit_granules - unit->rest - granules;
    return unit->rest;
}

bool heap_place(const struct heap *heap, uint64_t bytes, struct placement *placement)
{
    uint64_t granules = (bytes + heap->granularity - 1) >> heap->granule_shift;
    uint64_t units = (granules + 1 + heap->unit_granules - 1) >> heap->unit_shift;
    uint32_t unit;

    *placement = (struct placement){.granules = granules};
    if (units == 1) {
        uint32_t bin = bins_next(&heap->bins, (uint32_t)granules);

        if (bin != 0) {
            unit = heap->bins.first[bin] - 1;
            placement->granule =
                (uint64_t)unit * heap->unit_granules + unit_place(heap, unit, (uint32_t)granules, placement);
            return true;
        }
        placement->longest_left = heap->unit_granules - 1 - (uint32_t)granules;
    }
    if (units > heap->units_max || heap->is_lessee)
        return false;
    unit = find_untaken(heap, (uint32_t)units);
    if (unit == heap->units_max)
        return false;
    placement->granule = (uint64_t)unit * heap->unit_granules + 1;
    placement->grown_bytes = (unit + units) * BLOCK_BYTES;
    return true;
}

/* The unit becomes a block without spans: all of it free but the leading trap granule. */
static void unit_open(struct heap *heap, uint32_t index)
{
    bit_set(heap->taken, index);
    bit_set(heap->units[index].used, 0);
    bit_set(heap->units[index].start, 0);
    heap->units[index].lead = 1;
    heap->units[index].count = 1;
    heap->units[index].rest = 1;
    heap->free_runs++;
    if (index == heap->first_untaken)
        heap->first_untaken = bit_next(heap->taken, index, heap->units_max, UINT64_MAX);
}

static void unit_close(struct heap *heap, uint32_t index)
{
    struct unit *unit = &heap->units[index];

    bins_unlink(&heap->bins, index);
    bit_clear(unit->used, 0);
    bit_clear(unit->start, 0);
    unit->lead = 0;
    unit->count = 0;
    unit->rest = 0;
    bit_clear(heap->taken, index);
    heap->free_runs--;
    if (index < heap->first_untaken)
        heap->first_untaken = index;
}

static bool is_vacant(const struct unit *unit)
{
    return unit->count == unit->lead && unit->head == 0;
}

static bool is_free(const struct unit *unit, uint32_t unit_granules, uint32_t granule)
{
    return granule < unit_granules && !bit_get(unit->used, granule);
}

/* Granules [from, to) of the unit, which are free, come to belong to a span. */
static void unit_use(struct heap *heap, uint32_t index, uint32_t from, uint32_t to)
{
    struct unit *unit = &heap->units[index];

    if (is_vacant(unit))
        heap->blocks++;
    heap->free_runs += is_free(unit, heap->unit_granules, from - 1);
    heap->free_runs += is_free(unit, heap->unit_granules, to);
    heap->free_runs--;
    range_set(unit->used, from, to);
    unit->count += to - from;
    if (from >= unit->rest)
        unit->rest = to;
}

/* The large span that starts in unit `first` takes this one up to granule `to`, the trap granule's too. */
static void unit_continue(struct heap *heap, uint32_t index, uint32_t to, uint32_t first)
{
    struct unit *unit = &heap->units[index];

    if (to > 1)
        unit_use(heap, index, 1, to);
    else
        heap->blocks++;
    bit_clear(unit->start, 0);
    unit->head = first + 1;
}

struct heap_span heap_take(struct heap *heap, const struct placement *placement)
{
    uint32_t first = (uint32_t)(placement->granule >> heap->unit_shift);
    uint64_t left = placement->granules;
    uint32_t from = (uint32_t)(placement->granule & (heap->unit_granules - 1));
    struct heap_span span = {
        .offset = placement->granule * heap->granularity,
        .bytes = placement->granules * heap->granularity,
        .clean = true,
    };

    assert(placement->grown_bytes <= heap_grown_bytes(heap));
    for (uint32_t index = first; left > 0; index++) {
        struct unit *unit = &heap->units[index];
        uint32_t room = heap->unit_granules - from;
        uint32_t to = from + (left < room ? (uint32_t)left : room);

        if (!bit_get(heap->taken, index))
            unit_open(heap, index);
        span.clean = span.clean && !range_any(unit->stale, from, to);
        left -= to - from;
        if (from > 0)
            unit_use(heap, index, from, to);
        else
            unit_continue(heap, index, to, first);
        bins_move(&heap->bins, index,
                  placement->granules < heap->unit_granules ? placement->longest_left
                                                            : heap->unit_granules - to);
        from = 0;
    }
    bit_set(heap->units[first].start, (uint32_t)(placement->granule & (heap->unit_granules - 1)));
    if (placement->granules >= heap->unit_granules)
        heap->units[first].large = placement->granules;
    heap->spans++;
    heap->used_granules += placement->granules;
    return span;
}

/* ---- Finding ------------------------------------------------------------------------- */

/* Fills in *span for the span that is known to start at granule `at` of the unit. */
static void describe(const struct heap *heap, uint32_t index, uint32_t at, struct heap_span *span)
{
    const struct unit *unit = &heap->units[index];
    uint64_t granules = unit->large;

    if (granules == 0 || at != 1) {
        uint32_t free = bit_next(unit->used, at, heap->unit_granules, UINT64_MAX);

        granules = bit_next(unit->start, at + 1, free, 0) - at;
    }
    *span = (struct heap_span){
        .offset = ((uint64_t)index * heap->unit_granules + at) * heap->granularity,
        .bytes = granules * heap->granularity,
        .sealed = bit_get(unit->sealed, at),
    };
}

bool heap_find(const struct heap *heap, uint64_t offset, struct heap_span *span)
{
    uint64_t granule = offset >> heap->granule_shift;
    uint64_t index = granule >> heap->unit_shift;
    uint32_t at = (uint32_t)(granule & (heap->unit_granules - 1));

    /* at 0: the trap granule, or the inside of a large span */
    if ((offset & (heap->granularity - 1)) != 0 || index >= heap->units_grown || at == 0 ||
        !bit_get(heap->units[index].start, at))
        return false;
    describe(heap, (uint32_t)index, at, span);
    return true;
}

bool heap_find_around(const struct heap *heap, uint64_t offset, struct heap_span *span)
{
    uint64_t granule = offset >> heap->granule_shift;
    uint64_t index = granule >> heap->unit_shift;
    uint32_t at = (uint32_t)(granule & (heap->unit_granules - 1));
    uint32_t start;

    if (index >= heap->units_grown || !bit_get(heap->units[index].used, at))
        return false;
    start = bit_last(heap->units[index].start, at);
    if (start == 0)
        return false; /* the trap granule */
    if (start == NO_BIT) {
        index = heap->units[index].head - 1;
        start = 1;
    }
    describe(heap, (uint32_t)index, start, span);
    return true;
}

bool heap_next(const struct heap *heap, uint64_t from, uint64_t end, struct heap_span *span)
{
    uint64_t granule = (from >> heap->granule_shift) + ((from & (heap->granularity - 1)) != 0);
    uint64_t first = granule >> heap->unit_shift;
    uint32_t at = (uint32_t)(granule & (heap->unit_granules - 1));

    if (first >= heap->units_grown)
        return false;
    for (uint32_t index = (uint32_t)first; index < heap->units_grown && index * (uint64_t)BLOCK_BYTES < end;
         index++, at = 0) {
        const struct unit *unit = &heap->units[index];

        if (!bit_get(heap->taken, index))
            continue; /* its page may never have been touched */
        at = bit_next(unit->start, at == 0 ? 1 : at, heap->unit_granules, 0);
        if (at == heap->unit_granules)
            continue;
        describe(heap, index, at, span);
        return span->offset < end;
    }
    return false;
}

uint64_t heap_next_block(const struct heap *heap, uint64_t offset)
{
    uint64_t index = (offset + BLOCK_BYTES - 1) / BLOCK_BYTES;

    if (index >= heap->units_grown)
        return heap_grown_bytes(heap);
    return (uint64_t)bit_next(heap->taken, (uint32_t)index, heap->units_grown, 0) * BLOCK_BYTES;
}

void heap_prefetch(const struct heap *heap, uint64_t offset)
{
    const struct unit *unit = &heap->units[offset / BLOCK_BYTES];
    uint64_t word = (offset % BLOCK_BYTES >> heap->granule_shift) / WORD_BITS;

    __builtin_prefetch(&unit->used[word], 1);
    __builtin_prefetch(&unit->start[word]);
    __builtin_prefetch(&unit->sealed[word]);
    __builtin_prefetch(&unit->stale[word], 1);
    __builtin_prefetch(&unit->count, 1);
}

/* ---- Giving back ---------------------------------------------------------------------- */

/* Granules [from, to) of the unit leave their span. */
static void unit_give(struct heap *heap, uint32_t index, uint32_t from, uint32_t to)
{
    struct unit *unit = &heap->units[index];
    uint32_t before;
    uint32_t run;

    range_set(unit->stale, from, to);
    if (from == 0) {
        /* The large span no longer reaches here: the unit stands for itself again. */
        unit->head = 0;
        bit_set(unit->start, 0);
        from = 1;
    }
    if (to > from) {
        heap->free_runs += 1;
        heap->free_runs -= is_free(unit, heap->unit_granules, from - 1);
        heap->free_runs -= is_free(unit, heap->unit_granules, to);
        range_clear(unit->used, from, to);
        unit->count -= to - from;
        if (unit->is_leased != 0)
            heap->leased_granules += to - from;
    }
    before = bit_last(unit->used, from - 1); /* the trap granule at the latest; or a large span */
    if (to == unit->rest)
        unit->rest = before + 1;
    if (is_vacant(unit)) {
        heap->blocks--;
        if (!heap->is_lessee && unit->is_leased == 0) {
            unit_close(heap, index);
            return;
        }
    }
    if (unit->is_leased != 0)
        return;
    run = (to >= unit->rest ? heap->unit_granules : bit_next(unit->used, to, heap->unit_granules, 0)) -
          (before + 1);
    if (run > heap->bins.links[index].longest)
        bins_move(&heap->bins, index, run);
}

void heap_cut(struct heap *heap, const struct heap_span *span, uint64_t bytes)
{
    uint64_t start = span->offset >> heap->granule_shift;
    uint64_t granules = span->bytes >> heap->granule_shift;
    uint64_t keep = (bytes + heap->granularity - 1) >> heap->granule_shift;
    struct unit *unit = &heap->units[start >> heap->unit_shift];
    uint32_t at = (uint32_t)(start & (heap->unit_granules - 1));

    assert(keep <= granules && bit_get(unit->start, at));
    if (keep == 0) {
        bit_clear(unit->start, at);
        bit_clear(unit->sealed, at);
        heap->spans--;
    }
    if (granules >= heap->unit_granules)
        unit->large = keep >= heap->unit_granules ? keep : 0;
    heap->used_granules -= granules - keep;
    for (uint64_t from = start + keep; from < start + granules;) {
        uint32_t index = (uint32_t)(from >> heap->unit_shift);
        uint64_t end = ((uint64_t)index + 1) * heap->unit_granules;

        if (end > start + granules)
            end = start + granules;
        unit_give(heap, index, (uint32_t)(from & (heap->unit_granules - 1)),
                  (uint32_t)(end - (uint64_t)index * heap->unit_granules));
        from = end;
    }
}

void heap_seal(struct heap *heap, const struct heap_span *span)
{
    uint64_t start = span->offset >> heap->granule_shift;

    bit_set(heap->units[start >> heap->unit_shift].sealed, (uint32_t)(start & (heap->unit_granules - 1)));
}

void heap_clear(struct heap *heap)
{
    for (uint32_t index = 0; index < heap->units_grown; index++) {
        struct unit *unit = &heap->units[index];

        if (!bit_get(heap->taken, index))
            continue;
        if (unit->head == 0)
            bit_clear(unit->used, 0); /* the trap granule held no code */
        for (uint32_t word = 0; word < UNIT_WORDS; word++)
            unit->stale[word] |= unit->used[word];
        memset(unit->used, 0, sizeof unit->used);
        memset(unit->start, 0, sizeof unit->start);
        memset(unit->sealed, 0, sizeof unit->sealed);
        unit->head = 0;
        unit->large = 0;
        unit->is_leased = 0;
        unit_close(heap, index);
        if (heap->is_lessee)
            *unit = (struct unit){0};
    }
    heap->blocks = 0;
    heap->leased_granules = 0;
    heap->free_runs = 0;
    heap->spans = 0;
    heap->used_granules = 0;
}

/* ---- Leases -------------------------------------------------------------------------- */

/* What is left of a block is worth a lease if it is at least this part of one. */
#define LEASE_PART 8u

bool heap_place_lease(const struct heap *heap, uint64_t bytes, struct placement *placement)
{
    uint32_t granules = (uint32_t)((bytes + heap->granularity - 1) >> heap->granule_shift);
    uint32_t bin = bins_last(&heap->bins);
    uint32_t unit;

    *placement = (struct placement){.granules = granules};
    if (bin >= granules && bin >= heap->unit_granules / LEASE_PART) {
        unit = heap->bins.first[bin] - 1;
        placement->granule = (uint64_t)unit * heap->unit_granules + heap->units[unit].rest;
        if (has_one_run(&heap->units[unit]))
            return true;
    }
    unit = find_untaken(heap, 1);
    placement->granule = (uint64_t)unit * heap->unit_granules + 1;
    placement->grown_bytes = ((uint64_t)unit + 1) * BLOCK_BYTES;
    return unit < heap->units_max;
}

struct lease heap_lease(struct heap *heap, const struct placement *placement)
{
    uint32_t index = (uint32_t)(placement->granule >> heap->unit_shift);
    struct unit *unit = &heap->units[index];

    assert(placement->grown_bytes <= heap_grown_bytes(heap));
    if (!bit_get(heap->taken, index))
        unit_open(heap, index);
    bins_unlink(&heap->bins, index);
    unit->is_leased = 1;
    heap->leased_granules += heap->unit_granules - unit->count;
    return (struct lease){
        .offset = ((uint64_t)index * heap->unit_granules + unit->rest) * heap->granularity,
        .bytes = (uint64_t)(heap->unit_granules - unit->rest) * heap->granularity,
        .clean = !range_any(unit->stale, unit->rest, heap->unit_granules),
    };
}

bool heap_can_carve(const struct heap *heap, uint64_t offset, uint64_t bytes)
{
    uint64_t granule = offset >> heap->granule_shift;
    uint64_t index = granule >> heap->unit_shift;
    uint32_t at = (uint32_t)(granule & (heap->unit_granules - 1));
    uint32_t end = at + (uint32_t)((bytes + heap->granularity - 1) >> heap->granule_shift);

    return index < heap->units_grown && heap->units[index].is_leased != 0 &&
           !range_any(heap->units[index].used, at, end);
}

bool heap_carve(struct heap *heap, uint64_t offset, uint64_t bytes, struct heap_span *span)
{
    uint64_t granule = offset >> heap->granule_shift;
    uint64_t granules = (bytes + heap->granularity - 1) >> heap->granule_shift;
    uint64_t index = granule >> heap->unit_shift;
    uint32_t at = (uint32_t)(granule & (heap->unit_granules - 1));
    uint32_t end = at + (uint32_t)granules;
    struct unit *unit;

    if (!heap_can_carve(heap, offset, bytes))
        return false;
    unit = &heap->units[index];
    *span = (struct heap_span){
        .offset = offset,
        .bytes = granules * heap->granularity,
        .clean = !range_any(unit->stale, at, end),
    };
    unit_use(heap, (uint32_t)index, at, end);
    bit_set(unit->start, at);
    heap->spans++;
    heap->used_granules += granules;
    heap->leased_granules -= granules;
    return true;
}

bool heap_is_leased(const struct heap *heap, uint64_t offset)
{
    return offset / BLOCK_BYTES < heap->units_grown && heap->units[offset / BLOCK_BYTES].is_leased != 0;
}

bool heap_return(struct heap *heap, uint64_t offset)
{
    uint32_t index = (uint32_t)(offset / BLOCK_BYTES);
    struct unit *unit = &heap->units[index];
    uint32_t longest;

    if (!heap_is_leased(heap, offset))
        return false;
    unit->is_leased = 0;
    heap->leased_granules -= heap->unit_granules - unit->count;
    if (is_vacant(unit)) {
        unit_close(heap, index);
        return true;
    }
    (void)best_run(unit, 0, heap->unit_granules, heap->unit_granules, &longest);
    bins_link(&heap->bins, index, longest);
    return true;
}

void heap_become_lessee(struct heap *heap)
{
    heap->is_lessee = true;
    heap->units_grown = heap->units_max;
}

void heap_adopt(struct heap *heap, const struct lease *lease)
{
    uint32_t index = (uint32_t)(lease->offset / BLOCK_BYTES);
    uint32_t at = (uint32_t)(lease->offset % BLOCK_BYTES >> heap->granule_shift);
    struct unit *unit = &heap->units[index];

    assert(heap->is_lessee && !bit_get(heap->taken, index));
    unit_open(heap, index);
    range_set(unit->used, 0, at);
    unit->lead = at;
    unit->count = at;
    unit->rest = at;
    if (!lease->clean)
        range_set(unit->stale, at, heap->unit_granules);
    bins_link(&heap->bins, index, heap->unit_granules - at);
}

bool heap_has(const struct heap *heap, uint64_t offset)
{
    return bit_get(heap->taken, (uint32_t)(offset / BLOCK_BYTES));
}

bool heap_is_vacant(const struct heap *heap, uint64_t offset)
{
    return is_vacant(&heap->units[offset / BLOCK_BYTES]);
}

void heap_disown(struct heap *heap, uint64_t offset)
{
    uint32_t index = (uint32_t)(offset / BLOCK_BYTES);

    unit_close(heap, index);
    heap->units[index] = (struct unit){0};
}

/* ---- The whole ------------------------------------------------------------------------ */

void heap_set_grown(struct heap *heap, uint64_t bytes)
{
    uint32_t units = (uint32_t)(bytes / BLOCK_BYTES);

    assert(bytes % BLOCK_BYTES == 0 && units <= heap->units_max && bytes >= heap_end_bytes(heap));
    /*
     * Fresh memory is there, and holds no stale code. What is cleared is only what was there before: so
     * nothing relies on the units beyond, which may be of another process, and may never have been touched.
     */
    if (units > heap->units_grown)
        memset(&heap->units[heap->units_grown], 0, (units - heap->units_grown) * sizeof(struct unit));
    heap->units_grown = units;
}

uint64_t heap_grown_bytes(const struct heap *heap)
{
    return (uint64_t)heap->units_grown * BLOCK_BYTES;
}

uint64_t heap_end_bytes(const struct heap *heap)
{
    uint32_t last;

    if (heap->units_grown == 0)
        return 0;
    last = bit_last(heap->taken, heap->units_grown - 1);
    return last == NO_BIT ? 0 : ((uint64_t)last + 1) * BLOCK_BYTES;
}

uint64_t heap_used_bytes(const struct heap *heap)
{
    return heap->used_granules * heap->granularity;
}

uint64_t heap_leased_bytes(const struct heap *heap)
{
    return heap->leased_granules * heap->granularity;
}

uint64_t heap_largest_free_bytes(const struct heap *heap)
{
    uint64_t granules = bins_last(&heap->bins);

    for (uint32_t from = heap->is_lessee ? heap->units_grown : 0; from < heap->units_grown;) {
        uint32_t first = bit_next(heap->taken, from, heap->units_grown, UINT64_MAX);
        uint64_t run;

        from = bit_next(heap->taken, first, heap->units_grown, 0);
        run = (uint64_t)(from - first) * heap->unit_granules;
        if (run > granules + 1)
            granules = run - 1;
    }
    return granules * heap->granularity;
}

uint64_t heap_overhead_bytes(const struct heap *heap)
{
    return heap->units_grown * sizeof(struct unit) + heap->beside_bytes;
}
