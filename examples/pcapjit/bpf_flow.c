/* SPDX-License-Identifier: MIT */
/*
 * Checks a BPF program and finds what is known before each of its instructions.
 *
 * One pass in program order is enough: all jumps but JA go forward, so whatever
 * leads to an instruction was seen before it, and the target of a backward JA is
 * taken to know nothing. Everything here errs on that side: a fact is only
 * kept if it holds on every path.
 */
#include "bpf_flow.h"

#include "bpf_jit.h"

#include <errno.h>
#include <stdlib.h>

enum effect {
    KNOWN = 1 << 0,
    READS_A = 1 << 1,
    READS_X = 1 << 2,
    READS_SCRATCH = 1 << 3,
    WRITES_A = 1 << 4,
    WRITES_X = 1 << 5,
    WRITES_SCRATCH = 1 << 6,
    READS_WIRELEN = 1 << 7
};

#define ALU_EFFECTS(op)                                    \
    [BPF_ALU | (op) | BPF_K] = KNOWN | READS_A | WRITES_A, \
                      [BPF_ALU | (op) | BPF_X] = KNOWN | READS_A | READS_X | WRITES_A
#define JUMP_EFFECTS(op) \
    [BPF_JMP | (op) | BPF_K] = KNOWN | READS_A, [BPF_JMP | (op) | BPF_X] = KNOWN | READS_A | READS_X

/* Exactly what bpf_filter() implements: it aborts the process on anything else. */
static const uint8_t effects[256] = {
    [BPF_LD | BPF_W | BPF_ABS] = KNOWN | WRITES_A,
    [BPF_LD | BPF_H | BPF_ABS] = KNOWN | WRITES_A,
    [BPF_LD | BPF_B | BPF_ABS] = KNOWN | WRITES_A,
    [BPF_LD | BPF_W | BPF_IND] = KNOWN | READS_X | WRITES_A,
    [BPF_LD | BPF_H | BPF_IND] = KNOWN | READS_X | WRITES_A,
    [BPF_LD | BPF_B | BPF_IND] = KNOWN | READS_X | WRITES_A,
    [BPF_LDX | BPF_B | BPF_MSH] = KNOWN | WRITES_X,
    [BPF_LD | BPF_W | BPF_LEN] = KNOWN | WRITES_A | READS_WIRELEN,
    [BPF_LDX | BPF_W | BPF_LEN] = KNOWN | WRITES_X | READS_WIRELEN,
    [BPF_LD | BPF_IMM] = KNOWN | WRITES_A,
    [BPF_LDX | BPF_IMM] = KNOWN | WRITES_X,
    [BPF_LD | BPF_MEM] = KNOWN | READS_SCRATCH | WRITES_A,
    [BPF_LDX | BPF_MEM] = KNOWN | READS_SCRATCH | WRITES_X,
    [BPF_ST] = KNOWN | READS_A | WRITES_SCRATCH,
    [BPF_STX] = KNOWN | READS_X | WRITES_SCRATCH,
    ALU_EFFECTS(BPF_ADD),
    ALU_EFFECTS(BPF_SUB),
    ALU_EFFECTS(BPF_MUL),
    ALU_EFFECTS(BPF_DIV),
    ALU_EFFECTS(BPF_MOD),
    ALU_EFFECTS(BPF_AND),
    ALU_EFFECTS(BPF_OR),
    ALU_EFFECTS(BPF_XOR),
    ALU_EFFECTS(BPF_LSH),
    ALU_EFFECTS(BPF_RSH),
    [BPF_ALU | BPF_NEG] = KNOWN | READS_A | WRITES_A,
    [BPF_JMP | BPF_JA] = KNOWN,
    JUMP_EFFECTS(BPF_JEQ),
    JUMP_EFFECTS(BPF_JGT),
    JUMP_EFFECTS(BPF_JGE),
    JUMP_EFFECTS(BPF_JSET),
    [BPF_RET | BPF_K] = KNOWN,
    [BPF_RET | BPF_A] = KNOWN | READS_A,
    [BPF_MISC | BPF_TAX] = KNOWN | READS_A | WRITES_X,
    [BPF_MISC | BPF_TXA] = KNOWN | READS_X | WRITES_A,
};

static unsigned effects_of(const struct bpf_insn *insn)
{
    return insn->code < sizeof effects ? effects[insn->code] : 0;
}

static bool is_always_jump(const struct bpf_insn *insn)
{
    return insn->code == (BPF_JMP | BPF_JA);
}

