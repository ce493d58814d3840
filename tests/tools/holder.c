/* SPDX-License-Identifier: MIT */
/*
 * A client for the operator's tool to look at: some spans whose content is known, told as JSON on standard
 * output. Then a line of input has it write once more, which is answered with a line; the end of it is its
 * own.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/jitclient.h"
#include "tests/harness/code.h"

enum { SPANS = 4, LARGE_BYTES = 200000 };

static int fail(const char *what, int status)
{
    (void)fprintf(stderr, "holder: %s: %s: %s\n", what, jitc_strerror(status), jitc_error_detail());
    return 1;
}

int main(void)
{
    static const size_t sizes[SPANS] = {64, 1000, 64, LARGE_BYTES};
    jitc_info info = {.struct_size = sizeof info};
    jitc_span spans[SPANS];
    uint8_t code[CODE_RETURN_BYTES];
    jitc_options options;
    jitc_client *client;
    char line[64];
    int status;

    jitc_options_init(&options);
    status = jitc_connect(&client, &options);
    if (status != JITC_OK)
        return fail("connecting", status);
    (void)jitc_describe(client, &info);
    for (int i = 0; i < SPANS && status == JITC_OK; i++) {
        code_return(code, 42 + (uint32_t)i);
        status = jitc_alloc(client, &spans[i], sizes[i]);
        if (status == JITC_OK)
            status = jitc_write(client, &spans[i], 0, code, sizeof code, 0);
    }
    if (status == JITC_OK)
        status = jitc_seal(client, &spans[1]);
    if (status == JITC_OK)
        status = jitc_release(client, spans[2].rx);
    if (status == JITC_OK)
        status = jitc_flush(client);
    if (status != JITC_OK)
        return fail("preparing", status);
    (void)printf("{\"session\": %" PRIu64 ", \"offsets\": [", info.session);
    for (int i = 0; i < SPANS; i++)
        (void)printf("%s%td", i > 0 ? ", " : "", (const char *)spans[i].rx - (const char *)info.base);
    (void)printf("]}\n");
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        status = jitc_write(client, &spans[0], 0, code, sizeof code, 0);
        (void)printf("%s\n", status == JITC_OK ? "ok" : jitc_error_detail());
        (void)fflush(stdout);
    }
    (void)jitc_close(client);
    return 0;
}
