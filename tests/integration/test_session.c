/* SPDX-License-Identifier: MIT */
/* Every operation of libjitclient, against the real daemon, in both write modes. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"

static struct broker through; /* grants no direct writing */
static struct broker direct;
static jitc_client *client;

static void start_brokers(void)
{
    broker_start(&through, NULL);
    broker_start(&direct, "[class default]\nwrite=direct\n");
}

static void stop_brokers(void)
{
    broker_stop(&through);
    broker_stop(&direct);
}

static void connect_through(void)
{
    become(WORKER_UID);
    client = broker_connect(&through, NULL);
}

static void connect_direct(void)
{
    become(WORKER_UID);
    client = broker_connect(&direct, NULL);
}

static void disconnect(void)
{
    client = jitc_close(client);
}

#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        ck_assert_msg(status_ == JITC_OK, "%s: %s: %s", #call, jitc_strerror(status_), jitc_error_detail()); \
    } while (0)

#define assert_fails(status, part, call)                                                                     \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        ck_assert_msg(status_ == (status), "%s: %s: %s", #call, jitc_strerror(status_),                      \
                      jitc_error_detail());                                                                  \
        ck_assert_msg(strstr(jitc_error_detail(), part) != NULL, "%s says: %s", #call, jitc_error_detail()); \
    } while (0)

static jitc_span alloc_span(size_t size)
{
    jitc_span span;

    assert_ok(jitc_alloc(client, &span, size));
    return span;
}

static jitc_stats statistics(void)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    assert_ok(jitc_statistics(client, &stats));
    return stats;
}

/* ---- Both modes --------------------------------------------------------------------- */

START_TEST(written_code_runs)
{
    jitc_span span = alloc_span(CODE_RETURN_BYTES);
    uint8_t code[CODE_RETURN_BYTES];

    ck_assert_ptr_nonnull(jitc_span_rx(&span));
    ck_assert_uint_eq(jitc_span_size(&span), 64);
    ck_assert_uint_eq((uintptr_t)span.rx % 64, 0);
    ck_assert_uint_eq(span.reserved, 0);
    ck_assert_uint_ne(span.flags & JITC_SPAN_ICACHE_CLEAN, 0);
    code_return(code, 4711);
    assert_ok(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 4711);
    ck_assert_uint_eq(span.flags & JITC_SPAN_ICACHE_CLEAN, 0);
    assert_ok(jitc_release(client, span.rx));
}
END_TEST

START_TEST(fresh_and_released_memory_is_trap_fill)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_span span = alloc_span(256);
    uint8_t bytes[256];
    uint8_t trap[256];

    assert_ok(jitc_describe(client, &info));
    for (size_t i = 0; i < sizeof trap; i += 4)
        memcpy(trap + i, &info.fill_pattern, 4);
    ck_assert_mem_eq(span.rx, trap, sizeof trap);
    memset(bytes, 0x5A, sizeof bytes);
    assert_ok(jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq(span.rx, bytes, sizeof bytes);
    assert_ok(jitc_shrink(client, &span, 64));
    assert_ok(jitc_flush(client));
    ck_assert_mem_eq((uint8_t *)span.rx + 64, trap, 192);
    ck_assert_mem_eq(span.rx, bytes, 64);
    assert_ok(jitc_release(client, span.rx));
    assert_ok(jitc_flush(client));
    ck_assert_mem_eq(span.rx, trap, sizeof trap);
}
END_TEST

START_TEST(what_was_handed_out_before_is_not_icache_clean)
{
    jitc_span first = alloc_span(64);
    jitc_span again;

    assert_ok(jitc_release(client, first.rx));
    again = alloc_span(64);
    ck_assert_ptr_eq(again.rx, first.rx);
    ck_assert_uint_eq(again.flags & JITC_SPAN_ICACHE_CLEAN, 0);
}
END_TEST

