/* SPDX-License-Identifier: MIT */
/* A program of somebody else's: C99 and up, and C++. It has names that the library uses inside. */
#include <jitclient.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int call_begin(void);
int call_begin(void)
{
    return 1;
}

int main(void)
{
#if defined(__x86_64__)
    const uint8_t code[] = {0xB8, 42, 0, 0, 0, 0xC3}; /* mov eax, 42; ret */
#else
    const uint32_t code[] = {0x52800540u, 0xD65F03C0u}; /* mov w0, 42; ret */
#endif
    jitc_options options;
    jitc_client *client = NULL;
    jitc_span span;
    int (*function)(void);
    int result = 0;

    jitc_options_init(&options);
    if (jitc_spawn(&client, &options) != JITC_OK || jitc_alloc(client, &span, sizeof code) != JITC_OK ||
        jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT) != JITC_OK) {
        (void)fprintf(stderr, "%s\n", jitc_error_detail());
        return 1;
    }
    memcpy(&function, &span.rx, sizeof function);
    result = function();
    (void)printf("%s: %d\n", jitc_version(), result);
    client = jitc_close(client);
    return result == 42 && call_begin() == 1 ? 0 : 1;
}
