/* SPDX-License-Identifier: MIT */
/*
 * Classic BPF to AArch64 (little-endian), AAPCS64 calling convention.
 *
 *   A        w3          packet   x0        wirelen  w2
 *   X        w4          caplen   x1, zero-extended
 *   scratch words: 64 bytes of stack, taken only by programs that use some
 *   w5 and w6 are free for use within one instruction
 *
 * Every write to A and X is a 32-bit one, so the upper halves of x3 and x4 are
 * always 0 and 64-bit sums of X and an offset cannot wrap.
 */
#include "emitter.h"

enum { W0 = 0, W1 = 1, W2 = 2, A = 3, X = 4, W5 = 5, W6 = 6, SP = 31, WZR = 31 };

/* Flipping the lowest bit negates one. */
enum condition { EQ = 0, NE = 1, HS = 2, LO = 3, HI = 8, LS = 9 };

/* Instructions of the form "op d, n, m" with all registers 0. */
enum three_registers {
    ADD = 0x0b000000,
    SUB = 0x4b000000,
    AND = 0x0a000000,
    ORR = 0x2a000000,
    EOR = 0x4a000000,
    MUL = 0x1b007c00,
    UDIV = 0x1ac00800,
    LSLV = 0x1ac02000,
    LSRV = 0x1ac02400,
    SUBS = 0x6b000000,
    ANDS = 0x6a000000,
    ADD_64 = 0x8b000000,
    SUBS_64 = 0xeb000000
};

#define SCRATCH_BYTES (4u * BPF_MEMWORDS)

static void emit_op(struct emitter *out, enum three_registers op, unsigned d, unsigned n, unsigned m)
{
    emit_u32(out, (uint32_t)op | m << 16 | n << 5 | d);
}

static void emit_move(struct emitter *out, unsigned d, unsigned m)
{
    emit_op(out, ORR, d, WZR, m);
}

static void emit_load_constant(struct emitter *out, unsigned reg, uint32_t value)
{
    if (value <= 0xffff) {
        emit_u32(out, 0x52800000 | value << 5 | reg); /* movz */
        return;
    }
    if (value >= 0xffff0000) {
        emit_u32(out, 0x12800000 | (~value & 0xffff) << 5 | reg); /* movn */
        return;
    }
    emit_u32(out, 0x52a00000 | value >> 16 << 5 | reg); /* movz, lsl 16 */
    if (value & 0xffff)
        emit_u32(out, 0x72800000 | (value & 0xffff) << 5 | reg); /* movk */
}

/* ---- Jumps ---------------------------------------------------------------- */

/* In instructions, from this one; the length limit of a program keeps every distance in 19 bits. */
static uint32_t distance(const struct emitter *out, size_t label)
{
    return (uint32_t)((int64_t)(out->labels[label] - out->size) / 4);
}

static void emit_jump(struct emitter *out, size_t label)
{
    emit_u32(out, 0x14000000 | (distance(out, label) & 0x3ffffff));
}

static void emit_jump_if(struct emitter *out, enum condition condition, size_t label)
{
    emit_u32(out, 0x54000000 | (distance(out, label) & 0x7ffff) << 5 | (uint32_t)condition);
}

static void emit_return(struct emitter *out)
{
    if (out->flow->uses_scratch)
        emit_u32(out, 0x91000000u | SCRATCH_BYTES << 10 | SP << 5 | SP); /* add sp, sp, #64 */
    emit_u32(out, 0xd65f03c0);                                           /* ret */
}

static void emit_select(struct emitter *out, unsigned d, unsigned if_true, unsigned if_false,
                        enum condition condition)
{
    emit_u32(out, 0x1a800000u | if_false << 16 | (uint32_t)condition << 12 | if_true << 5 | d); /* csel */
}

static void emit_selection(struct emitter *out, size_t index, enum condition condition)
{
    const struct bpf_insn *program = out->program;

    emit_load_constant(out, W5, program[bpf_flow_jump_true(program, index)].k);
    emit_load_constant(out, W6, program[bpf_flow_jump_false(program, index)].k);
    emit_select(out, W0, W5, W6, condition);
    emit_return(out);
}

