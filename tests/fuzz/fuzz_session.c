/* SPDX-License-Identifier: MIT */
/*
 * A client's operations on a real session, each sent through the codec both ways. What
 * the daemon should answer is worked out from whose each granule is and what each byte
 * is, which is all that is kept here; nothing of the allocator's is shared.
 *
 * - No byte outside a live span differs from the fill, none inside from what was written.
 * - A span never overlaps another, nor starts on a trap granule; it is clean only if none
 *   of its memory was ever part of a span. Room is refused only if there is none.
 * - What is leased goes to nobody else, and is carved exactly where it is free.
 * - The sums, the charge and the file's length agree after every operation.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/operation.h"
#include "proto/codec.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/session_model.h"

#define OPERATIONS_LIMIT 600
#define CHECK_ALL_EVERY 32

static struct session *session;
static struct policy *policy;
static struct quota quota;
static struct account *account;
static struct request_record sent; /* what `request` points into */
static struct request request;
static struct result result;

static uint8_t fill;
static uint32_t spans_max;
static uint64_t bytes_max;
static uint64_t reserve_bytes;

static uint8_t wire[2 * RECORD_MAX_BYTES];
static uint8_t pool_bytes[CODEC_POOL_BYTES] __attribute__((aligned(16)));
static uint8_t reply_pool_bytes[CODEC_POOL_BYTES] __attribute__((aligned(16)));

/* ---- Setting up --------------------------------------------------------------------- */

static void set_up(struct input *input)
{
    uint8_t shape = input_byte(input);
    uint8_t size = input_byte(input);
    uint8_t limits = input_byte(input);
    bool direct = (shape & 0x04) != 0;
    bool through = (shape & 0x08) != 0;
    struct hello hello = {
        .version_max = PROTOCOL_VERSION,
        .features = (shape & 0x10) != 0 ? FEATURE_IMMEDIATE_RELEASE : 0,
        .write_mode = direct ? WRITE_DIRECT : WRITE_THROUGH,
        .granularity = 64u << (shape & 0x03) % 3,
        .fill_pattern = (shape & 0x20) != 0 && fill_pattern_traps(0xF4F4F4F4u) ? 0xF4F4F4F4u : 0,
    };
    struct peer peer = {.uid = geteuid() + through};
    struct class *class;

    units = 1 + size % (size < 0x80 ? UNITS_FEW : UNITS_MAX);
    hello.arena_bytes = (uint64_t)units * BLOCK_BYTES;
    bytes_max = hello.arena_bytes - (uint64_t)((limits & 0x0F) % units) * BLOCK_BYTES;
    spans_max = (limits & 0xF0) == 0 ? UINT32_MAX : (uint32_t)(limits >> 4) * 3;
    policy = config_defaults("model");
    class = policy->classes[0];
    class->write_direct = direct;
    class->bytes_max = bytes_max;
    class->span_max = spans_max;
    account = quota_account(&quota, peer.uid);
    must(account != NULL);
    result_init(&result);
    must_be(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, class, &peer, account, &hello, &result);
    must(session != NULL);
    must(session->arena.kind == (direct ? ARENA_DIRECT : through ? ARENA_THROUGH : ARENA_SEALED));

    granularity = hello.granularity;
    unit_granules = BLOCK_BYTES / granularity;
    fill = (uint8_t)hello.fill_pattern;
    must_be(hello.fill_pattern, fill * 0x01010101u);
    reserve_bytes = session->immediate_release ? 0 : SESSION_RESERVE_BYTES;
    begin_model();
}

/* ---- What should be there ------------------------------------------------------------- */

static enum status predict_change(uint64_t bytes)
{
    const struct live *live = find(request.span);

    if (live == NULL)
        return STATUS_NO_SPAN;
    if (live->sealed)
        return STATUS_SEALED;
    return request.at + bytes > live->bytes ? STATUS_OUT_OF_RANGE : STATUS_OK;
}

static enum status predict_alloc(void)
{
    uint64_t needed = needed_bytes(request.size);

    if (count >= spans_max)
        return STATUS_QUOTA_SPANS;
    if (needed == UINT64_MAX)
        return STATUS_ARENA_FULL;
    return needed > bytes_max ? STATUS_QUOTA_BYTES : STATUS_OK;
}

