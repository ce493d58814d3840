/* SPDX-License-Identifier: MIT */
/*
 * The translator against libpcap's interpreter: every instruction and its edges by
 * name, and what it refuses. JITBROKER_SEED replays the random part.
 */
#include "test_bpf.h"
#include "sandbox.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define RUN(bytes, caplen, wirelen, ...)                                                                    \
    sandbox_run((const struct bpf_insn[]){__VA_ARGS__}, COUNT_OF(((const struct bpf_insn[]){__VA_ARGS__})), \
                bytes, caplen, wirelen)

static const uint8_t sample[] = {0xf1, 0x82, 0x03, 0x84, 0x45, 0x06, 0x97, 0x08,
                                 0xa9, 0x1a, 0x0b, 0xfc, 0x7d, 0x8e, 0x4f, 0x60};

/* ---- Loads ------------------------------------------------------------------ */

START_TEST(absolute_loads_are_big_endian_and_zero_extended)
{
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), RET_A), 0xf1820384);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RET_A), 0xf182);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), RET_A), 0xf1);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 3), RET_A), 0x84450697);
}
END_TEST

START_TEST(a_load_of_the_last_bytes_passes_and_one_further_returns_0)
{
    static const u_short widths[] = {BPF_B, BPF_H, BPF_W};

    for (unsigned w = 0; w < 3; w++) {
        for (uint32_t caplen = 0; caplen <= 400; caplen++) {
            for (uint32_t k = caplen > 6 ? caplen - 6 : 0; k < caplen + 6; k++) {
                memset(sandbox_place(NULL, caplen), 0xa5, caplen);
                uint32_t absolute =
                    RUN(NULL, caplen, 9999, BPF_STMT(BPF_LD | widths[w] | BPF_ABS, k), RET_K(7));
                uint32_t indirect = RUN(NULL, caplen, 9999, LDX_IMM(3),
                                        BPF_STMT(BPF_LD | widths[w] | BPF_IND, k - 3), RET_K(7));

                ck_assert_uint_eq(absolute, k + (1u << w) <= caplen ? 7 : 0);
                ck_assert_uint_eq(indirect, k >= 3 && k + (1u << w) <= caplen ? 7 : 0);
            }
        }
    }
}
END_TEST

START_TEST(huge_and_negative_offsets_return_0)
{
    static const uint32_t offsets[] = {0x7ffffffb, 0x7ffffffc, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001,
                                       0xffffefff, 0xfffff000, 0xfffff02c, 0xfffff030, 0xfffffff0, 0xfffffffb,
                                       0xfffffffc, 0xfffffffd, 0xfffffffe, 0xffffffff};

    for (size_t i = 0; i < COUNT_OF(offsets); i++) {
        uint32_t k = offsets[i];

        ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, k), RET_K(1)), 0);
        ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_H | BPF_ABS, k), RET_K(1)), 0);
        ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_B | BPF_ABS, k), RET_K(1)), 0);
        ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, k), RET_K(1)), 0);
    }
}
END_TEST

START_TEST(indirect_offsets_do_not_wrap_around)
{
    static const uint32_t values[] = {0,  1,          4,          12,         13,         15,
                                      16, 0x7fffffff, 0x80000000, 0xfffffff0, 0xfffffffc, 0xffffffff};
    static const u_short widths[] = {BPF_B, BPF_H, BPF_W};

    for (unsigned w = 0; w < 3; w++) {
        for (size_t i = 0; i < COUNT_OF(values); i++) {
            for (size_t j = 0; j < COUNT_OF(values); j++) {
                uint64_t end = (uint64_t)values[i] + values[j] + (1u << w);
                uint32_t verdict = RUN(sample, 16, 16, LDX_IMM(values[i]),
                                       BPF_STMT(BPF_LD | widths[w] | BPF_IND, values[j]), RET_K(1));

                ck_assert_uint_eq(verdict, end <= 16);
            }
        }
    }
}
END_TEST

START_TEST(a_load_on_one_path_does_not_vouch_for_the_other)
{
    /* Byte 9 is loaded before the join on one side only: the load after it still needs its check. */
    for (uint32_t caplen = 0; caplen <= 16; caplen++) {
        RUN(sample, caplen, 16, BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 16, 1, 0), BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8), RET_A);
    }
}
END_TEST

