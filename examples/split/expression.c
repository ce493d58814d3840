/* SPDX-License-Identifier: MIT */
/* One pass: each part pushes its value, each operator pops two and pushes one. */
#include "expression.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 100 /* parentheses and signs within each other */

struct compiler {
    const char *at;
    uint8_t *code;
    size_t capacity;
    size_t used;
    int depth;
    bool failed;
};

static void emit(struct compiler *compiler, const void *bytes, size_t count)
{
    if (count > compiler->capacity - compiler->used) {
        compiler->failed = true;
        return;
    }
    memcpy(compiler->code + compiler->used, bytes, count);
    compiler->used += count;
}

#if defined(__x86_64__)
#define EMIT(...) emit(compiler, (const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})
static void emit_begin(struct compiler *compiler)
{
    (void)compiler; /* x is in rdi, and stays there */
}
static void emit_x(struct compiler *compiler)
{
    EMIT(0x57); /* push rdi */
}
static void emit_number(struct compiler *compiler, uint64_t number)
{
    EMIT(0x48, 0xB8); /* mov rax, number; push rax */
    emit(compiler, &number, sizeof number);
    EMIT(0x50);
}
static void emit_operator(struct compiler *compiler, char operator)
{
    EMIT(0x59, 0x58); /* pop rcx; pop rax */
    if (operator== '+')
        EMIT(0x48, 0x01, 0xC8);
    else if (operator== '-')
        EMIT(0x48, 0x29, 0xC8);
    else
        EMIT(0x48, 0x0F, 0xAF, 0xC1);
    EMIT(0x50); /* push rax */
}
static void emit_end(struct compiler *compiler)
{
    EMIT(0x58, 0xC3); /* pop rax; ret */
}
#elif defined(__aarch64__)
#define EMIT(...) emit(compiler, (const uint32_t[]){__VA_ARGS__}, sizeof(const uint32_t[]){__VA_ARGS__})
static void emit_begin(struct compiler *compiler)
{
    EMIT(0xAA0003E9); /* mov x9, x0 */
}
static void emit_x(struct compiler *compiler)
{
    EMIT(0xF81F0FE9); /* push x9 */
}
static void emit_number(struct compiler *compiler, uint64_t number)
{
    for (uint32_t part = 0; part < 4; part++) /* movz, then movk, of 16 bits each */
        EMIT((part == 0 ? 0xD2800000u : 0xF2800000u) | part << 21 |
             (uint32_t)(number >> part * 16 & 0xFFFF) << 5);
    EMIT(0xF81F0FE0); /* push x0 */
}
static void emit_operator(struct compiler *compiler, char operator)
{
    EMIT(0xF84107E1, 0xF84107E0); /* pop x1; pop x0 */
    EMIT(operator== '+' ? 0x8B010000u : operator== '-' ? 0xCB010000u : 0x9B017C00u);
    EMIT(0xF81F0FE0);
}
static void emit_end(struct compiler *compiler)
{
    EMIT(0xF84107E0, 0xD65F03C0); /* pop x0; ret */
}
#else
#error "no code generator for this processor"
#endif

static char peek(struct compiler *compiler)
{
    while (isspace((unsigned char)*compiler->at))
        compiler->at++;
    return *compiler->at;
}

static bool take(struct compiler *compiler, char wanted)
{
    if (peek(compiler) != wanted)
        return false;
    compiler->at++;
    return true;
}

static void sum(struct compiler *compiler);

static void value(struct compiler *compiler)
{
    char *end;

    if (++compiler->depth > DEPTH_MAX) {
        compiler->failed = true;
    } else if (take(compiler, 'x')) {
        emit_x(compiler);
    } else if (take(compiler, '-')) {
        emit_number(compiler, 0);
        value(compiler);
        emit_operator(compiler, '-');
    } else if (take(compiler, '(')) {
        sum(compiler);
        if (!take(compiler, ')'))
            compiler->failed = true;
    } else if (isdigit((unsigned char)peek(compiler))) {
        emit_number(compiler, strtoull(compiler->at, &end, 10));
        compiler->at = end;
    } else {
        compiler->failed = true;
    }
    compiler->depth--;
}

static void product(struct compiler *compiler)
{
    value(compiler);
    while (!compiler->failed && take(compiler, '*')) {
        value(compiler);
        emit_operator(compiler, '*');
    }
}

static void sum(struct compiler *compiler)
{
    product(compiler);
    while (!compiler->failed && (peek(compiler) == '+' || peek(compiler) == '-')) {
        char operator= * compiler->at++;

        product(compiler);
        emit_operator(compiler, operator);
    }
}

size_t expression_compile(const char *text, uint8_t *code, size_t capacity)
{
    struct compiler compiler = {.at = text, .code = code, .capacity = capacity};

    emit_begin(&compiler);
    sum(&compiler);
    emit_end(&compiler);
    return compiler.failed || peek(&compiler) != '\0' ? 0 : compiler.used;
}
