/* SPDX-License-Identifier: MIT */
/*
 * A client's operations on a real session, each sent through the codec both ways. What
 * the daemon should answer is worked out from whose each granule is and what each byte
 * is, which is all that is kept here; nothing of the allocator's is shared.
 *
 * - No byte outside a live span differs from the fill, none inside from what was written.
 * - A span never overlaps another, nor starts on a trap granule; it is clean only if none
 *   of its memory was ever part of a span. Room is refused only if there is none.
 * - The sums, the charge and the file's length agree after every operation.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/operation.h"
#include "proto/codec.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/target.h"

#define UNITS_MAX 40u /* more than a session keeps when blocks become free */
#define UNITS_FEW 8u  /* which is faster */
#define UNIT_GRANULES_MAX (BLOCK_BYTES / GRANULARITY_MIN_BYTES)
#define OPERATIONS_LIMIT 600
#define CHECK_ALL_EVERY 32

struct live {
    uint64_t offset;
    uint64_t bytes;
    bool sealed;
};

static struct session *session;
static struct quota quota;
static struct account *account;
static struct request_record sent; /* what `request` points into */
static struct request request;
static struct result result;

static uint32_t units;
static uint32_t granularity;
static uint32_t unit_granules;
static uint8_t fill;
static uint32_t spans_max;
static uint64_t bytes_max;
static uint64_t reserve_bytes;

static uint32_t owner[UNITS_MAX * UNIT_GRANULES_MAX]; /* by granule: 1 + its span's first, or 0 */
static bool stale[UNITS_MAX * UNIT_GRANULES_MAX];     /* by granule: was part of a span */
static uint8_t content[UNITS_MAX * BLOCK_BYTES];
static uint32_t owned[UNITS_MAX]; /* by unit: granules that are in spans */
static struct live spans[UNITS_MAX * UNIT_GRANULES_MAX];
static uint32_t place[UNITS_MAX * UNIT_GRANULES_MAX]; /* by a span's first granule: which of `spans` */
static size_t count;
static uint64_t used;
static uint64_t grown;

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
    struct peer peer = {.uid = geteuid() + through, .pidfd = -1};
    struct config config;
    struct welcome welcome;

    units = 1 + size % (size < 0x80 ? UNITS_FEW : UNITS_MAX);
    hello.arena_bytes = (uint64_t)units * BLOCK_BYTES;
    bytes_max = hello.arena_bytes - (uint64_t)((limits & 0x0F) % units) * BLOCK_BYTES;
    spans_max = (limits & 0xF0) == 0 ? UINT32_MAX : (uint32_t)(limits >> 4) * 3;
    config_init(&config);
    config.write_direct = direct;
    config.bytes_max = bytes_max;
    config.span_max = spans_max;
    account = quota_account(&quota, peer.uid);
    must(account != NULL);
    result_init(&result);
    must_be(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, &config, &peer, account, &hello, &welcome, &result);
    must(session != NULL);
    must(session->arena.kind == (direct ? ARENA_DIRECT : through ? ARENA_THROUGH : ARENA_SEALED));

    granularity = hello.granularity;
    unit_granules = BLOCK_BYTES / granularity;
    fill = (uint8_t)hello.fill_pattern;
    must_be(hello.fill_pattern, fill * 0x01010101u);
    reserve_bytes = session->immediate_release ? 0 : SESSION_RESERVE_BYTES;
    memset(owner, 0, sizeof owner[0] * units * unit_granules);
    memset(stale, 0, sizeof stale[0] * units * unit_granules);
    memset(owned, 0, sizeof owned);
    count = 0;
    used = 0;
    grown = 0;
}

/* ---- What should be there ------------------------------------------------------------- */

static struct live *find(uint64_t offset)
{
    uint64_t granule = offset / granularity;

    if (granule >= (uint64_t)units * unit_granules || owner[granule] != granule + 1 ||
        offset % granularity != 0)
        return NULL;
    return &spans[place[granule]];
}

static struct live *find_around(uint64_t offset)
{
    uint64_t granule = offset / granularity;

    if (granule >= (uint64_t)units * unit_granules || owner[granule] == 0)
        return NULL;
    return find((uint64_t)(owner[granule] - 1) * granularity);
}

static uint32_t longest_run(uint32_t unit)
{
    const uint32_t *granules = owner + (size_t)unit * unit_granules;
    uint32_t longest = 0;
    uint32_t run = 0;

    for (uint32_t at = 1; at < unit_granules; at++) {
        run = granules[at] == 0 ? run + 1 : 0;
        if (run > longest)
            longest = run;
    }
    return longest;
}

