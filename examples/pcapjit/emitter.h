/* SPDX-License-Identifier: MIT */
/*
 * Where a translator puts its bytes. It never writes past its capacity, and keeps
 * counting there: a first pass without a buffer finds where every instruction
 * lands, the second writes.
 */
#ifndef PCAPJIT_EMITTER_H
#define PCAPJIT_EMITTER_H

#include "bpf_flow.h"

#include <pcap/pcap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct emitter {
    const struct bpf_insn *program;
    size_t count;
    const struct bpf_flow *flow;
    size_t *labels; /* where each instruction starts; labels[count] is the code that returns 0 */
    uint8_t *bytes;
    size_t capacity;
    size_t size;
};

static inline void emit_u8(struct emitter *out, unsigned byte)
{
    if (out->size < out->capacity)
        out->bytes[out->size] = (uint8_t)byte;
    out->size++;
}

static inline void emit_u32(struct emitter *out, uint32_t value)
{
    emit_u8(out, value & 0xff);
    emit_u8(out, value >> 8 & 0xff);
    emit_u8(out, value >> 16 & 0xff);
    emit_u8(out, value >> 24);
}

/* The label of what returns 0: failed loads and divisions by zero go there. */
static inline size_t emitter_reject(const struct emitter *out)
{
    return out->count;
}

/*
 * Whether both sides of the conditional jump at `index` return constants at once. Then
 * selecting one needs no jump: what a filter's last test says of mixed traffic is
 * hard to predict.
 */
static inline bool emitter_is_selection(const struct emitter *out, size_t index)
{
    return out->program[bpf_flow_jump_true(out->program, index)].code == (BPF_RET | BPF_K) &&
           out->program[bpf_flow_jump_false(out->program, index)].code == (BPF_RET | BPF_K);
}

/* The translators. Each fills out->labels as it goes, and takes the labels of the pass before for its jumps.
 */
void bpf_x86_64_emit(struct emitter *out);
void bpf_aarch64_emit(struct emitter *out);

#endif
