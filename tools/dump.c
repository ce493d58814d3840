/* SPDX-License-Identifier: MIT */
/*
 * dump: the bytes of the span around an offset; or of all spans, each at its offset, with zeros between
 * them, so that what a disassembler says of the whole has the arena's offsets.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"
#include "tools/code.h"

static int complain(const char *name)
{
    (void)fprintf(stderr, "jitbrokerctl: %s: %s\n", name, strerror(errno));
    return EXIT_NO;
}

/* EXIT_YES, or it was told why not; main() tells it of standard output. */
static int write_to(FILE *to, const void *bytes, size_t count)
{
    if (fwrite(bytes, 1, count, to) == count)
        return EXIT_YES;
    return to == stdout ? EXIT_NO : complain("writing");
}

static int write_zeros(FILE *to, uint64_t count)
{
    static const uint8_t zeros[4096];
    int status = EXIT_YES;

    while (count > 0 && status == EXIT_YES) {
        size_t bytes = count < sizeof zeros ? (size_t)count : sizeof zeros;

        status = write_to(to, zeros, bytes);
        count -= bytes;
    }
    return status;
}

static void begin_json(const struct invocation *invocation)
{
    json_open(NULL, '{');
    json_number("session", invocation->session);
    json_open("spans", '[');
}

static void print_span(const struct code *code)
{
    json_open(NULL, '{');
    json_number("offset", code->offset);
    json_number("size", code->count);
    json_bytes("bytes", code->bytes, code->count);
    json_close('}');
}

static void end_json(void)
{
    json_close(']');
    json_close('}');
    json_end();
}

static int dump_span(struct ask *ask, const struct invocation *invocation, FILE *to)
{
    struct code code;
    int status = code_fetch(ask, invocation->session, invocation->offset, &code);

    if (status == EXIT_YES && invocation->json) {
        begin_json(invocation);
        print_span(&code);
        end_json();
    } else if (status == EXIT_YES) {
        status = write_to(to, code.bytes, code.count);
    }
    code_free(&code);
    return status;
}

/* The next of all spans; *end is how far the image is. One that was released meanwhile is left out, and told.
 */
static int dump_next(struct ask *ask, const struct invocation *invocation, uint64_t offset, uint64_t *end,
                     FILE *to)
{
    struct code code;
    int status = code_fetch(ask, invocation->session, offset, &code);

    if (status == EXIT_YES && invocation->json) {
        print_span(&code);
    } else if (status == EXIT_YES && code.offset >= *end) {
        status = write_zeros(to, code.offset - *end);
        if (status == EXIT_YES)
            status = write_to(to, code.bytes, code.count);
        *end = code.offset + code.count;
    } else if (code.bytes == NULL && status == EXIT_NO) {
        status = EXIT_YES;
    }
    code_free(&code);
    return status;
}

static int dump_all(struct ask *ask, const struct invocation *invocation, FILE *to)
{
    uint64_t end = 0;
    struct answer answer;
    int status = ask_for(ask, ADMIN__VERB__SPANS, invocation->session, 0, 0, &answer);
    bool is_json = status == EXIT_YES && invocation->json;

    if (is_json)
        begin_json(invocation);
    for (size_t i = 0; i < answer.count; i++) {
        for (size_t j = 0; status == EXIT_YES && j < answer.parts[i]->n_spans; j++)
            status = dump_next(ask, invocation, answer.parts[i]->spans[j]->offset, &end, to);
    }
    if (is_json)
        end_json();
    answer_free(&answer);
    return status;
}

int verb_dump(const struct invocation *invocation)
{
    FILE *to = stdout;
    struct ask ask = {.is_quiet = false};
    int status = ask_open(&ask, invocation);

    if (status == EXIT_YES && invocation->output != NULL) {
        to = fopen(invocation->output, "we");
        if (to == NULL)
            status = complain(invocation->output);
    }
    if (status == EXIT_YES)
        status = invocation->has_offset ? dump_span(&ask, invocation, to) : dump_all(&ask, invocation, to);
    if (to != NULL && to != stdout && fclose(to) != 0)
        status = complain(invocation->output);
    ask_close(&ask);
    return status;
}
