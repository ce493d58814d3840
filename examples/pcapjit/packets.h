/* SPDX-License-Identifier: MIT */
/* A capture in memory, packed end to end, so that reading the file is no part of what is measured. */
#ifndef PCAPJIT_PACKETS_H
#define PCAPJIT_PACKETS_H

#include <pcap/pcap.h>
#include <stddef.h>
#include <stdint.h>

struct packet {
    size_t offset; /* into packets.bytes */
    uint32_t caplen;
    uint32_t wirelen;
};

struct packets {
    struct packet *list;
    size_t count;
    size_t list_capacity;
    uint8_t *bytes;
    size_t size;
    size_t bytes_capacity;
};

enum packets_status {
    PACKETS_OK = 0,
    PACKETS_E_CAPTURE = 1 /* the file is damaged or cut short; pcap_geterr() says how */
};

/* Reads all that is left of `capture`. Negative errno: out of memory. */
int packets_init(struct packets *packets, pcap_t *capture);
void packets_deinit(struct packets *packets);

#endif
