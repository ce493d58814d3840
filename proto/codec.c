/* SPDX-License-Identifier: MIT */
#include "proto/codec.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#include "jitbroker.pb-c.h"

/* ---- Decoding --------------------------------------------------------------- */

static void *pool_alloc(void *user, size_t bytes)
{
    struct codec_pool *pool = user;
    size_t taken;
    void *start;

    if (__builtin_add_overflow(bytes, alignof(max_align_t) - 1, &taken))
        return NULL;
    taken &= ~(alignof(max_align_t) - 1);
    if (taken > pool->capacity - pool->used)
        return NULL;
    start = pool->bytes + pool->used;
    pool->used += taken;
    return start;
}

static void pool_free(void *user, void *pointer)
{
    (void)user, (void)pointer; /* all at once, by the next record */
}

static ProtobufCAllocator pool_begin(struct codec_pool *pool)
{
    pool->used = 0;
    return (ProtobufCAllocator){.alloc = pool_alloc, .free = pool_free, .allocator_data = pool};
}

bool codec_decode_request(struct codec_pool *pool, const void *data, size_t bytes,
                          struct request_record *record)
{
    ProtobufCAllocator allocator = pool_begin(pool);
    const Jitbroker__Request *message = jitbroker__request__unpack(&allocator, bytes, data);

    if (message == NULL)
        return false;
    *record = (struct request_record){
        .id = message->id,
        .has_hello = message->hello != NULL,
        .has_unknown_fields =
            message->base.n_unknown_fields != 0 ||
            (message->open_executor != NULL && message->open_executor->base.n_unknown_fields != 0),
        .operations_count = message->n_operations,
        .has_open_executor = message->open_executor != NULL,
        .message = message,
    };
    if (message->hello != NULL) {
        const Jitbroker__Hello *hello = message->hello;

        record->hello = (struct hello){
            .version_min = hello->version_min,
            .version_max = hello->version_max,
            .features = hello->features,
            .write_mode = (uint32_t)hello->write_mode,
            .arena_bytes = hello->arena_bytes,
            .granularity = hello->granularity,
            .fill_pattern = hello->fill_pattern,
        };
    }
    return true;
}

enum status codec_operation(const struct request_record *record, size_t index, struct request *request,
                            struct result *result)
{
    const Jitbroker__Request *message = record->message;
    const Jitbroker__Operation *from = message->operations[index];
    const ProtobufCMessage *part;

    *request = (struct request){0};
    switch (from->operation_case) {
    case JITBROKER__OPERATION__OPERATION_ALLOC:
        request->operation = OPERATION_ALLOC;
        request->size = from->alloc->size;
        part = &from->alloc->base;
        break;
    case JITBROKER__OPERATION__OPERATION_RELEASE:
        request->operation = OPERATION_RELEASE;
        request->span = from->release->span;
        request->filled = from->release->filled;
        part = &from->release->base;
        break;
    case JITBROKER__OPERATION__OPERATION_SHRINK:
        request->operation = OPERATION_SHRINK;
        request->span = from->shrink->span;
        request->size = from->shrink->size;
        request->filled = from->shrink->filled;
        part = &from->shrink->base;
        break;
    case JITBROKER__OPERATION__OPERATION_QUERY:
        request->operation = OPERATION_QUERY;
        request->span = from->query->offset;
        part = &from->query->base;
        break;
    case JITBROKER__OPERATION__OPERATION_WRITE:
        request->operation = OPERATION_WRITE;
        request->span = from->write->span;
        request->at = from->write->at;
        request->data = from->write->data.data;
        request->data_bytes = from->write->data.len;
        part = &from->write->base;
        break;
    case JITBROKER__OPERATION__OPERATION_PATCH:
        request->operation = OPERATION_PATCH;
        request->span = from->patch->span;
        request->at = from->patch->at;
        request->width = from->patch->width;
        request->expected = from->patch->expected;
        request->desired = from->patch->desired;
        part = &from->patch->base;
        break;
    case JITBROKER__OPERATION__OPERATION_SEAL:
        request->operation = OPERATION_SEAL;
        request->span = from->seal->span;
        part = &from->seal->base;
        break;
    case JITBROKER__OPERATION__OPERATION_RESET:
        request->operation = OPERATION_RESET;
        request->kind = (uint32_t)from->reset->kind;
        part = &from->reset->base;
        break;
    case JITBROKER__OPERATION__OPERATION_STATISTICS:
        request->operation = OPERATION_STATISTICS;
        part = &from->statistics->base;
        break;
    case JITBROKER__OPERATION__OPERATION_LEASE:
        request->operation = OPERATION_LEASE;
        request->size = from->lease->size;
        part = &from->lease->base;
        break;
    case JITBROKER__OPERATION__OPERATION_CARVE:
        request->operation = OPERATION_CARVE;
        request->span = from->carve->span;
        request->size = from->carve->size;
        part = &from->carve->base;
        break;
    case JITBROKER__OPERATION__OPERATION_RETURN:
        request->operation = OPERATION_RETURN;
        request->span = from->return_->block;
        part = &from->return_->base;
        break;
    default:
        if (from->base.n_unknown_fields == 0)
            return result_refuse(result, STATUS_INVALID, "operations", "operation %zu is empty", index);
        return result_refuse(result, STATUS_UNKNOWN_OPERATION, "operations",
                             "this daemon does not know operation number %u",
                             from->base.unknown_fields[0].tag);
    }
    /* Doing less than was asked for would be worse than not doing it. */
    if (from->base.n_unknown_fields != 0)
        part = &from->base;
    if (part->n_unknown_fields != 0)
        return result_refuse(result, STATUS_UNKNOWN_FIELD, "operations",
                             "this daemon does not know field %u of %s", part->unknown_fields[0].tag,
                             operation_name(request->operation));
    return STATUS_OK;
}

