/* SPDX-License-Identifier: MIT */
#include "daemon/operation.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/screen.h"

static void tell_span(struct result *result, const struct heap_span *span)
{
    result->has_span = true;
    result->offset = span->offset;
    result->size = span->bytes;
    result->flags = (span->clean ? SPAN_ICACHE_CLEAN : 0) | (span->sealed ? SPAN_SEALED : 0);
}

static enum status find_span(const struct session *session, const struct request *request,
                             struct heap_span *span, struct result *result)
{
    if (!heap_find(&session->heap, request->span, span))
        return result_refuse(result, STATUS_NO_SPAN, "span", "no live span starts at 0x%" PRIx64,
                             request->span);
    return STATUS_OK;
}

/* The same for an operation that changes [at, at + bytes) of it. */
static enum status find_writable(const struct session *session, const struct request *request, uint64_t bytes,
                                 struct heap_span *span, struct result *result)
{
    if (find_span(session, request, span, result) != STATUS_OK)
        return result->status;
    if (span->sealed)
        return result_refuse(result, STATUS_SEALED, "span",
                             "the span at 0x%" PRIx64 " is sealed until its release", request->span);
    if (bytes > span->bytes || request->at > span->bytes - bytes)
        return result_refuse(result, STATUS_OUT_OF_RANGE, "at",
                             "%" PRIu64 " bytes at 0x%" PRIx64 " of a span of %" PRIu64, bytes, request->at,
                             span->bytes);
    if (written_any(&session->written, span->offset + request->at, bytes))
        return result_refuse(result, STATUS_SEALED, "at",
                             "code is written once in this session, and some of %" PRIu64
                             " bytes at 0x%" PRIx64 " was: release the span, and take another",
                             bytes, request->at);
    return STATUS_OK;
}

/* A block is nobody's any more: what is then free at the arena's end goes back, as promised. */
static void trim(struct session *session)
{
    session_trim(session, session->immediate_release ? 0 : SESSION_RESERVE_BYTES);
}

/* Gives the span's bytes from `keep` on back: trap-filled before anyone can get them. */
static void cut(struct session *session, const struct heap_span *span, uint64_t keep, bool filled)
{
    uint32_t blocks = session->heap.blocks;
    uint64_t granularity = session->shape.granularity;

    keep = (keep + granularity - 1) / granularity * granularity;
    ledger_intend(&session->ledger, INTENT_CUT, span->offset, span->bytes, span->sealed);
    if (!filled)
        arena_fill(&session->arena, span->offset + keep, span->bytes - keep);
    written_clear(&session->written, span->offset + keep, span->bytes - keep);
    heap_cut(&session->heap, span, keep);
    /* Not to be undone once the arena is trimmed. To shorten the span once more finds it short. */
    ledger_turn(&session->ledger, keep == 0 ? INTENT_RELEASED : INTENT_NONE);
    if (session->heap.blocks < blocks)
        trim(session);
}

static enum status check_span_quota(const struct session *session, struct result *result)
{
    if (session->heap.spans >= session->class->span_max)
        return result_refuse(result, STATUS_QUOTA_SPANS, "", "the session holds its %" PRIu32 " spans",
                             session->class->span_max);
    return STATUS_OK;
}

static enum status run_alloc(struct session *session, const struct request *request, struct result *result)
{
    struct placement placement;
    struct heap_span span;

    if (check_span_quota(session, result) != STATUS_OK)
        return result->status;
    if (!heap_place(&session->heap, request->size, &placement))
        return result_refuse(result, STATUS_ARENA_FULL, "size",
                             "no free run of %" PRIu64 " bytes in an arena of %" PRIu64 " with %" PRIu64
                             " used",
                             request->size, session->shape.arena_bytes, heap_used_bytes(&session->heap));
    if (session_grow(session, placement.grown_bytes, result) != STATUS_OK) {
        if (session->has_grown_ahead)
            trim(session); /* nobody has any use for that now */
        session->has_grown_ahead = false;
        return result->status;
    }
    session->has_grown_ahead = false;
    ledger_intend(&session->ledger, INTENT_TAKE, placement.granule * session->shape.granularity,
                  placement.granules * session->shape.granularity, 0);
    span = heap_take(&session->heap, &placement);
    tell_span(result, &span);
    return STATUS_OK;
}

static enum status run_release(struct session *session, const struct request *request, struct result *result)
{
    struct heap_span span;

