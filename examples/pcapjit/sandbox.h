/* SPDX-License-Identifier: MIT */
/*
 * Where the tests run what the translator made, next to libpcap's interpreter.
 *
 * Packets end where a page without access begins, so a load past the captured
 * bytes is a crash, not luck. Code is written first and made executable then, in
 * plain memory: nothing of the broker is needed to test a translator.
 */
#ifndef PCAPJIT_SANDBOX_H
#define PCAPJIT_SANDBOX_H

#include "bpf_jit.h"

#include <pcap/pcap.h>
#include <stddef.h>
#include <stdint.h>

#define SANDBOX_PACKET_BYTES_MAX 4096u

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define RET_A BPF_STMT(BPF_RET | BPF_A, 0)
#define RET_K(k) BPF_STMT(BPF_RET | BPF_K, k)
#define LD_IMM(k) BPF_STMT(BPF_LD | BPF_IMM, k)
#define LDX_IMM(k) BPF_STMT(BPF_LDX | BPF_IMM, k)
#define TXA BPF_STMT(BPF_MISC | BPF_TXA, 0)
#define TAX BPF_STMT(BPF_MISC | BPF_TAX, 0)

/* Values at which arithmetic and comparisons change their mind, and all operations. */
extern const uint32_t sandbox_operands[24];
extern const u_short sandbox_operations[10];

/* Once, before the first test. Prints the seed of the random functions; $JITBROKER_SEED sets it. */
void sandbox_init(void);

uint64_t sandbox_random(void);
uint32_t sandbox_random_below(uint32_t limit);

/* Puts `caplen` bytes (NULL: leaves what is there) right before memory that may not be read. */
uint8_t *sandbox_place(const void *bytes, uint32_t caplen);

/* Translates for this host; the code is there until the next call. */
bpf_jit_function sandbox_translate(const struct bpf_insn *program, size_t count);

/* What the translator says to a program that it should refuse; nothing is executed. */
int sandbox_refuse(const struct bpf_insn *program, size_t count, size_t *culprit);

/* Fails the test unless the code and libpcap agree about a packet that was placed. */
void sandbox_compare(bpf_jit_function function, const struct bpf_insn *program, size_t count,
                     const uint8_t *packet, uint32_t caplen, uint32_t wirelen);

/* All of it for one packet: places, translates, compares, and returns the verdict. */
uint32_t sandbox_run(const struct bpf_insn *program, size_t count, const void *bytes, uint32_t caplen,
                     uint32_t wirelen);

#endif