START_TEST(msh_takes_four_times_the_low_nibble)
{
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 4), TXA, RET_A), 20);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14), TXA, RET_A), 60);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 15), TXA, RET_A), 0);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 16), RET_K(9)), 0);
    /* A is left alone */
    ck_assert_uint_eq(RUN(sample, 16, 16, LD_IMM(77), BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 4), RET_A), 77);
}
END_TEST

START_TEST(len_is_the_wire_length_not_the_captured_one)
{
    ck_assert_uint_eq(RUN(sample, 4, 1500, BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), RET_A), 1500);
    ck_assert_uint_eq(RUN(sample, 4, 0xfffffff0, BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0), TXA, RET_A),
                      0xfffffff0);
    ck_assert_uint_eq(RUN(sample, 16, 3, BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 15), RET_A), 0x60);
}
END_TEST

START_TEST(the_upper_half_of_an_argument_register_does_not_count)
{
    uint64_t (*wide)(const uint8_t *, uint64_t, uint64_t);
    static const struct bpf_insn program[] = {BPF_STMT(BPF_LDX | BPF_IMM, 4),
                                              BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0), RET_K(5)};
    bpf_jit_function function = sandbox_translate(program, COUNT_OF(program));

    memcpy(&wide, &function, sizeof wide);
    ck_assert_uint_eq((uint32_t)wide(sandbox_place(sample, 4), 0xdead00000004u, 0xdead00000004u), 0);
    ck_assert_uint_eq((uint32_t)wide(sandbox_place(sample, 5), 0xdead00000005u, 0xdead00000005u), 5);
}
END_TEST

/* ---- Arithmetic --------------------------------------------------------------- */

START_TEST(arithmetic_with_constants_agrees_on_all_edges)
{
    for (size_t op = 0; op < COUNT_OF(sandbox_operations); op++) {
        for (size_t i = 0; i < COUNT_OF(sandbox_operands); i++) {
            for (size_t j = 0; j < COUNT_OF(sandbox_operands); j++) {
                if ((sandbox_operations[op] == BPF_DIV || sandbox_operations[op] == BPF_MOD) &&
                    sandbox_operands[j] == 0)
                    continue;
                RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]),
                    BPF_STMT(BPF_ALU | sandbox_operations[op] | BPF_K, sandbox_operands[j]), RET_A);
            }
        }
    }
}
END_TEST

START_TEST(arithmetic_with_x_agrees_on_all_edges)
{
    for (size_t op = 0; op < COUNT_OF(sandbox_operations); op++) {
        for (size_t i = 0; i < COUNT_OF(sandbox_operands); i++) {
            for (size_t j = 0; j < COUNT_OF(sandbox_operands); j++) {
                RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]), LDX_IMM(sandbox_operands[j]),
                    BPF_STMT(BPF_ALU | sandbox_operations[op] | BPF_X, 0), RET_A);
                /* X survives */
                RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]), LDX_IMM(sandbox_operands[j]),
                    BPF_STMT(BPF_ALU | sandbox_operations[op] | BPF_X, 0), TXA, RET_A);
            }
        }
    }
}
END_TEST

START_TEST(division_by_an_x_of_0_returns_0)
{
    ck_assert_uint_eq(
        RUN(sample, 16, 16, LD_IMM(9), LDX_IMM(0), BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), RET_K(1)), 0);
    ck_assert_uint_eq(
        RUN(sample, 16, 16, LD_IMM(9), LDX_IMM(0), BPF_STMT(BPF_ALU | BPF_MOD | BPF_X, 0), RET_K(1)), 0);
}
END_TEST

START_TEST(shifts_by_an_x_of_32_and_more_give_0)
{
    ck_assert_uint_eq(
        RUN(sample, 16, 16, LD_IMM(9), LDX_IMM(31), BPF_STMT(BPF_ALU | BPF_LSH | BPF_X, 0), RET_A),
        0x80000000);
    ck_assert_uint_eq(
        RUN(sample, 16, 16, LD_IMM(9), LDX_IMM(32), BPF_STMT(BPF_ALU | BPF_LSH | BPF_X, 0), RET_A), 0);
    ck_assert_uint_eq(
        RUN(sample, 16, 16, LD_IMM(9), LDX_IMM(64), BPF_STMT(BPF_ALU | BPF_RSH | BPF_X, 0), RET_A), 0);
}
END_TEST

