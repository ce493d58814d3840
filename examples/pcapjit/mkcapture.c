/* SPDX-License-Identifier: MIT */
/*
 * mkcapture FILE [COUNT [SEED]]: writes a capture of varied Ethernet packets, the same
 * for the same seed, for pcapjit to filter.
 *
 * What it is after is variety that filters look at: address families, tags and tunnels,
 * options and extension headers, fragments, packets that end in the middle of a header.
 * Lengths are right, IPv4 header checksums are too, transport checksums are not.
 */
#include <inttypes.h>
#include <pcap/pcap.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_DEFAULT 1000000u
#define SEED_DEFAULT 1u
#define SNAPLEN_BYTES 256u
#define FRAME_BYTES_MAX 9216u
#define FIRST_SECOND 1700000000

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum protocol { ICMP = 1, TCP = 6, UDP = 17, GRE = 47, ICMPV6 = 58 };

struct frame {
    uint8_t bytes[FRAME_BYTES_MAX];
    size_t size;
};

/* ---- Chance ------------------------------------------------------------------- */

static uint64_t random_state;

/* splitmix64 */
static uint64_t random_u64(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((random_u64() >> 32) * limit >> 32);
}

static bool one_in(uint32_t n)
{
    return random_below(n) == 0;
}

/* ---- Bytes, most significant first --------------------------------------------- */

static void put_u8(struct frame *frame, uint32_t value)
{
    if (frame->size < sizeof frame->bytes)
        frame->bytes[frame->size++] = (uint8_t)value;
}

static void put_u16(struct frame *frame, uint32_t value)
{
    put_u8(frame, value >> 8);
    put_u8(frame, value);
}

static void put_u32(struct frame *frame, uint32_t value)
{
    put_u16(frame, value >> 16);
    put_u16(frame, value);
}

static void put_random(struct frame *frame, size_t size)
{
    for (size_t i = 0; i < size; i++)
        put_u8(frame, (uint32_t)random_u64());
}

/* A few repeated bytes: nobody looks into a payload for entropy, and this is quick. */
static void put_payload(struct frame *frame, size_t size)
{
    size_t room = sizeof frame->bytes - frame->size;

    if (size > room)
        size = room;
    memset(frame->bytes + frame->size, (int)random_below(256), size);
    frame->size += size;
}

static void set_u16(struct frame *frame, size_t at, size_t value)
{
    frame->bytes[at] = (uint8_t)(value >> 8);
    frame->bytes[at + 1] = (uint8_t)value;
}

/* ---- Layers ---------------------------------------------------------------------- */

static void put_mac(struct frame *frame)
{
    if (one_in(12)) {
        put_u32(frame, 0xffffffff);
        put_u16(frame, 0xffff);
        return;
    }
    put_u8(frame, one_in(10) ? 0x01 : 0x02); /* multicast, or locally administered */
    put_u32(frame, 0);
    put_u8(frame, random_below(16));
}

static void put_tags(struct frame *frame)
{
    if (one_in(40)) {
        put_u16(frame, 0x88a8);
        put_u16(frame, 100 + random_below(4));
    }
    if (one_in(8)) {
        put_u16(frame, 0x8100);
        put_u16(frame, random_below(8) << 13 | (one_in(3) ? 10 : random_below(4095)));
    }
}

static void put_ipv4_address(struct frame *frame, bool is_source)
{
    static const uint32_t well_known[] = {0xc0000201, 0xc6336407, 0x08080808, 0xe00000fb, 0xffffffff};

    if (one_in(8))
        put_u32(frame, well_known[random_below(is_source ? 3 : COUNT_OF(well_known))]);
    else
        put_u32(frame, 0x0a000000 | random_below(4) << 16 | random_below(8) << 8 | random_below(256));
}

static void put_ipv6_address(struct frame *frame)
{
    put_u32(frame, one_in(5) ? 0xfe800000 : 0x20010db8);
    put_u32(frame, random_below(4));
    put_u32(frame, 0);
    put_u32(frame, 1 + random_below(64));
}

static uint32_t random_port(void)
{
    static const uint16_t well_known[] = {80, 443, 443, 53, 22, 25, 123, 8080, 5353, 179};

    return one_in(2) ? well_known[random_below(COUNT_OF(well_known))] : 1024 + random_below(64512);
}

/* Mostly small or full, as on a real wire. */
static size_t random_payload_bytes(void)
{
    switch (random_below(10)) {
    case 0:
    case 1:
    case 2:
        return 0;
    case 3:
    case 4:
    case 5:
        return random_below(128);
    case 6:
    case 7:
        return random_below(700);
    case 8:
        return 1400 + random_below(60);
    default:
        return one_in(20) ? 4000 + random_below(4900) : random_below(1460);
    }
}

static void put_padding(struct frame *frame, size_t size)
{
    for (size_t i = 0; i < size; i++)
        put_u8(frame, 1); /* "no operation", in IPv4 and in TCP options */
}

