/* SPDX-License-Identifier: MIT */
/* Reads a capture into two arrays that double as they fill. */
#include "packets.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LIST_COUNT_FIRST 4096u
#define BYTES_FIRST (1u << 20)

/* Makes room for `needed` elements of `size` bytes. Leaves the array alone when it can't. */
static bool reserve(void **array, size_t *capacity, size_t needed, size_t size, size_t first)
{
    size_t wanted = *capacity ? *capacity : first;
    void *grown;

    while (wanted < needed) {
        if (__builtin_mul_overflow(wanted, (size_t)2, &wanted))
            return false;
    }
    if (wanted == *capacity)
        return true;
    grown = reallocarray(*array, wanted, size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

static int append(struct packets *packets, const struct pcap_pkthdr *header, const u_char *bytes)
{
    size_t size;

    if (__builtin_add_overflow(packets->size, (size_t)header->caplen, &size) ||
        !reserve((void **)&packets->bytes, &packets->bytes_capacity, size, 1, BYTES_FIRST) ||
        !reserve((void **)&packets->list, &packets->list_capacity, packets->count + 1, sizeof *packets->list,
                 LIST_COUNT_FIRST))
        return -ENOMEM;

    packets->list[packets->count++] =
        (struct packet){.offset = packets->size, .caplen = header->caplen, .wirelen = header->len};
    memcpy(packets->bytes + packets->size, bytes, header->caplen);
    packets->size = size;
    return 0;
}

int packets_init(struct packets *packets, pcap_t *capture)
{
    struct pcap_pkthdr *header;
    const u_char *bytes;
    int found;
    int r = 0;

    *packets = (struct packets){0};
    while (r == 0 && (found = pcap_next_ex(capture, &header, &bytes)) == 1)
        r = append(packets, header, bytes);
    if (r == 0 && found == PCAP_ERROR)
        r = PACKETS_E_CAPTURE;
    if (r != 0)
        packets_deinit(packets);
    return r;
}

void packets_deinit(struct packets *packets)
{
    free(packets->list);
    free(packets->bytes);
    *packets = (struct packets){0};
}