static void decode_error(const Jitbroker__Error *from, struct result *result)
{
    if (from == NULL)
        return;
    /* A daemon that refuses without a code has refused all the same. */
    result->status = from->code == 0 ? STATUS_MALFORMED : (enum status)from->code;
    result->field = from->field;
    (void)snprintf(result->text, sizeof result->text, "%s", from->text);
}

bool codec_decode_reply(struct codec_pool *pool, const void *data, size_t bytes, struct reply_record *record)
{
    ProtobufCAllocator allocator = pool_begin(pool);
    const Jitbroker__Reply *message = jitbroker__reply__unpack(&allocator, bytes, data);

    if (message == NULL)
        return false;
    *record = (struct reply_record){
        .id = message->id,
        .has_error = message->error != NULL,
        .has_welcome = message->welcome != NULL,
        .results_count = message->n_results,
        .message = message,
    };
    result_init(&record->error);
    decode_error(message->error, &record->error);
    if (message->welcome != NULL) {
        const Jitbroker__Welcome *welcome = message->welcome;

        record->welcome = (struct welcome){
            .version = welcome->version,
            .features = welcome->features,
            .session = welcome->session,
            .write_mode = (uint32_t)welcome->write_mode,
            .arena_bytes = welcome->arena_bytes,
            .granularity = welcome->granularity,
            .fill_pattern = welcome->fill_pattern,
            .sealed = welcome->sealed,
            .span_max_bytes = welcome->span_max_bytes,
            .spans_max = welcome->spans_max,
            .record_max_bytes = welcome->record_max_bytes,
            .write_max_bytes = welcome->write_max_bytes,
            .operations_max = welcome->operations_max,
            .ring_bytes = welcome->ring_bytes,
            .executor = welcome->executor,
        };
        (void)snprintf(record->welcome.daemon, sizeof record->welcome.daemon, "%s", welcome->daemon);
    }
    return true;
}

void codec_result(const struct reply_record *record, size_t index, struct result *result)
{
    const Jitbroker__Reply *message = record->message;
    const Jitbroker__Result *from = message->results[index];

    result_init(result);
    decode_error(from->error, result);
    if (from->span != NULL) {
        result->has_span = true;
        result->offset = from->span->offset;
        result->size = from->span->size;
        result->flags = from->span->flags;
    }
    result->found = from->found;
    if (from->usage != NULL) {
        result->has_usage = true;
        result->usage = (struct usage){
            .blocks = from->usage->blocks,
            .spans = from->usage->spans,
            .used_bytes = from->usage->used_bytes,
            .reserved_bytes = from->usage->reserved_bytes,
            .overhead_bytes = from->usage->overhead_bytes,
            .reserved_peak_bytes = from->usage->reserved_peak_bytes,
            .huge_bytes = from->usage->huge_bytes,
            .leased_bytes = from->usage->leased_bytes,
            .largest_free_bytes = from->usage->largest_free_bytes,
            .free_runs = from->usage->free_runs,
        };
    }
}

