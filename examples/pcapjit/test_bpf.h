/* SPDX-License-Identifier: MIT */
/* The parts of the translator's test program. */
#ifndef PCAPJIT_TEST_BPF_H
#define PCAPJIT_TEST_BPF_H

#include <check.h>

TCase *test_bpf_random(void);

#endif