/* A lease of a block that nobody has. */
static enum status predict_fresh_lease(uint32_t *unit)
{
    for (*unit = 0; *unit < units && is_taken(*unit);)
        ++*unit;
    if (*unit == units)
        return STATUS_ARENA_FULL;
    return (uint64_t)(*unit + 1) * BLOCK_BYTES > bytes_max ? STATUS_QUOTA_BYTES : STATUS_OK;
}

/*
 * What is free at a block's end is leased if it's an eighth of a block and no run is longer. One block
 * with such a run is looked at: where some of them have other runs too, *result tells which it was.
 */
static enum status predict_lease(void)
{
    uint64_t granules = (request.size + granularity - 1) / granularity;
    uint32_t longest = 0;
    uint32_t fresh;
    bool ends = false;
    bool others = false;

    for (uint32_t unit = 0; unit < units; unit++) {
        if (is_open(unit) && free_runs(unit).longest > longest)
            longest = free_runs(unit).longest;
    }
    for (uint32_t unit = 0; unit < units; unit++) {
        struct free_runs runs = {0};

        if (is_open(unit))
            runs = free_runs(unit);
        if (runs.longest == 0 || runs.longest != longest)
            continue;
        if (runs.count == 1 && runs.last == longest)
            ends = true;
        else
            others = true;
    }
    ends = ends && longest >= granules && longest >= unit_granules / 8;
    if (ends && (!others || (result.status == STATUS_OK && owned[result.offset / BLOCK_BYTES] != 0))) {
        must(result.status != STATUS_OK || result.size == (uint64_t)longest * granularity);
        return STATUS_OK;
    }
    if (result.status == STATUS_OK)
        must(predict_fresh_lease(&fresh) == STATUS_OK && result.offset / BLOCK_BYTES == fresh);
    return predict_fresh_lease(&fresh);
}

static enum status predict_carve(void)
{
    uint64_t first = request.span / granularity;

    if (count >= spans_max)
        return STATUS_QUOTA_SPANS;
    if (!leased[request.span / BLOCK_BYTES] || first % unit_granules == 0)
        return STATUS_NO_SPAN;
    for (uint64_t at = first; at < first + (request.size + granularity - 1) / granularity; at++) {
        if (owner[at] != 0)
            return STATUS_NO_SPAN;
    }
    return STATUS_OK;
}

static uint64_t content_at(uint64_t offset)
{
    uint64_t present = 0;

    memcpy(&present, content + offset, request.width); /* little endian */
    return present;
}

/* For a valid request, which was run. */
static enum status predict(void)
{
    enum status status;

    switch (request.operation) {
    case OPERATION_ALLOC:
        return predict_alloc();
    case OPERATION_QUERY:
        return find_around(request.span) == NULL ? STATUS_NO_SPAN : STATUS_OK;
    case OPERATION_RELEASE:
    case OPERATION_SEAL:
        return find(request.span) == NULL ? STATUS_NO_SPAN : STATUS_OK;
    case OPERATION_SHRINK:
        status = predict_change(0);
        return status == STATUS_OK && request.size > find(request.span)->bytes ? STATUS_INVALID : status;
    case OPERATION_WRITE:
        return predict_change(request.data_bytes);
    case OPERATION_PATCH:
        status = predict_change(request.width);
        return status == STATUS_OK && content_at(request.span + request.at) != request.expected
                   ? STATUS_MISMATCH
                   : status;
    case OPERATION_LEASE:
        return predict_lease();
    case OPERATION_CARVE:
        return predict_carve();
    case OPERATION_RETURN:
        return leased[request.span / BLOCK_BYTES] ? STATUS_OK : STATUS_NO_SPAN;
    case OPERATION_RESET:
    case OPERATION_STATISTICS:
    case OPERATION_COUNT:
        break;
    }
    return STATUS_OK;
}

/* ---- What was done -------------------------------------------------------------------- */

/* The arena has got longer or shorter: what is new is fill, and was never part of a span. */
static void note_growth(void)
{
    uint64_t before = grown;

    grown = session->arena.grown_bytes;
    if (grown > before)
        memset(content + before, fill, grown - before);
    for (uint64_t at = grown / granularity; at < before / granularity; at++)
        stale[at] = false;
}

static void set_owner(uint64_t offset, uint64_t bytes, uint32_t to)
{
    uint64_t first = offset / granularity;

    for (uint64_t at = first; at < first + bytes / granularity; at++) {
        must((owner[at] == 0) == (to != 0));
        owner[at] = to;
        owned[at / unit_granules] += to != 0 ? 1u : UINT32_MAX;
        counted[at / unit_granules].known = false;
        stale[at] = true;
    }
    used += to != 0 ? bytes : -bytes;
}