/* ---- Encoding --------------------------------------------------------------- */

static bool append(struct buffer *out, const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);

    if (bytes > out->capacity - out->used)
        return false;
    out->used += protobuf_c_message_pack(message, out->bytes + out->used);
    return true;
}

bool codec_put_request(struct buffer *out, uint64_t id)
{
    Jitbroker__Request message = JITBROKER__REQUEST__INIT;

    message.id = id;
    return append(out, &message.base);
}

bool codec_put_hello(struct buffer *out, const struct hello *hello)
{
    Jitbroker__Request message = JITBROKER__REQUEST__INIT;
    Jitbroker__Hello part = JITBROKER__HELLO__INIT;

    part.version_min = hello->version_min;
    part.version_max = hello->version_max;
    part.features = hello->features;
    part.write_mode = (Jitbroker__WriteMode)hello->write_mode;
    part.arena_bytes = hello->arena_bytes;
    part.granularity = hello->granularity;
    part.fill_pattern = hello->fill_pattern;
    message.hello = &part;
    return append(out, &message.base);
}

static bool append_operation(struct buffer *out, Jitbroker__Operation *operation)
{
    Jitbroker__Request message = JITBROKER__REQUEST__INIT;

    message.n_operations = 1;
    message.operations = &operation;
    return append(out, &message.base);
}

bool codec_put_operation(struct buffer *out, const struct request *request)
{
    Jitbroker__Operation operation = JITBROKER__OPERATION__INIT;
    union {
        Jitbroker__Alloc alloc;
        Jitbroker__Release release;
        Jitbroker__Shrink shrink;
        Jitbroker__Query query;
        Jitbroker__Write write;
        Jitbroker__Patch patch;
        Jitbroker__Seal seal;
        Jitbroker__Reset reset;
        Jitbroker__Statistics statistics;
        Jitbroker__Lease lease;
        Jitbroker__Carve carve;
        Jitbroker__Return return_;
    } part;

    switch (request->operation) {
    case OPERATION_ALLOC:
        part.alloc = (Jitbroker__Alloc)JITBROKER__ALLOC__INIT;
        part.alloc.size = request->size;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_ALLOC;
        operation.alloc = &part.alloc;
        break;
    case OPERATION_RELEASE:
        part.release = (Jitbroker__Release)JITBROKER__RELEASE__INIT;
        part.release.span = request->span;
        part.release.filled = request->filled;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_RELEASE;
        operation.release = &part.release;
        break;
    case OPERATION_SHRINK:
        part.shrink = (Jitbroker__Shrink)JITBROKER__SHRINK__INIT;
        part.shrink.span = request->span;
        part.shrink.size = request->size;
        part.shrink.filled = request->filled;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_SHRINK;
        operation.shrink = &part.shrink;
        break;
    case OPERATION_QUERY:
        part.query = (Jitbroker__Query)JITBROKER__QUERY__INIT;
        part.query.offset = request->span;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_QUERY;
        operation.query = &part.query;
        break;
    case OPERATION_WRITE:
        part.write = (Jitbroker__Write)JITBROKER__WRITE__INIT;
        part.write.span = request->span;
        part.write.at = request->at;
        part.write.data.data = (uint8_t *)(uintptr_t)request->data;
        part.write.data.len = request->data_bytes;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_WRITE;
        operation.write = &part.write;
        break;
    case OPERATION_PATCH:
        part.patch = (Jitbroker__Patch)JITBROKER__PATCH__INIT;
        part.patch.span = request->span;
        part.patch.at = request->at;
        part.patch.width = request->width;
        part.patch.expected = request->expected;
        part.patch.desired = request->desired;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_PATCH;
        operation.patch = &part.patch;
        break;
    case OPERATION_SEAL:
        part.seal = (Jitbroker__Seal)JITBROKER__SEAL__INIT;
        part.seal.span = request->span;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_SEAL;
        operation.seal = &part.seal;
        break;
    case OPERATION_RESET:
        part.reset = (Jitbroker__Reset)JITBROKER__RESET__INIT;
        part.reset.kind = (Jitbroker__ResetKind)request->kind;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_RESET;
        operation.reset = &part.reset;
        break;
    case OPERATION_STATISTICS:
        part.statistics = (Jitbroker__Statistics)JITBROKER__STATISTICS__INIT;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_STATISTICS;
        operation.statistics = &part.statistics;
        break;
    case OPERATION_LEASE:
        part.lease = (Jitbroker__Lease)JITBROKER__LEASE__INIT;
        part.lease.size = request->size;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_LEASE;
        operation.lease = &part.lease;
        break;
    case OPERATION_CARVE:
        part.carve = (Jitbroker__Carve)JITBROKER__CARVE__INIT;
        part.carve.span = request->span;
        part.carve.size = request->size;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_CARVE;
        operation.carve = &part.carve;
        break;
    case OPERATION_RETURN:
        part.return_ = (Jitbroker__Return)JITBROKER__RETURN__INIT;
        part.return_.block = request->span;
        operation.operation_case = JITBROKER__OPERATION__OPERATION_RETURN;
        operation.return_ = &part.return_;
        break;
    case OPERATION_COUNT:
        return false;
    }
    return append_operation(out, &operation);
}

