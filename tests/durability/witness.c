/* SPDX-License-Identifier: MIT */
#include "tests/durability/witness.h"

#include <string.h>

#include "tests/harness/code.h"

enum {
    GRANULE_BYTES = 64,
    LARGE_BYTES = 300 << 10,
    SCOPE_WRITES = 8,
    PATCH_FROM = 16, /* behind the code */
};

void witness_fail(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr, "process %d: %s:%d: not %s; the library's last words: %s\n", (int)getpid(), file,
                  line, condition, jitc_error_detail());
    _exit(EXIT_FAILURE);
}

static unsigned any(struct witness *witness, unsigned below)
{
    return (unsigned)rand_r(&witness->random) % below;
}

/* ---- What it knows ------------------------------------------------------------------------- */

static void forget(struct witness_span *own)
{
    free(own->bytes);
    *own = (struct witness_span){.bytes = NULL};
}

static void make_counter(struct witness *witness)
{
    uint64_t zero = 0;

    witness->counted = 0;
    must(jitc_alloc(witness->client, &witness->counter, 8) == JITC_OK);
    must(jitc_write(witness->client, &witness->counter, 0, &zero, sizeof zero, JITC_WRITE_DEFAULT) ==
         JITC_OK);
}

void witness_init(struct witness *witness, jitc_client *client, unsigned seed, bool is_once)
{
    jitc_info info = {.struct_size = sizeof info};

    *witness = (struct witness){.client = client, .random = seed, .is_once = is_once};
    must(jitc_describe(client, &info) == JITC_OK);
    witness->fill = info.fill_pattern;
    make_counter(witness);
}

void witness_deinit(struct witness *witness)
{
    for (unsigned i = 0; i < WITNESS_SPANS; i++)
        forget(&witness->spans[i]);
    witness->client = NULL;
}

unsigned witness_list(const struct witness *witness, jitc_span *spans)
{
    unsigned count = 1;

    spans[0] = witness->counter;
    for (unsigned i = 0; i < WITNESS_SPANS; i++) {
        if (witness->spans[i].span.rx != NULL)
            spans[count++] = witness->spans[i].span;
    }
    return count;
}

unsigned witness_count(const struct witness *witness)
{
    jitc_span spans[WITNESS_SPANS + 1];

    return witness_list(witness, spans);
}

/* One at random that is there, or is not; NULL: there is none. */
static struct witness_span *choose(struct witness *witness, bool is_there)
{
    unsigned first = any(witness, WITNESS_SPANS);

    for (unsigned i = 0; i < WITNESS_SPANS; i++) {
        struct witness_span *own = &witness->spans[(first + i) % WITNESS_SPANS];

        if ((own->span.rx != NULL) == is_there)
            return own;
    }
    return NULL;
}

/* New content for the first `bytes`, which begins with code. */
static void invent(struct witness *witness, struct witness_span *own, size_t bytes)
{
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t word = (uint32_t)rand_r(&witness->random);

        memcpy(own->bytes + i, &word, sizeof word);
    }
    own->value = (uint32_t)rand_r(&witness->random);
    code_return(own->bytes, own->value);
    own->has_code = true;
    own->is_written = true;
}

/* Whether it must refuse to be written, which it is then asked for. */
static bool is_refused(const struct witness *witness, struct witness_span *own)
{
    uint8_t byte = 0;

    if (!own->is_sealed && !(witness->is_once && own->is_written))
        return false;
    must(jitc_write(witness->client, &own->span, 0, &byte, 1, JITC_WRITE_DEFAULT) == JITC_E_SEALED);
    return true;
}

/* ---- What it does --------------------------------------------------------------------------- */

struct witness_span *witness_take(struct witness *witness, size_t bytes)
{
    struct witness_span *own = choose(witness, false);

