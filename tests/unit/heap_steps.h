/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the allocator do again and again. Every test runs with granules of
 * 64, 128 and 256 bytes: its loop index says which.
 */
#ifndef TESTS_UNIT_HEAP_STEPS_H
#define TESTS_UNIT_HEAP_STEPS_H

#include <inttypes.h>
#include <string.h>

#include "proto/heap.h"
#include "proto/limits.h"
#include "tests/harness/suite.h"

#define UNIT ((uint64_t)BLOCK_BYTES)

static struct heap heap;
static uint64_t granule; /* bytes */

static inline void begin(int granularity, uint32_t units)
{
    heap_deinit(&heap);
    granule = UINT64_C(64) << granularity;
    ck_assert_int_eq(heap_init(&heap, units * UNIT, (uint32_t)granule, NULL), 0);
}

static inline void end(void)
{
    heap_deinit(&heap);
    heap_deinit(&heap);
}

static inline bool fits(uint64_t bytes)
{
    struct placement placement;

    return heap_place(&heap, bytes, &placement);
}

static inline struct heap_span take_span(uint64_t bytes)
{
    struct placement placement;

    ck_assert_msg(heap_place(&heap, bytes, &placement), "no room for %" PRIu64, bytes);
    if (placement.grown_bytes > heap_grown_bytes(&heap))
        heap_set_grown(&heap, placement.grown_bytes);
    return heap_take(&heap, &placement);
}

static inline uint64_t take(uint64_t bytes)
{
    return take_span(bytes).offset;
}

static inline struct heap_span find(uint64_t offset)
{
    struct heap_span span;

    ck_assert_msg(heap_find(&heap, offset, &span), "no span starts at 0x%" PRIx64, offset);
    ck_assert_uint_eq(span.offset, offset);
    return span;
}

static inline void cut(uint64_t offset, uint64_t bytes)
{
    struct heap_span span = find(offset);

    heap_cut(&heap, &span, bytes);
}

static inline void assert_starts_nowhere(uint64_t offset)
{
    struct heap_span span;

    ck_assert_msg(!heap_find(&heap, offset, &span), "a span starts at 0x%" PRIx64, offset);
}

static inline void assert_nobodys(uint64_t offset)
{
    struct heap_span span;

    assert_starts_nowhere(offset);
    ck_assert_msg(!heap_find_around(&heap, offset, &span), "0x%" PRIx64 " is in a span", offset);
}

/* Found as one span by each byte that matters, and not by those beside it. */
static inline void assert_span(uint64_t offset, uint64_t bytes)
{
    const uint64_t inside[] = {offset, offset + 1, offset + granule - 1, offset + bytes / 2,
                               offset + bytes - 1};
    struct heap_span span = find(offset);

    ck_assert_uint_eq(span.bytes, bytes);
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        ck_assert_msg(heap_find_around(&heap, inside[i], &span), "0x%" PRIx64 " is in no span", inside[i]);
        ck_assert_uint_eq(span.offset, offset);
        ck_assert_uint_eq(span.bytes, bytes);
    }
    if (heap_find_around(&heap, offset - 1, &span))
        ck_assert_uint_ne(span.offset, offset);
    if (heap_find_around(&heap, offset + bytes, &span))
        ck_assert_uint_ne(span.offset, offset);
}

static inline void assert_holds(uint32_t spans, uint32_t blocks, uint64_t used)
{
    ck_assert_uint_eq(heap.spans, spans);
    ck_assert_uint_eq(heap.blocks, blocks);
    ck_assert_uint_eq(heap_used_bytes(&heap), used);
}

static inline void add_tests(Suite *suite, const char *name, const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, NULL, end);
    for (; *tests != NULL; tests++)
        tcase_add_loop_test(tcase, *tests, 0, 3);
    tcase_set_timeout(tcase, 0);
    suite_add_tcase(suite, tcase);
}

#define ADD_TESTS(suite, name, ...) add_tests(suite, name, (const TTest *const[]){__VA_ARGS__, NULL})

#endif