START_TEST(sizes_from_1_to_the_largest_are_served_and_no_more)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_options options;
    jitc_span span;

    options = broker_options(&through);
    options.arena_bytes = 1 << 20;
    disconnect();
    client = broker_connect(&through, &options);
    assert_ok(jitc_describe(client, &info));
    ck_assert_uint_eq(info.span_max_bytes, (1 << 20) - 64);
    assert_fails(JITC_E_INVALID, "size", jitc_alloc(client, &span, 0));
    assert_ok(jitc_alloc(client, &span, 1));
    ck_assert_uint_eq(span.size, info.granularity);
    assert_ok(jitc_release(client, span.rx));
    assert_fails(JITC_E_TOO_LARGE, "largest", jitc_alloc(client, &span, info.span_max_bytes + 1));
    assert_fails(JITC_E_TOO_LARGE, "largest", jitc_alloc(client, &span, SIZE_MAX));
    assert_ok(jitc_alloc(client, &span, info.span_max_bytes));
    ck_assert_uint_eq(span.size, info.span_max_bytes);
    assert_fails(JITC_E_ARENA_FULL, "no free run", jitc_alloc(client, &span, 1));
}
END_TEST

START_TEST(a_write_ends_exactly_at_the_spans_end)
{
    jitc_span span = alloc_span(128);
    uint8_t bytes[129] = {0};

    assert_ok(jitc_write(client, &span, 0, bytes, 128, JITC_WRITE_DEFAULT));
    assert_ok(jitc_write(client, &span, 127, bytes, 1, JITC_WRITE_DEFAULT));
    assert_ok(jitc_write(client, &span, 128, bytes, 0, JITC_WRITE_DEFAULT));
    assert_fails(JITC_E_OUT_OF_RANGE, "129 bytes",
                 jitc_write(client, &span, 0, bytes, 129, JITC_WRITE_DEFAULT));
    assert_fails(JITC_E_OUT_OF_RANGE, "at 128", jitc_write(client, &span, 128, bytes, 1, JITC_WRITE_DEFAULT));
    assert_fails(JITC_E_OUT_OF_RANGE, "", jitc_write(client, &span, SIZE_MAX, bytes, 2, JITC_WRITE_DEFAULT));
}
END_TEST

