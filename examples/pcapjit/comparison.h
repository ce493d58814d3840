/* SPDX-License-Identifier: MIT */
/* The code against libpcap's interpreter, over every packet: who says what, and how fast. */
#ifndef PCAPJIT_COMPARISON_H
#define PCAPJIT_COMPARISON_H

#include "bpf_jit.h"
#include "packets.h"

#include <pcap/pcap.h>
#include <stddef.h>
#include <stdint.h>

struct comparison {
    size_t matches;        /* packets the code let through, by a verdict other than 0 */
    size_t mismatches;     /* packets with two different verdicts, all 32 bits compared */
    size_t mismatch_first; /* the first of them, its verdict and libpcap's */
    uint32_t mismatch_code;
    uint32_t mismatch_libpcap;
    uint64_t code_ns;        /* the fastest pass over all packets */
    uint64_t interpreter_ns; /* the same */
};

/* Each round is one pass of either, timed apart, and a check of every verdict. Negative errno: out of memory.
 */
int comparison_run(struct comparison *comparison, const struct packets *packets,
                   const struct bpf_program *program, bpf_jit_function function, unsigned rounds);

#endif
