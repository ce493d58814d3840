/* SPDX-License-Identifier: MIT */
#include "preload/step.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "preload/arena.h"
#include "preload/system.h"
#include "preload/window.h"

#define TRAP_FLAG 0x100
#define INSTRUCTION_MAX_BYTES 15u

/* One at a time in the process. */
static struct {
    bool is_on;
    bool is_absolute; /* where it goes is not relative to where it is run */
    bool is_call;     /* it stores where it was run */
    uintptr_t page;
    uintptr_t runs_at;
    uintptr_t shift; /* from the program's addresses to there */
    int base; /* the register that stands for the instruction's address, as an index of gregs; -1: none */
    greg_t base_value; /* the program's */
    long thread;
    uint64_t mask;
} step;

/* Where copies are run. */
static struct chunk scratch;

bool step_is_busy(void)
{
    return step.is_on;
}

bool step_is_in(uintptr_t page)
{
    return step.is_on && step.page == page;
}

/* ---- Just enough of the instruction ------------------------------------------------------------- */

struct instruction {
    unsigned modrm; /* its place; 0: there is none */
    int rex;        /* that of a REX prefix, or ... */
    int vex; /* ... of the byte of a VEX or EVEX prefix that has the inverse of REX.B; -1: there is none */
    uint8_t opcode;
    bool is_long; /* its opcode is of another table than the first */
};

static bool is_prefix(uint8_t byte)
{
    static const uint8_t prefixes[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3};

    return memchr(prefixes, byte, sizeof prefixes) != NULL;
}

/* Of the first table, those that store to memory that they name. */
static bool has_operand(uint8_t opcode)
{
    return (opcode < 0x40 && (opcode & 7) < 4) || (opcode >= 0x80 && opcode <= 0x8F) || opcode == 0xC0 ||
           opcode == 0xC1 || opcode == 0xC6 || opcode == 0xC7 || (opcode >= 0xD0 && opcode <= 0xDF) ||
           opcode == 0xF6 || opcode == 0xF7 || opcode == 0xFE || opcode == 0xFF;
}

static struct instruction decode(const uint8_t *bytes)
{
    struct instruction found = {.rex = -1, .vex = -1};
    unsigned at = 0;

    while (at < INSTRUCTION_MAX_BYTES - 6 && is_prefix(bytes[at]))
        at++;
    if ((bytes[at] & 0xF0) == 0x40)
        found.rex = (int)at++;
    found.opcode = bytes[at];
    switch (bytes[at]) {
    case 0xC5:
        found.modrm = at + 3;
        found.is_long = true;
        break;
    case 0xC4:
        found.vex = (int)at + 1;
        found.modrm = at + 4;
        found.is_long = true;
        break;
    case 0x62:
        found.vex = (int)at + 1;
        found.modrm = at + 5;
        found.is_long = true;
        break;
    case 0x0F:
        found.opcode = bytes[at + 1];
        found.is_long = true;
        found.modrm = at + (bytes[at + 1] == 0x38 || bytes[at + 1] == 0x3A ? 3 : 2);
        break;
    default:
        if (has_operand(bytes[at]))
            found.modrm = at + 1;
        break;
    }
    return found;
}

static bool is_relative(const uint8_t *bytes, const struct instruction *instruction)
{
    return instruction->modrm != 0 && (bytes[instruction->modrm] & 0xC7) == 0x05;
}

/* What stands behind the displacement. */
static unsigned immediate_bytes(const uint8_t *bytes, const struct instruction *instruction)
{
    bool is_word = false;
    uint8_t extension = (uint8_t)(bytes[instruction->modrm] >> 3 & 7);

    for (unsigned i = 0; i < instruction->modrm; i++) {
        if (!is_prefix(bytes[i]))
            break;
        is_word = is_word || bytes[i] == 0x66;
    }
    if (instruction
            ->is_long) /* of those that store: shld, shrd, and bts and its kin by an immediate; pextr */
        return instruction->opcode == 0xA4 || instruction->opcode == 0xAC || instruction->opcode == 0xBA ||
               instruction->opcode == 0x3A;
    switch (instruction->opcode) {
    case 0x80:
    case 0x83:
    case 0xC0:
    case 0xC1:
    case 0xC6:
        return 1;
    case 0x81:
    case 0xC7:
        return is_word ? 2 : 4;
    case 0xF6:
        return extension < 2 ? 1 : 0;
    case 0xF7:
        return extension >= 2 ? 0 : is_word ? 2 : 4;
    default:
        return 0;
    }
}

