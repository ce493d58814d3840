/* SPDX-License-Identifier: MIT */
/* disasm: the instructions of the span around an offset, for the processor that we are on. */
#include <capstone/capstone.h>
#include <inttypes.h>
#include <stdio.h>

#include "proto/json.h"
#include "tools/code.h"

#if defined(__aarch64__)
#define ARCHITECTURE CS_ARCH_ARM64
#define MODE CS_MODE_LITTLE_ENDIAN
#define IS_FILL(instruction) ((instruction)->id == ARM64_INS_BRK)
#else
#define ARCHITECTURE CS_ARCH_X86
#define MODE CS_MODE_64
#define IS_FILL(instruction) ((instruction)->id == X86_INS_INT3)
#endif

/* More traps in a row than that are one line. */
#define FILL_SHOWN_MAX 2u
#define BYTES_COLUMN 30

static void print_line(const cs_insn *instruction)
{
    int used = 0;

    (void)printf("0x%08" PRIx64 "  ", instruction->address);
    for (uint16_t i = 0; i < instruction->size; i++)
        used += printf("%02x ", instruction->bytes[i]);
    (void)printf("%*s%s%s%s\n", used < BYTES_COLUMN ? BYTES_COLUMN - used : 0, "", instruction->mnemonic,
                 instruction->op_str[0] != '\0' ? " " : "", instruction->op_str);
}

static void print_text(csh handle, const struct code *code, cs_insn *instruction)
{
    const uint8_t *bytes = code->bytes;
    size_t left = code->count;
    uint64_t address = code->offset;
    uint64_t fills = 0;

    while (cs_disasm_iter(handle, &bytes, &left, &address, instruction)) {
        fills = IS_FILL(instruction) ? fills + 1 : 0;
        if (fills <= FILL_SHOWN_MAX)
            print_line(instruction);
        else if (fills == FILL_SHOWN_MAX + 1)
            (void)printf("            ... traps\n");
    }
}

static void print_json(csh handle, const struct code *code, cs_insn *instruction)
{
    const uint8_t *bytes = code->bytes;
    size_t left = code->count;
    uint64_t address = code->offset;
    char text[sizeof instruction->mnemonic + sizeof instruction->op_str + 1];

    json_open("instructions", '[');
    while (cs_disasm_iter(handle, &bytes, &left, &address, instruction)) {
        (void)snprintf(text, sizeof text, "%s%s%s", instruction->mnemonic,
                       instruction->op_str[0] != '\0' ? " " : "", instruction->op_str);
        json_open(NULL, '{');
        json_number("offset", instruction->address);
        json_bytes("bytes", instruction->bytes, instruction->size);
        json_text("text", text);
        json_close('}');
    }
    json_close(']');
}

static int print(const struct invocation *invocation, const struct code *code)
{
    cs_insn *instruction;
    csh handle;

    if (cs_open(ARCHITECTURE, MODE, &handle) != CS_ERR_OK) {
        (void)fputs("jitbrokerctl: libcapstone does not know this processor\n", stderr);
        return EXIT_NO;
    }
    (void)cs_option(handle, CS_OPT_SKIPDATA, CS_OPT_ON); /* what is no instruction is data */
    instruction = cs_malloc(handle);
    if (instruction != NULL && invocation->json) {
        json_open(NULL, '{');
        json_number("session", invocation->session);
        json_number("offset", code->offset);
        json_number("size", code->count);
        print_json(handle, code, instruction);
        json_close('}');
        json_end();
    } else if (instruction != NULL) {
        print_text(handle, code, instruction);
    }
    cs_free(instruction, 1);
    (void)cs_close(&handle);
    return instruction != NULL ? EXIT_YES : EXIT_NO;
}

int verb_disasm(const struct invocation *invocation)
{
    struct code code = {.bytes = NULL};
    struct ask ask = {.is_quiet = false};
    int status = ask_open(&ask, invocation);

    if (status == EXIT_YES)
        status = code_fetch(&ask, invocation->session, invocation->offset, &code);
    if (status == EXIT_YES)
        status = print(invocation, &code);
    code_free(&code);
    ask_close(&ask);
    return status;
}
