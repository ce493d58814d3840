/* SPDX-License-Identifier: MIT */
/* The translator against libpcap's interpreter: real filter expressions, and random programs. */
#include "sandbox.h"
#include "test_bpf.h"

#include <check.h>
#include <stdbool.h>

#define RANDOM_PROGRAMS 150000u
#define RANDOM_INSTRUCTIONS_MAX 48u
#define PACKETS_PER_PROGRAM 6u
#define GARBAGE_PROGRAMS 200000u

/* ---- Real expressions ---------------------------------------------------------------- */

/* No protochain: on random packets its loop may have no end, in libpcap as well. */
static const char *const expressions[] = {
    "",
    "ip",
    "ip6",
    "arp",
    "tcp port 80",
    "udp portrange 1000-2000",
    "tcp src portrange 1-1023 or udp dst port 53",
    "host 10.1.2.3 and not port 22",
    "net 10.0.0.0/8",
    "ip6 net 2001:db8::/32",
    "ip6 host 2001:db8::1",
    "vlan",
    "vlan 10 and tcp",
    "vlan and vlan and ip",
    "icmp[icmptype] == icmp-echo",
    "icmp6",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[12] >> 2 > 20",
    "ip[2:2] - ((ip[0]&0xf)<<2) - ((tcp[12]&0xf0)>>2) != 0",
    "ip[2:2] > 576",
    "ip[6:2] & 0x1fff != 0",
    "len > 100",
    "less 64 or greater 1400",
    "ether[0] & 1 = 1",
    "ether multicast",
    "ip[8] / 3 = 21",
    "ip[4:2] % 7 = 3",
    "ip[4:4] / (ip[8] - 64) > 3",
    "ip[4:4] % ip[1] = 0",
    "(1 << ip[8]) = 0",
    "(ip[12:4] >> tcp[13]) & 1 = 1",
    "-ip[0] = 0xffffffbb",
    "ip[0] * 16777216 * ip[8] != 0",
    "ip[ip[0]] = 0",
    "ip[4294967295] = 0",
    "ip[len] = 1",
    "ip[len - 20:4] > 0x80000000",
    "ip6[6] ^ 0x11 = 0",
    "tcp[20:4] = 0x47455420",
    "ip proto 47 or sctp",
    "mpls",
    "pppoes and tcp port 80",
    "geneve",
    "ip broadcast or ip multicast",
    "dst host 192.0.2.1 and (tcp or udp) and not (port 80 or port 443 or port 8080)",
    "ether proto 0x88cc or ether host 02:00:00:00:00:01",
    "ether[len - 1] = 0 and (ether[0:4] | ether[4:4]) ^ ether[8:4] != len * 3",
};

/* Something that gets past the first few comparisons of a filter often enough. */
static uint32_t random_frame(uint8_t *frame)
{
    static const uint16_t types[] = {0x0800, 0x0800, 0x86dd, 0x8100, 0x0806, 0x8847, 0x8864, 0x88a8};
    static const uint8_t protocols[] = {6, 17, 1, 58, 47, 0, 44, 51, 60};
    uint32_t length = sandbox_random_below(160);
    size_t at = 12;

    for (size_t i = 0; i < 200; i++)
        frame[i] = (uint8_t)sandbox_random();
    for (int tag = 0; tag < 3; tag++) {
        uint16_t type = types[sandbox_random_below(COUNT_OF(types))];

        frame[at] = (uint8_t)(type >> 8);
        frame[at + 1] = (uint8_t)type;
        if (type != 0x8100 && type != 0x88a8)
            break;
        at += 4;
    }
    frame[at + 2] = (uint8_t)(sandbox_random_below(4) ? 0x45 : 0x60);
    if (sandbox_random_below(2))
        frame[at + 8] = frame[at + 9] = 0; /* not a fragment */
    frame[at + (frame[at + 2] == 0x45 ? 11 : 8)] = protocols[sandbox_random_below(COUNT_OF(protocols))];
    return length;
}

