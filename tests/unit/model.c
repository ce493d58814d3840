/* SPDX-License-Identifier: MIT */
#include "tests/unit/model.h"

#include <stdlib.h>
#include <string.h>

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    ck_assert_ptr_nonnull(memory);
    return memory;
}

static void trap_fill(struct model *model, uint64_t offset, uint64_t bytes)
{
    uint8_t *start = model->bytes + offset;

    if (bytes == 0)
        return;
    memcpy(start, &model->fill_pattern, sizeof model->fill_pattern);
    for (uint64_t done = sizeof model->fill_pattern; done < bytes; done += done)
        memcpy(start + done, start, done < bytes - done ? done : bytes - done);
}

void model_init(struct model *model)
{
    model->unit_granules = BLOCK_BYTES / model->granularity;
    model->granules = (uint64_t)model->units * model->unit_granules;
    model->owner = zeroed(model->granules, sizeof *model->owner);
    model->index = zeroed(model->granules, sizeof *model->index);
    model->stale = zeroed(model->granules, sizeof *model->stale);
    model->bytes = zeroed(model->units, BLOCK_BYTES);
    model->spans = zeroed(model->granules + 1, sizeof *model->spans);
    model->owned = zeroed(model->units, sizeof *model->owned);
    model->longest = zeroed(model->units, sizeof *model->longest);
    model->runs = zeroed(model->units, sizeof *model->runs);
    model->dirty = zeroed(model->units, sizeof *model->dirty);
    model->leased = zeroed(model->units, sizeof *model->leased);
    memset(model->dirty, true, model->units);
    trap_fill(model, 0, (uint64_t)model->units * BLOCK_BYTES);
}

void model_deinit(struct model *model)
{
    free(model->owner);
    free(model->index);
    free(model->stale);
    free(model->bytes);
    free(model->spans);
    free(model->owned);
    free(model->longest);
    free(model->runs);
    free(model->dirty);
    free(model->leased);
    *model = (struct model){0};
}

/* ---- Changes ------------------------------------------------------------------------- */

/* The granules of [offset, offset + bytes) become part of the span of that owner, or of none (0). */
static void set_owner(struct model *model, uint64_t offset, uint64_t bytes, uint32_t owner)
{
    uint64_t first = offset / model->granularity;

    for (uint64_t at = first; at < first + bytes / model->granularity; at++) {
        uint64_t unit = at / model->unit_granules;

        must((owner == 0) == (model->owner[at] != 0), "granule %" PRIu64 " is in two spans", at);
        model->owner[at] = owner;
        model->dirty[unit] = true;
        if (owner != 0) {
            model->blocks += model->owned[unit]++ == 0;
        } else {
            model->blocks -= --model->owned[unit] == 0;
            model->stale[at] = true;
        }
    }
    if (owner != 0)
        model->used += bytes;
    else
        model->used -= bytes;
}

bool model_add(struct model *model, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset / model->granularity;
    bool clean = true;

    must(offset + bytes <= model->reserved, "0x%" PRIx64 " is beyond the arena's memory", offset);
    for (uint64_t at = first; at < first + bytes / model->granularity; at++)
        clean = clean && !model->stale[at];
    set_owner(model, offset, bytes, (uint32_t)first + 1);
    model->index[first] = model->count;
    model->spans[model->count++] = (struct live){offset, bytes, false};
    return clean;
}

void model_cut(struct model *model, struct live *live, uint64_t keep, bool filled)
{
    uint32_t blocks = model->blocks;

    set_owner(model, live->offset + keep, live->bytes - keep, 0);
    if (!filled)
        trap_fill(model, live->offset + keep, live->bytes - keep);
    live->bytes = keep;
    if (keep == 0) {
        *live = model->spans[--model->count];
        model->index[live->offset / model->granularity] = (uint32_t)(live - model->spans);
    }
    if (model->blocks < blocks)
        model_trim(model, model->reserve_bytes);
}