/*
 * A copy whose operand is relative to a register that the instruction does not use otherwise: rbx, or rsi.
 * Returns that as an index of gregs, and in *length the instruction's bytes.
 */
static int make_copy(uint8_t *bytes, const struct instruction *instruction, unsigned *length)
{
    uint8_t modrm = bytes[instruction->modrm];
    unsigned reg = modrm >> 3 & 3u; /* bl and bh, rbx and rdi: the one or the other */
    bool takes_rsi =
        reg == 3 || (instruction->is_long && instruction->opcode == 0xC7); /* cmpxchg16b has rbx */

    bytes[instruction->modrm] = (uint8_t)((modrm & 0x38) | 0x80 | (takes_rsi ? 6 : 3));
    if (instruction->rex >= 0)
        bytes[instruction->rex] &= (uint8_t)~1u;
    if (instruction->vex >= 0)
        bytes[instruction->vex] |= 0x20;
    *length = instruction->modrm + 5 + immediate_bytes(bytes, instruction);
    return takes_rsi ? REG_RSI : REG_RBX;
}

/* ---- The step --------------------------------------------------------------------------------------- */

static bool run_copy(const uint8_t *bytes)
{
    if (chunk_exists(&scratch) && !arena_is_ours(&scratch))
        arena_give_back(&scratch);
    if (!chunk_exists(&scratch) && arena_take(&scratch) != 0)
        return false;
    return arena_write(&scratch, 0, bytes, INSTRUCTION_MAX_BYTES + 1) == 0 && arena_flush() == 0;
}

/* Of the instruction, as much as can be read: it may stand at the end of what is mapped. */
static void read_instruction(uintptr_t at, uint8_t *bytes, size_t size)
{
    uintptr_t behind = (at | (PAGE_BYTES - 1)) + 1;
    const struct window *window = window_find(behind);
    bool goes_on = window != NULL && (window->wants_execute & window_bit(behind)) != 0;

    memset(bytes, 0xCC, size);
    memcpy(bytes, (const void *)at, goes_on || behind - at > size ? size : behind - at);
}

bool step_begin(uintptr_t page, ucontext_t *context)
{
    greg_t *registers = context->uc_mcontext.gregs;
    uintptr_t at = (uintptr_t)registers[REG_RIP];
    uint8_t bytes[INSTRUCTION_MAX_BYTES + 1];
    struct instruction instruction;
    unsigned length = 0;

    if (step.is_on)
        return false;
    read_instruction(at, bytes, sizeof bytes);
    instruction = decode(bytes);
    step.base = -1;
    step.is_call =
        !instruction.is_long && (instruction.opcode == 0xE8 ||
                                 (instruction.opcode == 0xFF && (bytes[instruction.modrm] >> 3 & 7) == 2));
    step.is_absolute = step.is_call && instruction.opcode == 0xFF;
    if (is_relative(bytes, &instruction))
        step.base = make_copy(bytes, &instruction, &length);
    if (!run_copy(bytes))
        return false;
    if (step.base >= 0) {
        step.base_value = registers[step.base];
        registers[step.base] = (greg_t)at + length;
    }
    step.is_on = true;
    step.page = page;
    step.runs_at = (uintptr_t)scratch.code;
    step.shift = step.runs_at - at;
    step.thread = system_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    step.mask = *(const uint64_t *)&context->uc_sigmask;
    *(uint64_t *)&context->uc_sigmask =
        ~(UINT64_C(1) << (SIGTRAP - 1) | UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGSYS - 1));
    registers[REG_RIP] = (greg_t)step.runs_at;
    registers[REG_EFL] |= TRAP_FLAG;
    return true;
}

bool step_end(ucontext_t *context, bool is_whole)
{
    greg_t *registers = context->uc_mcontext.gregs;

    if (!step.is_on || step.thread != system_call(SYS_gettid, 0, 0, 0, 0, 0, 0))
        return false;
    if (is_whole && (uintptr_t)registers[REG_RIP] == step.runs_at)
        return true; /* one round of a string instruction */
    if (!is_whole || !step.is_absolute)
        registers[REG_RIP] -= (greg_t)step.shift;
    if (is_whole && step.is_call)
        *(uint64_t *)registers[REG_RSP] -= step.shift;
    if (step.base >= 0)
        registers[step.base] = step.base_value;
    registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    *(uint64_t *)&context->uc_sigmask = step.mask;
    step.is_on = false;
    return true;
}