static void compare_expression(const char *expression, int link_type, int optimize)
{
    pcap_t *dead = pcap_open_dead(link_type, 262144);
    struct bpf_program program;
    bpf_jit_function function;
    uint8_t frame[256];

    ck_assert_ptr_nonnull(dead);
    if (pcap_compile(dead, &program, expression, optimize, PCAP_NETMASK_UNKNOWN) != 0) {
        pcap_close(dead); /* not every expression has a meaning on every link type */
        return;
    }
    function = sandbox_translate(program.bf_insns, program.bf_len);
    for (int i = 0; i < 400; i++) {
        uint32_t caplen = random_frame(frame);
        size_t skip = link_type == DLT_RAW ? 14 : 0;
        const uint8_t *packet = sandbox_place(frame + skip, caplen);

        sandbox_compare(function, program.bf_insns, program.bf_len, packet, caplen,
                        caplen + sandbox_random_below(3) * 700);
    }
    pcap_freecode(&program);
    pcap_close(dead);
}

START_TEST(expressions_agree_on_every_link_type)
{
    static const int link_types[] = {DLT_EN10MB,     DLT_RAW,  DLT_LINUX_SLL,
                                     DLT_LINUX_SLL2, DLT_NULL, DLT_IEEE802_11_RADIO};

    for (size_t i = 0; i < COUNT_OF(expressions); i++) {
        for (size_t j = 0; j < COUNT_OF(link_types); j++) {
            compare_expression(expressions[i], link_types[j], 0);
            compare_expression(expressions[i], link_types[j], 1);
        }
    }
}
END_TEST

/* ---- Random programs ------------------------------------------------------------------- */

#define SCRATCH_USED 4u

static uint32_t random_constant(void)
{
    switch (sandbox_random_below(6)) {
    case 0:
        return sandbox_random_below(40);
    case 1:
        return sandbox_operands[sandbox_random_below(COUNT_OF(sandbox_operands))];
    case 2:
        return 1u << sandbox_random_below(32);
    case 3:
        return ~sandbox_random_below(300);
    case 4:
        return sandbox_random_below(70000);
    default:
        return (uint32_t)sandbox_random();
    }
}

/* Mostly near the packet's bytes, sometimes far off, so that programs get past their first load. */
static uint32_t random_offset(uint32_t caplen)
{
    if (sandbox_random_below(40) == 0)
        return random_constant();
    return sandbox_random_below(caplen + (sandbox_random_below(8) == 0 ? 6 : 0) + 1);
}

static struct bpf_insn random_load(uint32_t caplen)
{
    static const u_short widths[] = {BPF_W, BPF_H, BPF_B};
    u_short width = widths[sandbox_random_below(3)];

    switch (sandbox_random_below(4)) {
    case 0:
        return (struct bpf_insn)BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, random_offset(caplen));
    case 1:
        return (struct bpf_insn)BPF_STMT(BPF_LD | width | BPF_IND, random_offset(caplen) / 2);
    default:
        return (struct bpf_insn)BPF_STMT(BPF_LD | width | BPF_ABS, random_offset(caplen));
    }
}

static struct bpf_insn random_arithmetic(void)
{
    u_short op = sandbox_operations[sandbox_random_below(COUNT_OF(sandbox_operations))];
    bool is_division = op == BPF_DIV || op == BPF_MOD;
    uint32_t k = random_constant();

    if (sandbox_random_below(12) == 0)
        return (struct bpf_insn)BPF_STMT(BPF_ALU | BPF_NEG, 0);
    if (sandbox_random_below(3) == 0)
        return (struct bpf_insn)BPF_STMT(BPF_ALU | op | BPF_X, k);
    return (struct bpf_insn)BPF_STMT(BPF_ALU | op | BPF_K, is_division && k == 0 ? 1 : k);
}

/* `left` instructions follow, at least one. */
static struct bpf_insn random_jump(uint32_t left)
{
    static const u_short jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    u_short source = sandbox_random_below(3) == 0 ? BPF_X : BPF_K;
    uint32_t reach = left < 256 ? left : 256;

    if (sandbox_random_below(6) == 0)
        return (struct bpf_insn)BPF_STMT(BPF_JMP | BPF_JA, sandbox_random_below(left));
    return (struct bpf_insn)BPF_JUMP(BPF_JMP | jumps[sandbox_random_below(4)] | source, random_constant(),
                                     (u_char)sandbox_random_below(reach),
                                     (u_char)sandbox_random_below(reach));
}

