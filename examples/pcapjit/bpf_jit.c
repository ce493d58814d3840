/* SPDX-License-Identifier: MIT */
/*
 * Drives a translation: check, find what is known, then two passes of the same
 * emitter. Every jump has one fixed length, so the first pass already finds where
 * everything lands, and nothing is patched afterwards.
 */
#include "bpf_jit.h"

#include "bpf_flow.h"
#include "emitter.h"

#include <errno.h>
#include <stdlib.h>

typedef void (*emit_function)(struct emitter *out);

static const emit_function emit_functions[] = {
    [BPF_JIT_X86_64] = bpf_x86_64_emit,
    [BPF_JIT_AARCH64] = bpf_aarch64_emit,
};

const char *bpf_jit_strerror(int status)
{
    switch (status) {
    case BPF_JIT_OK:
        return "no error";
    case BPF_JIT_E_TARGET:
        return "no code can be made for this architecture";
    case BPF_JIT_E_LENGTH:
        return "the program is empty or too long";
    case BPF_JIT_E_OPCODE:
        return "unknown instruction";
    case BPF_JIT_E_JUMP:
        return "jump out of the program";
    case BPF_JIT_E_SCRATCH:
        return "no such scratch word";
    case BPF_JIT_E_DIVISOR:
        return "division by the constant 0";
    case BPF_JIT_E_NO_RETURN:
        return "the last instruction does not return";
    case BPF_JIT_E_CAPACITY:
        return "the code does not fit";
    case -ENOMEM:
        return "out of memory";
    default:
        return "unknown error";
    }
}

const char *bpf_jit_target_name(enum bpf_jit_target target)
{
    switch (target) {
    case BPF_JIT_X86_64:
        return "x86-64";
    case BPF_JIT_AARCH64:
        return "aarch64";
    default:
        return "unsupported";
    }
}

static int emit_twice(emit_function emit, struct emitter out, uint8_t *code, size_t capacity, size_t *size)
{
    emit(&out);
    *size = out.size;
    if (out.size > capacity)
        return BPF_JIT_E_CAPACITY;

    out.bytes = code;
    out.capacity = capacity;
    out.size = 0;
    emit(&out);
    return BPF_JIT_OK;
}

int bpf_jit_translate(enum bpf_jit_target target, const struct bpf_insn *program, size_t count, uint8_t *code,
                      size_t capacity, size_t *size, size_t *culprit)
{
    struct bpf_flow flow;
    size_t *labels;
    int status;

    if (target != BPF_JIT_X86_64 && target != BPF_JIT_AARCH64)
        return BPF_JIT_E_TARGET;
    status = bpf_flow_check(program, count, culprit);
    if (status != BPF_JIT_OK)
        return status;

    status = bpf_flow_init(&flow, program, count);
    if (status < 0)
        return status;
    labels = calloc(count + 1, sizeof *labels);
    if (labels) {
        struct emitter out = {.program = program, .count = count, .flow = &flow, .labels = labels};

        status = emit_twice(emit_functions[target], out, code, capacity, size);
    } else {
        status = -ENOMEM;
    }
    free(labels);
    bpf_flow_deinit(&flow);
    return status;
}
