/* SPDX-License-Identifier: MIT */
/*
 * What holds before each instruction of a BPF program, on every path to it. The
 * translators leave out what it makes needless: bounds checks, zeroing, dead code.
 */
#ifndef PCAPJIT_BPF_FLOW_H
#define PCAPJIT_BPF_FLOW_H

#include <pcap/pcap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The program's variables as a set: scratch word n is bit n. */
#define BPF_FLOW_A (1u << 16)
#define BPF_FLOW_X (1u << 17)

struct bpf_flow_point {
    bool is_reached;
    uint32_t caplen_min; /* the packet has at least that many captured bytes */
    uint32_t written;    /* variables that have been given a value */
};

struct bpf_flow {
    struct bpf_flow_point *points; /* one per instruction */
    uint32_t read_unwritten;       /* variables that must start as 0 */
    bool uses_scratch;
    bool uses_wirelen;
};

/* BPF_JIT_OK, or why bpf_filter() could not run the program; then *culprit is where. */
int bpf_flow_check(const struct bpf_insn *program, size_t count, size_t *culprit);

/* Takes a program that bpf_flow_check() found good. 0, or -ENOMEM. */
int bpf_flow_init(struct bpf_flow *flow, const struct bpf_insn *program, size_t count);
void bpf_flow_deinit(struct bpf_flow *flow);

/*
 * One past the last byte that a load at the instruction's constant offset touches;
 * 0 for what does not read the packet. More than UINT32_MAX can never succeed.
 */
uint64_t bpf_flow_load_end(const struct bpf_insn *insn);

/* Where a conditional jump at `index` goes. JA has one target, see bpf_flow_jump_always(). */
static inline size_t bpf_flow_jump_true(const struct bpf_insn *program, size_t index)
{
    return index + 1 + program[index].jt;
}

static inline size_t bpf_flow_jump_false(const struct bpf_insn *program, size_t index)
{
    return index + 1 + program[index].jf;
}

/* The offset of JA is 32 bits and wraps: that is how it goes backwards. */
static inline size_t bpf_flow_jump_always(const struct bpf_insn *program, size_t index)
{
    return (uint32_t)((uint32_t)index + 1 + program[index].k);
}

#endif