static void note_span(uint64_t offset, uint64_t bytes)
{
    set_owner(offset, bytes, (uint32_t)(offset / granularity) + 1);
    place[offset / granularity] = (uint32_t)count;
    spans[count++] = (struct live){.offset = offset, .bytes = bytes};
}

static void note_alloc(void)
{
    uint64_t first = result.offset / granularity;
    uint64_t granules = (request.size + granularity - 1) / granularity;

    must(result.has_span && result.offset % granularity == 0);
    must_be(result.size, granules * granularity);
    must(result.offset + result.size <= grown);
    must(first % unit_granules != 0); /* the trap granule */
    must(granules >= unit_granules ? first % unit_granules == 1
                                   : first / unit_granules == (first + granules - 1) / unit_granules);
    for (uint64_t at = first; at < first + granules; at += unit_granules)
        must(!leased[at / unit_granules]);
    must(!leased[(first + granules - 1) / unit_granules]);
    must_be(result.flags, is_clean(result.offset, result.size) ? SPAN_ICACHE_CLEAN : 0);
    note_span(result.offset, result.size);
}

/* Up to its block's end, and all that is free there. */
static void note_lease(void)
{
    uint32_t unit = (uint32_t)(result.offset / BLOCK_BYTES);
    struct free_runs runs;

    must(result.has_span && result.offset % granularity == 0 && result.offset + result.size <= grown);
    must_be(result.offset + result.size, (uint64_t)(unit + 1) * BLOCK_BYTES);
    must(!leased[unit] && result.size >= request.size);
    runs = free_runs(unit);
    must(runs.count == 1);
    must_be(result.size, (uint64_t)runs.last * granularity);
    must_be(result.flags, is_clean(result.offset, result.size) ? SPAN_ICACHE_CLEAN : 0);
    leased[unit] = true;
}

static void note_carve(void)
{
    must(!result.has_span && result.found == 0);
    note_span(request.span, (request.size + granularity - 1) / granularity * granularity);
}

static void note_cut(struct live *live, uint64_t keep)
{
    set_owner(live->offset + keep, live->bytes - keep, 0);
    if (!request.filled)
        memset(content + live->offset + keep, fill, live->bytes - keep);
    live->bytes = keep;
    if (keep == 0) {
        *live = spans[--count];
        place[live->offset / granularity] = (uint32_t)(live - spans);
    }
}

static void check_told(const struct live *live)
{
    must(result.has_span);
    must_be(result.offset, live->offset);
    must_be(result.size, live->bytes);
    must_be(result.flags, live->sealed ? SPAN_SEALED : 0);
}

static void check_usage(void)
{
    uint64_t blocks = 0;
    uint64_t leased_granules = 0;
    uint64_t runs_count = 0;
    uint64_t largest = 0;
    uint64_t empty = 0; /* granules of the units before this one that are in no block */

    for (uint32_t unit = 0; unit < units; unit++) {
        struct free_runs runs = free_runs(unit);
        uint64_t room = 0;

        blocks += owned[unit] != 0;
        leased_granules += leased[unit] ? runs.granules : 0;
        runs_count += is_taken(unit) ? runs.count : 0;
        empty = is_taken(unit) || unit >= grown / BLOCK_BYTES ? 0 : empty + unit_granules;
        if (is_open(unit))
            room = runs.longest;
        else if (empty > 0)
            room = empty - 1;
        if (room > largest)
            largest = room;
    }
    must(result.has_usage);
    must_be(result.usage.blocks, blocks);
    must_be(result.usage.spans, count);
    must_be(result.usage.used_bytes, used);
    must_be(result.usage.reserved_bytes, grown);
    must(result.usage.reserved_peak_bytes >= grown);
    must(result.usage.reserved_peak_bytes <= bytes_max);
    must_be(result.usage.leased_bytes, leased_granules * granularity);
    must_be(result.usage.free_runs, runs_count);
    must_be(result.usage.largest_free_bytes, largest * granularity);
}