START_TEST(arithmetic_wraps_at_32_bits)
{
    ck_assert_uint_eq(RUN(sample, 16, 16, LD_IMM(0xffffffff), BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 2), RET_A),
                      1);
    ck_assert_uint_eq(RUN(sample, 16, 16, LD_IMM(1), BPF_STMT(BPF_ALU | BPF_NEG, 0), RET_A), 0xffffffff);
    ck_assert_uint_eq(RUN(sample, 16, 16, LD_IMM(0x80000000), BPF_STMT(BPF_ALU | BPF_NEG, 0), RET_A),
                      0x80000000);
    /* A wrapped sum is an offset of 32 bits, too */
    ck_assert_uint_eq(RUN(sample, 16, 16, LD_IMM(0xffffffff), BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 2), TAX,
                          BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0), RET_A),
                      0x82);
}
END_TEST

/* ---- Jumps, scratch words, returns ---------------------------------------------- */

START_TEST(conditional_jumps_compare_unsigned)
{
    static const u_short jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};

    for (size_t op = 0; op < COUNT_OF(jumps); op++) {
        for (size_t i = 0; i < COUNT_OF(sandbox_operands); i++) {
            for (size_t j = 0; j < COUNT_OF(sandbox_operands); j++) {
                for (u_char shape = 0; shape < 4; shape++) {
                    u_char jt = shape & 1;
                    u_char jf = shape >> 1;

                    RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]), LDX_IMM(sandbox_operands[j]),
                        BPF_JUMP(BPF_JMP | jumps[op] | BPF_K, sandbox_operands[j], jt, jf), RET_K(1),
                        RET_K(2));
                    RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]), LDX_IMM(sandbox_operands[j]),
                        BPF_JUMP(BPF_JMP | jumps[op] | BPF_X, 0, jt, jf), RET_K(1), RET_K(0));
                    RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]),
                        BPF_JUMP(BPF_JMP | jumps[op] | BPF_K, sandbox_operands[j], jt, jf), RET_A, RET_K(2));
                }
                RUN(sample, 16, 16, LD_IMM(sandbox_operands[i]),
                    BPF_JUMP(BPF_JMP | jumps[op] | BPF_K, sandbox_operands[j], 2, 1), RET_K(1), RET_K(2),
                    RET_A);
            }
        }
    }
}
END_TEST

START_TEST(jumps_reach_255_instructions)
{
    struct bpf_insn program[260];

    for (size_t i = 0; i < COUNT_OF(program); i++)
        program[i] = (struct bpf_insn)RET_K((bpf_u_int32)i);
    program[0] = (struct bpf_insn)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0);
    program[1] = (struct bpf_insn)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xf1, 255, 254);
    ck_assert_uint_eq(sandbox_run(program, COUNT_OF(program), sample, 16, 16), 257);
    program[1].k = 0;
    ck_assert_uint_eq(sandbox_run(program, COUNT_OF(program), sample, 16, 16), 256);
    program[1] = (struct bpf_insn)BPF_STMT(BPF_JMP | BPF_JA, 257);
    ck_assert_uint_eq(sandbox_run(program, COUNT_OF(program), sample, 16, 16), 259);
}
END_TEST

START_TEST(loops_run_and_know_nothing_at_their_head)
{
    /* Counts A down to 0, loading byte 0 to 15 by X: the head is entered from above and from below. */
    for (uint32_t caplen = 0; caplen <= 16; caplen++) {
        RUN(sample, caplen, 16, LD_IMM(5), BPF_STMT(BPF_ST, 0), TAX, BPF_STMT(BPF_LD | BPF_B | BPF_IND, 3),
            BPF_STMT(BPF_LD | BPF_MEM, 0), BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 1),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0), BPF_STMT(BPF_JMP | BPF_JA, (bpf_u_int32)-7),
            RET_K(44));
    }
    /* Code that only a backward jump reaches is not dead. */
    for (uint32_t caplen = 0; caplen <= 16; caplen++) {
        RUN(sample, caplen, 16, BPF_STMT(BPF_JMP | BPF_JA, 2), BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8), RET_A,
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 3), BPF_STMT(BPF_JMP | BPF_JA, (bpf_u_int32)-4), RET_K(3));
    }
}
END_TEST

START_TEST(scratch_words_are_16_separate_ones)
{
    struct bpf_insn program[16 * 3 + 16 * 3 + 1];
    size_t n = 0;

    for (uint32_t word = 0; word < 16; word++) {
        program[n++] = (struct bpf_insn)LD_IMM(0x10001u << word);
        program[n++] = (struct bpf_insn)TAX;
        program[n++] = (struct bpf_insn)BPF_STMT(word % 2 ? BPF_ST : BPF_STX, word);
    }
    for (uint32_t word = 0; word < 16; word++) {
        program[n++] = (struct bpf_insn)BPF_STMT(BPF_LDX | BPF_MEM, word);
        program[n++] = (struct bpf_insn)BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3);
        program[n++] = (struct bpf_insn)BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0);
    }
    program[n++] = (struct bpf_insn)RET_A;
    sandbox_run(program, n, sample, 16, 16);
}
END_TEST

