/* SPDX-License-Identifier: MIT */
#include "tools/code.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int join(const struct answer *answer, struct code *code)
{
    size_t bytes = 0;

    for (size_t i = 0; i < answer->count; i++)
        bytes += answer->parts[i]->code.len;
    code->bytes = malloc(bytes + 1);
    if (code->bytes == NULL || answer->count == 0 || answer->parts[0]->n_spans == 0) {
        (void)fputs("jitbrokerctl: no memory, or no span in the answer\n", stderr);
        return EXIT_NO;
    }
    code->offset = answer->parts[0]->spans[0]->offset;
    for (size_t i = 0; i < answer->count; i++) {
        const ProtobufCBinaryData *part = &answer->parts[i]->code;

        if (part->len > 0)
            memcpy(code->bytes + code->count, part->data, part->len);
        code->count += part->len;
    }
    return EXIT_YES;
}

int code_fetch(struct ask *ask, uint64_t session, uint64_t offset, struct code *code)
{
    struct answer answer;
    int status = ask_for(ask, ADMIN__VERB__CODE, session, offset, 0, &answer);

    *code = (struct code){.bytes = NULL};
    if (status == EXIT_YES)
        status = join(&answer, code);
    answer_free(&answer);
    return status;
}

void code_free(struct code *code)
{
    free(code->bytes);
    *code = (struct code){.bytes = NULL};
}
