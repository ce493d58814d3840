/* SPDX-License-Identifier: MIT */
#include "tests/faults/script.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness/code.h"

enum {
    SMALL_BYTES = 100,
    MEDIUM_BYTES = 4096,
    MEDIUM_SPANS = 20, /* of more than one block */
    LARGE_BYTES = 200 << 10,
    HUGE_BYTES = 2500 << 10, /* more than a huge page */
};

struct script {
    jitc_client *client;
    script_accepts *accepts;
    bool is_lost;
    enum script_end end;
};

static void wrong(struct script *script, const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, jitc_error_detail());
    script->end = SCRIPT_WRONG;
}

/* Whether the call went well; if not, it must have failed as it should. */
static bool check_status(struct script *script, const char *what, int status)
{
    if (status == JITC_OK)
        return true;
    if (status == JITC_E_DISCONNECTED || status == JITC_E_BAD_REPLY || status == JITC_E_TIMEOUT)
        script->is_lost = true;
    if (!script->accepts(status) || jitc_error_detail()[0] == '\0') {
        (void)fprintf(stderr, "status %d, \"%s\"; ", status, jitc_strerror(status));
        wrong(script, what);
    }
    if (script->end == SCRIPT_DONE)
        script->end = SCRIPT_FAILED;
    return false;
}

#define went_well(call) check_status(script, #call, call)

/* A span with code in it that has run. */
static bool make_code(struct script *script, jitc_span *span, uint32_t value)
{
    uint8_t code[CODE_RETURN_BYTES];

    code_return(code, value);
    if (!went_well(jitc_alloc(script->client, span, SMALL_BYTES)))
        return false;
    if (went_well(jitc_write(script->client, span, 0, code, sizeof code, JITC_WRITE_DEFAULT))) {
        if (code_call(span->rx) == value)
            return true;
        wrong(script, "the code returns something else");
    }
    (void)went_well(jitc_release(script->client, span->rx));
    return false;
}

static void change_code(struct script *script, jitc_span *span)
{
    uint64_t found = 0;
    jitc_span same;
    uint32_t before;

    memcpy(&before, span->rx, sizeof before);
    (void)went_well(jitc_patch(script->client, span, 0, 4, before, before, &found));
    if (went_well(jitc_query(script->client, &same, (const uint8_t *)span->rx + 1)) && same.rx != span->rx)
        wrong(script, "the query found another span");
    (void)went_well(jitc_seal(script->client, span));
}

static void write_much(struct script *script)
{
    static uint8_t bytes[LARGE_BYTES];
    jitc_span span;

    memset(bytes, 0x90, sizeof bytes);
    if (!went_well(jitc_alloc(script->client, &span, sizeof bytes)))
        return;
    if (went_well(jitc_write(script->client, &span, 0, bytes, sizeof bytes, JITC_WRITE_DEFAULT)) &&
        memcmp(span.rx, bytes, sizeof bytes) != 0)
        wrong(script, "other bytes than were written");
    (void)went_well(jitc_shrink(script->client, &span, sizeof bytes / 2));
    (void)went_well(jitc_release(script->client, span.rx));
}

static int fill_and_shrink(jitc_span *span, void *user)
{
    (void)user;
    memset(span->rw, 0x90, span->size);
    jitc_span_shrink(span, SMALL_BYTES);
    return 0;
}

static void write_by_callback(struct script *script)
{
    jitc_span span;

    if (!went_well(jitc_alloc(script->client, &span, MEDIUM_BYTES)))
        return;
    (void)went_well(jitc_write_fn(script->client, &span, fill_and_shrink, NULL, JITC_WRITE_DEFAULT));
    (void)went_well(jitc_release(script->client, span.rx));
}

static void write_by_scope(struct script *script)
{
    static uint8_t bytes[MEDIUM_BYTES];
    jitc_span spans[MEDIUM_SPANS];
    jitc_scope *scope;
    unsigned count = 0;

    while (count < MEDIUM_SPANS && went_well(jitc_alloc(script->client, &spans[count], MEDIUM_BYTES)))
        count++;
    if (went_well(jitc_scope_begin(script->client, &scope, JITC_WRITE_DEFAULT))) {
        for (unsigned i = 0; i < count; i++)
            (void)went_well(jitc_scope_write(scope, &spans[i], 0, bytes, sizeof bytes));
        if (count > 0)
            (void)went_well(jitc_scope_write_fn(scope, &spans[0], fill_and_shrink, NULL));
        (void)went_well(jitc_scope_flush(scope));
        (void)went_well(jitc_scope_end(scope));
    }
    while (count > 0)
        (void)went_well(jitc_release(script->client, spans[--count].rx));
    (void)went_well(jitc_flush(script->client));
}

static void grow_far(struct script *script)
{
    jitc_span span;

    if (went_well(jitc_alloc(script->client, &span, HUGE_BYTES)))
        (void)went_well(jitc_release(script->client, span.rx));
}

static void look_at_all(struct script *script)
{
    jitc_info info = {.struct_size = sizeof info};
    jitc_stats stats = {.struct_size = sizeof stats};

    (void)went_well(jitc_statistics(script->client, &stats));
    if (went_well(jitc_describe(script->client, &info)) && info.has_large_pages)
        grow_far(script);
}

static void use(struct script *script, bool is_long)
{
    jitc_span span;

    if (make_code(script, &span, 1234)) {
        change_code(script, &span);
        (void)went_well(jitc_release(script->client, span.rx));
    }
    if (!is_long)
        return;
    write_much(script);
    write_by_callback(script);
    write_by_scope(script);
    look_at_all(script);
    (void)went_well(jitc_reset(script->client, JITC_RESET_SOFT));
    (void)make_code(script, &span, 5);
    (void)went_well(jitc_reset(script->client, JITC_RESET_HARD));
}

enum script_end script_run(const jitc_options *options, bool spawns, script_accepts *accepts,
                           bool (*is_over)(void))
{
    struct script all = {.accepts = accepts};
    struct script *script = &all;
    jitc_span span;

    if (!(spawns ? went_well(jitc_spawn(&all.client, options))
                 : went_well(jitc_connect(&all.client, options))))
        return all.end;
    use(script, !spawns);
    if (!all.is_lost && is_over != NULL && is_over()) {
        enum script_end before = all.end;

        all.end = SCRIPT_DONE;
        if (!make_code(script, &span, 77))
            wrong(script, "what is not lost does not go on");
        else
            all.end = before;
    }
    (void)jitc_close(all.client);
    return all.end;
}