/* The request was done, with `result`. */
static void note(void)
{
    struct live *live;

    switch (request.operation) {
    case OPERATION_ALLOC:
        note_growth();
        note_alloc();
        break;
    case OPERATION_RELEASE:
        note_cut(find(request.span), 0);
        break;
    case OPERATION_SHRINK:
        live = find(request.span);
        note_cut(live, (request.size + granularity - 1) / granularity * granularity);
        check_told(live);
        break;
    case OPERATION_QUERY:
        check_told(find_around(request.span));
        break;
    case OPERATION_WRITE:
        if (request.data_bytes > 0)
            memcpy(content + request.span + request.at, request.data, request.data_bytes);
        break;
    case OPERATION_PATCH:
        must_be(result.found, request.expected);
        memcpy(content + request.span + request.at, &request.desired, request.width);
        break;
    case OPERATION_SEAL:
        live = find(request.span);
        live->sealed = true;
        check_told(live);
        break;
    case OPERATION_RESET:
        while (count > 0)
            note_cut(&spans[count - 1], 0);
        memset(leased, 0, sizeof leased);
        memset(content, fill, grown); /* also where a client had not filled what it said it had */
        break;
    case OPERATION_STATISTICS:
        check_usage();
        break;
    case OPERATION_LEASE:
        note_growth();
        note_lease();
        break;
    case OPERATION_CARVE:
        note_carve();
        break;
    case OPERATION_RETURN:
        leased[request.span / BLOCK_BYTES] = false;
        must(session->arena.kind != ARENA_THROUGH ||
             session->arena.grown_bytes <= end_bytes() + reserve_bytes);
        break;
    case OPERATION_COUNT:
        must(request.operation != OPERATION_COUNT);
    }
    note_growth();
}

/* ---- Checks ----------------------------------------------------------------------------- */

static void check_sums(void)
{
    struct stat status;

    must(grown % BLOCK_BYTES == 0 && grown <= bytes_max && grown >= end_bytes());
    must_be(session->arena.grown_bytes, grown);
    must_be(heap_grown_bytes(&session->heap), grown);
    must_be(session->bytes.amount, grown);
    must_be(account->held[QUOTA_BYTES], grown);
    must(fstat(session->arena.fd, &status) == 0);
    /* A direct arena's file is the client's to lengthen, so nothing is said of its end. */
    must(session->arena.kind == ARENA_DIRECT ? status.st_size >= (off_t)grown
                                             : status.st_size == (off_t)grown);
    must_be(session->heap.spans, count);
    must_be(heap_used_bytes(&session->heap), used);
    must_be(heap_end_bytes(&session->heap), end_bytes());
    must(session->ledger.page->reserved_peak_bytes >= grown);
}

/* Those bytes, and a granule to either side. */
static void check_bytes(uint64_t offset, uint64_t bytes)
{
    uint64_t from = offset < granularity ? 0 : offset - granularity;
    uint64_t to = offset + bytes + granularity;

    if (to > grown)
        to = grown;
    if (from < to)
        must(memcmp(session->arena.bytes + from, content + from, to - from) == 0);
}

static void check_heap(void)
{
    for (uint64_t offset = 0; offset <= grown; offset += granularity) {
        const struct live *live = find_around(offset);
        struct heap_span span;

        must_be(heap_find(&session->heap, offset, &span), live != NULL && live->offset == offset);
        must_be(heap_find_around(&session->heap, offset + granularity - 1, &span), live != NULL);
        must(live == NULL ||
             (span.offset == live->offset && span.bytes == live->bytes && span.sealed == live->sealed));
    }
}

/* ---- Operations --------------------------------------------------------------------------- */

static uint64_t some_size(struct input *input)
{
    uint8_t form = input_byte(input);
    uint64_t number;

    if (form >= 0xF8)
        return input_number(input, 8);
    if (form >= 0xF0) /* around a unit */
        return (form & 0x07) * (uint64_t)BLOCK_BYTES + 3 * (uint64_t)granularity -
               input_byte(input) * (uint64_t)granularity / 16;
    number = input_number(input, (form & 0x08) != 0 ? 2 : 1) << (form & 0x07);
    return number + (form >> 4);
}

static uint64_t some_span(struct input *input)
{
    uint8_t which = input_byte(input);

    if (which >= 0xF8)
        return input_number(input, 8);
    if (which >= 0xF0 || count == 0)
        return input_number(input, 2) * granularity;
    return spans[which % count].offset;
}

