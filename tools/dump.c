/* SPDX-License-Identifier: MIT */
/*
 * dump: the bytes of the span around an offset; or of all spans, each at its offset, with zeros between
 * them, so that what a disassembler says of the whole has the arena's offsets.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/code.h"
#include "tools/json.h"

static int write_zeros(FILE *to, uint64_t count)
{
    static const uint8_t zeros[4096];

    while (count > 0) {
        size_t bytes = count < sizeof zeros ? (size_t)count : sizeof zeros;

        if (fwrite(zeros, 1, bytes, to) != bytes)
            return EXIT_NO;
        count -= bytes;
    }
    return EXIT_YES;
}

static int write_code(FILE *to, const struct code *code)
{
    return fwrite(code->bytes, 1, code->count, to) == code->count ? EXIT_YES : EXIT_NO;
}

static void print_span(const struct code *code)
{
    json_open(NULL, '{');
    json_number("offset", code->offset);
    json_number("size", code->count);
    json_bytes("bytes", code->bytes, code->count);
    json_close('}');
}

static int dump_span(struct ask *ask, const struct invocation *invocation, FILE *to)
{
    struct code code;
    int status = code_fetch(ask, invocation->session, invocation->offset, &code);

    if (status == EXIT_YES && invocation->json)
        print_span(&code);
    else if (status == EXIT_YES)
        status = write_code(to, &code);
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
            status = write_code(to, &code);
        *end = code.offset + code.count;
    } else if (status == EXIT_NO) {
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

    for (size_t i = 0; i < answer.count; i++) {
        for (size_t j = 0; status == EXIT_YES && j < answer.parts[i]->n_spans; j++)
            status = dump_next(ask, invocation, answer.parts[i]->spans[j]->offset, &end, to);
    }
    answer_free(&answer);
    return status;
}

static int dump(struct ask *ask, const struct invocation *invocation, FILE *to)
{
    int status;

    if (invocation->json) {
        json_open(NULL, '{');
        json_number("session", invocation->session);
        json_open("spans", '[');
    }
    status = invocation->has_offset ? dump_span(ask, invocation, to) : dump_all(ask, invocation, to);
    if (invocation->json) {
        json_close(']');
        json_close('}');
        json_end();
    }
    return status;
}

static int complain(const char *name)
{
    (void)fprintf(stderr, "jitbrokerctl: %s: %s\n", name, strerror(errno));
    return EXIT_NO;
}

int verb_dump(const struct invocation *invocation)
{
    FILE *to = stdout;
    struct ask ask;
    int status = ask_open(&ask, invocation);

    if (status == EXIT_YES && invocation->output != NULL) {
        to = fopen(invocation->output, "we");
        if (to == NULL)
            status = complain(invocation->output);
    }
    if (status == EXIT_YES)
        status = dump(&ask, invocation, to);
    if (to != NULL && to != stdout && fclose(to) != 0)
        status = complain(invocation->output);
    ask_close(&ask);
    return status;
}
