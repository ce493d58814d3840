/* SPDX-License-Identifier: MIT */
#include "daemon/screen.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"

/* Findings of one session that the log tells one by one. */
#define LOGGED_FINDINGS_MAX 8u

#define LINE_BYTES 64u

/* Bytes of the arena as they would be: what is to be written, between what stands beside it. */
struct window {
    uint64_t from; /* of the arena */
    size_t before; /* bytes that are there already */
    size_t count;
    const uint8_t *bytes;
    /* In the first line what is before, so that the data, as it does in staging, begins with a line. */
    uint8_t room[LINE_BYTES + WRITE_MAX_BYTES + SCAN_REACH_BYTES] __attribute__((aligned(LINE_BYTES)));
};

static void join(struct window *window, const struct arena *arena, uint64_t offset, const void *data,
                 size_t bytes)
{
    uint64_t end = offset + bytes;
    uint64_t from = offset < SCAN_REACH_BYTES ? 0 : offset - SCAN_REACH_BYTES;
    uint64_t to = arena->grown_bytes - end < SCAN_REACH_BYTES ? arena->grown_bytes : end + SCAN_REACH_BYTES;

    assert(bytes <= WRITE_MAX_BYTES);
    from = (from + SCAN_STEP_BYTES - 1) / SCAN_STEP_BYTES * SCAN_STEP_BYTES;
    window->from = from;
    window->before = (size_t)(offset - from);
    window->count = (size_t)(to - from);
    window->bytes = window->room + LINE_BYTES - window->before;
    memcpy(window->room + LINE_BYTES - window->before, arena->bytes + from, window->before);
    memcpy(window->room + LINE_BYTES, data, bytes);
    memcpy(window->room + LINE_BYTES + bytes, arena->bytes + end, (size_t)(to - end));
}

/* The first instruction that has one of the `bytes` to be written. */
static bool find(const struct window *window, size_t bytes, uint32_t sets, struct scan_hit *hit)
{
    size_t from = 0;

    while (scan_find(window->bytes + from, window->count - from, sets, hit)) {
        hit->index += from;
        if (hit->index >= window->before + bytes)
            return false;
        if (hit->index + hit->length > window->before)
            return true;
        from = hit->index + SCAN_STEP_BYTES; /* it was there before */
    }
    return false;
}

/* The protocol has it that this begins with the instruction's name and a colon. */
static void describe(char *text, size_t bytes, const char *name, uint64_t first, const struct heap_span *span)
{
    if (first >= span->offset)
        (void)snprintf(text, bytes, "%s: begins at 0x%" PRIx64 " of the span at 0x%" PRIx64, name,
                       first - span->offset, span->offset);
    else
        (void)snprintf(text, bytes, "%s: begins %" PRIu64 " bytes before the span at 0x%" PRIx64, name,
                       span->offset - first, span->offset);
}

bool screen_pass(struct session *session, const struct heap_span *span, uint64_t at, const void *data,
                 size_t bytes, const char *field, const uint8_t **screened, struct result *result)
{
    static struct window window; /* one thread runs all of the daemon */
    struct scan_hit hit;
    char text[ERROR_TEXT_MAX_BYTES];
    uint64_t first;

    *screened = data;
    if (session->class->scan == SCAN_OFF || bytes == 0)
        return true;
    join(&window, &session->arena, span->offset + at, data, bytes);
    *screened = window.bytes + window.before;
    if (!find(&window, bytes, session->class->forbid, &hit))
        return true;
    first = window.from + hit.index;
    describe(text, sizeof text, hit.name, first, span);
    session->ledger.page->findings++;
    if (session->class->scan == SCAN_REPORT) {
        if (session->ledger.page->findings <= LOGGED_FINDINGS_MAX)
            log_client(LOG_NOTICE, "session %" PRIu64 ": scan: %s", session->id, text);
        return true;
    }
    (void)result_refuse(result, STATUS_FORBIDDEN, field, "%s", text);
    result->found = first;
    return false;
}