/* Up to where the arena needs memory for such a span: 0 for what it has; UINT64_MAX if there's no room. */
static uint64_t needed_bytes(uint64_t bytes)
{
    uint64_t granules = (bytes + granularity - 1) / granularity;
    uint64_t wanted = granules / unit_granules + 1; /* with the trap granule */
    uint64_t run = 0;

    for (uint32_t unit = 0; wanted == 1 && unit < units; unit++) {
        if (owned[unit] != 0 && longest_run(unit) >= granules)
            return 0;
    }
    for (uint32_t unit = 0; unit < units; unit++) {
        run = owned[unit] == 0 ? run + 1 : 0;
        if (run == wanted)
            return (uint64_t)(unit + 1) * BLOCK_BYTES;
    }
    return UINT64_MAX;
}

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

static uint64_t content_at(uint64_t offset)
{
    uint64_t present = 0;

    memcpy(&present, content + offset, request.width); /* little endian */
    return present;
}

/* For a valid request. */
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
    case OPERATION_RESET:
    case OPERATION_STATISTICS:
    case OPERATION_LEASE:
    case OPERATION_CARVE:
    case OPERATION_RETURN:
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
        stale[at] = true;
    }
    used += to != 0 ? bytes : -bytes;
}

static void note_alloc(void)
{
    uint64_t first = result.offset / granularity;
    uint64_t granules = (request.size + granularity - 1) / granularity;
    bool clean = true;

    must(result.has_span && result.offset % granularity == 0);
    must_be(result.size, granules * granularity);
    must(result.offset + result.size <= grown);
    must(first % unit_granules != 0); /* the trap granule */
    must(granules >= unit_granules ? first % unit_granules == 1
                                   : first / unit_granules == (first + granules - 1) / unit_granules);
    for (uint64_t at = first; at < first + granules; at++)
        clean = clean && !stale[at];
    must_be(result.flags, clean ? SPAN_ICACHE_CLEAN : 0);
    set_owner(result.offset, result.size, (uint32_t)first + 1);
    place[first] = (uint32_t)count;
    spans[count++] = (struct live){.offset = result.offset, .bytes = result.size};
}

static void note_cut(struct live *live, uint64_t keep)
{
    set_owner(live->offset + keep, live->bytes - keep, 0);
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

    for (uint32_t unit = 0; unit < units; unit++)
        blocks += owned[unit] != 0;
    must(result.has_usage);
    must_be(result.usage.blocks, blocks);
    must_be(result.usage.spans, count);
    must_be(result.usage.used_bytes, used);
    must_be(result.usage.reserved_bytes, grown);
    must(result.usage.reserved_peak_bytes >= grown);
    must(result.usage.reserved_peak_bytes <= bytes_max);
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
        break;
    case OPERATION_STATISTICS:
        check_usage();
        break;
    case OPERATION_LEASE:
    case OPERATION_CARVE:
    case OPERATION_RETURN:
    case OPERATION_COUNT:
        must(request.operation != OPERATION_COUNT);
    }
    note_growth();
}

/* ---- Checks ----------------------------------------------------------------------------- */

static uint64_t end_bytes(void)
{
    for (uint32_t unit = units; unit > 0; unit--) {
        if (owned[unit - 1] != 0)
            return (uint64_t)unit * BLOCK_BYTES;
    }
    return 0;
}

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
    must(session->reserved_peak_bytes >= grown);
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
        OPERATION_ALLOC,      OPERATION_RELEASE, OPERATION_SHRINK,  OPERATION_QUERY,
        OPERATION_WRITE,      OPERATION_PATCH,   OPERATION_SEAL,    OPERATION_RESET,
        OPERATION_STATISTICS, OPERATION_ALLOC,   OPERATION_RELEASE, OPERATION_SHRINK,
        OPERATION_WRITE,      OPERATION_ALLOC,   OPERATION_RELEASE, OPERATION_ALLOC,
    };
    static uint8_t data[WRITE_MAX_BYTES + 1];

    *to = (struct request){.operation = operations[input_byte(input) & 0x0F]};
    if (to->operation != OPERATION_ALLOC && to->operation != OPERATION_RESET &&
        to->operation != OPERATION_STATISTICS)
        to->span = some_span(input);
    if (to->operation == OPERATION_ALLOC || to->operation == OPERATION_SHRINK)
        to->size = some_size(input);
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

    send_request(from);
    result_init(&result);
    invalid = request_validate(&request, &session->shape, &result);
    expected = invalid != STATUS_OK ? invalid : predict();
    must_be(operation_run(session, &request, &result), expected);
    must_be(result.status, expected);
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
    check_bytes(0, grown);
    check_heap();
    session = session_free(session);
    must_be(account->held[QUOTA_BYTES], 0);
    account = account_unref(&quota, account);
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