void model_clear(struct model *model)
{
    for (; model->count > 0; model->count--) {
        const struct live *live = &model->spans[model->count - 1];

        set_owner(model, live->offset, live->bytes, 0);
    }
    memset(model->leased, false, model->units * sizeof *model->leased);
    trap_fill(model, 0, model->reserved); /* also where a client had not filled what it said it had */
}

void model_reserve(struct model *model, uint64_t bytes)
{
    if (bytes > model->reserved)
        model->reserved = bytes;
    if (model->reserved > model->peak)
        model->peak = model->reserved;
}

/* In a block, or a block that waits for its first span. */
static bool is_taken(const struct model *model, uint32_t unit)
{
    return model->owned[unit] != 0 || model->leased[unit];
}

uint64_t model_end(const struct model *model)
{
    for (uint32_t unit = model->units; unit > 0; unit--) {
        if (is_taken(model, unit - 1))
            return (uint64_t)unit * BLOCK_BYTES;
    }
    return 0;
}

void model_trim(struct model *model, uint64_t keep)
{
    uint64_t end = model_end(model) + keep;

    if (!model->trims || end >= model->reserved)
        return;
    for (uint64_t at = end / model->granularity; at < model->reserved / model->granularity; at++)
        model->stale[at] = false;
    model->reserved = end;
}

void model_lease(struct model *model, uint32_t unit)
{
    must((uint64_t)(unit + 1) * BLOCK_BYTES <= model->reserved, "unit %u is beyond the arena's memory", unit);
    must(!model->leased[unit], "unit %u is leased twice", unit);
    model->leased[unit] = true;
}

void model_return(struct model *model, uint32_t unit)
{
    model->leased[unit] = false;
    model_trim(model, model->reserve_bytes);
}

/* ---- Questions ----------------------------------------------------------------------- */

struct live *model_find(const struct model *model, uint64_t offset)
{
    uint64_t granule = offset / model->granularity;

    if (granule >= model->granules || offset % model->granularity != 0 ||
        model->owner[granule] != granule + 1)
        return NULL;
    return &model->spans[model->index[granule]];
}

struct live *model_find_around(const struct model *model, uint64_t offset)
{
    uint64_t granule = offset / model->granularity;

    if (granule >= model->granules || model->owner[granule] == 0)
        return NULL;
    return &model->spans[model->index[model->owner[granule] - 1]];
}

/* Nobody's, and may be given to someone: the leading granule of a unit never is. */
static bool is_free(const struct model *model, uint64_t granule)
{
    return granule % model->unit_granules != 0 && model->owner[granule] == 0;
}

uint32_t model_run(const struct model *model, uint64_t granule)
{
    uint64_t end = (granule / model->unit_granules + 1) * model->unit_granules;
    uint32_t run = 0;

    if (is_free(model, granule - 1))
        return 0;
    while (granule + run < end && is_free(model, granule + run))
        run++;
    return run;
}

static void count_runs(struct model *model, uint32_t unit)
{
    uint64_t first = (uint64_t)unit * model->unit_granules;
    uint32_t run = 0;

    if (!model->dirty[unit])
        return;
    model->dirty[unit] = false;
    model->longest[unit] = 0;
    model->runs[unit] = 0;
    for (uint32_t at = 1; at < model->unit_granules; at++) {
        run = model->owner[first + at] == 0 ? run + 1 : 0;
        if (run == 1)
            model->runs[unit]++;
        if (run > model->longest[unit])
            model->longest[unit] = run;
    }
}

uint32_t model_longest(struct model *model, uint32_t unit)
{
    count_runs(model, unit);
    return model->longest[unit];
}

uint32_t model_tail(struct model *model, uint32_t unit)
{
    uint64_t end = (uint64_t)(unit + 1) * model->unit_granules;

    count_runs(model, unit);
    return model->runs[unit] == 1 && is_free(model, end - 1) ? model->unit_granules - model->longest[unit]
                                                             : 0;
}

