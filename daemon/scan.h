/* SPDX-License-Identifier: MIT */
/*
 * Looks for machine instructions that a policy forbids: at every offset where one can start,
 * whatever the bytes before it make of it. Pure functions: who calls them brings the bytes,
 * neighbours included, and sees to it that they are the ones that get written (screen.h).
 *
 * Nothing that can be executed as one of them is missed. What is found need not be one: the same bytes
 * can be part of a constant, or decode to nothing.
 *
 * x86-64. Prefixes stand before the bytes that are looked for, so they make no difference, but for
 * REX2 (D5, with bit 7 of the next byte set), which replaces the 0F of an opcode.
 *   syscall   syscall (0F 05), sysenter (0F 34), int 0x80 (CD 80)
 *   pku       wrpkru (0F 01 EF), xrstor (0F AE /5 in memory), xrstors (0F C7 /3 in memory)
 *   segment   wrfsbase, wrgsbase (0F AE /2 and /3 of a register; without F3 they decode to nothing)
 *   far       call and jmp through a far pointer in memory (FF /3 and /5)
 * Left out: retf (CA, CB) and iret (CF), also far, whose one byte stands in every other function;
 * the loading of selectors (8E /4, /5; 0F A1, A9, B4, B5), which stands in many a conditional jump, and
 * yields only bases that the kernel has set up, or 0; and what traps in every process.
 *
 * aarch64. Every fourth byte.
 *   syscall   svc
 *   pku       msr POR_EL0
 *   segment   msr TPIDR_EL0
 *   far       nothing: there is none
 */
#ifndef DAEMON_SCAN_H
#define DAEMON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum scan_mode { SCAN_OFF, SCAN_REPORT, SCAN_DENY };

/* The sets of instructions that can be forbidden. */
#define SCAN_SYSCALL 1u
#define SCAN_PKU 2u
#define SCAN_SEGMENT 4u
#define SCAN_FAR 8u
#define SCAN_ALL (SCAN_SYSCALL | SCAN_PKU | SCAN_SEGMENT | SCAN_FAR)

/* How far an instruction can reach beyond one of its bytes, and where it can start. */
#define SCAN_REACH_BYTES 3u
#if defined(__aarch64__)
#define SCAN_STEP_BYTES 4u
#else
#define SCAN_STEP_BYTES 1u
#endif

/*
 * No instruction that can be forbidden has it, nor does anything begin with it: what is half written is half
 * this, and not half what was there before. (On AArch64 svc may have it as its second byte, which is operand
 * alone and makes no difference to what it is.)
 */
#if defined(__aarch64__)
#define SCAN_NEUTRAL_BYTE 0xFFu
#else
#define SCAN_NEUTRAL_BYTE 0x06u
#endif

struct scan_hit {
    size_t index;     /* of its first byte */
    size_t length;    /* of the bytes by which it is known: more may follow, and prefixes stand before */
    uint32_t set;     /* the one that it belongs to */
    const char *name; /* "syscall"; static */
};

/* The set that a policy calls `name`, or 0. */
uint32_t scan_set(const char *name);

/*
 * The first instruction of `sets` that lies whole within the bytes; false if there is none.
 * bytes[0] is where one could start.
 */
bool scan_find(const uint8_t *bytes, size_t count, uint32_t sets, struct scan_hit *hit);

/* The same, byte by byte: what scan_find() is compared with. */
bool scan_find_plainly(const uint8_t *bytes, size_t count, uint32_t sets, struct scan_hit *hit);

#endif