static void put_tcp_options(struct frame *frame, uint32_t words)
{
    if (words >= 3) {
        put_u32(frame, 0x0101080a); /* a timestamp, aligned */
        put_random(frame, 8);
        words -= 3;
    }
    put_padding(frame, 4 * words);
}

static void put_tcp(struct frame *frame)
{
    static const uint8_t flags[] = {0x02, 0x12, 0x10, 0x10, 0x10, 0x18, 0x18, 0x11, 0x04, 0x29};
    uint32_t option_words = one_in(2) ? 3 : random_below(11);

    put_u16(frame, random_port());
    put_u16(frame, random_port());
    put_random(frame, 8);
    put_u8(frame, (5 + option_words) << 4);
    put_u8(frame, flags[random_below(COUNT_OF(flags))]);
    put_random(frame, 4);
    put_u16(frame, 0);
    put_tcp_options(frame, option_words);
    if (one_in(6)) {
        static const char request[] = "GET / HTTP/1.1\r\n";

        for (size_t i = 0; i + 1 < sizeof request; i++)
            put_u8(frame, (uint8_t)request[i]);
    }
    put_payload(frame, random_payload_bytes());
}

static void put_udp(struct frame *frame)
{
    size_t start = frame->size;

    put_u16(frame, random_port());
    put_u16(frame, random_port());
    put_u16(frame, 0);
    put_u16(frame, random_below(65536));
    put_payload(frame, random_payload_bytes());
    set_u16(frame, start + 4, frame->size - start);
}

static void put_icmp(struct frame *frame, bool is_v6)
{
    static const uint8_t v4_types[] = {0, 8, 3, 11, 5};
    static const uint8_t v6_types[] = {128, 129, 135, 136, 1};

    put_u8(frame, is_v6 ? v6_types[random_below(5)] : v4_types[random_below(5)]);
    put_u8(frame, one_in(3) ? random_below(8) : 0);
    put_random(frame, 6);
    put_payload(frame, random_below(100));
}

static void put_transport(struct frame *frame, enum protocol protocol)
{
    switch (protocol) {
    case TCP:
        put_tcp(frame);
        break;
    case UDP:
        put_udp(frame);
        break;
    case ICMP:
    case ICMPV6:
        put_icmp(frame, protocol == ICMPV6);
        break;
    default:
        put_random(frame, 8);
        put_payload(frame, random_payload_bytes());
        break;
    }
}

static enum protocol random_protocol(bool is_v6)
{
    uint32_t kind = random_below(100);

    if (kind < 62)
        return TCP;
    if (kind < 88)
        return UDP;
    if (kind < 97)
        return is_v6 ? ICMPV6 : ICMP;
    return GRE;
}

static void set_ipv4_checksum(struct frame *frame, size_t start, size_t size)
{
    uint32_t sum = 0;

    for (size_t i = start; i < start + size; i += 2)
        sum += (uint32_t)frame->bytes[i] << 8 | frame->bytes[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    set_u16(frame, start + 10, ~sum & 0xffff);
}

static void put_ipv4(struct frame *frame)
{
    size_t start = frame->size;
    uint32_t option_words = one_in(25) ? 1 + random_below(10) : 0;
    enum protocol protocol = random_protocol(false);
    uint32_t fragment = one_in(2) ? 0x4000 : 0;

    if (one_in(20)) /* more fragments, an offset, or both */
        fragment = one_in(2) ? 0x2000 | (one_in(2) ? random_below(0x1fff) : 0) : 1 + random_below(0x1ffe);
    put_u8(frame, 0x45 + option_words);
    put_u8(frame, one_in(4) ? random_below(256) : 0);
    put_u16(frame, 0);
    put_u16(frame, random_below(65536));
    put_u16(frame, fragment);
    put_u8(frame, one_in(3) ? random_below(256) : 64);
    put_u8(frame, (uint32_t)protocol);
    put_u16(frame, 0);
    put_ipv4_address(frame, true);
    put_ipv4_address(frame, false);
    put_padding(frame, 4 * option_words);
    if (fragment & 0x1fff)
        put_payload(frame, 8 + random_payload_bytes());
    else
        put_transport(frame, protocol);
    set_u16(frame, start + 2, frame->size - start);
    set_ipv4_checksum(frame, start, 20 + 4 * option_words);
}

/* Hop-by-hop, routing, fragment and destination options, one after the other. */
static void put_ipv6_extensions(struct frame *frame, size_t next_header_at, enum protocol protocol)
{
    static const uint8_t kinds[] = {0, 43, 44, 60};

    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        uint32_t words = kinds[i] == 44 ? 0 : random_below(3);

        if (one_in(2))
            continue;
        frame->bytes[next_header_at] = kinds[i];
        next_header_at = frame->size;
        put_u8(frame, (uint32_t)protocol);
        put_u8(frame, words);
        put_random(frame, 6 + 8 * words);
    }
}

