/* SPDX-License-Identifier: MIT */
/*
 * A record from an untrusted client, up to where the daemon would run its operations:
 * decoding in the fixed pool, then the check of each operation and of Hello.
 *
 * - What is accepted keeps what request.h and hello.h promise: no sum overflows, and
 *   `span` is where a span could start.
 * - What is refused has a status, a sentence, and is refused again the same way.
 * - An operation that was understood means the same when it is encoded once more.
 */
#include "proto/codec.h"
#include "tests/fuzz/guarded.h"

#define ROOMY_POOL_BYTES (8u << 20)

static struct guarded wire;
static struct guarded pool_memory;
static struct guarded again_memory;
static uint8_t encoded[2 * RECORD_MAX_BYTES];

static const struct shape shapes[] = {
    {.arena_bytes = ARENA_MIN_BYTES, .span_max_bytes = ARENA_MIN_BYTES - 64, .granularity = 64},
    {.arena_bytes = UINT64_C(64) << 20,
     .span_max_bytes = SPAN_LIMIT_BYTES,
     .granularity = 128,
     .is_direct = true},
    {.arena_bytes = ARENA_LIMIT_BYTES, .span_max_bytes = SPAN_LIMIT_BYTES, .granularity = 256},
};

static void check_refusal(const struct result *result, enum status status)
{
    must(status != STATUS_OK && status < STATUS_COUNT);
    must_be(result->status, status);
    must(result->field != NULL);
    must(result->text[0] != '\0' && strnlen(result->text, sizeof result->text) < sizeof result->text);
}

static void check_span(const struct request *request, const struct shape *shape)
{
    must(request->span < shape->arena_bytes);
    must(request->span % shape->granularity == 0);
}

/* What request_validate() let pass. */
static void check_valid(const struct request *request, const struct shape *shape)
{
    uint64_t end;

    switch (request->operation) {
    case OPERATION_ALLOC:
        must(request->size > 0 && request->size <= shape->span_max_bytes);
        break;
    case OPERATION_SEAL:
        check_span(request, shape);
        break;
    case OPERATION_RELEASE:
        must(!request->filled || shape->is_direct);
        check_span(request, shape);
        break;
    case OPERATION_SHRINK:
        must(request->size > 0);
        must(!request->filled || shape->is_direct);
        check_span(request, shape);
        break;
    case OPERATION_QUERY:
        must(request->span < shape->arena_bytes);
        break;
    case OPERATION_WRITE:
        check_span(request, shape);
        must(request->data_bytes <= WRITE_MAX_BYTES);
        must(!__builtin_add_overflow(request->at, request->data_bytes, &end));
        must(end <= shape->arena_bytes);
        must(!__builtin_add_overflow(request->span, end, &end));
        break;
    case OPERATION_PATCH:
        check_span(request, shape);
        must(request->width >= 1 && request->width <= 8 && (request->width & (request->width - 1)) == 0);
        must(request->at % request->width == 0);
        must(request->at < shape->arena_bytes);
        must(request->width == 8 || request->expected >> (8 * request->width) == 0);
        must(request->width == 8 || request->desired >> (8 * request->width) == 0);
        break;
    case OPERATION_RESET:
        must(request->kind == RESET_SOFT || request->kind == RESET_HARD);
        break;
    case OPERATION_LEASE:
        must(request->size > 0 && request->size <= BLOCK_BYTES - shape->granularity);
        break;
    case OPERATION_CARVE:
        check_span(request, shape);
        must(request->size > 0);
        must(!__builtin_add_overflow(request->span % BLOCK_BYTES, request->size, &end));
        must(end <= BLOCK_BYTES);
        break;
    case OPERATION_RETURN:
        check_span(request, shape);
        must(request->span % BLOCK_BYTES == 0);
        break;
    case OPERATION_STATISTICS:
        break;
    case OPERATION_COUNT:
        must(request->operation != OPERATION_COUNT);
    }
}

static void check_same(const struct request *got, const struct request *wanted)
{
    must_be(got->operation, wanted->operation);
    must_be(got->span, wanted->span);
    must_be(got->size, wanted->size);
    must_be(got->at, wanted->at);
    must_be(got->data_bytes, wanted->data_bytes);
    must(got->data_bytes == 0 || memcmp(got->data, wanted->data, got->data_bytes) == 0);
    must_be(got->width, wanted->width);
    must_be(got->expected, wanted->expected);
    must_be(got->desired, wanted->desired);
    must_be(got->kind, wanted->kind);
    must_be(got->filled, wanted->filled);
}

