/* SPDX-License-Identifier: MIT */
/* A record to build, a pool to decode it with, and a sample of every operation. */
#ifndef TESTS_UNIT_CODEC_STEPS_H
#define TESTS_UNIT_CODEC_STEPS_H

#include <string.h>

#include "proto/codec.h"
#include "tests/harness/suite.h"

static uint8_t pool_bytes[CODEC_POOL_BYTES] __attribute__((aligned(16)));
static struct codec_pool pool = {.bytes = pool_bytes, .capacity = sizeof pool_bytes};
static uint8_t record_bytes[RECORD_MAX_BYTES];
static struct buffer out;
static struct request_record in;
static struct reply_record reply;
static struct request request;
static struct result result;

static inline void begin(void)
{
    out = (struct buffer){.bytes = record_bytes, .capacity = sizeof record_bytes};
    result_init(&result);
}

static inline bool decode(void)
{
    return codec_decode_request(&pool, out.bytes, out.used, &in);
}

static inline bool decode_reply(void)
{
    return codec_decode_reply(&pool, out.bytes, out.used, &reply);
}

static inline void put_byte(uint8_t byte)
{
    ck_assert_uint_lt(out.used, out.capacity);
    out.bytes[out.used++] = byte;
}

static inline void put_bytes(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_byte(((const uint8_t *)bytes)[i]);
}

static inline void assert_refused(size_t index, enum status status, const char *part)
{
    result_init(&result);
    ck_assert_int_eq(codec_operation(&in, index, &request, &result), status);
    ck_assert_int_eq(result.status, status);
    ck_assert_msg(strstr(result.text, part) != NULL, "not \"%s\": %s", part, result.text);
}

static inline void assert_same_request(const struct request *got, const struct request *wanted)
{
    ck_assert_int_eq(got->operation, wanted->operation);
    ck_assert_uint_eq(got->span, wanted->span);
    ck_assert_uint_eq(got->size, wanted->size);
    ck_assert_uint_eq(got->at, wanted->at);
    ck_assert_uint_eq(got->data_bytes, wanted->data_bytes);
    if (wanted->data_bytes > 0)
        ck_assert_mem_eq(got->data, wanted->data, wanted->data_bytes);
    ck_assert_uint_eq(got->width, wanted->width);
    ck_assert_uint_eq(got->expected, wanted->expected);
    ck_assert_uint_eq(got->desired, wanted->desired);
    ck_assert_uint_eq(got->kind, wanted->kind);
    ck_assert_int_eq(got->filled, wanted->filled);
}

#define U64 UINT64_MAX
#define U32 UINT32_MAX

static const struct request samples[] = {
    {.operation = OPERATION_ALLOC},
    {.operation = OPERATION_ALLOC, .size = 1},
    {.operation = OPERATION_ALLOC, .size = U64},
    {.operation = OPERATION_RELEASE},
    {.operation = OPERATION_RELEASE, .span = U64},
    {.operation = OPERATION_RELEASE, .span = 64, .filled = true},
    {.operation = OPERATION_SHRINK},
    {.operation = OPERATION_SHRINK, .span = 64, .size = 128},
    {.operation = OPERATION_SHRINK, .span = U64, .size = U64},
    {.operation = OPERATION_SHRINK, .span = U64, .size = U64, .filled = true},
    {.operation = OPERATION_QUERY},
    {.operation = OPERATION_QUERY, .span = U64},
    {.operation = OPERATION_WRITE},
    {.operation = OPERATION_WRITE,
     .span = 64,
     .at = 7,
     .data = (const uint8_t *)"\0code\0\xFF",
     .data_bytes = 7},
    {.operation = OPERATION_WRITE, .span = U64, .at = U64, .data = (const uint8_t *)"x", .data_bytes = 1},
    {.operation = OPERATION_PATCH},
    {.operation = OPERATION_PATCH, .span = 64, .at = 8, .width = 4, .expected = 5, .desired = 6},
    {.operation = OPERATION_PATCH, .span = U64, .at = U64, .width = U32, .expected = U64, .desired = U64},
    {.operation = OPERATION_SEAL},
    {.operation = OPERATION_SEAL, .span = U64},
    {.operation = OPERATION_RESET},
    {.operation = OPERATION_RESET, .kind = RESET_HARD},
    {.operation = OPERATION_RESET, .kind = 77},
    {.operation = OPERATION_RESET, .kind = U32},
    {.operation = OPERATION_STATISTICS},
    {.operation = OPERATION_LEASE},
    {.operation = OPERATION_LEASE, .size = 64},
    {.operation = OPERATION_LEASE, .size = U64},
    {.operation = OPERATION_CARVE},
    {.operation = OPERATION_CARVE, .span = 64, .size = 128},
    {.operation = OPERATION_CARVE, .span = U64, .size = U64 - 1},
    {.operation = OPERATION_RETURN},
    {.operation = OPERATION_RETURN, .span = BLOCK_BYTES},
    {.operation = OPERATION_RETURN, .span = U64},
};
#define SAMPLES (sizeof samples / sizeof samples[0])

static inline void put_samples(void)
{
    ck_assert(codec_put_request(&out, 99));
    for (size_t i = 0; i < SAMPLES; i++)
        ck_assert(codec_put_operation(&out, &samples[i]));
}

static inline void add_tests(Suite *suite, const char *name, const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, begin, NULL);
    for (; *tests != NULL; tests++)
        tcase_add_test(tcase, *tests);
    tcase_set_timeout(tcase, 0);
    suite_add_tcase(suite, tcase);
}

#define ADD_TESTS(suite, name, ...) add_tests(suite, name, (const TTest *const[]){__VA_ARGS__, NULL})

#endif