START_TEST(large_writes_arrive_whole)
{
    const size_t size = 5 * 65536 + 4097;
    jitc_span span = alloc_span(size);
    uint8_t *bytes = malloc(size);

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
    assert_ok(jitc_write(client, &span, 0, bytes, size, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq(span.rx, bytes, size);
    free(bytes);
    assert_ok(jitc_release(client, span.rx));
}
END_TEST

START_TEST(release_takes_exact_starts_once)
{
    jitc_span span = alloc_span(256);
    int elsewhere = 0;

    assert_fails(JITC_E_NO_SPAN, "no live span", jitc_release(client, (uint8_t *)span.rx + 64));
    assert_fails(JITC_E_NO_SPAN, "granularity", jitc_release(client, (uint8_t *)span.rx + 1));
    assert_fails(JITC_E_FOREIGN_POINTER, "arena", jitc_release(client, &elsewhere));
    assert_fails(JITC_E_FOREIGN_POINTER, "arena", jitc_release(client, NULL));
    assert_ok(jitc_release(client, span.rx));
    assert_fails(JITC_E_NO_SPAN, "no live span", jitc_release(client, span.rx));
    ck_assert_uint_eq(statistics().allocation_count, 0);
}
END_TEST

/* Another thread: allocates when it is told to, releases when it is told to. */
struct other_thread {
    pthread_barrier_t turn;
    jitc_span span;
    int released;
};

static void *allocate_and_release(void *user)
{
    struct other_thread *other = user;

    other->span = alloc_span(64);
    (void)pthread_barrier_wait(&other->turn);
    (void)pthread_barrier_wait(&other->turn);
    other->released = jitc_release(client, other->span.rx);
    return NULL;
}

START_TEST(a_span_is_released_once_whichever_thread_does_it)
{
    struct other_thread other;
    pthread_t thread;
    jitc_span first = alloc_span(64);

    ck_assert_int_eq(pthread_barrier_init(&other.turn, NULL, 2), 0);
    /* This thread had the same span before, and not as the last one any more. */
    assert_ok(jitc_release(client, first.rx));
    ck_assert_uint_eq(statistics().allocation_count, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, allocate_and_release, &other), 0);
    (void)pthread_barrier_wait(&other.turn);
    ck_assert_ptr_eq(other.span.rx, first.rx);
    assert_ok(jitc_release(client, first.rx));
    (void)pthread_barrier_wait(&other.turn);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(other.released, JITC_E_NO_SPAN);
    ck_assert_uint_eq(statistics().allocation_count, 0);
}
END_TEST

START_TEST(query_finds_the_span_around_any_byte)
{
    jitc_span span = alloc_span(192);
    jitc_span found;
    int elsewhere = 0;

    assert_ok(jitc_query(client, &found, span.rx));
    ck_assert_ptr_eq(found.rx, span.rx);
    ck_assert_ptr_eq(found.rw, span.rw);
    ck_assert_uint_eq(found.size, 192);
    assert_ok(jitc_query(client, &found, (uint8_t *)span.rx + 191));
    ck_assert_ptr_eq(found.rx, span.rx);
    if (span.rw != NULL) {
        assert_ok(jitc_query(client, &found, (uint8_t *)span.rw + 100));
        ck_assert_ptr_eq(found.rx, span.rx);
    }
    assert_fails(JITC_E_NO_SPAN, "no live span", jitc_query(client, &found, (uint8_t *)span.rx + 192));
    assert_fails(JITC_E_NO_SPAN, "no live span", jitc_query(client, &found, (uint8_t *)span.rx - 1));
    assert_fails(JITC_E_FOREIGN_POINTER, "arena", jitc_query(client, &found, &elsewhere));
}
END_TEST

START_TEST(shrink_rounds_up_and_gives_the_tail_back)
{
    jitc_span span = alloc_span(1000);
    uint64_t before = statistics().used_bytes;

    ck_assert_uint_eq(before, 1024);
    assert_fails(JITC_E_INVALID, "never grows", jitc_shrink(client, &span, 1025));
    assert_ok(jitc_shrink(client, &span, 65));
    ck_assert_uint_eq(span.size, 128);
    ck_assert_uint_eq(statistics().used_bytes, 128);
    assert_ok(jitc_shrink(client, &span, 128));
    ck_assert_uint_eq(span.size, 128);
    assert_ok(jitc_shrink(client, &span, 0));
    ck_assert_ptr_null(span.rx);
    ck_assert_uint_eq(statistics().allocation_count, 0);
}
END_TEST

struct emission {
    size_t keep;
    uint32_t value;
    int give_up;
    const void *rx;
};

static int emit(jitc_span *span, void *user)
{
    struct emission *emission = user;

    ck_assert_ptr_nonnull(span->rw);
    ck_assert_ptr_eq(span->rx, emission->rx);
    ck_assert_mem_eq(span->rw, span->rx, span->size); /* the present content */
    code_return(span->rw, emission->value);
    jitc_span_shrink(span, emission->keep);
    return emission->give_up;
}

START_TEST(a_callback_writes_and_shrinks)
{
    jitc_span span = alloc_span(512);
    struct emission emission = {.keep = 70, .value = 99, .rx = span.rx};

    assert_ok(jitc_write_fn(client, &span, emit, &emission, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(span.size, 128);
    ck_assert_uint_eq(code_call(span.rx), 99);
    ck_assert_uint_eq(statistics().used_bytes, 128);
    emission.keep = 1000; /* more than there is: no wish to shrink */
    assert_ok(jitc_write_fn(client, &span, emit, &emission, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(span.size, 128);
    emission.keep = 0;
    assert_ok(jitc_write_fn(client, &span, emit, &emission, JITC_WRITE_DEFAULT));
    ck_assert_ptr_null(span.rx);
    ck_assert_uint_eq(statistics().allocation_count, 0);
}
END_TEST

START_TEST(a_callback_that_gives_up_shrinks_nothing)
{
    jitc_span span = alloc_span(512);
    struct emission emission = {.keep = 64, .value = 1, .give_up = 1, .rx = span.rx};

    assert_fails(JITC_E_CALLBACK, "gave up",
                 jitc_write_fn(client, &span, emit, &emission, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(span.size, 512);
    ck_assert_uint_eq(statistics().used_bytes, 512);
}
END_TEST

START_TEST(a_scope_writes_many_spans)
{
    enum { SPANS = 1000 };
    jitc_span *spans = calloc(SPANS, sizeof *spans);
    jitc_scope *scope;
    uint8_t code[CODE_RETURN_BYTES];

    for (unsigned i = 0; i < SPANS; i++)
        spans[i] = alloc_span(128);
    assert_ok(jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    for (unsigned i = 0; i < SPANS; i++) {
        if (i % 2 == 0) {
            code_return(code, i);
            assert_ok(jitc_scope_write(scope, &spans[i], 0, code, sizeof code));
        } else {
            struct emission emission = {.keep = 64, .value = i, .rx = spans[i].rx};

            assert_ok(jitc_scope_write_fn(scope, &spans[i], emit, &emission));
        }
    }
    assert_ok(jitc_scope_flush(scope));
    for (unsigned i = 0; i < SPANS; i++) {
        ck_assert_uint_eq(code_call(spans[i].rx), i);
        ck_assert_uint_eq(spans[i].size, i % 2 == 0 ? 128 : 64);
    }
    /* Later writes in one scope build on earlier ones. */
    code_return(code, 5);
    assert_ok(jitc_scope_write(scope, &spans[0], 0, code, sizeof code));
    {
        struct emission emission = {.keep = 128, .value = 6, .rx = spans[0].rx};

        assert_ok(jitc_scope_write_fn(scope, &spans[0], emit, &emission));
    }
    assert_ok(jitc_scope_end(scope));
    ck_assert_uint_eq(code_call(spans[0].rx), 6);
    free(spans);
}
END_TEST

START_TEST(patch_swaps_only_what_it_expects)
{
    jitc_span span = alloc_span(64);
    uint8_t bytes[64];
    uint64_t found = 0;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_ok(jitc_write(client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT));
    assert_ok(jitc_patch(client, &span, 1, 1, 1, 0xAA, &found));
    ck_assert_uint_eq(found, 1);
    assert_ok(jitc_patch(client, &span, 2, 2, 0x0302, 0xBBCC, NULL));
    assert_ok(jitc_patch(client, &span, 4, 4, 0x07060504, 0x11223344, &found));
    assert_ok(
        jitc_patch(client, &span, 56, 8, UINT64_C(0x3F3E3D3C3B3A3938), UINT64_C(0x0102030405060708), &found));
    ck_assert_uint_eq(found, UINT64_C(0x3F3E3D3C3B3A3938));
    ck_assert_uint_eq(((uint8_t *)span.rx)[1], 0xAA);
    ck_assert_uint_eq(((uint16_t *)span.rx)[1], 0xBBCC);
    ck_assert_uint_eq(((uint32_t *)span.rx)[1], 0x11223344);
    ck_assert_uint_eq(((uint64_t *)span.rx)[7], UINT64_C(0x0102030405060708));
    ck_assert_mem_eq((uint8_t *)span.rx + 8, bytes + 8, 48);

    assert_fails(JITC_E_MISMATCH, "found", jitc_patch(client, &span, 1, 1, 1, 2, &found));
    ck_assert_uint_eq(found, 0xAA);
    ck_assert_uint_eq(((uint8_t *)span.rx)[1], 0xAA);
    assert_fails(JITC_E_MISALIGNED, "multiple", jitc_patch(client, &span, 1, 2, 0, 0, NULL));
    assert_fails(JITC_E_MISALIGNED, "multiple", jitc_patch(client, &span, 60, 8, 0, 0, NULL));
    assert_fails(JITC_E_INVALID, "width", jitc_patch(client, &span, 0, 3, 0, 0, NULL));
    assert_fails(JITC_E_INVALID, "width", jitc_patch(client, &span, 0, 0, 0, 0, NULL));
    assert_fails(JITC_E_INVALID, "width", jitc_patch(client, &span, 0, 16, 0, 0, NULL));
    assert_fails(JITC_E_INVALID, "expected", jitc_patch(client, &span, 0, 1, 256, 0, NULL));
    assert_fails(JITC_E_INVALID, "desired", jitc_patch(client, &span, 0, 2, 0, 65536, NULL));
    assert_fails(JITC_E_OUT_OF_RANGE, "", jitc_patch(client, &span, 64, 1, 0, 0, NULL));
}
END_TEST

START_TEST(a_sealed_span_changes_no_more_until_released)
{
    jitc_span span = alloc_span(64);
    uint8_t code[CODE_RETURN_BYTES];
    jitc_span found;

    code_return(code, 1);
    assert_ok(jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    assert_ok(jitc_seal(client, &span));
    assert_ok(jitc_seal(client, &span));
    ck_assert_uint_ne(span.flags & JITC_SPAN_SEALED, 0);
    ck_assert_int_eq(jitc_span_is_directly_writable(&span), 0);
    assert_fails(JITC_E_SEALED, "sealed", jitc_write(client, &span, 0, code, 1, JITC_WRITE_DEFAULT));
    assert_fails(JITC_E_SEALED, "sealed", jitc_patch(client, &span, 0, 1, 0, 0, NULL));
    assert_fails(JITC_E_SEALED, "sealed", jitc_shrink(client, &span, 64));
    assert_ok(jitc_query(client, &found, span.rx));
    ck_assert_uint_ne(found.flags & JITC_SPAN_SEALED, 0);
    ck_assert_ptr_null(found.rw);
    ck_assert_uint_eq(code_call(span.rx), 1);
    assert_ok(jitc_release(client, span.rx));
    /* The next span there is not sealed. */
    found = alloc_span(64);
    ck_assert_ptr_eq(found.rx, span.rx);
    ck_assert_uint_eq(found.flags & JITC_SPAN_SEALED, 0);
    assert_ok(jitc_write(client, &found, 0, code, sizeof code, JITC_WRITE_DEFAULT));
}
END_TEST

START_TEST(reset_releases_everything)
{
    jitc_span spans[100];
    jitc_stats stats;

    for (int kind = JITC_RESET_SOFT; kind <= JITC_RESET_HARD; kind++) {
        for (size_t i = 0; i < 100; i++)
            spans[i] = alloc_span(3000);
        assert_ok(jitc_reset(client, (enum jitc_reset_kind)kind));
        stats = statistics();
        ck_assert_uint_eq(stats.allocation_count, 0);
        ck_assert_uint_eq(stats.used_bytes, 0);
        ck_assert_uint_eq(stats.block_count, 0);
        assert_fails(JITC_E_NO_SPAN, "", jitc_release(client, spans[0].rx));
        if (kind == JITC_RESET_SOFT)
            ck_assert_uint_ge(stats.reserved_bytes, 300000);
    }
    ck_assert_uint_ge(stats.reserved_peak_bytes, 300000);
    assert_fails(JITC_E_INVALID, "kind", jitc_reset(client, (enum jitc_reset_kind)2));
}
END_TEST

START_TEST(statistics_count_exactly)
{
    jitc_stats stats = statistics();

    ck_assert_uint_eq(stats.allocation_count, 0);
    ck_assert_uint_eq(stats.reserved_bytes, 0);
    (void)alloc_span(64);
    (void)alloc_span(65);
    (void)alloc_span(200000);
    stats = statistics();
    ck_assert_uint_eq(stats.allocation_count, 3);
    ck_assert_uint_eq(stats.used_bytes, 64 + 128 + 200000);
    ck_assert_uint_eq(stats.block_count, 5);
    ck_assert_uint_eq(stats.reserved_bytes, 5 * 65536);
    ck_assert_uint_gt(stats.overhead_bytes, 0);
}
END_TEST

START_TEST(statistics_fill_in_what_the_callers_struct_has)
{
    const size_t oldest = offsetof(jitc_stats, huge_bytes); /* of 0.1.0 */
    struct {
        jitc_stats known;
        uint64_t later;
    } stats;

    (void)alloc_span(64);
    memset(&stats, 0xAA, sizeof stats);
    stats.known.struct_size = oldest;
    assert_ok(jitc_statistics(client, &stats.known));
    ck_assert_uint_eq(stats.known.struct_size, oldest);
    ck_assert_uint_eq(stats.known.reserved_peak_bytes, 65536);
    ck_assert_uint_eq(stats.known.huge_bytes, UINT64_C(0xAAAAAAAAAAAAAAAA));
    stats.known.struct_size = oldest - 1;
    assert_fails(JITC_E_INVALID, "struct_size", jitc_statistics(client, &stats.known));
    stats.known.struct_size = sizeof stats;
    assert_ok(jitc_statistics(client, &stats.known));
    ck_assert_uint_eq(stats.known.huge_bytes, 0);
    ck_assert_uint_eq(stats.later, UINT64_C(0xAAAAAAAAAAAAAAAA));
}
END_TEST

/* ---- One mode only ---------------------------------------------------------------------- */

START_TEST(through_leaves_no_way_to_write)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_span span = alloc_span(64);

    assert_ok(jitc_describe(client, &info));
    ck_assert_int_eq(info.write_mode, JITC_WRITE_THROUGH);
    ck_assert_int_eq(info.is_sealed, !are_we_root() && getuid() == through.uid);
    ck_assert_ptr_null(span.rw);
    ck_assert_int_eq(jitc_span_is_directly_writable(&span), 0);
}
END_TEST

START_TEST(a_callback_that_gives_up_changes_no_byte)
{
    jitc_span span = alloc_span(64);
    struct emission emission = {.keep = 64, .value = 1, .give_up = 1, .rx = span.rx};
    uint8_t before[64];

    memcpy(before, span.rx, sizeof before);
    assert_fails(JITC_E_CALLBACK, "", jitc_write_fn(client, &span, emit, &emission, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq(span.rx, before, sizeof before);
}
END_TEST

START_TEST(errors_of_a_scope_are_told_at_its_flush)
{
    jitc_span good = alloc_span(64);
    jitc_span gone = alloc_span(64);
    jitc_scope *scope;
    uint8_t code[CODE_RETURN_BYTES];

    assert_ok(jitc_release(client, gone.rx));
    code_return(code, 7);
    assert_ok(jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT));
    assert_ok(jitc_scope_write(scope, &gone, 0, code, sizeof code));
    assert_ok(jitc_scope_write(scope, &good, 0, code, sizeof code));
    assert_fails(JITC_E_NO_SPAN, "no live span", jitc_scope_flush(scope));
    ck_assert_uint_eq(code_call(good.rx), 7); /* the others are done all the same */
    assert_ok(jitc_scope_flush(scope));       /* told once */
    assert_ok(jitc_scope_write(scope, &gone, 0, code, sizeof code));
    assert_fails(JITC_E_NO_SPAN, "no live span", jitc_scope_end(scope));
}
END_TEST

START_TEST(direct_is_refused_where_the_policy_does)
{
    jitc_options options = broker_options(&through);
    jitc_client *other;

    options.write_mode = JITC_WRITE_DIRECT;
    assert_fails(JITC_E_REFUSED, "write directly", jitc_connect(&other, &options));
}
END_TEST

START_TEST(hard_reset_and_immediate_release_give_memory_back)
{
    jitc_options options = broker_options(&through);
    jitc_span span;

    span = alloc_span(4 << 20);
    assert_ok(jitc_release(client, span.rx));
    ck_assert_uint_eq(statistics().reserved_bytes, 1 << 20); /* the reserve */
    assert_ok(jitc_reset(client, JITC_RESET_HARD));
    ck_assert_uint_eq(statistics().reserved_bytes, 0);

    disconnect();
    options.flags = JITC_IMMEDIATE_RELEASE;
    client = broker_connect(&through, &options);
    span = alloc_span(100);
    ck_assert_uint_eq(statistics().reserved_bytes, 65536);
    assert_ok(jitc_release(client, span.rx));
    ck_assert_uint_eq(statistics().reserved_bytes, 0);
}
END_TEST

START_TEST(direct_means_a_second_view_of_the_same_bytes)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_span span = alloc_span(64);

    assert_ok(jitc_describe(client, &info));
    ck_assert_int_eq(info.write_mode, JITC_WRITE_DIRECT);
    ck_assert_ptr_nonnull(span.rw);
    ck_assert_ptr_ne(span.rw, span.rx);
    code_return(span.rw, 12);
    ck_assert_uint_eq(code_call(span.rx), 12);
}
END_TEST

START_TEST(through_can_be_had_where_direct_is_allowed)
{
    jitc_options options = broker_options(&direct);
    jitc_span span;

    disconnect();
    options.write_mode = JITC_WRITE_THROUGH;
    client = broker_connect(&direct, &options);
    span = alloc_span(64);
    ck_assert_ptr_null(span.rw);
}
END_TEST

/* ---- Options -------------------------------------------------------------------------------- */

START_TEST(granularity_is_64_128_or_256)
{
    const uint32_t good[] = {64, 128, 256};
    const uint32_t bad[] = {1, 32, 63, 65, 127, 192, 257, 512, UINT32_MAX};
    jitc_options options = broker_options(&through);

    become(WORKER_UID);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        jitc_span span;

        options.granularity = good[i];
        client = broker_connect(&through, &options);
        span = alloc_span(1);
        ck_assert_uint_eq(span.size, good[i]);
        ck_assert_uint_eq((uintptr_t)span.rx % good[i], 0);
        disconnect();
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        options.granularity = bad[i];
        assert_fails(JITC_E_INVALID, "granularity", jitc_connect(&client, &options));
    }
}
END_TEST

START_TEST(arena_sizes_are_rounded_up_and_bounded_by_policy)
{
    jitc_options options = broker_options(&through);
    jitc_info info = {.struct_size = sizeof info};

    become(WORKER_UID);
    options.arena_bytes = 1;
    client = broker_connect(&through, &options);
    assert_ok(jitc_describe(client, &info));
    ck_assert_uint_eq(info.arena_bytes, 65536);
    ck_assert_uint_eq(info.span_max_bytes, 65536 - 64);
    disconnect();
    options.arena_bytes = UINT64_C(256) << 20;
    client = broker_connect(&through, &options);
    assert_ok(jitc_describe(client, &info));
    ck_assert_uint_eq(info.span_max_bytes, 32 << 20); /* whatever the arena */
    disconnect();
    options.arena_bytes = (UINT64_C(256) << 20) + 1;
    assert_fails(JITC_E_TOO_LARGE, "policy", jitc_connect(&client, &options));
    options.arena_bytes = UINT64_MAX;
    assert_fails(JITC_E_TOO_LARGE, "arena", jitc_connect(&client, &options));
}
END_TEST

START_TEST(an_arena_can_be_near_an_address)
{
    jitc_options options = broker_options(&through);
    jitc_info info = {.struct_size = sizeof info};
    uint64_t here = (uintptr_t)&become; /* our own code */

    become(WORKER_UID);
    options.near_to = (const void *)(uintptr_t)here;
    options.flags = JITC_NEAR_REQUIRED;
    client = broker_connect(&through, &options);
    assert_ok(jitc_describe(client, &info));
    ck_assert_int_eq(info.is_near, 1);
    ck_assert_int_lt(llabs((long long)((uintptr_t)info.base - here)), 1LL << 31);
    ck_assert_int_lt(llabs((long long)((uintptr_t)info.base + info.arena_bytes - here)), 1LL << 31);
}
END_TEST

START_TEST(a_fill_pattern_must_trap)
{
    jitc_options options = broker_options(&through);
    jitc_info info = {.struct_size = sizeof info};

    become(WORKER_UID);
    options.fill_pattern = 0x90909090u; /* nop */
    assert_fails(JITC_E_INVALID, "does not trap", jitc_connect(&client, &options));
#if defined(__x86_64__)
    {
        jitc_span span;
        const uint8_t hlt[64] = {[0 ... 63] = 0xF4};

        options.fill_pattern = 0xF4F4F4F4u;
        client = broker_connect(&through, &options);
        assert_ok(jitc_describe(client, &info));
        ck_assert_uint_eq(info.fill_pattern, 0xF4F4F4F4u);
        span = alloc_span(64);
        ck_assert_mem_eq(span.rx, hlt, 64);
    }
#endif
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *both[2] = {tcase_create("through"), tcase_create("direct")};
    TCase *through_only = tcase_create("through only");
    TCase *direct_only = tcase_create("direct only");
    TCase *options = tcase_create("options");

    for (int i = 0; i < 2; i++) {
        tcase_add_unchecked_fixture(both[i], start_brokers, stop_brokers);
        tcase_add_checked_fixture(both[i], i == 0 ? connect_through : connect_direct, disconnect);
        tcase_add_test(both[i], written_code_runs);
        tcase_add_test(both[i], fresh_and_released_memory_is_trap_fill);
        tcase_add_test(both[i], what_was_handed_out_before_is_not_icache_clean);
        tcase_add_test(both[i], sizes_from_1_to_the_largest_are_served_and_no_more);
        tcase_add_test(both[i], a_write_ends_exactly_at_the_spans_end);
        tcase_add_test(both[i], large_writes_arrive_whole);
        tcase_add_test(both[i], release_takes_exact_starts_once);
        tcase_add_test(both[i], a_span_is_released_once_whichever_thread_does_it);
        tcase_add_test(both[i], query_finds_the_span_around_any_byte);
        tcase_add_test(both[i], shrink_rounds_up_and_gives_the_tail_back);
        tcase_add_test(both[i], a_callback_writes_and_shrinks);
        tcase_add_test(both[i], a_callback_that_gives_up_shrinks_nothing);
        tcase_add_test(both[i], a_scope_writes_many_spans);
        tcase_add_test(both[i], patch_swaps_only_what_it_expects);
        tcase_add_test(both[i], a_sealed_span_changes_no_more_until_released);
        tcase_add_test(both[i], reset_releases_everything);
        tcase_add_test(both[i], statistics_count_exactly);
        tcase_add_test(both[i], statistics_fill_in_what_the_callers_struct_has);
        tcase_set_timeout(both[i], 0);
        suite_add_tcase(suite, both[i]);
    }
    tcase_add_unchecked_fixture(through_only, start_brokers, stop_brokers);
    tcase_add_checked_fixture(through_only, connect_through, disconnect);
    tcase_add_test(through_only, through_leaves_no_way_to_write);
    tcase_add_test(through_only, a_callback_that_gives_up_changes_no_byte);
    tcase_add_test(through_only, errors_of_a_scope_are_told_at_its_flush);
    tcase_add_test(through_only, direct_is_refused_where_the_policy_does);
    tcase_add_test(through_only, hard_reset_and_immediate_release_give_memory_back);
    tcase_set_timeout(through_only, 0);
    suite_add_tcase(suite, through_only);
    tcase_add_unchecked_fixture(direct_only, start_brokers, stop_brokers);
    tcase_add_checked_fixture(direct_only, connect_direct, disconnect);
    tcase_add_test(direct_only, direct_means_a_second_view_of_the_same_bytes);
    tcase_add_test(direct_only, through_can_be_had_where_direct_is_allowed);
    tcase_set_timeout(direct_only, 0);
    suite_add_tcase(suite, direct_only);
    tcase_add_unchecked_fixture(options, start_brokers, stop_brokers);
    tcase_add_checked_fixture(options, NULL, disconnect);
    tcase_add_test(options, granularity_is_64_128_or_256);
    tcase_add_test(options, arena_sizes_are_rounded_up_and_bounded_by_policy);
    tcase_add_test(options, an_arena_can_be_near_an_address);
    tcase_add_test(options, a_fill_pattern_must_trap);
    tcase_set_timeout(options, 0);
    suite_add_tcase(suite, options);

    return suite_run(suite);
}