/* A block that is leased, if any is; else any. */
static uint64_t some_block(struct input *input)
{
    uint8_t which = input_byte(input);

    if (which >= 0xF8)
        return input_number(input, 8);
    for (uint32_t i = 0; which < 0xF0 && i < units; i++) {
        uint32_t unit = (which + i) % units;

        if (leased[unit])
            return unit * (uint64_t)BLOCK_BYTES;
    }
    return which * (uint64_t)BLOCK_BYTES;
}

/* Mostly where it is free. */
static uint64_t some_place(struct input *input)
{
    uint64_t block = some_block(input);
    uint64_t at = input_number(input, 2);
    uint64_t first = block / granularity;

    if (block % BLOCK_BYTES != 0 || block / BLOCK_BYTES >= units || at >= 0xF000)
        return block + at;
    at %= unit_granules;
    while (at < unit_granules - 1 && (at == 0 || owner[first + at] != 0))
        at++;
    return block + at * granularity;
}

/* In a direct session the client fills what it says it has, well or badly. */
static void fill_as_client(struct input *input, const struct request *from)
{
    uint8_t byte = input_byte(input);
    const struct live *live = find(from->span);
    uint64_t keep = (from->size + granularity - 1) / granularity * granularity;

    if (session->arena.kind != ARENA_DIRECT || live == NULL || live->sealed || from->size > live->bytes)
        return;
    memset(session->arena.bytes + live->offset + keep, byte, live->bytes - keep);
    memset(content + live->offset + keep, byte, live->bytes - keep);
}

static void some_patch(struct input *input, struct request *to)
{
    uint8_t form = input_byte(input);
    const struct live *live = find(to->span);

    to->width = form >= 0xF0 ? input_byte(input) : 1u << (form & 0x03);
    to->at = some_size(input);
    if ((form & 0x04) != 0)
        to->at -= to->at % 8;
    to->desired = input_number(input, form >= 0xE0 ? 8 : to->width);
    if ((form & 0x08) != 0)
        to->expected = input_number(input, 8);
    else if (live != NULL && to->width <= 8 && to->at <= live->bytes && live->bytes - to->at >= to->width)
        memcpy(&to->expected, content + to->span + to->at, to->width);
}

static void some_request(struct input *input, struct request *to)
{
    static const enum operation operations[] = {
        OPERATION_ALLOC,   OPERATION_RELEASE, OPERATION_SHRINK, OPERATION_QUERY,      OPERATION_WRITE,
        OPERATION_PATCH,   OPERATION_SEAL,    OPERATION_RESET,  OPERATION_STATISTICS, OPERATION_ALLOC,
        OPERATION_RELEASE, OPERATION_SHRINK,  OPERATION_WRITE,  OPERATION_ALLOC,      OPERATION_RELEASE,
        OPERATION_ALLOC,   OPERATION_LEASE,   OPERATION_CARVE,  OPERATION_RETURN,     OPERATION_STATISTICS,
        OPERATION_CARVE,   OPERATION_RELEASE, OPERATION_SHRINK, OPERATION_ALLOC,      OPERATION_LEASE,
        OPERATION_CARVE,   OPERATION_RETURN,  OPERATION_WRITE,  OPERATION_CARVE,      OPERATION_RELEASE,
        OPERATION_CARVE,   OPERATION_RELEASE,
    };
    static uint8_t data[WRITE_MAX_BYTES + 1];
    uint8_t code = input_byte(input);

    *to = (struct request){.operation = operations[code & 0x1F]};
    if (to->operation == OPERATION_RETURN)
        to->span = some_block(input);
    else if (to->operation == OPERATION_CARVE)
        to->span = some_place(input);
    else if (to->operation != OPERATION_ALLOC && to->operation != OPERATION_LEASE &&
             to->operation != OPERATION_RESET && to->operation != OPERATION_STATISTICS)
        to->span = some_span(input);
    if (to->operation == OPERATION_ALLOC || to->operation == OPERATION_LEASE ||
        to->operation == OPERATION_CARVE || to->operation == OPERATION_SHRINK)
        to->size = some_size(input);
    if (to->operation == OPERATION_RELEASE || to->operation == OPERATION_SHRINK)
        to->filled = (code & 0x20) != 0;
    if (to->filled)
        fill_as_client(input, to);
    if (to->operation == OPERATION_QUERY)
        to->span += input_byte(input);
    if (to->operation == OPERATION_WRITE) {
        to->at = some_size(input);
        to->data_bytes = some_size(input) % (sizeof data + 1);
        to->data = data;
        memset(data, input_byte(input), to->data_bytes);
    }
    if (to->operation == OPERATION_PATCH)
        some_patch(input, to);
    if (to->operation == OPERATION_RESET)
        to->kind = input_byte(input) % 3;
}