bool codec_put_open_executor(struct buffer *out)
{
    Jitbroker__Request message = JITBROKER__REQUEST__INIT;
    Jitbroker__OpenExecutor part = JITBROKER__OPEN_EXECUTOR__INIT;

    message.open_executor = &part;
    return append(out, &message.base);
}

bool codec_put_reply(struct buffer *out, uint64_t id)
{
    Jitbroker__Reply message = JITBROKER__REPLY__INIT;

    message.id = id;
    return append(out, &message.base);
}

static void encode_error(Jitbroker__Error *to, const struct result *from)
{
    to->code = (uint32_t)from->status;
    to->text = (char *)(uintptr_t)from->text;
    to->field = (char *)(uintptr_t)from->field;
}

bool codec_put_error(struct buffer *out, const struct result *error)
{
    Jitbroker__Reply message = JITBROKER__REPLY__INIT;
    Jitbroker__Error part = JITBROKER__ERROR__INIT;

    encode_error(&part, error);
    message.error = &part;
    return append(out, &message.base);
}

bool codec_put_welcome(struct buffer *out, const struct welcome *welcome)
{
    Jitbroker__Reply message = JITBROKER__REPLY__INIT;
    Jitbroker__Welcome part = JITBROKER__WELCOME__INIT;

    part.version = welcome->version;
    part.features = welcome->features;
    part.session = welcome->session;
    part.write_mode = (Jitbroker__WriteMode)welcome->write_mode;
    part.arena_bytes = welcome->arena_bytes;
    part.granularity = welcome->granularity;
    part.fill_pattern = welcome->fill_pattern;
    part.sealed = welcome->sealed;
    part.span_max_bytes = welcome->span_max_bytes;
    part.spans_max = welcome->spans_max;
    part.record_max_bytes = welcome->record_max_bytes;
    part.write_max_bytes = welcome->write_max_bytes;
    part.operations_max = welcome->operations_max;
    part.ring_bytes = welcome->ring_bytes;
    part.executor = welcome->executor;
    part.daemon = (char *)(uintptr_t)welcome->daemon;
    message.welcome = &part;
    return append(out, &message.base);
}

bool codec_put_result(struct buffer *out, const struct result *result)
{
    Jitbroker__Reply message = JITBROKER__REPLY__INIT;
    Jitbroker__Result part = JITBROKER__RESULT__INIT;
    Jitbroker__Result *parts[] = {&part};
    Jitbroker__Error error = JITBROKER__ERROR__INIT;
    Jitbroker__Span span = JITBROKER__SPAN__INIT;
    Jitbroker__Usage usage = JITBROKER__USAGE__INIT;

    if (result->status != STATUS_OK) {
        encode_error(&error, result);
        part.error = &error;
    }
    if (result->has_span) {
        span.offset = result->offset;
        span.size = result->size;
        span.flags = result->flags;
        part.span = &span;
    }
    part.found = result->found;
    if (result->has_usage) {
        usage.blocks = result->usage.blocks;
        usage.spans = result->usage.spans;
        usage.used_bytes = result->usage.used_bytes;
        usage.reserved_bytes = result->usage.reserved_bytes;
        usage.overhead_bytes = result->usage.overhead_bytes;
        usage.reserved_peak_bytes = result->usage.reserved_peak_bytes;
        usage.huge_bytes = result->usage.huge_bytes;
        usage.leased_bytes = result->usage.leased_bytes;
        usage.largest_free_bytes = result->usage.largest_free_bytes;
        usage.free_runs = result->usage.free_runs;
        part.usage = &usage;
    }
    message.n_results = 1;
    message.results = parts;
    return append(out, &message.base);
}
