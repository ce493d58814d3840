/* SPDX-License-Identifier: MIT */
/*
 * A million random operations on real sessions, each answer compared with that of a
 * simple model. What the client would see is checked through a read-only mapping.
 *
 * JITBROKER_SEED replays a run, JITBROKER_OPERATIONS sets its length.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/operation.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"
#include "tests/unit/model.h"

#define OPERATIONS_DEFAULT UINT64_C(1050000)

static uint64_t seed;

/* What is run: each of these with each granularity. */
static const struct arrangement {
    uint32_t units;
    uint32_t units_quota;
    uint32_t spans_max;
    enum arena_kind kind;
    bool immediate_release;
} settings[] = {
    {1, 1, 100000, ARENA_THROUGH, false},  {2, 2, 100000, ARENA_SEALED, false},
    {5, 4, 300, ARENA_THROUGH, true},      {64, 50, 100000, ARENA_THROUGH, false},
    {520, 520, 2000, ARENA_DIRECT, false}, {3, 3, 100000, ARENA_DIRECT, false},
};
#define SETTINGS (sizeof settings / sizeof settings[0])
#define GRANULARITIES 3

static struct model model;
static const struct arrangement *setting;
static struct session *session;
static struct policy *policy;
static struct quota quota;
static struct account *account;
static const uint8_t *rx;
static uint8_t *rw; /* a direct session's; NULL in others */
static struct dice dice;
static struct result result;
static uint8_t data[WRITE_MAX_BYTES + 1];

/* ---- Setting up --------------------------------------------------------------------- */