    if (ledger_was_done(&session->ledger, INTENT_RELEASED, request->span))
        return STATUS_OK;
    if (find_span(session, request, &span, result) == STATUS_OK)
        cut(session, &span, 0, request->filled);
    return result->status;
}

static enum status run_shrink(struct session *session, const struct request *request, struct result *result)
{
    struct heap_span span;

    if (find_writable(session, request, 0, &span, result) != STATUS_OK)
        return result->status;
    if (request->size > span.bytes)
        return result_refuse(result, STATUS_INVALID, "size",
                             "%" PRIu64 " bytes: the span has %" PRIu64 ", and shrinking never grows one",
                             request->size, span.bytes);
    cut(session, &span, request->size, request->filled);
    (void)heap_find(&session->heap, request->span, &span);
    tell_span(result, &span);
    return STATUS_OK;
}

static enum status run_query(struct session *session, const struct request *request, struct result *result)
{
    struct heap_span span;

    if (!heap_find_around(&session->heap, request->span, &span))
        return result_refuse(result, STATUS_NO_SPAN, "offset", "0x%" PRIx64 " lies in no live span",
                             request->span);
    tell_span(result, &span);
    return STATUS_OK;
}

static enum status run_write(struct session *session, const struct request *request, struct result *result)
{
    struct heap_span span;
    const uint8_t *data;

    if (find_writable(session, request, request->data_bytes, &span, result) != STATUS_OK ||
        !screen_pass(session, &span, request->at, request->data, request->data_bytes, "data", &data, result))
        return result->status;
    if (session->written.words != NULL)
        ledger_intend(&session->ledger, INTENT_WRITE, span.offset + request->at, request->data_bytes, 0);
    if (session->class->scan != SCAN_DENY)
        arena_write(&session->arena, span.offset + request->at, data, request->data_bytes);
    else
        arena_replace(&session->arena, span.offset + request->at, data, request->data_bytes,
                      SCAN_NEUTRAL_BYTE);
    written_set(&session->written, span.offset + request->at, request->data_bytes);
    return STATUS_OK;
}

/* As if it were going to find what it expects. */
static bool pass_patch(struct session *session, const struct heap_span *span, const struct request *request,
                       struct result *result)
{
    const uint64_t desired8 = request->desired;
    const uint32_t desired4 = (uint32_t)desired8;
    const uint16_t desired2 = (uint16_t)desired8;
    const uint8_t desired1 = (uint8_t)desired8;
    const void *desired = request->width == 8   ? (const void *)&desired8
                          : request->width == 4 ? (const void *)&desired4
                          : request->width == 2 ? (const void *)&desired2
                                                : (const void *)&desired1;
    const uint8_t *screened;

    return screen_pass(session, span, request->at, desired, request->width, "desired", &screened, result);
}

/* By the last daemon, which did not come to say so. */
static bool was_patched(const struct session *session, uint64_t at, const struct request *request)
{
    const struct ledger_intent *done = &session->ledger.done;

    return ledger_was_done(&session->ledger, INTENT_PATCH, at) && done->flag == request->width &&
           done->bytes == request->expected && done->desired == request->desired &&
           memcmp(session->arena.bytes + at, &request->desired, request->width) == 0;
}

static enum status run_patch(struct session *session, const struct request *request, struct result *result)
{
    struct heap_span span;

    if (find_writable(session, request, request->width, &span, result) != STATUS_OK ||
        !pass_patch(session, &span, request, result))
        return result->status;
    if (was_patched(session, span.offset + request->at, request)) {
        result->found = request->expected;
        return STATUS_OK;
    }
    ledger_intend_patch(&session->ledger, span.offset + request->at, request->width, request->expected,
                        request->desired);
    result->found = arena_patch(&session->arena, span.offset + request->at, request->width, request->expected,
                                request->desired);
    if (result->found != request->expected)
        return result_refuse(result, STATUS_MISMATCH, "expected", "found 0x%" PRIx64 ", not 0x%" PRIx64,
                             result->found, request->expected);
    written_set(&session->written, span.offset + request->at, request->width);
    return STATUS_OK;
}

static enum status run_seal(struct session *session, const struct request *request, struct result *result)
{
    struct heap_span span;

    if (find_span(session, request, &span, result) != STATUS_OK)
        return result->status;
    heap_seal(&session->heap, &span);
    span.sealed = true;
    tell_span(result, &span);
    return STATUS_OK;
}

