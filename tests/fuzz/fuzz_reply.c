/* SPDX-License-Identifier: MIT */
/*
 * A record from a daemon that lies: the client decodes what it likes, and the strings
 * have an end, a refusal stays a refusal, and all of it means the same encoded again.
 */
#include "proto/codec.h"
#include "tests/fuzz/guarded.h"

static struct guarded wire;
static struct guarded pool_memory;
static struct guarded again_memory;
static uint8_t encoded[2 * RECORD_MAX_BYTES];

static void check_result(const struct result *result)
{
    must(result->field != NULL && strlen(result->field) <= RECORD_MAX_BYTES);
    must(strnlen(result->text, sizeof result->text) < sizeof result->text);
}

static void check_same_error(const struct result *got, const struct result *wanted)
{
    must_be(got->status, wanted->status);
    must(strcmp(got->text, wanted->text) == 0);
    must(strcmp(got->field, wanted->field) == 0);
}

static void check_same(const struct result *got, const struct result *wanted)
{
    check_same_error(got, wanted);
    must_be(got->has_span, wanted->has_span);
    must_be(got->offset, wanted->offset);
    must_be(got->size, wanted->size);
    must_be(got->flags, wanted->flags);
    must_be(got->found, wanted->found);
    must_be(got->has_usage, wanted->has_usage);
    must(!got->has_usage || memcmp(&got->usage, &wanted->usage, sizeof got->usage) == 0);
}

static void check_same_welcome(const struct welcome *got, const struct welcome *wanted)
{
    must_be(got->version, wanted->version);
    must_be(got->features, wanted->features);
    must_be(got->session, wanted->session);
    must_be(got->write_mode, wanted->write_mode);
    must_be(got->arena_bytes, wanted->arena_bytes);
    must_be(got->granularity, wanted->granularity);
    must_be(got->fill_pattern, wanted->fill_pattern);
    must_be(got->sealed, wanted->sealed);
    must_be(got->span_max_bytes, wanted->span_max_bytes);
    must_be(got->spans_max, wanted->spans_max);
    must_be(got->record_max_bytes, wanted->record_max_bytes);
    must_be(got->write_max_bytes, wanted->write_max_bytes);
    must_be(got->operations_max, wanted->operations_max);
    must(strcmp(got->daemon, wanted->daemon) == 0);
}

static void decode_again(struct buffer *out, struct reply_record *record)
{
    struct codec_pool pool = {.bytes = again_memory.bytes, .capacity = CODEC_POOL_BYTES};

    must(codec_decode_reply(&pool, out->bytes, out->used, record));
}

static void check_whole(const struct reply_record *record)
{
    struct buffer out = {.bytes = encoded, .capacity = sizeof encoded};
    struct reply_record again;

    must(codec_put_reply(&out, record->id));
    if (record->has_error)
        must(codec_put_error(&out, &record->error));
    if (record->has_welcome)
        must(codec_put_welcome(&out, &record->welcome));
    decode_again(&out, &again);
    must_be(again.id, record->id);
    must_be(again.has_error, record->has_error);
    must_be(again.has_welcome, record->has_welcome);
    must_be(again.results_count, 0);
    check_same_error(&again.error, &record->error);
    if (record->has_welcome)
        check_same_welcome(&again.welcome, &record->welcome);
}

static void check_encoding(const struct result *result)
{
    struct buffer out = {.bytes = encoded, .capacity = sizeof encoded};
    struct reply_record record;
    struct result again;

    must(codec_put_result(&out, result));
    decode_again(&out, &record);
    must_be(record.results_count, 1);
    codec_result(&record, 0, &again);
    check_same(&again, result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct codec_pool pool = {.capacity = CODEC_POOL_BYTES};
    struct reply_record record;

    if (bytes > RECORD_MAX_BYTES)
        return 0;
    guarded_init(&wire, RECORD_MAX_BYTES);
    guarded_init(&pool_memory, CODEC_POOL_BYTES);
    guarded_init(&again_memory, CODEC_POOL_BYTES);
    pool.bytes = pool_memory.bytes;
    if (!codec_decode_reply(&pool, guarded_copy(&wire, data, bytes), bytes, &record))
        return 0;
    must(pool.used <= pool.capacity);
    check_result(&record.error);
    must(record.has_error == (record.error.status != STATUS_OK));
    if (record.has_welcome)
        must(strnlen(record.welcome.daemon, sizeof record.welcome.daemon) <= VERSION_TEXT_MAX_BYTES);
    check_whole(&record);
    for (size_t i = 0; i < record.results_count; i++) {
        struct result result;

        codec_result(&record, i, &result);
        check_result(&result);
        check_encoding(&result);
    }
    return 0;
}