    if (own == NULL)
        return NULL;
    must(jitc_alloc(witness->client, &own->span, bytes) == JITC_OK);
    must(own->span.size >= bytes && own->span.size < bytes + GRANULE_BYTES);
    own->bytes = malloc(own->span.size);
    must(own->bytes != NULL);
    for (size_t i = 0; i < own->span.size; i += 4)
        memcpy(own->bytes + i, &witness->fill, 4);
    return own;
}

void witness_write(struct witness *witness, struct witness_span *own, size_t bytes)
{
    invent(witness, own, bytes);
    must(jitc_write(witness->client, &own->span, 0, own->bytes, bytes, JITC_WRITE_DEFAULT) == JITC_OK);
}

static void do_alloc(struct witness *witness)
{
    static const struct {
        unsigned percent;
        unsigned bytes;
    } sizes[] = {{70, 4096}, {92, 65536}, {99, LARGE_BYTES}, {100, 5 * LARGE_BYTES}};
    struct witness_span *own;
    unsigned percent = any(witness, 100);
    unsigned kind = 0;

    while (percent >= sizes[kind].percent)
        kind++;
    own = witness_take(witness, 1 + any(witness, sizes[kind].bytes));
    if (own != NULL && any(witness, 8) != 0) /* else it stays trap fill for now */
        witness_write(witness, own, own->span.size);
}

static void do_write(struct witness *witness, struct witness_span *own)
{
    size_t from = 0;
    size_t bytes = GRANULE_BYTES + any(witness, (unsigned)own->span.size);

    if (is_refused(witness, own))
        return;
    if (bytes > own->span.size)
        bytes = own->span.size;
    if (!witness->is_once && own->has_code && bytes + CODE_RETURN_BYTES <= own->span.size &&
        any(witness, 2) == 0) {
        /* At any place behind what is code. */
        from = CODE_RETURN_BYTES + any(witness, (unsigned)(own->span.size - bytes - CODE_RETURN_BYTES + 1));
        for (size_t i = 0; i < bytes; i++)
            own->bytes[from + i] = (uint8_t)(witness->random >> (i % 24));
    } else {
        invent(witness, own, bytes);
    }
    must(jitc_write(witness->client, &own->span, from, own->bytes + from, bytes, JITC_WRITE_DEFAULT) ==
         JITC_OK);
}

static int write_back(jitc_span *span, void *user)
{
    const struct witness_span *own = user;
    size_t keep;

    if (memcmp(span->rw, own->bytes + span->size, span->size) != 0)
        return 1; /* it must find the present content */
    keep = CODE_RETURN_BYTES + own->value % (span->size - CODE_RETURN_BYTES) + 1;
    memcpy(span->rw, own->bytes, keep);
    jitc_span_shrink(span, keep);
    return 0;
}