/* Fills, or gives back, the next part of what was reset. Returns whether it was the last. */
static bool finish_reset(struct session *session, uint64_t step_bytes)
{
    struct ledger_page *page = session->ledger.page;
    uint64_t end = page->unfilled_bytes;
    uint64_t from = end > step_bytes ? end - step_bytes : 0;

    if (page->gives_back != 0)
        session_trim(session, from); /* as far as this arena can */
    if (end > session->arena.grown_bytes)
        end = session->arena.grown_bytes;
    if (end > from)
        arena_fill(&session->arena, from, end - from);
    ledger_order();
    page->unfilled_bytes = from;
    return from == 0;
}

/* Only begins: finish_reset() comes before anything else is changed. */
static enum status run_reset(struct session *session, const struct request *request, struct result *result)
{
    struct ledger_page *page = session->ledger.page;

    (void)result;
    ledger_intend(&session->ledger, INTENT_CLEAR, 0, 0, request->kind == RESET_HARD);
    heap_clear(&session->heap);
    written_clear(&session->written, 0, session->arena.grown_bytes);
    page->gives_back = request->kind == RESET_HARD;
    page->unfilled_bytes = session->arena.grown_bytes;
    ledger_order();
    return STATUS_OK;
}

static enum status run_statistics(struct session *session, const struct request *request,
                                  struct result *result)
{
    uint64_t largest = heap_largest_free_bytes(&session->heap);

    (void)request;
    result->has_usage = true;
    result->usage = (struct usage){
        .blocks = session->heap.blocks,
        .spans = session->heap.spans,
        .used_bytes = heap_used_bytes(&session->heap),
        .reserved_bytes = session->arena.grown_bytes,
        .overhead_bytes = sizeof *session + heap_overhead_bytes(&session->heap),
        .reserved_peak_bytes = session->ledger.page->reserved_peak_bytes,
        .huge_bytes = session->arena.huge_bytes,
        .leased_bytes = heap_leased_bytes(&session->heap),
        .largest_free_bytes =
            largest < session->shape.span_max_bytes ? largest : session->shape.span_max_bytes,
        .free_runs = session->heap.free_runs,
    };
    return STATUS_OK;
}

static enum status run_lease(struct session *session, const struct request *request, struct result *result)
{
    struct placement placement;
    struct lease lease;

    if (!heap_place_lease(&session->heap, request->size, &placement))
        return result_refuse(result, STATUS_ARENA_FULL, "size",
                             "no block is free in an arena of %" PRIu64 " bytes with %" PRIu64 " used",
                             session->shape.arena_bytes, heap_used_bytes(&session->heap));
    if (session_grow(session, placement.grown_bytes, result) != STATUS_OK)
        return result->status;
    ledger_intend(&session->ledger, INTENT_LEASE, placement.granule * session->shape.granularity, 0, 0);
    lease = heap_lease(&session->heap, &placement);
    result->has_span = true;
    result->offset = lease.offset;
    result->size = lease.bytes;
    result->flags = lease.clean ? SPAN_ICACHE_CLEAN : 0;
    return STATUS_OK;
}

/* Says nothing but that it was done: the client knows what it asked for. */
static enum status run_carve(struct session *session, const struct request *request, struct result *result)
{
    uint64_t granularity = session->shape.granularity;
    struct heap_span span;

    if (check_span_quota(session, result) != STATUS_OK)
        return result->status;
    if (!heap_can_carve(&session->heap, request->span, request->size))
        return result_refuse(result, STATUS_NO_SPAN, "span",
                             "%" PRIu64 " bytes at 0x%" PRIx64 " are not leased, or not free", request->size,
                             request->span);
    ledger_intend(&session->ledger, INTENT_TAKE, request->span,
                  (request->size + granularity - 1) / granularity * granularity, 0);
    (void)heap_carve(&session->heap, request->span, request->size, &span);
    return STATUS_OK;
}

static enum status run_return(struct session *session, const struct request *request, struct result *result)
{
    if (ledger_was_done(&session->ledger, INTENT_RETURNED, request->span))
        return STATUS_OK;
    if (!heap_is_leased(&session->heap, request->span))
        return result_refuse(result, STATUS_NO_SPAN, "block", "the block at 0x%" PRIx64 " is not leased",
                             request->span);
    ledger_intend(&session->ledger, INTENT_RETURN, request->span, 0, 0);
    (void)heap_return(&session->heap, request->span);
    ledger_turn(&session->ledger, INTENT_RETURNED);
    trim(session);
    return STATUS_OK;
}