static struct bpf_insn random_move(void)
{
    switch (sandbox_random_below(9)) {
    case 0:
        return (struct bpf_insn)LD_IMM(random_constant());
    case 1:
        return (struct bpf_insn)LDX_IMM(sandbox_random_below(3) ? sandbox_random_below(30)
                                                                : random_constant());
    case 2:
        return (struct bpf_insn)TAX;
    case 3:
        return (struct bpf_insn)TXA;
    case 4:
        return (struct bpf_insn)BPF_STMT(BPF_ST, sandbox_random_below(SCRATCH_USED));
    case 5:
        return (struct bpf_insn)BPF_STMT(BPF_STX, sandbox_random_below(SCRATCH_USED));
    case 6:
        return (struct bpf_insn)BPF_STMT(BPF_LD | BPF_MEM, sandbox_random_below(SCRATCH_USED));
    case 7:
        return (struct bpf_insn)BPF_STMT(BPF_LDX | BPF_MEM, sandbox_random_below(SCRATCH_USED));
    default:
        return (struct bpf_insn)BPF_STMT((sandbox_random_below(2) ? BPF_LD : BPF_LDX) | BPF_W | BPF_LEN, 0);
    }
}

static struct bpf_insn random_return(void)
{
    if (sandbox_random_below(3))
        return (struct bpf_insn)RET_A;
    return (struct bpf_insn)RET_K(random_constant());
}

static size_t random_program(struct bpf_insn *program, uint32_t caplen)
{
    uint32_t count = SCRATCH_USED + 1 + sandbox_random_below(RANDOM_INSTRUCTIONS_MAX - SCRATCH_USED);

    for (uint32_t i = 0; i < SCRATCH_USED; i++) /* libpcap may leave them uninitialized */
        program[i] = (struct bpf_insn)BPF_STMT(BPF_ST, i);
    for (uint32_t i = SCRATCH_USED; i + 1 < count; i++) {
        uint32_t kind = sandbox_random_below(100);

        if (kind < 25)
            program[i] = random_load(caplen);
        else if (kind < 50)
            program[i] = random_arithmetic();
        else if (kind < 72)
            program[i] = random_move();
        else if (kind < 98)
            program[i] = random_jump(count - 1 - i);
        else
            program[i] = random_return();
    }
    program[count - 1] = random_return();
    return count;
}

START_TEST(random_programs_agree_with_libpcap)
{
    struct bpf_insn program[RANDOM_INSTRUCTIONS_MAX + 1];

    for (uint32_t i = 0; i < RANDOM_PROGRAMS; i++) {
        uint32_t caplen_max = sandbox_random_below(4) ? sandbox_random_below(100)
                                                      : sandbox_random_below(SANDBOX_PACKET_BYTES_MAX);
        size_t count = random_program(program, caplen_max);
        bpf_jit_function function = sandbox_translate(program, count);

        for (uint32_t j = 0; j < PACKETS_PER_PROGRAM; j++) {
            uint32_t caplen = j == 0 ? caplen_max : sandbox_random_below(caplen_max + 1);
            uint8_t *packet = sandbox_place(NULL, caplen);

            for (uint32_t at = 0; at < caplen && at < 256; at++)
                packet[at] = (uint8_t)(sandbox_random() & (sandbox_random_below(2) ? 0xff : 0x03));
            sandbox_compare(function, program, count, packet, caplen,
                            sandbox_random_below(3) ? caplen : random_constant());
        }
    }
}
END_TEST

START_TEST(whatever_is_accepted_libpcap_accepts_too)
{
    struct bpf_insn program[8];
    uint32_t accepted = 0;
    size_t culprit;

    for (uint32_t i = 0; i < GARBAGE_PROGRAMS; i++) {
        size_t count = 1 + sandbox_random_below(COUNT_OF(program));

        for (size_t j = 0; j < count; j++) {
            program[j] = (struct bpf_insn){.code = (u_short)sandbox_random_below(256),
                                           .jt = (u_char)sandbox_random_below(4),
                                           .jf = (u_char)sandbox_random_below(4),
                                           .k = sandbox_random_below(2) ? sandbox_random_below(20)
                                                                        : random_constant()};
        }
        if (sandbox_random_below(2))
            program[count - 1] = random_return();
        if (sandbox_refuse(program, count, &culprit) != BPF_JIT_E_CAPACITY)
            continue;
        accepted++;
        ck_assert_int_ne(bpf_validate(program, (int)count), 0);
    }
    ck_assert_uint_gt(accepted, 100);
}
END_TEST

TCase *test_bpf_random(void)
{
    TCase *tcase = tcase_create("random");

    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, whatever_is_accepted_libpcap_accepts_too);
    if (BPF_JIT_HOST != BPF_JIT_UNSUPPORTED) {
        tcase_add_test(tcase, expressions_agree_on_every_link_type);
        tcase_add_test(tcase, random_programs_agree_with_libpcap);
    }
    return tcase;
}