void witness_write_fn(struct witness *witness, struct witness_span *own)
{
    size_t bytes = own->span.size;
    size_t keep;

    /* Old content behind the new. */
    own->bytes = realloc(own->bytes, 2 * bytes);
    must(own->bytes != NULL);
    memcpy(own->bytes + bytes, own->bytes, bytes);
    invent(witness, own, bytes);
    must(jitc_write_fn(witness->client, &own->span, write_back, own, JITC_WRITE_DEFAULT) == JITC_OK);
    keep = CODE_RETURN_BYTES + own->value % (bytes - CODE_RETURN_BYTES) + 1;
    must(own->span.size == (keep + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES);
    /* What it gave up is still in the last granule. */
    memcpy(own->bytes + keep, own->bytes + bytes + keep, own->span.size - keep);
}

static void do_write_fn(struct witness *witness, struct witness_span *own)
{
    if (!is_refused(witness, own) && own->span.size <= 65536)
        witness_write_fn(witness, own);
}

void witness_write_in(struct witness *witness, jitc_scope *scope, struct witness_span *own, size_t bytes)
{
    invent(witness, own, bytes);
    must(jitc_scope_write(scope, &own->span, 0, own->bytes, bytes) == JITC_OK);
}

static void do_scope(struct witness *witness)
{
    unsigned writes = 1 + any(witness, SCOPE_WRITES);
    jitc_scope *scope;

    must(jitc_scope_begin(witness->client, &scope, JITC_WRITE_DEFAULT) == JITC_OK);
    while (writes-- > 0) {
        struct witness_span *own = choose(witness, true);
        size_t bytes;

        if (own == NULL || own->is_sealed || (witness->is_once && own->is_written))
            continue;
        bytes = own->span.size < 16384 ? own->span.size : 16384;
        witness_write_in(witness, scope, own, bytes);
        if (any(witness, 4) == 0)
            must(jitc_scope_flush(scope) == JITC_OK);
    }
    must(jitc_scope_end(scope) == JITC_OK);
}

static void do_patch(struct witness *witness, struct witness_span *own)
{
    unsigned width = 1u << any(witness, 4);
    size_t at = PATCH_FROM + any(witness, (unsigned)own->span.size - PATCH_FROM - 8) / 8 * 8;
    uint64_t desired = (uint64_t)rand_r(&witness->random) << 32 | (uint64_t)rand_r(&witness->random);
    uint64_t expected = 0;
    uint64_t found = 0;

    if (witness->is_once)
        at = PATCH_FROM; /* so that it is the first granule which is written */
    desired >>= 64 - 8 * width;
    memcpy(&expected, own->bytes + at, width);
    if (is_refused(witness, own))
        return;
    if (any(witness, 4) == 0) {
        must(jitc_patch(witness->client, &own->span, at, width, expected ^ 1, desired, &found) ==
             JITC_E_MISMATCH);
        must(found == expected);
        return;
    }
    must(jitc_patch(witness->client, &own->span, at, width, expected, desired, &found) == JITC_OK);
    must(found == expected);
    memcpy(own->bytes + at, &desired, width);
    own->is_written = true;
}

static void do_count(struct witness *witness)
{
    uint64_t found = 0;

    if (witness->is_once)
        return;
    must(jitc_patch(witness->client, &witness->counter, 0, 8, witness->counted, witness->counted + 1,
                    &found) == JITC_OK);
    must(found == witness->counted);
    witness->counted++;
}

void witness_release(struct witness *witness, struct witness_span *own)
{
    must(jitc_release(witness->client, own->span.rx) == JITC_OK);
    forget(own);
}

void witness_shrink(struct witness *witness, struct witness_span *own, size_t keep)
{
    must(jitc_shrink(witness->client, &own->span, keep) == JITC_OK);
    must(own->span.size == (keep + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES);
}

void witness_release_all(struct witness *witness)
{
    for (unsigned i = 0; i < WITNESS_SPANS; i++) {
        if (witness->spans[i].span.rx != NULL)
            witness_release(witness, &witness->spans[i]);
    }
}

static void do_shrink(struct witness *witness, struct witness_span *own)
{
    size_t keep = 1 + any(witness, (unsigned)own->span.size);

    if (own->is_sealed) {
        must(jitc_shrink(witness->client, &own->span, 1) == JITC_E_SEALED);
        return;
    }
    witness_shrink(witness, own, keep);
}

void witness_seal(struct witness *witness, struct witness_span *own)
{
    must(jitc_seal(witness->client, &own->span) == JITC_OK);
    own->is_sealed = true;
}

static void check_query(struct witness *witness, const struct witness_span *own)
{
    jitc_span found;

    must(jitc_query(witness->client, &found,
                    (const uint8_t *)own->span.rx + any(witness, (unsigned)own->span.size)) == JITC_OK);
    must(found.rx == own->span.rx && found.size == own->span.size);
    must(((found.flags & JITC_SPAN_SEALED) != 0) == own->is_sealed);
}

static void do_call(const struct witness_span *own)
{
    if (own->has_code)
        must(code_call(own->span.rx) == own->value);
}

static void do_executor(struct witness *witness, const struct witness_span *own)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_info other = {.struct_size = sizeof other};
    const uint8_t *rx;
    jitc_client *executor;
    jitc_span found;
    int fd;

    if (witness->has_no_executors)
        return;
    must(jitc_flush(witness->client) == JITC_OK);
    must(jitc_open_executor(witness->client, &fd) == JITC_OK);
    must(jitc_attach(&executor, fd) == JITC_OK);
    must(jitc_describe(witness->client, &info) == JITC_OK && jitc_describe(executor, &other) == JITC_OK);
    rx = (const uint8_t *)other.base + ((const uint8_t *)own->span.rx - (const uint8_t *)info.base);
    must(memcmp(rx, own->bytes, own->span.size) == 0);
    must(jitc_query(executor, &found, rx) == JITC_OK && found.size == own->span.size);
    must(jitc_release(executor, rx) == JITC_E_REFUSED);
    (void)jitc_close(executor);
}

static void do_reset(struct witness *witness)
{
    must(jitc_reset(witness->client, any(witness, 2) == 0 ? JITC_RESET_SOFT : JITC_RESET_HARD) == JITC_OK);
    for (unsigned i = 0; i < WITNESS_SPANS; i++)
        forget(&witness->spans[i]);
    make_counter(witness);
}

void witness_do(struct witness *witness, enum witness_act act)
{
    struct witness_span *own = choose(witness, true);

    witness->acts++;
    switch (act) {
    case WITNESS_ALLOC:
        do_alloc(witness);
        return;
    case WITNESS_SCOPE:
        do_scope(witness);
        return;
    case WITNESS_COUNT:
        do_count(witness);
        return;
    case WITNESS_RESET:
        do_reset(witness);
        return;
    default:
        if (own == NULL)
            return;
    }
    if (act == WITNESS_WRITE)
        do_write(witness, own);
    else if (act == WITNESS_WRITE_FN)
        do_write_fn(witness, own);
    else if (act == WITNESS_PATCH)
        do_patch(witness, own);
    else if (act == WITNESS_SHRINK)
        do_shrink(witness, own);
    else if (act == WITNESS_SEAL)
        witness_seal(witness, own);
    else if (act == WITNESS_RELEASE)
        witness_release(witness, own);
    else if (act == WITNESS_QUERY)
        check_query(witness, own);
    else if (act == WITNESS_CALL)
        do_call(own);
    else
        do_executor(witness, own);
}

void witness_do_any(struct witness *witness)
{
    /* In a hundred; the rest allocates. */
    static const uint8_t shares[WITNESS_ACTS] = {
        [WITNESS_WRITE] = 12, [WITNESS_WRITE_FN] = 6, [WITNESS_SCOPE] = 6,    [WITNESS_PATCH] = 12,
        [WITNESS_COUNT] = 14, [WITNESS_SHRINK] = 5,   [WITNESS_SEAL] = 2,     [WITNESS_RELEASE] = 14,
        [WITNESS_QUERY] = 5,  [WITNESS_CALL] = 5,     [WITNESS_EXECUTOR] = 1,
    };
    unsigned percent = any(witness, 100);

    for (int act = 0; act < WITNESS_ACTS; act++) {
        if (percent < shares[act]) {
            witness_do(witness, (enum witness_act)act);
            return;
        }
        percent -= shares[act];
    }
    witness_do(witness, WITNESS_ALLOC);
}

void witness_check(struct witness *witness)
{
    uint64_t counted;

    must(jitc_flush(witness->client) == JITC_OK);
    memcpy(&counted, witness->counter.rx, sizeof counted);
    must(counted == witness->counted);
    for (unsigned i = 0; i < WITNESS_SPANS; i++) {
        struct witness_span *own = &witness->spans[i];

        if (own->span.rx == NULL)
            continue;
        must(memcmp(own->span.rx, own->bytes, own->span.size) == 0);
        do_call(own);
        check_query(witness, own);
    }
}

/* ---- A whole session ------------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
    const jitc_span *one = a;
    const jitc_span *other = b;

    return one->rx < other->rx ? -1 : one->rx > other->rx;
}

static void check_fill(const uint8_t *from, const uint8_t *to, uint32_t fill)
{
    /* Trap fill has a period of four bytes. */
    if (to - from < 8)
        return;
    must(memcmp(from, &fill, 4) == 0);
    must(memcmp(from, from + 4, (size_t)(to - from) - 4) == 0);
}