/* ---- In steps ------------------------------------------------------------------------------ */

/* What these leave to be done by the operation itself, or refused by it, they return true for. */

static bool grow_ahead(struct session *session, uint64_t bytes, uint64_t step_bytes)
{
    uint64_t charged = session->bytes.amount;
    struct result unused;

    if (bytes <= session->arena.grown_bytes + step_bytes ||
        !charge_set(&session->bytes, bytes, session->class->bytes_max)) /* all of it, or it is not begun */
        return true;
    (void)charge_set(&session->bytes, charged, session->class->bytes_max);
    if (session_grow(session, session->arena.grown_bytes + step_bytes, &unused) != STATUS_OK)
        return true;
    session->has_grown_ahead = true;
    return false;
}

static bool alloc_ahead(struct session *session, const struct request *request, uint64_t step_bytes)
{
    struct placement placement;

    return session->heap.spans >= session->class->span_max ||
           !heap_place(&session->heap, request->size, &placement) ||
           grow_ahead(session, placement.grown_bytes, step_bytes);
}

static bool cut_ahead(struct session *session, const struct request *request, uint64_t step_bytes)
{
    uint64_t keep = request->operation == OPERATION_SHRINK ? request->size : 0;
    struct heap_span span;

    if (request->filled || !heap_find(&session->heap, request->span, &span) ||
        (span.sealed && request->operation == OPERATION_SHRINK) || keep > span.bytes ||
        span.bytes - keep <= step_bytes)
        return true;
    cut(session, &span, span.bytes - step_bytes, false);
    return false;
}

/* Those of no operation here are short, or grow by a block at most. */
static bool run_ahead(struct session *session, const struct request *request, uint64_t step_bytes)
{
    switch (request->operation) {
    case OPERATION_ALLOC:
        return alloc_ahead(session, request, step_bytes);
    case OPERATION_RELEASE:
    case OPERATION_SHRINK:
        return cut_ahead(session, request, step_bytes);
    default:
        return true;
    }
}

static bool run_step(struct session *session, const struct request *request, uint64_t step_bytes,
                     struct result *result)
{
    static enum status (*const run[OPERATION_COUNT])(struct session *, const struct request *,
                                                     struct result *) = {
        [OPERATION_ALLOC] = run_alloc,
        [OPERATION_RELEASE] = run_release,
        [OPERATION_SHRINK] = run_shrink,
        [OPERATION_QUERY] = run_query,
        [OPERATION_WRITE] = run_write,
        [OPERATION_PATCH] = run_patch,
        [OPERATION_SEAL] = run_seal,
        [OPERATION_RESET] = run_reset,
        [OPERATION_STATISTICS] = run_statistics,
        [OPERATION_LEASE] = run_lease,
        [OPERATION_CARVE] = run_carve,
        [OPERATION_RETURN] = run_return,
    };
    const struct ledger_page *page = session->ledger.page;
    bool is_done;

    /* Who only reads finds no span in there; and were it to end the reset, that would begin anew. */
    if (page->unfilled_bytes > 0 && !operation_only_reads(request->operation)) {
        if (!finish_reset(session, step_bytes))
            return false;
        if (request->operation == OPERATION_RESET && (request->kind == RESET_HARD) == (page->gives_back != 0))
            return true; /* this is the one */
    }
    is_done = run_ahead(session, request, step_bytes);
    if (is_done) {
        (void)run[request->operation](session, request, result);
        is_done = request->operation != OPERATION_RESET || page->unfilled_bytes == 0 ||
                  finish_reset(session, step_bytes);
    }
    (void)charge_set(&session->spans, session->heap.spans, UINT64_MAX);
    (void)arena_collapse(&session->arena); /* on the time of whose arena it is */
    return is_done;
}

bool operation_run(struct session *session, const struct request *request, uint64_t step_bytes,
                   struct result *result)
{
    bool is_done;

    result_init(result);
    if (request_validate(request, &session->shape, result) != STATUS_OK)
        return true;
    if (session->is_frozen && !operation_only_reads(request->operation)) {
        (void)result_refuse(result, STATUS_FROZEN, "",
                            "the arena is sealed, and the daemon was restarted: for new code connect anew");
        return true;
    }
    ledger_begin(&session->ledger);
    is_done = run_step(session, request, step_bytes, result);
    ledger_end(&session->ledger, is_done);
    return is_done;
}
