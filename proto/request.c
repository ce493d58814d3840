/* SPDX-License-Identifier: MIT */
#include "proto/request.h"

#include <inttypes.h>

static enum status validate_span(const struct request *request, const struct shape *shape,
                                 struct result *result)
{
    if (request->span >= shape->arena_bytes)
        return result_refuse(result, STATUS_NO_SPAN, "span",
                             "0x%" PRIx64 " is beyond the arena of 0x%" PRIx64 " bytes", request->span,
                             shape->arena_bytes);
    if (request->span % shape->granularity != 0)
        return result_refuse(result, STATUS_NO_SPAN, "span",
                             "no span starts at 0x%" PRIx64 ": not a multiple of the granularity %" PRIu32,
                             request->span, shape->granularity);
    return STATUS_OK;
}

/* Who can't write can't have filled. */
static enum status validate_filled(const struct request *request, const struct shape *shape,
                                   struct result *result)
{
    if (request->filled && !shape->is_direct)
        return result_refuse(result, STATUS_INVALID, "filled",
                             "only in a direct session can the client fill");
    return STATUS_OK;
}

static enum status validate_release(const struct request *request, const struct shape *shape,
                                    struct result *result)
{
    if (validate_filled(request, shape, result) != STATUS_OK)
        return result->status;
    return validate_span(request, shape, result);
}

static enum status validate_alloc(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    if (request->size == 0)
        return result_refuse(result, STATUS_INVALID, "size", "a span has at least 1 byte");
    if (request->size > shape->span_max_bytes)
        return result_refuse(result, STATUS_TOO_LARGE, "size",
                             "%" PRIu64 " bytes; the largest span of this arena is %" PRIu64, request->size,
                             shape->span_max_bytes);
    return STATUS_OK;
}

static enum status validate_shrink(const struct request *request, const struct shape *shape,
                                   struct result *result)
{
    if (request->size == 0)
        return result_refuse(result, STATUS_INVALID, "size",
                             "a span has at least 1 byte; release it instead");
    if (validate_filled(request, shape, result) != STATUS_OK)
        return result->status;
    return validate_span(request, shape, result);
}

static enum status validate_query(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    if (request->span >= shape->arena_bytes)
        return result_refuse(result, STATUS_NO_SPAN, "offset",
                             "0x%" PRIx64 " is beyond the arena of 0x%" PRIx64 " bytes", request->span,
                             shape->arena_bytes);
    return STATUS_OK;
}

static enum status validate_write(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    uint64_t end;

    if (request->data_bytes > WRITE_MAX_BYTES)
        return result_refuse(result, STATUS_TOO_LARGE, "data", "%zu bytes in one write; at most %u",
                             request->data_bytes, WRITE_MAX_BYTES);
    if (__builtin_add_overflow(request->at, request->data_bytes, &end) || end > shape->arena_bytes)
        return result_refuse(result, STATUS_OUT_OF_RANGE, "at",
                             "%zu bytes at 0x%" PRIx64 " end beyond any span", request->data_bytes,
                             request->at);
    return validate_span(request, shape, result);
}

static enum status validate_patch(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    uint64_t mask;

    if (request->width != 1 && request->width != 2 && request->width != 4 && request->width != 8)
        return result_refuse(result, STATUS_INVALID, "width", "%" PRIu32 " bytes; a patch has 1, 2, 4 or 8",
                             request->width);
    mask = UINT64_MAX >> (64 - 8 * request->width);
    if ((request->expected & ~mask) != 0)
        return result_refuse(result, STATUS_INVALID, "expected",
                             "0x%" PRIx64 " has more than %" PRIu32 " bytes", request->expected,
                             request->width);
    if ((request->desired & ~mask) != 0)
        return result_refuse(result, STATUS_INVALID, "desired",
                             "0x%" PRIx64 " has more than %" PRIu32 " bytes", request->desired,
                             request->width);
    if (request->at % request->width != 0)
        return result_refuse(result, STATUS_MISALIGNED, "at",
                             "0x%" PRIx64 " is not a multiple of the width %" PRIu32, request->at,
                             request->width);
    if (request->at >= shape->arena_bytes)
        return result_refuse(result, STATUS_OUT_OF_RANGE, "at", "0x%" PRIx64 " is beyond any span",
                             request->at);
    return validate_span(request, shape, result);
}

static enum status validate_reset(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    (void)shape;
    if (request->kind != RESET_SOFT && request->kind != RESET_HARD)
        return result_refuse(result, STATUS_INVALID, "kind", "%" PRIu32 "; a reset is soft (0) or hard (1)",
                             request->kind);
    return STATUS_OK;
}

static enum status validate_lease(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    if (request->size == 0)
        return result_refuse(result, STATUS_INVALID, "size", "a span has at least 1 byte");
    if (request->size > BLOCK_BYTES - shape->granularity)
        return result_refuse(result, STATUS_TOO_LARGE, "size",
                             "%" PRIu64 " bytes; a block has room for %" PRIu32 ": alloc larger spans",
                             request->size, BLOCK_BYTES - shape->granularity);
    return STATUS_OK;
}

static enum status validate_carve(const struct request *request, const struct shape *shape,
                                  struct result *result)
{
    uint64_t at = request->span % BLOCK_BYTES;

    if (validate_span(request, shape, result) != STATUS_OK)
        return result->status;
    if (request->size == 0 || request->size > BLOCK_BYTES - at)
        return result_refuse(result, STATUS_INVALID, "size",
                             "%" PRIu64 " bytes: a span that is carved lies within one block", request->size);
    return STATUS_OK;
}

static enum status validate_return(const struct request *request, const struct shape *shape,
                                   struct result *result)
{
    if (request->span >= shape->arena_bytes || request->span % BLOCK_BYTES != 0)
        return result_refuse(result, STATUS_NO_SPAN, "block", "no block starts at 0x%" PRIx64, request->span);
    return STATUS_OK;
}

static enum status validate_nothing(const struct request *request, const struct shape *shape,
                                    struct result *result)
{
    (void)request, (void)shape, (void)result;
    return STATUS_OK;
}

static const struct {
    const char *name;
    enum status (*validate)(const struct request *, const struct shape *, struct result *);
} operations[OPERATION_COUNT] = {
    [OPERATION_ALLOC] = {"alloc", validate_alloc},
    [OPERATION_RELEASE] = {"release", validate_release},
    [OPERATION_SHRINK] = {"shrink", validate_shrink},
    [OPERATION_QUERY] = {"query", validate_query},
    [OPERATION_WRITE] = {"write", validate_write},
    [OPERATION_PATCH] = {"patch", validate_patch},
    [OPERATION_SEAL] = {"seal", validate_span},
    [OPERATION_RESET] = {"reset", validate_reset},
    [OPERATION_STATISTICS] = {"statistics", validate_nothing},
    [OPERATION_LEASE] = {"lease", validate_lease},
    [OPERATION_CARVE] = {"carve", validate_carve},
    [OPERATION_RETURN] = {"return", validate_return},
};

enum status request_validate(const struct request *request, const struct shape *shape, struct result *result)
{
    return operations[request->operation].validate(request, shape, result);
}

bool operation_only_reads(enum operation operation)
{
    return operation == OPERATION_QUERY || operation == OPERATION_STATISTICS;
}

const char *operation_name(enum operation operation)
{
    return operations[operation].name;
}
