/* SPDX-License-Identifier: MIT */
/* Machine code for tests: a function that returns a number. */
#ifndef TESTS_CODE_H
#define TESTS_CODE_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#define CODE_RETURN_BYTES 6u
/* mov eax, value; ret */
static inline void code_return(uint8_t *to, uint32_t value)
{
    to[0] = 0xB8;
    memcpy(to + 1, &value, sizeof value);
    to[5] = 0xC3;
}
#elif defined(__aarch64__)
#define CODE_RETURN_BYTES 12u
/* movz w0, low; movk w0, high, lsl 16; ret */
static inline void code_return(uint8_t *to, uint32_t value)
{
    const uint32_t code[3] = {0x52800000u | (value & 0xFFFFu) << 5, 0x72A00000u | (value >> 16) << 5,
                              0xD65F03C0u};

    memcpy(to, code, sizeof code);
}
#else
#error "the tests know no machine code for this architecture"
#endif

/* Calls the code at rx. */
static inline uint32_t code_call(const void *rx)
{
    uint32_t (*function)(void);

    memcpy(&function, &rx, sizeof function);
    return function();
}

#endif