static void set_up(uint32_t granularity)
{
    uint64_t arena_bytes = (uint64_t)setting->units * BLOCK_BYTES;
    struct hello hello = {
        .version_max = PROTOCOL_VERSION,
        .features = setting->immediate_release ? FEATURE_IMMEDIATE_RELEASE : 0,
        .write_mode = setting->kind == ARENA_DIRECT ? WRITE_DIRECT : WRITE_THROUGH,
        .arena_bytes = arena_bytes,
        .granularity = granularity,
        .fill_pattern = granularity == 128 && fill_pattern_traps(0xF4F4F4F4u) ? 0xF4F4F4F4u : 0,
    };
    struct peer peer = {.uid = geteuid() + (setting->kind != ARENA_SEALED)};
    struct class *class;
    struct welcome welcome;
    int fd;

    policy = config_defaults("model");
    class = policy->classes[0];
    class->write_direct = setting->kind == ARENA_DIRECT;
    class->arena_max_bytes = arena_bytes;
    class->bytes_max = (uint64_t)setting->units_quota * BLOCK_BYTES;
    class->span_max = setting->spans_max;
    account = quota_account(&quota, peer.uid);
    result_init(&result);
    ck_assert_int_eq(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, class, &peer, account, &hello, &result);
    ck_assert_msg(session != NULL, "%s", result.text);
    ck_assert_int_eq(session->arena.kind, setting->kind);
    session_describe(session, &welcome);
    ck_assert_uint_eq(welcome.span_max_bytes, session->shape.span_max_bytes);
    if (arena_bytes > SPAN_LIMIT_BYTES)
        ck_assert_uint_eq(welcome.span_max_bytes, SPAN_LIMIT_BYTES);
    else
        ck_assert_uint_eq(welcome.span_max_bytes, arena_bytes - granularity);
    fd = arena_open_read_only(&session->arena);
    ck_assert_int_ge(fd, 0);
    rx = mmap(NULL, arena_bytes, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(rx, MAP_FAILED);
    ck_assert_int_eq(close(fd), 0);
    rw = NULL;
    if (setting->kind == ARENA_DIRECT) {
        fd = arena_open_writable(&session->arena);
        rw = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert_ptr_ne(rw, MAP_FAILED);
        ck_assert_int_eq(close(fd), 0);
    }

    model = (struct model){
        .units = setting->units,
        .granularity = granularity,
        .fill_pattern = session->arena.fill_pattern,
        .trims = setting->kind == ARENA_THROUGH,
        .reserve_bytes = setting->immediate_release ? 0 : SESSION_RESERVE_BYTES,
    };
    model_init(&model);
}

static void tear_down(void)
{
    ck_assert_int_eq(munmap((void *)(uintptr_t)rx, session->shape.arena_bytes), 0);
    if (rw != NULL)
        ck_assert_int_eq(munmap(rw, session->shape.arena_bytes), 0);
    session = session_unref(session);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
    ck_assert_ptr_null(quota.accounts);
    model_deinit(&model);
}

/* ---- Checks --------------------------------------------------------------------------- */

/* What the client reads there, and a granule to either side, is what it should be. */
static void check_bytes(uint64_t offset, uint64_t bytes)
{
    uint64_t from = offset < model.granularity ? 0 : offset - model.granularity;
    uint64_t to = offset + bytes + model.granularity;

    if (to > model.reserved)
        to = model.reserved;
    if (from < to)
        must(memcmp(rx + from, model.bytes + from, to - from) == 0,
             "[0x%" PRIx64 ", 0x%" PRIx64 ") is not what was written", from, to);
}

/* After every operation; costs nothing. */
static void check_sums(void)
{
    must_be(session->heap.spans, model.count);
    must_be(session->heap.blocks, model.blocks);
    must_be(heap_used_bytes(&session->heap), model.used);
    must_be(heap_leased_bytes(&session->heap), model_leased_bytes(&model));
    must_be(session->arena.grown_bytes, model.reserved);
    must_be(heap_grown_bytes(&session->heap), model.reserved);
    must_be(account->held[QUOTA_BYTES], model.reserved);
    must_be(session->bytes.amount, model.reserved);
    must_be(session->ledger.page->reserved_peak_bytes, model.peak);
    must(model.reserved <= (uint64_t)setting->units_quota * BLOCK_BYTES, "above the quota");
}

static void check_span(const struct live *live)
{
    must(result.has_span, "no span in the result");
    must_be(result.offset, live->offset);
    must_be(result.size, live->bytes);
    must_be((result.flags & SPAN_SEALED) != 0, live->sealed);
}

/* Everything, from scratch. */
static void check_all(void)
{
    struct placement placement;
    struct heap_span span;
    struct stat status;

    check_sums();
    must_be(fstat(session->arena.fd, &status), 0);
    must_be((uint64_t)status.st_size, model.reserved);
    must_be(heap_end_bytes(&session->heap), model_end(&model));
    must_be(session->heap.free_runs, model_free_runs(&model));
    must_be(heap_largest_free_bytes(&session->heap), model_largest_free_bytes(&model));
    check_bytes(0, model.reserved);
    for (uint64_t granule = 0; granule < model.granules; granule++) {
        uint64_t offset = granule * model.granularity;
        const struct live *live = model_find(&model, offset);
        const struct live *around = model_find_around(&model, offset);

        must_be(heap_find(&session->heap, offset, &span), live != NULL);
        if (live != NULL) {
            must_be(span.bytes, live->bytes);
            must_be(span.sealed, live->sealed);
        }
        must_be(heap_find_around(&session->heap, offset + granule % 64, &span), around != NULL);
        if (around != NULL)
            must_be(span.offset, around->offset);
    }
    /* What the heap believes of its free runs. */
    for (uint32_t granules = 1; granules <= 2 * model.unit_granules; granules++) {
        uint32_t longest;
        uint32_t unit = model_place(&model, granules, &longest);

        must_be(
            heap_place(&session->heap, (uint64_t)granules * model.granularity - granules % 64, &placement),
            unit != MODEL_NO_UNIT);
        if (unit != MODEL_NO_UNIT && longest == 0)
            must_be(placement.granule, (uint64_t)unit * model.unit_granules + 1);
        if (unit != MODEL_NO_UNIT && longest != 0)
            must_be(model_longest(&model, (uint32_t)(placement.granule / model.unit_granules)), longest);
    }
}

/* ---- Operations -------------------------------------------------------------------------- */

static enum status run(const struct request *request)
{
    /* In one go, or in steps of some size: it comes to the same. */
    uint64_t step_bytes = dice_percent(&dice, 50) ? UINT64_MAX / 2 : BLOCK_BYTES * (1 + dice_below(&dice, 4));

    while (!operation_run(session, request, step_bytes, &result))
        continue;
    must_be(result.status == STATUS_OK, result.text[0] == '\0');
    return result.status;
}

static void expect(enum status status, const struct request *request)
{
    enum status got = run(request);

    must(got == status, "%s span=0x%" PRIx64 " size=%" PRIu64 " at=%" PRIu64 ": %d, not %d: %s",
         operation_name(request->operation), request->span, request->size, request->at, (int)got, (int)status,
         result.text);
}

static uint64_t some_size(void)
{
    uint64_t largest = session->shape.span_max_bytes;
    uint64_t lot = dice_below(&dice, 1000);
    uint64_t size;

    if (lot < 770)
        size = 1 + dice_below(&dice, 1024);
    else if (lot < 930)
        size = 1 + dice_below(&dice, 16384);
    else if (lot < 960)
        size = BLOCK_BYTES - 3 * model.granularity + dice_below(&dice, 5 * model.granularity);
    else if (lot < 985)
        size = 1 + dice_below(&dice, 4 * (uint64_t)BLOCK_BYTES);
    else if (lot < 987)
        size = 1 + dice_below(&dice, largest);
    else if (lot < 988)
        size = largest;
    else if (lot < 990)
        return dice_below(&dice, 2) == 0 ? 0 : largest + 1 + dice_next(&dice) / 2;
    else
        size = model.granularity * (1 + dice_below(&dice, 8));
    return size > largest ? largest : size;
}

/* Mostly a live span's start; else anything, or just beside. */
static uint64_t some_span(void)
{
    uint64_t lot = dice_below(&dice, 100);

    if (lot < 94 && model.count > 0)
        return model.spans[dice_below(&dice, model.count)].offset;
    if (lot < 96 && model.count > 0)
        return model.spans[dice_below(&dice, model.count)].offset + dice_below(&dice, 2 * model.granularity);
    if (lot < 99)
        return dice_below(&dice, model.granules) * model.granularity;
    return dice_next(&dice) >> dice_below(&dice, 64);
}

static void do_alloc(void)
{
    struct request request = {.operation = OPERATION_ALLOC, .size = some_size()};
    uint64_t granules = (request.size + model.granularity - 1) / model.granularity;
    uint64_t first;
    uint64_t end;
    uint32_t longest;
    uint32_t unit;
    bool clean;

    if (request.size == 0) {
        expect(STATUS_INVALID, &request);
        return;
    }
    if (request.size > session->shape.span_max_bytes) {
        expect(STATUS_TOO_LARGE, &request);
        return;
    }
    if (model.count == setting->spans_max) {
        expect(STATUS_QUOTA_SPANS, &request);
        return;
    }
    unit = model_place(&model, granules, &longest);
    if (unit == MODEL_NO_UNIT) {
        expect(STATUS_ARENA_FULL, &request);
        return;
    }
    end = longest != 0 ? 0 : (unit + granules / model.unit_granules + 1) * BLOCK_BYTES;
    if (end > (uint64_t)setting->units_quota * BLOCK_BYTES) {
        expect(STATUS_QUOTA_BYTES, &request);
        return;
    }
    expect(STATUS_OK, &request);
    must(result.has_span, "no span in the result");
    must_be(result.offset % model.granularity, 0);
    must_be(result.size, granules * model.granularity);
    first = result.offset / model.granularity;
    must(first % model.unit_granules != 0, "a span starts on a trap granule");
    if (longest == 0) {
        must_be(first, (uint64_t)unit * model.unit_granules + 1);
    } else {
        /* Another unit will do if its longest run is as long. */
        unit = (uint32_t)(first / model.unit_granules);
        must_be(model_longest(&model, unit), longest);
        must_be(model_run(&model, first), model_shortest(&model, unit, granules));
    }
    model_reserve(&model, end);
    clean = model_add(&model, result.offset, result.size);
    must_be(result.flags, clean ? SPAN_ICACHE_CLEAN : 0);
    check_bytes(result.offset, result.size); /* trap fill */
}

/* In a direct session a client may fill what it gives back, well or badly, and say so. */
static bool some_filling(const struct live *live, uint64_t keep)
{
    if (!dice_percent(&dice, rw == NULL ? 2 : 50))
        return false;
    if (rw != NULL && live != NULL && keep < live->bytes) {
        uint8_t byte = (uint8_t)dice_next(&dice);

        memset(rw + live->offset + keep, byte, live->bytes - keep);
        memset(model.bytes + live->offset + keep, byte, live->bytes - keep);
    }
    return true;
}

static void do_release(uint64_t span)
{
    struct live *live = model_find(&model, span);
    struct request request = {.operation = OPERATION_RELEASE, .span = span, .filled = some_filling(live, 0)};
    uint64_t bytes;

    if (request.filled && rw == NULL) {
        expect(STATUS_INVALID, &request);
        return;
    }
    if (live == NULL) {
        expect(STATUS_NO_SPAN, &request);
        return;
    }
    bytes = live->bytes;
    expect(STATUS_OK, &request);
    model_cut(&model, live, 0, request.filled);
    check_bytes(span, bytes);
}

static void do_shrink(void)
{
    struct request request = {.operation = OPERATION_SHRINK, .span = some_span()};
    struct live *live = model_find(&model, request.span);
    uint64_t bytes = live == NULL ? 64 : live->bytes;
    uint64_t keep;

    request.size = dice_below(&dice, bytes + bytes / 16 + 2);
    keep = (request.size + model.granularity - 1) / model.granularity * model.granularity;
    request.filled = some_filling(live, request.size == 0 || live == NULL || live->sealed ? bytes : keep);
    if (request.size == 0) {
        expect(STATUS_INVALID, &request);
    } else if (request.filled && rw == NULL) {
        expect(STATUS_INVALID, &request);
    } else if (live == NULL) {
        expect(STATUS_NO_SPAN, &request);
    } else if (live->sealed) {
        expect(STATUS_SEALED, &request);
    } else if (request.size > bytes) {
        expect(STATUS_INVALID, &request);
    } else {
        expect(STATUS_OK, &request);
        model_cut(&model, live, keep, request.filled);
        check_span(live);
        check_bytes(live->offset, bytes);
    }
}

static void do_write(void)
{
    struct request request = {.operation = OPERATION_WRITE, .span = some_span(), .data = data};
    struct live *live = model_find(&model, request.span);
    uint64_t bytes = live == NULL ? 64 : live->bytes;
    uint64_t pattern = dice_next(&dice);

    request.at = dice_percent(&dice, 50) ? 0 : dice_below(&dice, bytes + 1);
    request.data_bytes = (size_t)dice_below(&dice, bytes - request.at + 1);
    if (dice_percent(&dice, 3)) {
        request.data_bytes = (size_t)dice_below(&dice, sizeof data + 1);
        request.at = dice_next(&dice) >> dice_below(&dice, 64);
    }
    if (live != NULL && request.data_bytes > WRITE_MAX_BYTES && dice_percent(&dice, 90))
        request.data_bytes = WRITE_MAX_BYTES;
    if (request.data_bytes > sizeof data)
        request.data_bytes = sizeof data;
    for (size_t at = 0; at < request.data_bytes; at += sizeof pattern, pattern++)
        memcpy(data + at, &pattern, request.data_bytes - at < 8 ? request.data_bytes - at : 8);

    if (request.data_bytes > WRITE_MAX_BYTES) {
        expect(STATUS_TOO_LARGE, &request);
    } else if (request.at > session->shape.arena_bytes ||
               request.at + request.data_bytes > session->shape.arena_bytes) {
        expect(STATUS_OUT_OF_RANGE, &request);
    } else if (live == NULL) {
        expect(STATUS_NO_SPAN, &request);
    } else if (live->sealed) {
        expect(STATUS_SEALED, &request);
    } else if (request.at + request.data_bytes > bytes) {
        expect(STATUS_OUT_OF_RANGE, &request);
    } else {
        expect(STATUS_OK, &request);
        memcpy(model.bytes + live->offset + request.at, data, request.data_bytes);
    }
    if (live != NULL)
        check_bytes(live->offset, live->bytes);
}

static void do_patch(void)
{
    struct request request = {.operation = OPERATION_PATCH, .span = some_span()};
    struct live *live = model_find(&model, request.span);
    uint64_t bytes = live == NULL ? 64 : live->bytes;
    uint64_t present = 0;

    request.width = 1u << dice_below(&dice, 4);
    request.at = dice_below(&dice, bytes / 8 + 1) * 8 + dice_below(&dice, 8) / request.width * request.width;
    request.desired = dice_next(&dice) >> (64 - 8 * request.width);
    if (live != NULL && request.at < bytes)
        memcpy(&present, model.bytes + live->offset + request.at, request.width);
    request.expected = present;
    if (dice_percent(&dice, 20))
        request.expected ^= UINT64_C(1) << dice_below(&dice, 8 * request.width);

    if (request.at >= session->shape.arena_bytes) {
        expect(STATUS_OUT_OF_RANGE, &request);
    } else if (live == NULL) {
        expect(STATUS_NO_SPAN, &request);
    } else if (live->sealed) {
        expect(STATUS_SEALED, &request);
    } else if (request.at >= bytes) {
        expect(STATUS_OUT_OF_RANGE, &request);
    } else if (request.expected != present) {
        expect(STATUS_MISMATCH, &request);
        must_be(result.found, present);
    } else {
        expect(STATUS_OK, &request);
        must_be(result.found, present);
        memcpy(model.bytes + live->offset + request.at, &request.desired, request.width); /* little endian */
    }
    if (live != NULL && request.at < bytes)
        check_bytes(live->offset + request.at, request.width);
}

static void do_seal(void)
{
    struct request request = {.operation = OPERATION_SEAL, .span = some_span()};
    struct live *live = model_find(&model, request.span);

    expect(live == NULL ? STATUS_NO_SPAN : STATUS_OK, &request);
    if (live != NULL) {
        live->sealed = true;
        check_span(live);
    }
}

static void do_query(void)
{
    struct request request = {.operation = OPERATION_QUERY, .span = some_span()};
    struct live *live;

    if (model_find(&model, request.span) != NULL)
        request.span += dice_below(&dice, model_find(&model, request.span)->bytes + 1);
    live = model_find_around(&model, request.span);
    expect(live == NULL ? STATUS_NO_SPAN : STATUS_OK, &request);
    if (live != NULL)
        check_span(live);
}

/* A unit that is leased, if any is. */
static uint32_t some_leased(void)
{
    uint32_t first = (uint32_t)dice_below(&dice, model.units);

    for (uint32_t i = 0; i < model.units; i++) {
        uint32_t unit = (first + i) % model.units;

        if (model.leased[unit])
            return unit;
    }
    return first;
}

/* The lease was granted, and begins at one of those places. */
static void check_lease(const struct lease_place *place)
{
    uint32_t unit = (uint32_t)(result.offset / BLOCK_BYTES);
    uint64_t first = result.offset / model.granularity;
    uint64_t end = (uint64_t)(unit + 1) * BLOCK_BYTES;
    bool clean = true;

    must(result.has_span, "no lease in the result");
    must_be(result.offset + result.size, end);
    if (unit == place->unit) {
        must(!place->must_be_tail || place->tail == 0, "a block was leased, not another's end");
        must_be(result.offset % BLOCK_BYTES, model.granularity);
        model_reserve(&model, end);
    } else {
        must_be(result.size, place->tail * model.granularity);
        must_be(result.offset % BLOCK_BYTES, model_tail(&model, unit) * model.granularity);
    }
    for (uint64_t at = first; at < end / model.granularity; at++)
        clean = clean && !model.stale[at];
    must_be(result.flags, clean ? SPAN_ICACHE_CLEAN : 0);
    model_lease(&model, unit);
    check_bytes(result.offset, result.size);
}

static void do_lease(void)
{
    struct request request = {.operation = OPERATION_LEASE,
                              .size = dice_percent(&dice, 50) ? 1 + dice_below(&dice, 4096) : some_size()};
    struct lease_place place;

    if (request.size == 0 || request.size > BLOCK_BYTES - model.granularity) {
        expect(request.size == 0 ? STATUS_INVALID : STATUS_TOO_LARGE, &request);
        return;
    }
    place = model_place_lease(&model, (request.size + model.granularity - 1) / model.granularity);
    if (place.tail != 0 && !place.must_be_tail) {
        if (run(&request) == STATUS_OK) {
            check_lease(&place);
            return;
        }
        must_be(result.status, place.unit == MODEL_NO_UNIT ? STATUS_ARENA_FULL : STATUS_QUOTA_BYTES);
    } else if (place.tail == 0 && place.unit == MODEL_NO_UNIT) {
        expect(STATUS_ARENA_FULL, &request);
    } else if (place.tail == 0 && place.unit >= setting->units_quota) {
        expect(STATUS_QUOTA_BYTES, &request);
    } else {
        expect(STATUS_OK, &request);
        check_lease(&place);
    }
}

static void do_carve(void)
{
    uint64_t unit = some_leased();
    uint64_t at = dice_below(&dice, model.unit_granules);
    struct request request = {.operation = OPERATION_CARVE};
    uint64_t run_granules = 0;

    /* Mostly the first free run behind `at`, or its beginning. */
    if (dice_percent(&dice, 90)) {
        while (at < model.unit_granules && model.owner[unit * model.unit_granules + at] != 0)
            at++;
        while (at > 1 && model.owner[unit * model.unit_granules + at - 1] == 0)
            at--;
        at += at == 0;
        run_granules = at < model.unit_granules ? model_run(&model, unit * model.unit_granules + at) : 0;
    }
    request.span = (unit * model.unit_granules + at) * model.granularity;
    request.size = dice_percent(&dice, 80) ? 1 + dice_below(&dice, 1024) : run_granules * model.granularity;
    if (dice_percent(&dice, 5))
        request.size = dice_below(&dice, 2 * (uint64_t)BLOCK_BYTES);
    if (dice_percent(&dice, 5))
        request.size = BLOCK_BYTES - request.span % BLOCK_BYTES + dice_below(&dice, 2);
    if (dice_percent(&dice, 2))
        request.span = some_span();

    if (request.span >= session->shape.arena_bytes || request.span % model.granularity != 0) {
        expect(STATUS_NO_SPAN, &request);
    } else if (request.size == 0 || request.size > BLOCK_BYTES - request.span % BLOCK_BYTES) {
        expect(STATUS_INVALID, &request);
    } else if (model.count == setting->spans_max) {
        expect(STATUS_QUOTA_SPANS, &request);
    } else if (!model_can_carve(&model, request.span / model.granularity,
                                (request.size + model.granularity - 1) / model.granularity)) {
        expect(STATUS_NO_SPAN, &request);
    } else {
        expect(STATUS_OK, &request);
        must(!result.has_span && result.found == 0, "a carve tells something");
        (void)model_add(&model, request.span,
                        (request.size + model.granularity - 1) / model.granularity * model.granularity);
    }
}

static void do_return(uint64_t block)
{
    struct request request = {.operation = OPERATION_RETURN, .span = block};

    if (block >= session->shape.arena_bytes || block % BLOCK_BYTES != 0 ||
        !model.leased[block / BLOCK_BYTES]) {
        expect(STATUS_NO_SPAN, &request);
        return;
    }
    expect(STATUS_OK, &request);
    model_return(&model, (uint32_t)(block / BLOCK_BYTES));
}

/* Mostly a leased block's start; else any block's, or anything. */
static uint64_t some_block(void)
{
    uint64_t lot = dice_below(&dice, 100);

    if (lot < 90)
        return some_leased() * (uint64_t)BLOCK_BYTES;
    if (lot < 96)
        return dice_below(&dice, model.units + 1) * BLOCK_BYTES;
    return some_span();
}

static void do_statistics(void)
{
    struct request request = {.operation = OPERATION_STATISTICS};
    uint64_t largest = model_largest_free_bytes(&model);

    expect(STATUS_OK, &request);
    must(result.has_usage, "no usage in the result");
    must_be(result.usage.spans, model.count);
    must_be(result.usage.blocks, model.blocks);
    must_be(result.usage.used_bytes, model.used);
    must_be(result.usage.reserved_bytes, model.reserved);
    must_be(result.usage.reserved_peak_bytes, model.peak);
    must_be(result.usage.leased_bytes, model_leased_bytes(&model));
    must_be(result.usage.largest_free_bytes,
            largest < session->shape.span_max_bytes ? largest : session->shape.span_max_bytes);
    must_be(result.usage.free_runs, model_free_runs(&model));
}

static void do_reset(void)
{
    struct request request = {.operation = OPERATION_RESET, .kind = (uint32_t)dice_below(&dice, 2)};

    expect(STATUS_OK, &request);
    model_clear(&model);
    if (request.kind == RESET_HARD)
        model_trim(&model, 0);
    check_bytes(0, model.reserved);
}

static uint64_t do_return_all(void)
{
    uint64_t operations = 0;

    for (uint32_t unit = 0; unit < model.units; unit++) {
        if (!model.leased[unit])
            continue;
        do_return(unit * (uint64_t)BLOCK_BYTES);
        check_sums();
        operations++;
    }
    return operations;
}

/* And, before or after, gives all leases back. Returns how many operations it took. */
static uint64_t do_release_all(void)
{
    uint64_t operations = 0;

    if (dice_percent(&dice, 50))
        operations += do_return_all();

    for (; model.count > 0; operations++) {
        do_release(model.spans[dice_below(&dice, model.count)].offset);
        check_sums();
    }
    must_be(model.used, 0);
    operations += do_return_all();
    must_be(model_end(&model), 0);
    return operations;
}

static uint64_t do_something(unsigned alloc_percent)
{
    uint64_t lot = dice_below(&dice, 100);

    if (dice_below(&dice, 20000) == 0)
        return do_release_all();
    if (dice_below(&dice, 10000) == 0)
        do_reset();
    else if (lot < alloc_percent && lot < 8 && model_leased_bytes(&model) > 0)
        do_carve();
    else if (lot < alloc_percent)
        do_alloc();
    else if (lot < 50)
        do_release(some_span());
    else if (lot < 70)
        do_write();
    else if (lot < 80)
        do_patch();
    else if (lot < 87)
        do_shrink();
    else if (lot < 89)
        do_seal();
    else if (lot < 96)
        do_query();
    else if (lot < 97)
        do_lease();
    else if (lot < 98)
        do_return(some_block());
    else
        do_statistics();
    return 1;
}

START_TEST(a_session_answers_as_the_model_does)
{
    uint64_t total = dice_environment("JITBROKER_OPERATIONS", OPERATIONS_DEFAULT);
    uint64_t operations = total / (SETTINGS * GRANULARITIES) + 1;
    uint64_t checks = operations / 12 + 1;
    unsigned alloc_percent = 30;

    dice.state = seed + (uint64_t)_i;
    setting = &settings[(size_t)_i % SETTINGS];
    set_up(64u << ((size_t)_i / SETTINGS));
    for (uint64_t done = 0, checked = 0; done < operations;) {
        /* The arena fills for a while, and empties for a while. */
        if (dice_below(&dice, 1000) == 0)
            alloc_percent = 15 + (unsigned)dice_below(&dice, 26);
        done += do_something(alloc_percent);
        check_sums();
        if (done - checked >= checks) {
            check_all();
            checked = done;
        }
    }
    check_all();
    (void)do_release_all();
    do_statistics();
    check_all();
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("operation model");
    TCase *all = tcase_create("every setting, each with 64, 128, 256");

    seed = dice_seed();
    tcase_add_loop_test(all, a_session_answers_as_the_model_does, 0, SETTINGS * GRANULARITIES);
    tcase_set_timeout(all, 0);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