/* Falls through to whichever side comes next. */
static void emit_branch(struct emitter *out, size_t index, enum condition condition)
{
    size_t if_true = bpf_flow_jump_true(out->program, index);
    size_t if_false = bpf_flow_jump_false(out->program, index);

    if (emitter_is_selection(out, index)) {
        emit_selection(out, index, condition);
        return;
    }
    if (if_true == index + 1) {
        emit_jump_if(out, condition ^ 1, if_false);
        return;
    }
    emit_jump_if(out, condition, if_true);
    if (if_false != index + 1)
        emit_jump(out, if_false);
}

/* Compares with a constant, by way of w5 where it has no short form. */
static void emit_compare_constant(struct emitter *out, unsigned reg, uint32_t value)
{
    if (value <= 0xfff) {
        emit_u32(out, 0x7100001f | value << 10 | reg << 5); /* cmp reg, #value */
        return;
    }
    emit_load_constant(out, W5, value);
    emit_op(out, SUBS, WZR, reg, W5);
}

/* ---- Arithmetic ----------------------------------------------------------- */

static void emit_divide(struct emitter *out, unsigned divisor, bool wants_remainder)
{
    if (!wants_remainder) {
        emit_op(out, UDIV, A, A, divisor);
        return;
    }
    emit_op(out, UDIV, W6, A, divisor);
    emit_u32(out, 0x1b008000u | divisor << 16 | A << 10 | W6 << 5 | A); /* msub A, w6, divisor, A */
}

static void emit_divide_x(struct emitter *out, bool wants_remainder)
{
    emit_u32(out, 0x34000000 | (distance(out, emitter_reject(out)) & 0x7ffff) << 5 | X); /* cbz X */
    emit_divide(out, X, wants_remainder);
}

/* bpf_filter() leaves a constant of 32 and more to the processor, which takes it modulo 32. */
static void emit_shift_constant(struct emitter *out, bool is_left, uint32_t value)
{
    emit_load_constant(out, W5, value & 31);
    emit_op(out, is_left ? LSLV : LSRV, A, A, W5);
}

/* But X of 32 and more shifts everything out. */
static void emit_shift_x(struct emitter *out, bool is_left)
{
    emit_op(out, is_left ? LSLV : LSRV, A, A, X);
    emit_compare_constant(out, X, 32);
    emit_select(out, A, A, WZR, LO);
}

/* ---- The packet ----------------------------------------------------------- */

/* Load w[reg] from x0 + x5. */
static void emit_load_indexed(struct emitter *out, unsigned reg, unsigned bytes)
{
    uint32_t width = bytes == 4 ? 0x80000000 : bytes == 2 ? 0x40000000 : 0;

    emit_u32(out, 0x38606800u | width | W5 << 16 | W0 << 5 | reg);
}

static void emit_swap_a(struct emitter *out, unsigned bytes)
{
    if (bytes == 4)
        emit_u32(out, 0x5ac00800 | A << 5 | A); /* rev */
    else if (bytes == 2)
        emit_u32(out, 0x5ac00400 | A << 5 | A); /* rev16 */
}

/* Loads `bytes` bytes at the instruction's offset; false if no packet can be that long. */
static bool emit_load_absolute(struct emitter *out, size_t index, unsigned reg, unsigned bytes)
{
    uint64_t end = bpf_flow_load_end(&out->program[index]);

    if (end > UINT32_MAX) {
        emit_jump(out, emitter_reject(out));
        return false;
    }
    if (end > out->flow->points[index].caplen_min) {
        emit_compare_constant(out, W1, (uint32_t)end);
        emit_jump_if(out, LO, emitter_reject(out));
    }
    emit_load_constant(out, W5, out->program[index].k);
    emit_load_indexed(out, reg, bytes);
    return true;
}

static void emit_load_a(struct emitter *out, size_t index, unsigned bytes)
{
    if (emit_load_absolute(out, index, A, bytes))
        emit_swap_a(out, bytes);
}

