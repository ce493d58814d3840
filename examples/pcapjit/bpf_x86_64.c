/* SPDX-License-Identifier: MIT */
/*
 * Classic BPF to x86-64, System V calling convention.
 *
 *   A        eax, which is also where the verdict goes
 *   X        ecx, because that is where variable shifts want it
 *   packet   rdi         caplen  rsi, zero-extended     wirelen  r8d
 *   scratch words: the red zone, [rsp - 64] to [rsp - 1]
 *   rdx and r9 are free for use within one instruction
 *
 * Every write to A and X is a 32-bit one, so the upper halves of rax and rcx are
 * always 0 and 64-bit sums of X and an offset cannot wrap.
 */
#include "emitter.h"

enum { EAX = 0, ECX = 1, EDX = 2, ESI = 6 };

/* The arithmetic group: its number selects the operation in both the short and the long encoding. */
enum group1 { ADD = 0, OR = 1, AND = 4, SUB = 5, XOR = 6, CMP = 7 };

/* Condition codes; flipping the lowest bit negates one. */
enum condition { BELOW = 2, NOT_BELOW = 3, EQUAL = 4, NOT_EQUAL = 5, NOT_ABOVE = 6, ABOVE = 7 };

/* Constants in place, most significant byte first as in the processor's manual. */
#define emit_op1(out, a) emit_u8(out, a)
#define emit_op2(out, a, b) (emit_u8(out, a), emit_u8(out, b))
#define emit_op3(out, a, b, c) (emit_op2(out, a, b), emit_u8(out, c))
#define emit_op4(out, a, b, c, d) (emit_op3(out, a, b, c), emit_u8(out, d))

/* Whether the processor's sign extension of one byte gives this value. */
static bool fits_i8(uint32_t value)
{
    return value <= 0x7f || value >= 0xffffff80;
}

/* The same for a displacement, which is extended to 64 bits. */
static bool fits_displacement(uint64_t value)
{
    return value <= INT32_MAX;
}

/* ---- Jumps ---------------------------------------------------------------- */

/* Distances count from the end of the jump, which is the end of these four bytes. */
static void emit_distance(struct emitter *out, size_t label)
{
    emit_u32(out, (uint32_t)(out->labels[label] - (out->size + 4)));
}

static void emit_jump(struct emitter *out, size_t label)
{
    emit_op1(out, 0xe9);
    emit_distance(out, label);
}

static void emit_jump_if(struct emitter *out, enum condition condition, size_t label)
{
    emit_op2(out, 0x0f, 0x80u | (unsigned)condition);
    emit_distance(out, label);
}

static void emit_return(struct emitter *out)
{
    emit_op1(out, 0xc3);
}