static void check_encoding(const struct request *request)
{
    struct codec_pool pool = {.bytes = again_memory.bytes, .capacity = CODEC_POOL_BYTES};
    struct buffer out = {.bytes = encoded, .capacity = sizeof encoded};
    struct request_record record;
    struct request again;
    struct result result;

    result_init(&result);
    must(codec_put_request(&out, UINT64_MAX));
    must(codec_put_operation(&out, request));
    must(codec_decode_request(&pool, out.bytes, out.used, &record));
    must_be(record.id, UINT64_MAX);
    must_be(record.operations_count, 1);
    must(!record.has_hello && !record.has_unknown_fields);
    must_be(codec_operation(&record, 0, &again, &result), STATUS_OK);
    check_same(&again, request);
}

static void check_operation(const struct request *request)
{
    must(request->operation < OPERATION_COUNT);
    must(request->data_bytes == 0 ||
         (request->data >= pool_memory.bytes &&
          request->data + request->data_bytes <= pool_memory.bytes + pool_memory.capacity));
    must(operation_name(request->operation) != NULL);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct result result;
        enum status status;

        result_init(&result);
        status = request_validate(request, &shapes[i], &result);
        if (status == STATUS_OK)
            check_valid(request, &shapes[i]);
        else
            check_refusal(&result, status);
    }
    check_encoding(request);
}

static void check_hello(struct hello hello)
{
    struct hello before = hello;
    struct result result;
    enum status status;

    result_init(&result);
    status = hello_validate(&hello, &result);
    if (status != STATUS_OK) {
        check_refusal(&result, status);
        return;
    }
    must(hello.version_min <= PROTOCOL_VERSION && hello.version_max >= PROTOCOL_VERSION);
    must(hello.granularity == 64 || hello.granularity == 128 || hello.granularity == 256);
    must(before.granularity == 0 || before.granularity == hello.granularity);
    must(fill_pattern_traps(hello.fill_pattern));
    must(before.fill_pattern == 0 || before.fill_pattern == hello.fill_pattern);
    must(hello.write_mode <= WRITE_DIRECT);
    must(hello.arena_bytes <= ARENA_LIMIT_BYTES);
    before = hello;
    must_be(hello_validate(&hello, &result), STATUS_OK);
    must_be(hello.granularity, before.granularity);
    must_be(hello.fill_pattern, before.fill_pattern);
}

/*
 * A record did not fit the pool, though perhaps a larger one: then it was not written as
 * codec.h writes it, for the pool holds every record of that kind with OPERATIONS_MAX.
 */
static void check_misfit(const uint8_t *bytes, size_t count)
{
    static uint8_t roomy_bytes[ROOMY_POOL_BYTES] __attribute__((aligned(16)));
    struct codec_pool roomy = {.bytes = roomy_bytes, .capacity = sizeof roomy_bytes};
    struct codec_pool pool = {.bytes = pool_memory.bytes, .capacity = CODEC_POOL_BYTES};
    struct buffer out = {.bytes = encoded, .capacity = RECORD_MAX_BYTES};
    struct request_record record;

    if (!codec_decode_request(&roomy, bytes, count, &record) || record.operations_count > OPERATIONS_MAX)
        return;
    must(codec_put_request(&out, record.id));
    for (size_t i = 0; i < record.operations_count; i++) {
        struct request request;
        struct result result;

        if (codec_operation(&record, i, &request, &result) != STATUS_OK ||
            !codec_put_operation(&out, &request))
            return;
    }
    must(codec_decode_request(&pool, out.bytes, out.used, &record));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct codec_pool pool = {.capacity = CODEC_POOL_BYTES};
    struct request_record record;
    const uint8_t *start;

    if (bytes > RECORD_MAX_BYTES)
        return 0;
    guarded_init(&wire, RECORD_MAX_BYTES);
    guarded_init(&pool_memory, CODEC_POOL_BYTES);
    guarded_init(&again_memory, CODEC_POOL_BYTES);
    pool.bytes = pool_memory.bytes;
    start = guarded_copy(&wire, data, bytes);
    if (!codec_decode_request(&pool, start, bytes, &record)) {
        check_misfit(start, bytes);
        return 0;
    }
    must(pool.used <= pool.capacity);
    if (record.has_hello)
        check_hello(record.hello);
    for (size_t i = 0; i < record.operations_count; i++) {
        struct request request;
        struct result result;
        enum status status;

        result_init(&result);
        status = codec_operation(&record, i, &request, &result);
        if (status == STATUS_OK)
            check_operation(&request);
        else
            check_refusal(&result, status);
    }
    return 0;
}
