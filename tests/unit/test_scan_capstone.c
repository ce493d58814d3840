/* SPDX-License-Identifier: MIT */
/*
 * Compared with what another's disassembler makes of the same bytes: every instruction that it takes for a
 * forbidden one is found, however it is encoded. The other way round not all that is found is one; how
 * often is printed. (capstone 4 knows neither wrpkru nor REX2: test_scan has those.)
 */
#include <capstone/capstone.h>
#include <stdio.h>
#include <string.h>

#include "daemon/scan.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"

#if !defined(__x86_64__)
int main(void)
{
    puts("skipped: x86-64 only");
    return 77;
}
#else

#define ALL (SCAN_SYSCALL | SCAN_PKU | SCAN_SEGMENT | SCAN_FAR)
#define RANDOM_ROUNDS 2000000u
#define INSTRUCTION_MAX_BYTES 15u

static uint64_t seed;
static csh handle;
static cs_insn *instruction;

static void open_capstone(void)
{
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_64, &handle), CS_ERR_OK);
    ck_assert_int_eq(cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON), CS_ERR_OK);
    instruction = cs_malloc(handle);
    ck_assert_ptr_nonnull(instruction);
}

static void close_capstone(void)
{
    cs_free(instruction, 1);
    (void)cs_close(&handle);
}

/* The set that the instruction belongs to; 0: none. */
static uint32_t set_of(const cs_insn *insn)
{
    switch (insn->id) {
    case X86_INS_SYSCALL:
    case X86_INS_SYSENTER:
        return SCAN_SYSCALL;
    case X86_INS_INT:
        return (insn->detail->x86.operands[0].imm & 0xFF) == 0x80 ? SCAN_SYSCALL : 0;
    case X86_INS_XRSTOR:
    case X86_INS_XRSTOR64:
    case X86_INS_XRSTORS:
    case X86_INS_XRSTORS64:
        return SCAN_PKU;
    case X86_INS_WRFSBASE:
    case X86_INS_WRGSBASE:
        return SCAN_SEGMENT;
    case X86_INS_LCALL:
    case X86_INS_LJMP:
        return SCAN_FAR;
    default:
        return 0;
    }
}

struct tally {
    unsigned decoded;
    unsigned forbidden;
    unsigned found_besides; /* in an instruction of which capstone says something else */
};

static void look(const uint8_t *bytes, size_t count, struct tally *tally)
{
    const uint8_t *at = bytes;
    uint64_t address = 0;
    size_t left = count;
    struct scan_hit hit;
    uint32_t set;

    if (!cs_disasm_iter(handle, &at, &left, &address, instruction))
        return;
    tally->decoded++;
    set = set_of(instruction);
    if (set != 0) {
        tally->forbidden++;
        ck_assert_msg(scan_find(bytes, instruction->size, set, &hit),
                      "%s %s (%02x %02x %02x %02x %02x %02x) is not found", instruction->mnemonic,
                      instruction->op_str, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]);
    } else if (scan_find(bytes, instruction->size, ALL, &hit)) {
        tally->found_besides++;
    }
}

/* ---- All opcodes of one and two bytes -------------------------------------------------------- */

static const struct prefixes {
    uint8_t count;
    uint8_t bytes[4];
} prefixes[] = {
    {0, {0}},          {1, {0x66}},       {1, {0x67}},       {1, {0xF2}},       {1, {0xF3}},
    {1, {0x48}},       {1, {0x41}},       {1, {0x4F}},       {2, {0xF3, 0x48}}, {2, {0xF3, 0x66}},
    {2, {0x66, 0xF3}}, {2, {0x66, 0x48}}, {2, {0xF2, 0x48}}, {2, {0x64, 0xF3}}, {3, {0xF3, 0x67, 0x41}},
    {1, {0x2E}},       {1, {0x65}},       {1, {0xF0}},
};

START_TEST(every_encoding_of_one_and_two_byte_opcodes_that_is_forbidden_is_found)
{
    struct tally tally = {0};

    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        uint8_t bytes[INSTRUCTION_MAX_BYTES + 4] = {0};
        uint8_t *opcode = bytes + prefixes[i].count;

        memcpy(bytes, prefixes[i].bytes, prefixes[i].count);
        for (unsigned escape = 0; escape < 2; escape++) {
            opcode[0] = 0x0F;
            for (unsigned value = 0; value < 1u << 16; value++) {
                opcode[escape] = (uint8_t)(value >> 8);
                opcode[escape + 1] = (uint8_t)value;
                look(bytes, INSTRUCTION_MAX_BYTES, &tally);
            }
        }
    }
    printf("%u instructions, %u of them forbidden; something was found in %u others\n", tally.decoded,
           tally.forbidden, tally.found_besides);
    ck_assert_uint_gt(tally.forbidden, 1000);
}
END_TEST

/* ---- Random ones ------------------------------------------------------------------------------ */

static void roll(struct dice *dice, uint8_t *bytes)
{
    static const uint8_t prefix[] = {0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x64, 0x65, 0xF0, 0x40, 0x48, 0x4F};
    static const uint8_t opcode[] = {0x0F, 0x0F, 0xFF, 0xCD};
    static const uint8_t second[] = {0x05, 0x34, 0x01, 0xAE, 0xC7, 0x80};
    size_t at = 0;

    for (size_t i = 0; i < INSTRUCTION_MAX_BYTES; i++)
        bytes[i] = (uint8_t)dice_next(dice);
    while (at < 8 && dice_percent(dice, 50))
        bytes[at++] = prefix[dice_below(dice, sizeof prefix)];
    if (dice_percent(dice, 80))
        bytes[at++] = opcode[dice_below(dice, sizeof opcode)];
    if (dice_percent(dice, 60))
        bytes[at] = second[dice_below(dice, sizeof second)];
}

START_TEST(random_instructions_that_are_forbidden_are_found)
{
    struct dice dice = {seed};
    struct tally tally = {0};

    for (unsigned i = 0; i < RANDOM_ROUNDS; i++) {
        uint8_t bytes[INSTRUCTION_MAX_BYTES];

        roll(&dice, bytes);
        look(bytes, sizeof bytes, &tally);
    }
    printf("%u instructions, %u of them forbidden; something was found in %u others\n", tally.decoded,
           tally.forbidden, tally.found_besides);
    ck_assert_uint_gt(tally.forbidden, RANDOM_ROUNDS / 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scan and capstone");
    TCase *tcase = tcase_create("instructions");

    seed = dice_seed();
    tcase_add_checked_fixture(tcase, open_capstone, close_capstone);
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, every_encoding_of_one_and_two_byte_opcodes_that_is_forbidden_is_found);
    tcase_add_test(tcase, random_instructions_that_are_forbidden_are_found);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}

#endif