uint64_t witness_check_arena(jitc_client *client, jitc_span *spans, unsigned count)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_info info = {.struct_size = sizeof info};
    const uint8_t *end;
    uint64_t used = 0;

    qsort(spans, count, sizeof spans[0], by_address);
    must(jitc_statistics(client, &stats) == JITC_OK);
    must(jitc_describe(client, &info) == JITC_OK);
    end = info.base;
    for (unsigned i = 0; i < count; i++) {
        must((const uint8_t *)spans[i].rx >= end);
        check_fill(end, spans[i].rx, info.fill_pattern);
        end = (const uint8_t *)spans[i].rx + spans[i].size;
        used += spans[i].size;
    }
    must(end <= (const uint8_t *)info.base + stats.reserved_bytes);
    check_fill(end, (const uint8_t *)info.base + stats.reserved_bytes, info.fill_pattern);
    must(stats.allocation_count == count);
    must(stats.used_bytes == used);
    return stats.reserved_bytes;
}

void witness_check_spans_quota(jitc_client *client, unsigned live, unsigned most)
{
    jitc_span *spans = calloc(most + 1, sizeof *spans);
    unsigned taken = 0;
    int status;

    must(spans != NULL);
    while ((status = jitc_alloc(client, &spans[taken], GRANULE_BYTES)) == JITC_OK)
        must(live + ++taken <= most);
    must(status == JITC_E_QUOTA_SPANS);
    must(live + taken == most);
    while (taken > 0)
        must(jitc_release(client, spans[--taken].rx) == JITC_OK);
    free(spans);
}