/* As the client sends it and the daemon gets it. */
static void send_request(const struct request *from)
{
    struct codec_pool pool = {.bytes = pool_bytes, .capacity = sizeof pool_bytes};
    struct buffer out = {.bytes = wire, .capacity = RECORD_MAX_BYTES};

    must(codec_put_request(&out, 1) && codec_put_operation(&out, from));
    must(codec_decode_request(&pool, out.bytes, out.used, &sent));
    must_be(sent.operations_count, 1);
    must_be(codec_operation(&sent, 0, &request, &result), STATUS_OK);
    must(request.operation == from->operation && request.span == from->span && request.size == from->size);
    must(request.at == from->at && request.width == from->width && request.kind == from->kind);
    must_be(request.filled, from->filled);
    must(request.expected == from->expected && request.desired == from->desired);
    must_be(request.data_bytes, from->data_bytes);
    must(from->data_bytes == 0 || memcmp(request.data, from->data, from->data_bytes) == 0);
}

/* As the daemon sends it and the client gets it. */
static void send_result(void)
{
    struct codec_pool pool = {.bytes = reply_pool_bytes, .capacity = sizeof reply_pool_bytes};
    struct buffer out = {.bytes = wire, .capacity = RECORD_MAX_BYTES};
    struct reply_record record;
    struct result got;

    must(codec_put_reply(&out, 1) && codec_put_result(&out, &result));
    must(codec_decode_reply(&pool, out.bytes, out.used, &record));
    must_be(record.results_count, 1);
    codec_result(&record, 0, &got);
    must_be(got.status, result.status);
    must(strcmp(got.text, result.text) == 0 && strcmp(got.field, result.field) == 0);
    must(got.has_span == result.has_span && got.offset == result.offset && got.size == result.size);
    must(got.flags == result.flags && got.found == result.found && got.has_usage == result.has_usage);
    must(!got.has_usage || memcmp(&got.usage, &result.usage, sizeof got.usage) == 0);
}

static void run(const struct request *from)
{
    uint64_t before = grown;
    const struct live *live = find_around(from->span);
    struct live touched = live == NULL ? (struct live){0} : *live;
    enum status invalid;
    enum status expected;
    enum status got;

    send_request(from);
    result_init(&result);
    invalid = request_validate(&request, &session->shape, &result);
    while (!operation_run(session, &request, OPERATION_STEP_BYTES, &result))
        continue;
    got = result.status;
    expected = invalid != STATUS_OK ? invalid : predict();
    must_be(got, expected);
    must((expected == STATUS_OK) == (result.text[0] == '\0'));
    send_result();
    if (expected == STATUS_OK)
        note();
    if (session->arena.kind == ARENA_THROUGH && grown < before)
        must(grown == end_bytes() || grown == end_bytes() + reserve_bytes);
    check_sums();
    check_bytes(touched.offset, touched.bytes);
    if (result.has_span)
        check_bytes(result.offset, result.size);
    if (request.operation == OPERATION_RESET)
        check_bytes(0, grown);
}

static void tear_down(void)
{
    while (count > 0)
        run(&(struct request){.operation = OPERATION_RELEASE, .span = spans[count / 2].offset});
    run(&(struct request){.operation = OPERATION_STATISTICS});
    for (uint32_t unit = 0; unit < units; unit++) {
        if (leased[unit])
            run(&(struct request){.operation = OPERATION_RETURN, .span = unit * (uint64_t)BLOCK_BYTES});
    }
    must_be(end_bytes(), 0);
    run(&(struct request){.operation = OPERATION_STATISTICS});
    check_bytes(0, grown);
    check_heap();
    session = session_unref(session);
    must_be(account->held[QUOTA_BYTES], 0);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
    must(quota.accounts == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {.at = data, .left = bytes};

    set_up(&input);
    for (int done = 0; input.left > 0 && done < OPERATIONS_LIMIT; done++) {
        struct request next;

        some_request(&input, &next);
        run(&next);
        if (done % CHECK_ALL_EVERY == 0)
            check_bytes(0, grown);
    }
    check_bytes(0, grown);
    check_heap();
    tear_down();
    return 0;
}