bool model_can_carve(const struct model *model, uint64_t granule, uint64_t granules)
{
    if (granule >= model->granules || !model->leased[granule / model->unit_granules])
        return false;
    for (uint64_t at = granule; at < granule + granules; at++) {
        if (!is_free(model, at))
            return false;
    }
    return true;
}

uint32_t model_shortest(const struct model *model, uint32_t unit, uint64_t granules)
{
    uint64_t first = (uint64_t)unit * model->unit_granules;
    uint32_t shortest = 0;

    for (uint32_t at = 1; at < model->unit_granules; at++) {
        uint32_t run = model_run(model, first + at);

        if (run >= granules && (shortest == 0 || run < shortest))
            shortest = run;
        at += run;
    }
    return shortest;
}

/* What is free there is for anyone. */
static bool is_open(const struct model *model, uint32_t unit)
{
    return model->owned[unit] != 0 && !model->leased[unit];
}

uint32_t model_place(struct model *model, uint64_t granules, uint32_t *longest)
{
    uint64_t units = granules / model->unit_granules + 1; /* the trap granule goes with them */
    uint32_t found = MODEL_NO_UNIT;
    uint32_t run = 0;

    *longest = 0;
    for (uint32_t unit = 0; units == 1 && unit < model->units; unit++) {
        uint32_t room = is_open(model, unit) ? model_longest(model, unit) : 0;

        if (room >= granules && (found == MODEL_NO_UNIT || room < *longest)) {
            found = unit;
            *longest = room;
        }
    }
    for (uint32_t unit = 0; found == MODEL_NO_UNIT && unit < model->units; unit++) {
        run = is_taken(model, unit) ? 0 : run + 1;
        if (run == units)
            found = unit + 1 - run;
    }
    return found;
}

struct lease_place model_place_lease(struct model *model, uint64_t granules)
{
    struct lease_place place = {.unit = MODEL_NO_UNIT};
    uint32_t longest = 0;

    for (uint32_t unit = 0; unit < model->units; unit++) {
        if (is_open(model, unit) && model_longest(model, unit) > longest)
            longest = model_longest(model, unit);
        if (place.unit == MODEL_NO_UNIT && !is_taken(model, unit))
            place.unit = unit;
    }
    if (longest < granules || longest < model->unit_granules / 8)
        return place;
    place.must_be_tail = true;
    for (uint32_t unit = 0; unit < model->units; unit++) {
        if (!is_open(model, unit) || model_longest(model, unit) != longest)
            continue;
        if (model_tail(model, unit) != 0)
            place.tail = longest;
        else
            place.must_be_tail = false;
    }
    return place;
}

/* ---- Sums ------------------------------------------------------------------------------ */

uint64_t model_leased_bytes(const struct model *model)
{
    uint64_t granules = 0;

    for (uint32_t unit = 0; unit < model->units; unit++) {
        if (model->leased[unit]) /* the leading granule belongs to nobody, or to a large span */
            granules += model->unit_granules - model->owned[unit] -
                        (model->owner[(uint64_t)unit * model->unit_granules] == 0);
    }
    return granules * model->granularity;
}

uint64_t model_free_runs(struct model *model)
{
    uint64_t runs = 0;

    for (uint32_t unit = 0; unit < model->units; unit++) {
        if (!is_taken(model, unit))
            continue;
        count_runs(model, unit);
        runs += model->runs[unit];
    }
    return runs;
}

uint64_t model_largest_free_bytes(struct model *model)
{
    uint64_t largest = 0;
    uint64_t empty = 0; /* granules of the units before this one that are in no block */

    for (uint32_t unit = 0; unit < model->reserved / BLOCK_BYTES; unit++) {
        uint64_t granules;

        empty = is_taken(model, unit) ? 0 : empty + model->unit_granules;
        granules = is_open(model, unit) ? model_longest(model, unit) : empty == 0 ? 0 : empty - 1;
        if (granules > largest)
            largest = granules;
    }
    return largest * model->granularity;
}