static void put_ipv6(struct frame *frame)
{
    size_t start = frame->size;
    enum protocol protocol = random_protocol(true);

    put_u32(frame, 0x60000000 | random_below(1 << 20));
    put_u16(frame, 0);
    put_u8(frame, (uint32_t)protocol);
    put_u8(frame, one_in(3) ? 255 : 64);
    put_ipv6_address(frame);
    put_ipv6_address(frame);
    if (one_in(10))
        put_ipv6_extensions(frame, start + 6, protocol);
    put_transport(frame, protocol);
    set_u16(frame, start + 4, frame->size - start - 40);
}

static void put_arp(struct frame *frame)
{
    put_u32(frame, 0x00010800);
    put_u16(frame, 0x0604);
    put_u16(frame, 1 + random_below(2));
    put_mac(frame);
    put_ipv4_address(frame, true);
    put_mac(frame);
    put_ipv4_address(frame, false);
}

static void put_ip(struct frame *frame, bool is_v6)
{
    if (is_v6)
        put_ipv6(frame);
    else
        put_ipv4(frame);
}

static void put_network(struct frame *frame)
{
    uint32_t kind = random_below(100);
    bool is_v6 = one_in(3);
    size_t start = frame->size;

    if (kind < 90) {
        put_u16(frame, is_v6 ? 0x86dd : 0x0800);
        put_ip(frame, is_v6);
    } else if (kind < 95) {
        put_u16(frame, 0x0806);
        put_arp(frame);
    } else if (kind < 97) {
        put_u16(frame, 0x8847); /* MPLS, bottom of the stack */
        put_u32(frame, random_below(1 << 20) << 12 | 0x140);
        put_ip(frame, is_v6);
    } else if (kind < 98) {
        put_u16(frame, 0x8864); /* PPPoE session */
        put_u16(frame, 0x1100);
        put_u16(frame, random_below(16));
        put_u16(frame, 0);
        put_u16(frame, is_v6 ? 0x57 : 0x21);
        put_ip(frame, is_v6);
        set_u16(frame, start + 6, frame->size - start - 8);
    } else {
        put_u16(frame, one_in(2) ? 0x88cc : random_below(1500)); /* LLDP, or an 802.3 length */
        put_random(frame, random_below(80));
    }
}

static void make_frame(struct frame *frame)
{
    frame->size = 0;
    if (one_in(150)) { /* noise that may not even be a header */
        put_random(frame, random_below(40));
        return;
    }
    put_mac(frame);
    put_mac(frame);
    put_tags(frame);
    put_network(frame);
}

/* ---- The file ---------------------------------------------------------------------- */

static uint32_t captured_bytes(size_t size)
{
    uint32_t caplen = size < SNAPLEN_BYTES ? (uint32_t)size : SNAPLEN_BYTES;

    return one_in(30) ? random_below(caplen + 1) : caplen;
}

static bool write_packets(pcap_dumper_t *dumper, uint64_t count)
{
    struct frame frame;
    uint64_t microseconds = 0;

    for (uint64_t i = 0; i < count; i++) {
        struct pcap_pkthdr header = {0};

        make_frame(&frame);
        microseconds += random_below(40);
        header.ts.tv_sec = FIRST_SECOND + (time_t)(microseconds / 1000000);
        header.ts.tv_usec = (suseconds_t)(microseconds % 1000000);
        header.caplen = captured_bytes(frame.size);
        header.len = (bpf_u_int32)frame.size;
        pcap_dump((u_char *)dumper, &header, frame.bytes);
    }
    return pcap_dump_flush(dumper) == 0 && !ferror(pcap_dump_file(dumper));
}

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    *number = strtoull(text, &end, 0);
    return *end == '\0';
}

int main(int argc, char **argv)
{
    uint64_t count = COUNT_DEFAULT;
    uint64_t seed = SEED_DEFAULT;
    pcap_t *link;
    pcap_dumper_t *dumper;
    bool succeeds;

    if (argc < 2 || argc > 4 || argv[1][0] == '-' || (argc > 2 && !parse_number(argv[2], &count)) ||
        (argc > 3 && !parse_number(argv[3], &seed))) {
        fprintf(stderr, "Usage: mkcapture FILE [COUNT [SEED]]\n");
        return 2;
    }
    random_state = seed;

    link = pcap_open_dead(DLT_EN10MB, SNAPLEN_BYTES);
    dumper = link ? pcap_dump_open(link, argv[1]) : NULL;
    if (!dumper) {
        fprintf(stderr, "mkcapture: %s\n", link ? pcap_geterr(link) : "out of memory");
        return EXIT_FAILURE;
    }
    succeeds = write_packets(dumper, count);
    pcap_dump_close(dumper);
    pcap_close(link);
    if (!succeeds) {
        fprintf(stderr, "mkcapture: %s: write error\n", argv[1]);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
