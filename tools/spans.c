/* SPDX-License-Identifier: MIT */
/* spans: those of a session, by their offsets, one a line. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/json.h"
#include "tools/ask.h"

static void print_json(uint64_t session, const struct answer *answer)
{
    json_open(NULL, '{');
    json_number("session", session);
    json_open("spans", '[');
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_spans; j++) {
            const Admin__Span *span = answer->parts[i]->spans[j];

            json_open(NULL, '{');
            json_number("offset", span->offset);
            json_number("size", span->size);
            json_bool("sealed", span->sealed);
            json_close('}');
        }
    }
    json_close(']');
    json_close('}');
    json_end();
}

static void print_text(const struct answer *answer)
{
    (void)printf("%-14s %10s  %s\n", "OFFSET", "SIZE", "FLAGS");
    for (size_t i = 0; i < answer->count; i++) {
        for (size_t j = 0; j < answer->parts[i]->n_spans; j++) {
            const Admin__Span *span = answer->parts[i]->spans[j];

            (void)printf("0x%-12" PRIx64 " %10" PRIu64 "  %s\n", span->offset, span->size,
                         span->sealed ? "sealed" : "-");
        }
    }
}

int verb_spans(const struct invocation *invocation)
{
    struct answer answer;
    int status = ask_once(invocation, ADMIN__VERB__SPANS, 0, &answer);

    if (status == EXIT_YES && invocation->json)
        print_json(invocation->session, &answer);
    else if (status == EXIT_YES)
        print_text(&answer);
    answer_free(&answer);
    return status;
}
