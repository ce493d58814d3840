/* SPDX-License-Identifier: MIT */
/* The ground the translator's tests stand on; see sandbox.h. */
#include "sandbox.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CODE_BYTES (1u << 20)

static uint8_t *code;       /* CODE_BYTES, writable or executable, never both */
static uint8_t *packet_end; /* the first byte that may not be read */
static uint64_t random_state;

const uint32_t sandbox_operands[] = {0,          1,          2,          3,          5,          7,
                                     8,          31,         32,         33,         63,         64,
                                     0x7f,       0x80,       0xff,       0x100,      0xffff,     0x10000,
                                     0x7fffffff, 0x80000000, 0x80000001, 0xaaaaaaaa, 0xfffffffe, 0xffffffff};
const u_short sandbox_operations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD,
                                      BPF_AND, BPF_OR,  BPF_XOR, BPF_LSH, BPF_RSH};

static void *map_or_exit(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(EXIT_FAILURE);
    }
    return memory;
}

void sandbox_init(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const char *seed = getenv("JITBROKER_SEED");

    code = map_or_exit(CODE_BYTES);
    packet_end = (uint8_t *)map_or_exit(SANDBOX_PACKET_BYTES_MAX + page) + SANDBOX_PACKET_BYTES_MAX;
    if (mprotect(packet_end, page, PROT_NONE) != 0) {
        perror("mprotect");
        exit(EXIT_FAILURE);
    }

    random_state = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    if (seed)
        random_state = strtoull(seed, NULL, 0);
    printf("JITBROKER_SEED=%" PRIu64 "\n", random_state);
    fflush(stdout);
}

/* splitmix64 */
uint64_t sandbox_random(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t sandbox_random_below(uint32_t limit)
{
    return (uint32_t)((sandbox_random() >> 32) * limit >> 32);
}

uint8_t *sandbox_place(const void *bytes, uint32_t caplen)
{
    uint8_t *packet = packet_end - caplen;

    ck_assert_uint_le(caplen, SANDBOX_PACKET_BYTES_MAX);
    if (bytes)
        memcpy(packet, bytes, caplen);
    return packet;
}

bpf_jit_function sandbox_translate(const struct bpf_insn *program, size_t count)
{
    bpf_jit_function function;
    size_t size = 0;
    size_t culprit;

    ck_assert_int_eq(mprotect(code, CODE_BYTES, PROT_READ | PROT_WRITE), 0);
    ck_assert_int_eq(bpf_jit_translate(BPF_JIT_HOST, program, count, code, CODE_BYTES, &size, &culprit),
                     BPF_JIT_OK);
    ck_assert_int_eq(mprotect(code, CODE_BYTES, PROT_READ | PROT_EXEC), 0);
    __builtin___clear_cache((char *)code, (char *)code + size);
    memcpy(&function, &code, sizeof function);
    return function;
}

static void dump(const struct bpf_insn *program, size_t count, const uint8_t *packet, uint32_t caplen)
{
    struct bpf_program listing = {.bf_len = (u_int)count, .bf_insns = (struct bpf_insn *)program};

    bpf_dump(&listing, 1);
    for (uint32_t i = 0; i < caplen; i++)
        printf("%02x%s", packet[i], i % 32 == 31 ? "\n" : " ");
    printf("\n");
    fflush(stdout);
}

void sandbox_compare(bpf_jit_function function, const struct bpf_insn *program, size_t count,
                     const uint8_t *packet, uint32_t caplen, uint32_t wirelen)
{
    uint32_t expected = bpf_filter(program, packet, wirelen, caplen);
    uint32_t verdict = function(packet, caplen, wirelen);

    if (verdict == expected)
        return;
    dump(program, count, packet, caplen);
    ck_abort_msg("verdict %#x, libpcap says %#x (caplen %u, wirelen %u)", verdict, expected, caplen, wirelen);
}

/* Runs a program over one packet, checks it against libpcap, and returns the verdict. */
uint32_t sandbox_run(const struct bpf_insn *program, size_t count, const void *bytes, uint32_t caplen,
                     uint32_t wirelen)
{
    const uint8_t *packet = sandbox_place(bytes, caplen);
    bpf_jit_function function = sandbox_translate(program, count);

    sandbox_compare(function, program, count, packet, caplen, wirelen);
    return function(packet, caplen, wirelen);
}

int sandbox_refuse(const struct bpf_insn *program, size_t count, size_t *culprit)
{
    size_t size;

    *culprit = SIZE_MAX;
    return bpf_jit_translate(BPF_JIT_X86_64, program, count, NULL, 0, &size, culprit);
}