static void emit_load_header_length(struct emitter *out, size_t index)
{
    if (emit_load_absolute(out, index, X, 1))
        emit_u32(out, 0x531e0c00 | X << 5 | X); /* ubfiz X, X, #2, #4 */
}

/* x5 becomes one past the last byte wanted, in 64 bits: the one comparison covers every overflow. */
static void emit_load_indirect(struct emitter *out, size_t index, unsigned bytes)
{
    uint64_t end = bpf_flow_load_end(&out->program[index]);

    if (end > UINT32_MAX) {
        emit_jump(out, emitter_reject(out));
        return;
    }
    emit_load_constant(out, W5, (uint32_t)end);
    emit_op(out, ADD_64, W5, W5, X);
    emit_op(out, SUBS_64, WZR, W5, W1);
    emit_jump_if(out, HI, emitter_reject(out));
    emit_u32(out, 0xd1000000 | bytes << 10 | W5 << 5 | W5); /* sub x5, x5, #bytes */
    emit_load_indexed(out, A, bytes);
    emit_swap_a(out, bytes);
}

/* ---- Instructions --------------------------------------------------------- */

static void emit_scratch_load(struct emitter *out, unsigned reg, uint32_t word)
{
    emit_u32(out, 0xb9400000u | word << 10 | SP << 5 | reg);
}

static void emit_scratch_store(struct emitter *out, unsigned reg, uint32_t word)
{
    emit_u32(out, 0xb9000000u | word << 10 | SP << 5 | reg);
}

static void emit_prologue(struct emitter *out)
{
    uint32_t zeroed = out->flow->read_unwritten;

    emit_u32(out, 0xd503245f); /* bti c: it is called through a pointer */
    emit_move(out, W1, W1);    /* the upper half is the caller's garbage */
    if (out->flow->uses_scratch)
        emit_u32(out, 0xd1000000u | SCRATCH_BYTES << 10 | SP << 5 | SP); /* sub sp, sp, #64 */
    if (zeroed & BPF_FLOW_A)
        emit_load_constant(out, A, 0);
    if (zeroed & BPF_FLOW_X)
        emit_load_constant(out, X, 0);
    for (uint32_t word = 0; word < BPF_MEMWORDS; word++) {
        if (zeroed & 1u << word)
            emit_scratch_store(out, WZR, word);
    }
}

static void emit_alu(struct emitter *out, const struct bpf_insn *insn)
{
    bool is_constant = BPF_SRC(insn->code) == BPF_K;
    unsigned operand = is_constant ? W5 : X;

    switch (BPF_OP(insn->code)) {
    case BPF_NEG:
        emit_op(out, SUB, A, WZR, A);
        return;
    case BPF_LSH:
    case BPF_RSH:
        if (is_constant)
            emit_shift_constant(out, BPF_OP(insn->code) == BPF_LSH, insn->k);
        else
            emit_shift_x(out, BPF_OP(insn->code) == BPF_LSH);
        return;
    }
    if (is_constant)
        emit_load_constant(out, W5, insn->k);
    switch (BPF_OP(insn->code)) {
    case BPF_ADD:
        emit_op(out, ADD, A, A, operand);
        break;
    case BPF_SUB:
        emit_op(out, SUB, A, A, operand);
        break;
    case BPF_AND:
        emit_op(out, AND, A, A, operand);
        break;
    case BPF_OR:
        emit_op(out, ORR, A, A, operand);
        break;
    case BPF_XOR:
        emit_op(out, EOR, A, A, operand);
        break;
    case BPF_MUL:
        emit_op(out, MUL, A, A, operand);
        break;
    case BPF_DIV:
    case BPF_MOD:
        if (is_constant)
            emit_divide(out, W5, BPF_OP(insn->code) == BPF_MOD);
        else
            emit_divide_x(out, BPF_OP(insn->code) == BPF_MOD);
        break;
    }
}

static void emit_compare(struct emitter *out, const struct bpf_insn *insn)
{
    if (BPF_SRC(insn->code) == BPF_X)
        emit_op(out, SUBS, WZR, A, X);
    else
        emit_compare_constant(out, A, insn->k);
}

