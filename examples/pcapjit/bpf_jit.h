/* SPDX-License-Identifier: MIT */
/*
 * Classic BPF to machine code. A pure function from instructions to bytes: it
 * allocates no executable memory and knows nothing of where the code will live.
 *
 * The code is position-independent, calls nothing, writes nothing but its own
 * stack frame, and reads nothing but the packet's `caplen` bytes. Its verdicts
 * are those of libpcap's bpf_filter(), the whole 32-bit value. Scratch words
 * that a program reads before it wrote them are 0.
 *
 * Like bpf_filter(), the code runs as long as its program does: jumps backwards
 * are allowed, because pcap_compile() emits them for "ip6 protochain".
 */
#ifndef PCAPJIT_BPF_JIT_H
#define PCAPJIT_BPF_JIT_H

#include <pcap/pcap.h>
#include <stddef.h>
#include <stdint.h>

/* Bounded so that a conditional branch of every target reaches all of a program's code. */
#define BPF_JIT_INSTRUCTIONS_MAX 16384u

typedef uint32_t (*bpf_jit_function)(const uint8_t *packet, uint32_t caplen, uint32_t wirelen);

enum bpf_jit_target { BPF_JIT_UNSUPPORTED = 0, BPF_JIT_X86_64 = 1, BPF_JIT_AARCH64 = 2 };

/* What this program itself runs on. */
#if defined(__x86_64__) && defined(__LP64__)
#define BPF_JIT_HOST BPF_JIT_X86_64
#elif defined(__aarch64__) && defined(__LP64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BPF_JIT_HOST BPF_JIT_AARCH64
#else
#define BPF_JIT_HOST BPF_JIT_UNSUPPORTED
#endif

enum bpf_jit_status {
    BPF_JIT_OK = 0,
    BPF_JIT_E_TARGET = 1,    /* no translator for this architecture */
    BPF_JIT_E_LENGTH = 2,    /* no instructions, or more than BPF_JIT_INSTRUCTIONS_MAX */
    BPF_JIT_E_OPCODE = 3,    /* an instruction that bpf_filter() does not know */
    BPF_JIT_E_JUMP = 4,      /* a jump out of the program */
    BPF_JIT_E_SCRATCH = 5,   /* no such scratch word */
    BPF_JIT_E_DIVISOR = 6,   /* division by the constant 0 */
    BPF_JIT_E_NO_RETURN = 7, /* the last instruction is not a return */
    BPF_JIT_E_CAPACITY = 8   /* the code does not fit; *size says what it needs */
};

/* A sentence for a status; never NULL. */
const char *bpf_jit_strerror(int status);

/* What the target is called, for people. */
const char *bpf_jit_target_name(enum bpf_jit_target target);

/*
 * Translates `count` instructions into `code`. On BPF_JIT_OK *size is the length
 * of the code; its first byte is a bpf_jit_function. On BPF_JIT_E_CAPACITY *size
 * is the capacity it takes (call with capacity 0 to ask). On the errors that are an
 * instruction's fault, *culprit is its index.
 * Negative errno: out of memory.
 */
int bpf_jit_translate(enum bpf_jit_target target, const struct bpf_insn *program, size_t count, uint8_t *code,
                      size_t capacity, size_t *size, size_t *culprit);

#endif
