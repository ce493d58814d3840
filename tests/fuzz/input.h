/* SPDX-License-Identifier: MIT */
/* The fuzzer's bytes, read as instructions: past the end there are zeros. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t input_byte(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* Little endian, of 1 to 8 bytes. */
static inline uint64_t input_number(struct input *input, unsigned bytes)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < bytes; i++)
        number |= (uint64_t)input_byte(input) << (8 * i);
    return number;
}

/* *bytes of them, or as many as are left. */
static inline const uint8_t *input_bytes(struct input *input, size_t *bytes)
{
    const uint8_t *start = input->at;

    if (*bytes > input->left)
        *bytes = input->left;
    input->at += *bytes;
    input->left -= *bytes;
    return start;
}

#endif