static void emit_test(struct emitter *out, const struct bpf_insn *insn)
{
    if (BPF_SRC(insn->code) == BPF_K)
        emit_load_constant(out, W5, insn->k);
    emit_op(out, ANDS, WZR, A, BPF_SRC(insn->code) == BPF_X ? X : W5);
}

static void emit_conditional(struct emitter *out, size_t index)
{
    const struct bpf_insn *insn = &out->program[index];

    if (insn->jt == insn->jf) {
        if (insn->jt != 0)
            emit_jump(out, bpf_flow_jump_true(out->program, index));
        return;
    }
    switch (BPF_OP(insn->code)) {
    case BPF_JEQ:
        emit_compare(out, insn);
        emit_branch(out, index, EQ);
        break;
    case BPF_JGT:
        emit_compare(out, insn);
        emit_branch(out, index, HI);
        break;
    case BPF_JGE:
        emit_compare(out, insn);
        emit_branch(out, index, HS);
        break;
    case BPF_JSET:
        emit_test(out, insn);
        emit_branch(out, index, NE);
        break;
    }
}

static void emit_instruction(struct emitter *out, size_t index)
{
    const struct bpf_insn *insn = &out->program[index];

    switch (insn->code) {
    case BPF_LD | BPF_W | BPF_ABS:
        emit_load_a(out, index, 4);
        return;
    case BPF_LD | BPF_H | BPF_ABS:
        emit_load_a(out, index, 2);
        return;
    case BPF_LD | BPF_B | BPF_ABS:
        emit_load_a(out, index, 1);
        return;
    case BPF_LD | BPF_W | BPF_IND:
        emit_load_indirect(out, index, 4);
        return;
    case BPF_LD | BPF_H | BPF_IND:
        emit_load_indirect(out, index, 2);
        return;
    case BPF_LD | BPF_B | BPF_IND:
        emit_load_indirect(out, index, 1);
        return;
    case BPF_LDX | BPF_B | BPF_MSH:
        emit_load_header_length(out, index);
        return;
    case BPF_LD | BPF_W | BPF_LEN:
        emit_move(out, A, W2);
        return;
    case BPF_LDX | BPF_W | BPF_LEN:
        emit_move(out, X, W2);
        return;
    case BPF_LD | BPF_IMM:
        emit_load_constant(out, A, insn->k);
        return;
    case BPF_LDX | BPF_IMM:
        emit_load_constant(out, X, insn->k);
        return;
    case BPF_LD | BPF_MEM:
        emit_scratch_load(out, A, insn->k);
        return;
    case BPF_LDX | BPF_MEM:
        emit_scratch_load(out, X, insn->k);
        return;
    case BPF_ST:
        emit_scratch_store(out, A, insn->k);
        return;
    case BPF_STX:
        emit_scratch_store(out, X, insn->k);
        return;
    case BPF_MISC | BPF_TAX:
        emit_move(out, X, A);
        return;
    case BPF_MISC | BPF_TXA:
        emit_move(out, A, X);
        return;
    case BPF_RET | BPF_K:
        emit_load_constant(out, W0, insn->k);
        emit_return(out);
        return;
    case BPF_RET | BPF_A:
        emit_move(out, W0, A);
        emit_return(out);
        return;
    case BPF_JMP | BPF_JA:
        if (bpf_flow_jump_always(out->program, index) != index + 1)
            emit_jump(out, bpf_flow_jump_always(out->program, index));
        return;
    }
    if (BPF_CLASS(insn->code) == BPF_JMP)
        emit_conditional(out, index);
    else
        emit_alu(out, insn);
}

void bpf_aarch64_emit(struct emitter *out)
{
    emit_prologue(out);
    for (size_t i = 0; i < out->count; i++) {
        out->labels[i] = out->size;
        if (out->flow->points[i].is_reached)
            emit_instruction(out, i);
    }
    out->labels[emitter_reject(out)] = out->size;
    emit_load_constant(out, W0, 0);
    emit_return(out);
}
