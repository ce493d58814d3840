/* SPDX-License-Identifier: MIT */
/* The compiler: from "x * (x + 1)" to a function of one 64-bit number. */
#ifndef SPLIT_EXPRESSION_H
#define SPLIT_EXPRESSION_H

#include <stddef.h>
#include <stdint.h>

typedef int64_t (*expression_function)(int64_t x);

/*
 * Writes the machine code of the expression in `text` (numbers, x, + - * and parentheses) to `code`. Returns
 * its size in bytes, or 0: it is none, or its code does not fit.
 */
size_t expression_compile(const char *text, uint8_t *code, size_t capacity);

#endif