START_TEST(what_was_never_written_is_0)
{
    /* Not compared: libpcap's scratch words are not initialized in every release. */
    static const struct bpf_insn scratch[] = {BPF_STMT(BPF_LD | BPF_MEM, 15), BPF_STMT(BPF_LDX | BPF_MEM, 0),
                                              BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0), RET_A};

    ck_assert_uint_eq(sandbox_translate(scratch, COUNT_OF(scratch))(sandbox_place(sample, 16), 16, 16), 0);
    ck_assert_uint_eq(RUN(sample, 16, 16, RET_A), 0);
    ck_assert_uint_eq(RUN(sample, 16, 16, TXA, RET_A), 0);
    ck_assert_uint_eq(RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_B | BPF_IND, 1), RET_A), 0x82);
    /* Written on one of two paths only. */
    RUN(sample, 16, 16, BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 1),
        LDX_IMM(8), TXA, RET_A);
}
END_TEST

START_TEST(returns_carry_all_32_bits)
{
    ck_assert_uint_eq(RUN(sample, 16, 16, RET_K(0xffffffff)), 0xffffffff);
    ck_assert_uint_eq(RUN(sample, 16, 16, RET_K(0)), 0);
    ck_assert_uint_eq(RUN(NULL, 0, 0, RET_K(262144)), 262144);
    ck_assert_uint_eq(RUN(sample, 16, 16, LD_IMM(0x80000001), RET_A), 0x80000001);
}
END_TEST

/* ---- Programs that are refused ---------------------------------------------------- */

START_TEST(bad_programs_are_named_with_their_culprit)
{
    static const struct {
        struct bpf_insn program[3];
        size_t count;
        int status;
        size_t culprit;
    } cases[] = {
        {{RET_A}, 0, BPF_JIT_E_LENGTH, 0},
        {{TAX, BPF_STMT(0xffff, 0), RET_A}, 3, BPF_JIT_E_OPCODE, 1},
        {{BPF_STMT(BPF_LD | BPF_H | BPF_IMM, 0), RET_A}, 2, BPF_JIT_E_OPCODE, 0},
        {{TAX, BPF_STMT(BPF_RET | BPF_X, 0)}, 2, BPF_JIT_E_OPCODE, 1},
        {{BPF_STMT(BPF_LDX | BPF_W | BPF_ABS, 0), RET_A}, 2, BPF_JIT_E_OPCODE, 0},
        {{BPF_STMT(0x100 | BPF_RET | BPF_K, 0)}, 1, BPF_JIT_E_OPCODE, 0},
        {{BPF_STMT(BPF_JMP | BPF_JA, 1), RET_A}, 2, BPF_JIT_E_JUMP, 0},
        {{TAX, BPF_STMT(BPF_JMP | BPF_JA, (bpf_u_int32)-3), RET_A}, 3, BPF_JIT_E_JUMP, 1},
        {{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0), TAX, RET_A}, 3, BPF_JIT_E_JUMP, 0},
        {{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2), TAX, RET_A}, 3, BPF_JIT_E_JUMP, 0},
        {{BPF_STMT(BPF_ST, 16), RET_A}, 2, BPF_JIT_E_SCRATCH, 0},
        {{BPF_STMT(BPF_LD | BPF_MEM, 16), RET_A}, 2, BPF_JIT_E_SCRATCH, 0},
        {{BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET_A}, 2, BPF_JIT_E_DIVISOR, 0},
        {{BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 0), RET_A}, 2, BPF_JIT_E_DIVISOR, 0},
        {{RET_A, TAX}, 2, BPF_JIT_E_NO_RETURN, 1},
    };
    size_t culprit;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ck_assert_int_eq(sandbox_refuse(cases[i].program, cases[i].count, &culprit), cases[i].status);
        ck_assert_uint_eq(culprit, cases[i].culprit);
        ck_assert_str_ne(bpf_jit_strerror(cases[i].status), bpf_jit_strerror(-1));
    }
}
END_TEST