/* Without emit_load_constant(), which clears the flags for a 0. */
static void emit_selection(struct emitter *out, size_t index, enum condition condition)
{
    const struct bpf_insn *program = out->program;

    emit_op1(out, 0xb8); /* mov eax, imm32 */
    emit_u32(out, program[bpf_flow_jump_true(program, index)].k);
    emit_op1(out, 0xba); /* mov edx, imm32 */
    emit_u32(out, program[bpf_flow_jump_false(program, index)].k);
    emit_op3(out, 0x0f, 0x40u | (unsigned)(condition ^ 1), 0xc2); /* cmov eax, edx */
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

/* ---- Arithmetic ----------------------------------------------------------- */

static void emit_load_constant(struct emitter *out, unsigned reg, uint32_t value)
{
    if (value == 0) {
        emit_op2(out, 0x31, 0xc0 | reg << 3 | reg); /* xor reg, reg */
        return;
    }
    emit_op1(out, 0xb8 | reg);
    emit_u32(out, value);
}

static void emit_group1_constant(struct emitter *out, enum group1 op, unsigned reg, uint32_t value)
{
    if (fits_i8(value)) {
        emit_op3(out, 0x83, 0xc0u | (unsigned)op << 3 | reg, value & 0xff);
        return;
    }
    emit_op2(out, 0x81, 0xc0u | (unsigned)op << 3 | reg);
    emit_u32(out, value);
}

static void emit_group1_x(struct emitter *out, enum group1 op)
{
    emit_op2(out, 0x01u | (unsigned)op << 3, 0xc8); /* op eax, ecx */
}

static void emit_multiply_constant(struct emitter *out, uint32_t value)
{
    if (fits_i8(value)) {
        emit_op3(out, 0x6b, 0xc0, value & 0xff); /* imul eax, eax, imm8 */
        return;
    }
    emit_op2(out, 0x69, 0xc0); /* imul eax, eax, imm32 */
    emit_u32(out, value);
}

static void emit_divide_constant(struct emitter *out, uint32_t value, bool wants_remainder)
{
    if ((value & (value - 1)) == 0) {
        if (wants_remainder)
            emit_group1_constant(out, AND, EAX, value - 1);
        else
            emit_op3(out, 0xc1, 0xe8, (unsigned)__builtin_ctz(value)); /* shr eax, log2(value) */
        return;
    }
    emit_op2(out, 0x41, 0xb9); /* mov r9d, imm32 */
    emit_u32(out, value);
    emit_op2(out, 0x31, 0xd2);       /* xor edx, edx */
    emit_op3(out, 0x41, 0xf7, 0xf1); /* div r9d */
    if (wants_remainder)
        emit_op2(out, 0x89, 0xd0); /* mov eax, edx */
}

static void emit_divide_x(struct emitter *out, bool wants_remainder)
{
    emit_op2(out, 0x85, 0xc9); /* test ecx, ecx */
    emit_jump_if(out, EQUAL, emitter_reject(out));
    emit_op2(out, 0x31, 0xd2); /* xor edx, edx */
    emit_op2(out, 0xf7, 0xf1); /* div ecx */
    if (wants_remainder)
        emit_op2(out, 0x89, 0xd0); /* mov eax, edx */
}

/* bpf_filter() leaves a constant of 32 and more to the processor, which takes it modulo 32. */
static void emit_shift_constant(struct emitter *out, bool is_left, uint32_t value)
{
    emit_op3(out, 0xc1, is_left ? 0xe0 : 0xe8, value & 31);
}

/* But X of 32 and more shifts everything out. */
static void emit_shift_x(struct emitter *out, bool is_left)
{
    emit_op2(out, 0x31, 0xd2);                  /* xor edx, edx */
    emit_op2(out, 0xd3, is_left ? 0xe0 : 0xe8); /* shl or shr eax, cl */
    emit_group1_constant(out, CMP, ECX, 32);
    emit_op3(out, 0x0f, 0x43, 0xc2); /* cmovae eax, edx */
}

/* ---- The packet ----------------------------------------------------------- */

static void emit_load_opcode(struct emitter *out, unsigned bytes)
{
    if (bytes == 4)
        emit_op1(out, 0x8b); /* mov r32, */
    else
        emit_op2(out, 0x0f, bytes == 2 ? 0xb7 : 0xb6); /* movzx r32, */
}

static void emit_swap_a(struct emitter *out, unsigned bytes)
{
    if (bytes == 4)
        emit_op2(out, 0x0f, 0xc8); /* bswap eax */
    else if (bytes == 2)
        emit_op4(out, 0x66, 0xc1, 0xc0, 8); /* rol ax, 8 */
}

/* Loads `bytes` bytes at the instruction's offset; false if no packet can be that long. */
static bool emit_load_absolute(struct emitter *out, size_t index, unsigned reg, unsigned bytes)
{
    uint32_t offset = out->program[index].k;
    uint64_t end = bpf_flow_load_end(&out->program[index]);

    if (end > UINT32_MAX) {
        emit_jump(out, emitter_reject(out));
        return false;
    }
    if (end > out->flow->points[index].caplen_min) {
        emit_group1_constant(out, CMP, ESI, (uint32_t)end);
        emit_jump_if(out, BELOW, emitter_reject(out));
    }
    if (!fits_displacement(offset)) {
        emit_load_constant(out, EDX, offset);
        emit_load_opcode(out, bytes);
        emit_op2(out, 0x04 | reg << 3, 0x17); /* [rdi + rdx] */
        return true;
    }
    emit_load_opcode(out, bytes);
    if (offset <= INT8_MAX) {
        emit_op2(out, 0x47 | reg << 3, offset); /* [rdi + disp8] */
    } else {
        emit_op1(out, 0x87 | reg << 3); /* [rdi + disp32] */
        emit_u32(out, offset);
    }
    return true;
}

static void emit_load_a(struct emitter *out, size_t index, unsigned bytes)
{
    if (emit_load_absolute(out, index, EAX, bytes))
        emit_swap_a(out, bytes);
}

static void emit_load_header_length(struct emitter *out, size_t index)
{
    if (!emit_load_absolute(out, index, ECX, 1))
        return;
    emit_group1_constant(out, AND, ECX, 0x0f);
    emit_op3(out, 0xc1, 0xe1, 2); /* shl ecx, 2 */
}

/* rdx becomes one past the last byte wanted, in 64 bits: the one comparison covers every overflow. */
static void emit_load_indirect(struct emitter *out, size_t index, unsigned bytes)
{
    uint64_t end = bpf_flow_load_end(&out->program[index]);

    if (end > UINT32_MAX) {
        emit_jump(out, emitter_reject(out));
        return;
    }
    if (end <= INT8_MAX) {
        emit_op4(out, 0x48, 0x8d, 0x51, (unsigned)end); /* lea rdx, [rcx + disp8] */
    } else if (fits_displacement(end)) {
        emit_op3(out, 0x48, 0x8d, 0x91); /* lea rdx, [rcx + disp32] */
        emit_u32(out, (uint32_t)end);
    } else {
        emit_load_constant(out, EDX, (uint32_t)end);
        emit_op3(out, 0x48, 0x01, 0xca); /* add rdx, rcx */
    }
    emit_op3(out, 0x48, 0x39, 0xf2); /* cmp rdx, rsi */
    emit_jump_if(out, ABOVE, emitter_reject(out));
    emit_load_opcode(out, bytes);
    emit_op3(out, 0x44, 0x17, (0u - bytes) & 0xff); /* eax, [rdi + rdx - bytes] */
    emit_swap_a(out, bytes);
}

/* ---- Instructions --------------------------------------------------------- */

/* Opcode 0x8b loads, 0x89 stores; the word lies in the red zone. */
static void emit_scratch(struct emitter *out, unsigned opcode, unsigned reg, uint32_t word)
{
    emit_op4(out, opcode, 0x44 | reg << 3, 0x24, (4 * word - 64) & 0xff); /* [rsp + 4 * word - 64] */
}

static void emit_prologue(struct emitter *out)
{
    uint32_t zeroed = out->flow->read_unwritten;

    emit_op4(out, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64: it is called through a pointer */
    emit_op2(out, 0x89, 0xf6);             /* mov esi, esi: the upper half is the caller's garbage */
    if (out->flow->uses_wirelen)
        emit_op3(out, 0x41, 0x89, 0xd0); /* mov r8d, edx */
    if (zeroed & BPF_FLOW_A)
        emit_load_constant(out, EAX, 0);
    if (zeroed & BPF_FLOW_X)
        emit_load_constant(out, ECX, 0);
    if (zeroed & ((1u << BPF_MEMWORDS) - 1))
        emit_load_constant(out, EDX, 0);
    for (uint32_t word = 0; word < BPF_MEMWORDS; word++) {
        if (zeroed & 1u << word)
            emit_scratch(out, 0x89, EDX, word);
    }
}

static void emit_alu_constant(struct emitter *out, const struct bpf_insn *insn)
{
    switch (BPF_OP(insn->code)) {
    case BPF_ADD:
        emit_group1_constant(out, ADD, EAX, insn->k);
        break;
    case BPF_SUB:
        emit_group1_constant(out, SUB, EAX, insn->k);
        break;
    case BPF_AND:
        emit_group1_constant(out, AND, EAX, insn->k);
        break;
    case BPF_OR:
        emit_group1_constant(out, OR, EAX, insn->k);
        break;
    case BPF_XOR:
        emit_group1_constant(out, XOR, EAX, insn->k);
        break;
    case BPF_MUL:
        emit_multiply_constant(out, insn->k);
        break;
    case BPF_DIV:
    case BPF_MOD:
        emit_divide_constant(out, insn->k, BPF_OP(insn->code) == BPF_MOD);
        break;
    case BPF_LSH:
    case BPF_RSH:
        emit_shift_constant(out, BPF_OP(insn->code) == BPF_LSH, insn->k);
        break;
    case BPF_NEG:
        emit_op2(out, 0xf7, 0xd8); /* neg eax */
        break;
    }
}

static void emit_alu_x(struct emitter *out, const struct bpf_insn *insn)
{
    switch (BPF_OP(insn->code)) {
    case BPF_ADD:
        emit_group1_x(out, ADD);
        break;
    case BPF_SUB:
        emit_group1_x(out, SUB);
        break;
    case BPF_AND:
        emit_group1_x(out, AND);
        break;
    case BPF_OR:
        emit_group1_x(out, OR);
        break;
    case BPF_XOR:
        emit_group1_x(out, XOR);
        break;
    case BPF_MUL:
        emit_op3(out, 0x0f, 0xaf, 0xc1); /* imul eax, ecx */
        break;
    case BPF_DIV:
    case BPF_MOD:
        emit_divide_x(out, BPF_OP(insn->code) == BPF_MOD);
        break;
    case BPF_LSH:
    case BPF_RSH:
        emit_shift_x(out, BPF_OP(insn->code) == BPF_LSH);
        break;
    }
}

static void emit_compare(struct emitter *out, const struct bpf_insn *insn)
{
    if (BPF_SRC(insn->code) == BPF_X)
        emit_group1_x(out, CMP);
    else
        emit_group1_constant(out, CMP, EAX, insn->k);
}

static void emit_test(struct emitter *out, const struct bpf_insn *insn)
{
    if (BPF_SRC(insn->code) == BPF_X) {
        emit_op2(out, 0x85, 0xc8); /* test eax, ecx */
        return;
    }
    emit_op1(out, 0xa9); /* test eax, imm32 */
    emit_u32(out, insn->k);
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
        emit_branch(out, index, EQUAL);
        break;
    case BPF_JGT:
        emit_compare(out, insn);
        emit_branch(out, index, ABOVE);
        break;
    case BPF_JGE:
        emit_compare(out, insn);
        emit_branch(out, index, NOT_BELOW);
        break;
    case BPF_JSET:
        emit_test(out, insn);
        emit_branch(out, index, NOT_EQUAL);
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
        emit_op3(out, 0x44, 0x89, 0xc0); /* mov eax, r8d */
        return;
    case BPF_LDX | BPF_W | BPF_LEN:
        emit_op3(out, 0x44, 0x89, 0xc1); /* mov ecx, r8d */
        return;
    case BPF_LD | BPF_IMM:
        emit_load_constant(out, EAX, insn->k);
        return;
    case BPF_LDX | BPF_IMM:
        emit_load_constant(out, ECX, insn->k);
        return;
    case BPF_LD | BPF_MEM:
        emit_scratch(out, 0x8b, EAX, insn->k);
        return;
    case BPF_LDX | BPF_MEM:
        emit_scratch(out, 0x8b, ECX, insn->k);
        return;
    case BPF_ST:
        emit_scratch(out, 0x89, EAX, insn->k);
        return;
    case BPF_STX:
        emit_scratch(out, 0x89, ECX, insn->k);
        return;
    case BPF_MISC | BPF_TAX:
        emit_op2(out, 0x89, 0xc1); /* mov ecx, eax */
        return;
    case BPF_MISC | BPF_TXA:
        emit_op2(out, 0x89, 0xc8); /* mov eax, ecx */
        return;
    case BPF_RET | BPF_K:
        emit_load_constant(out, EAX, insn->k);
        emit_return(out);
        return;
    case BPF_RET | BPF_A:
        emit_return(out);
        return;
    case BPF_JMP | BPF_JA:
        if (bpf_flow_jump_always(out->program, index) != index + 1)
            emit_jump(out, bpf_flow_jump_always(out->program, index));
        return;
    }
    if (BPF_CLASS(insn->code) == BPF_JMP)
        emit_conditional(out, index);
    else if (BPF_SRC(insn->code) == BPF_X)
        emit_alu_x(out, insn);
    else
        emit_alu_constant(out, insn);
}

void bpf_x86_64_emit(struct emitter *out)
{
    emit_prologue(out);
    for (size_t i = 0; i < out->count; i++) {
        out->labels[i] = out->size;
        if (out->flow->points[i].is_reached)
            emit_instruction(out, i);
    }
    out->labels[emitter_reject(out)] = out->size;
    emit_load_constant(out, EAX, 0);
    emit_return(out);
}