void witness_check_bytes_quota(jitc_client *client, uint64_t most)
{
    enum { PIECE_BYTES = 1 << 20 };
    const size_t pieces_max = most / PIECE_BYTES;
    jitc_span *spans = calloc(pieces_max, sizeof *spans);
    jitc_stats stats = {.struct_size = sizeof stats};
    size_t taken = 0;
    int status;

    must(spans != NULL);
    while ((status = jitc_alloc(client, &spans[taken], PIECE_BYTES)) == JITC_OK)
        must(++taken < pieces_max);
    must(status == JITC_E_QUOTA_BYTES);
    must(jitc_statistics(client, &stats) == JITC_OK);
    must(stats.reserved_bytes <= most);
    /* With one more, which takes whole blocks of 64 KiB, it would have been beyond. */
    must(stats.reserved_bytes + PIECE_BYTES + (128 << 10) > most);
    while (taken > 0)
        must(jitc_release(client, spans[--taken].rx) == JITC_OK);
    free(spans);
}

void witness_check_session(struct witness *witness, jitc_client *executor)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_info other = {.struct_size = sizeof other};
    jitc_span spans[WITNESS_SPANS + 1];
    jitc_span found;

    witness_check(witness);
    (void)witness_check_arena(witness->client, spans, witness_list(witness, spans));
    must(jitc_describe(witness->client, &info) == JITC_OK && jitc_describe(executor, &other) == JITC_OK);
    must(jitc_query(executor, &found,
                    (const uint8_t *)other.base +
                        ((const uint8_t *)witness->counter.rx - (const uint8_t *)info.base)) == JITC_OK);
    must(memcmp(found.rx, &witness->counted, sizeof witness->counted) == 0);
}