START_TEST(length_16384_passes_and_16385_is_refused)
{
    size_t count = BPF_JIT_INSTRUCTIONS_MAX + 1;
    struct bpf_insn *program = calloc(count, sizeof *program);
    size_t culprit;

    ck_assert_ptr_nonnull(program);
    for (size_t i = 0; i < count; i++)
        program[i] = (struct bpf_insn)BPF_STMT(BPF_LD | BPF_W | BPF_IND, (bpf_u_int32)(i % 8));
    program[count - 2] = program[count - 1] = (struct bpf_insn)RET_A;
    ck_assert_int_eq(sandbox_refuse(program, count, &culprit), BPF_JIT_E_LENGTH);
    sandbox_run(program, count - 1, sample, 16, 16);
    free(program);
}
END_TEST

START_TEST(a_small_buffer_is_refused_and_not_overrun)
{
    static const struct bpf_insn program[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2),
                                              BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 123456), RET_A};
    static const enum bpf_jit_target targets[] = {BPF_JIT_X86_64, BPF_JIT_AARCH64};
    uint8_t buffer[512];
    size_t culprit;

    for (size_t t = 0; t < COUNT_OF(targets); t++) {
        size_t needed = 0;

        ck_assert_int_eq(bpf_jit_translate(targets[t], program, 3, NULL, 0, &needed, &culprit),
                         BPF_JIT_E_CAPACITY);
        ck_assert_uint_gt(needed, 0);
        ck_assert_uint_lt(needed, sizeof buffer);
        for (size_t capacity = 0; capacity <= needed; capacity++) {
            size_t size = 0;
            int status;

            memset(buffer, 0x5a, sizeof buffer);
            status = bpf_jit_translate(targets[t], program, 3, buffer, capacity, &size, &culprit);
            ck_assert_int_eq(status, capacity < needed ? BPF_JIT_E_CAPACITY : BPF_JIT_OK);
            ck_assert_uint_eq(size, needed);
            ck_assert_uint_eq(buffer[capacity], 0x5a);
        }
    }
    ck_assert_int_eq(bpf_jit_translate(BPF_JIT_UNSUPPORTED, program, 3, NULL, 0, &(size_t){0}, &culprit),
                     BPF_JIT_E_TARGET);
}
END_TEST

static TCase *verdicts(void)
{
    TCase *tcase = tcase_create("verdicts");

    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, absolute_loads_are_big_endian_and_zero_extended);
    tcase_add_test(tcase, a_load_of_the_last_bytes_passes_and_one_further_returns_0);
    tcase_add_test(tcase, huge_and_negative_offsets_return_0);
    tcase_add_test(tcase, indirect_offsets_do_not_wrap_around);
    tcase_add_test(tcase, a_load_on_one_path_does_not_vouch_for_the_other);
    tcase_add_test(tcase, msh_takes_four_times_the_low_nibble);
    tcase_add_test(tcase, len_is_the_wire_length_not_the_captured_one);
    tcase_add_test(tcase, the_upper_half_of_an_argument_register_does_not_count);
    tcase_add_test(tcase, arithmetic_with_constants_agrees_on_all_edges);
    tcase_add_test(tcase, arithmetic_with_x_agrees_on_all_edges);
    tcase_add_test(tcase, division_by_an_x_of_0_returns_0);
    tcase_add_test(tcase, shifts_by_an_x_of_32_and_more_give_0);
    tcase_add_test(tcase, arithmetic_wraps_at_32_bits);
    tcase_add_test(tcase, conditional_jumps_compare_unsigned);
    tcase_add_test(tcase, jumps_reach_255_instructions);
    tcase_add_test(tcase, loops_run_and_know_nothing_at_their_head);
    tcase_add_test(tcase, scratch_words_are_16_separate_ones);
    tcase_add_test(tcase, what_was_never_written_is_0);
    tcase_add_test(tcase, returns_carry_all_32_bits);
    tcase_add_test(tcase, length_16384_passes_and_16385_is_refused);
    return tcase;
}

static TCase *refusals(void)
{
    TCase *tcase = tcase_create("refusals");

    tcase_add_test(tcase, bad_programs_are_named_with_their_culprit);
    tcase_add_test(tcase, a_small_buffer_is_refused_and_not_overrun);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("pcapjit translator");
    SRunner *runner;
    int failed;

    sandbox_init();
    suite_add_tcase(suite, refusals());
    if (BPF_JIT_HOST != BPF_JIT_UNSUPPORTED)
        suite_add_tcase(suite, verdicts());
    suite_add_tcase(suite, test_bpf_random());

    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