static int check_one(const struct bpf_insn *program, size_t count, size_t index)
{
    const struct bpf_insn *insn = &program[index];
    unsigned effect = effects_of(insn);

    if (!(effect & KNOWN))
        return BPF_JIT_E_OPCODE;
    if ((effect & (READS_SCRATCH | WRITES_SCRATCH)) && insn->k >= BPF_MEMWORDS)
        return BPF_JIT_E_SCRATCH;
    if ((insn->code == (BPF_ALU | BPF_DIV | BPF_K) || insn->code == (BPF_ALU | BPF_MOD | BPF_K)) &&
        insn->k == 0)
        return BPF_JIT_E_DIVISOR;
    if (is_always_jump(insn))
        return bpf_flow_jump_always(program, index) < count ? BPF_JIT_OK : BPF_JIT_E_JUMP;
    if (BPF_CLASS(insn->code) == BPF_JMP &&
        (bpf_flow_jump_true(program, index) >= count || bpf_flow_jump_false(program, index) >= count))
        return BPF_JIT_E_JUMP;
    return BPF_JIT_OK;
}

int bpf_flow_check(const struct bpf_insn *program, size_t count, size_t *culprit)
{
    *culprit = 0;
    if (count == 0 || count > BPF_JIT_INSTRUCTIONS_MAX)
        return BPF_JIT_E_LENGTH;
    for (size_t i = 0; i < count; i++) {
        int status = check_one(program, count, i);

        if (status != BPF_JIT_OK) {
            *culprit = i;
            return status;
        }
    }
    *culprit = count - 1;
    return BPF_CLASS(program[count - 1].code) == BPF_RET ? BPF_JIT_OK : BPF_JIT_E_NO_RETURN;
}

uint64_t bpf_flow_load_end(const struct bpf_insn *insn)
{
    switch (insn->code) {
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_W | BPF_IND:
        return (uint64_t)insn->k + 4;
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_H | BPF_IND:
        return (uint64_t)insn->k + 2;
    case BPF_LD | BPF_B | BPF_ABS:
    case BPF_LD | BPF_B | BPF_IND:
    case BPF_LDX | BPF_B | BPF_MSH:
        return (uint64_t)insn->k + 1;
    default:
        return 0;
    }
}

static uint32_t variables_read(const struct bpf_insn *insn)
{
    unsigned effect = effects_of(insn);

    return (effect & READS_A ? BPF_FLOW_A : 0) | (effect & READS_X ? BPF_FLOW_X : 0) |
           (effect & READS_SCRATCH ? 1u << insn->k : 0);
}

static uint32_t variables_written(const struct bpf_insn *insn)
{
    unsigned effect = effects_of(insn);

    return (effect & WRITES_A ? BPF_FLOW_A : 0) | (effect & WRITES_X ? BPF_FLOW_X : 0) |
           (effect & WRITES_SCRATCH ? 1u << insn->k : 0);
}

/* One more path leads to `to`, and `known` holds at its end. */
static void join(struct bpf_flow_point *to, struct bpf_flow_point known)
{
    if (!to->is_reached) {
        *to = known;
        return;
    }
    if (to->caplen_min > known.caplen_min)
        to->caplen_min = known.caplen_min;
    to->written &= known.written;
}

static void follow(struct bpf_flow *flow, const struct bpf_insn *program, size_t index)
{
    const struct bpf_insn *insn = &program[index];
    struct bpf_flow_point known = flow->points[index];
    uint64_t load_end = bpf_flow_load_end(insn);

    flow->read_unwritten |= variables_read(insn) & ~known.written;
    flow->uses_scratch |= (effects_of(insn) & (READS_SCRATCH | WRITES_SCRATCH)) != 0;
    flow->uses_wirelen |= (effects_of(insn) & READS_WIRELEN) != 0;
    known.written |= variables_written(insn);

    if (BPF_CLASS(insn->code) == BPF_RET || load_end > UINT32_MAX)
        return;
    /* An indirect load adds X, which is never negative: it proves its constant part too. */
    if (known.caplen_min < load_end)
        known.caplen_min = (uint32_t)load_end;

    if (is_always_jump(insn)) {
        size_t target = bpf_flow_jump_always(program, index);

        if (target > index) /* backward targets know nothing as it is */
            join(&flow->points[target], known);
    } else if (BPF_CLASS(insn->code) == BPF_JMP) {
        join(&flow->points[bpf_flow_jump_true(program, index)], known);
        join(&flow->points[bpf_flow_jump_false(program, index)], known);
    } else {
        join(&flow->points[index + 1], known);
    }
}

int bpf_flow_init(struct bpf_flow *flow, const struct bpf_insn *program, size_t count)
{
    *flow = (struct bpf_flow){.points = calloc(count, sizeof *flow->points)};
    if (!flow->points)
        return -ENOMEM;

    flow->points[0].is_reached = true;
    for (size_t i = 0; i < count; i++) {
        if (is_always_jump(&program[i]) && bpf_flow_jump_always(program, i) <= i)
            flow->points[bpf_flow_jump_always(program, i)].is_reached = true;
    }
    for (size_t i = 0; i < count; i++) {
        if (flow->points[i].is_reached)
            follow(flow, program, i);
    }
    return 0;
}

void bpf_flow_deinit(struct bpf_flow *flow)
{
    free(flow->points);
    *flow = (struct bpf_flow){0};
}
