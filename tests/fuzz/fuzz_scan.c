/* SPDX-License-Identifier: MIT */
/*
 * Forbidden instructions in bytes, and in parts.
 *
 * - The quick way of looking finds what the plain one does, and reads nothing beyond the bytes.
 * - In a session that denies, a write or patch is refused exactly if the arena, looked at as a whole,
 *   would then hold one, which is told where it is; and otherwise done.
 */
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/operation.h"
#include "tests/fuzz/guarded.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/target.h"

#define ALL (SCAN_SYSCALL | SCAN_PKU | SCAN_SEGMENT | SCAN_FAR)
#define CHANGES_MAX 16
#define SPANS 3u
#define SPAN_BYTES 64u
/* With some trap fill before and behind. */
#define BESIDE_BYTES 4u
#define LOOKED_AT_BYTES (BESIDE_BYTES + SPANS * SPAN_BYTES + BESIDE_BYTES)

static struct policy *policy;
static struct class *class;
static struct session *session;
static uint64_t spans; /* offset of the first of SPANS that lie side by side */

static void set_up(void)
{
    static struct quota quota;
    const struct peer peer = {.uid = geteuid() + 1};
    struct hello hello = {.version_max = PROTOCOL_VERSION, .arena_bytes = BLOCK_BYTES};
    struct result result;

    if (session != NULL)
        return;
    policy = config_defaults("scan");
    class = policy->classes[0];
    class->scan = SCAN_DENY;
    result_init(&result);
    must_be(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(1, class, &peer, quota_account(&quota, peer.uid), &hello, &result);
    must(session != NULL);
    for (unsigned i = 0; i < SPANS; i++) {
        must(operation_run(session, &(struct request){.operation = OPERATION_ALLOC, .size = SPAN_BYTES},
                           OPERATION_STEP_BYTES, &result));
        must_be(result.status, STATUS_OK);
        spans = i == 0 ? result.offset : spans;
        must_be(result.offset, spans + i * SPAN_BYTES);
    }
}

static void compare(const uint8_t *data, size_t count, uint32_t sets)
{
    static struct guarded guarded;
    const uint8_t *bytes;
    struct scan_hit quick = {.index = 0};
    struct scan_hit plain = {.index = 0};

    guarded_init(&guarded, GUARD_BYTES);
    bytes = guarded_copy(&guarded, data, count < GUARD_BYTES ? count : GUARD_BYTES);
    must_be(scan_find(bytes, count, sets, &quick), scan_find_plainly(bytes, count, sets, &plain));
    must_be(quick.index, plain.index);
    must_be(quick.length, plain.length);
    must_be(quick.set, plain.set);
}

/* One write or patch, of what the input says. */
static void change(struct input *input)
{
    const uint64_t looked_at = spans - BESIDE_BYTES;
    uint8_t place = input_byte(input);
    uint8_t shape = input_byte(input);
    uint64_t at = place % SPAN_BYTES;
    struct request request = {.span = spans + place / SPAN_BYTES % SPANS * SPAN_BYTES};
    uint8_t before[LOOKED_AT_BYTES];
    uint8_t then[LOOKED_AT_BYTES];
    struct result result;
    struct scan_hit hit;
    bool is_dirty;

    memcpy(before, session->arena.bytes + looked_at, sizeof before);
    memcpy(then, before, sizeof then);
    if ((shape & 0x80) != 0) {
        request.operation = OPERATION_PATCH;
        request.width = 1u << (shape & 3);
        request.at = at - at % request.width;
        request.desired = input_number(input, request.width);
        memcpy(&request.expected, session->arena.bytes + request.span + request.at, request.width);
        memcpy(then + (request.span + request.at - looked_at), &request.desired, request.width);
    } else {
        request.operation = OPERATION_WRITE;
        request.at = at;
        request.data_bytes = shape % (SPAN_BYTES - at + 1);
        request.data = input_bytes(input, &request.data_bytes);
        if (request.data_bytes > 0)
            memcpy(then + (request.span + request.at - looked_at), request.data, request.data_bytes);
    }
    is_dirty = scan_find_plainly(then, sizeof then, class->forbid, &hit);
    must(operation_run(session, &request, OPERATION_STEP_BYTES, &result));
    must_be(result.status, is_dirty ? STATUS_FORBIDDEN : STATUS_OK);
    if (is_dirty)
        must_be(result.found, looked_at + hit.index);
    must(memcmp(session->arena.bytes + looked_at, is_dirty ? before : then, sizeof then) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {data, bytes};

    set_up();
    arena_fill(&session->arena, spans - BESIDE_BYTES, LOOKED_AT_BYTES);
    class->forbid = input_byte(&input) & ALL;
    compare(input.at, input.left, class->forbid);
    for (int i = 0; i < CHANGES_MAX && input.left > 0; i++)
        change(&input);
    return 0;
}
