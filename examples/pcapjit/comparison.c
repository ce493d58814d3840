/* SPDX-License-Identifier: MIT */
/*
 * Both passes do the same to the same memory: read a packet's header, get a verdict,
 * store it. The verdicts are compared afterwards, outside the measured time.
 *
 * A pass goes by slices. What is timed finds its slice in the processor's cache, as a
 * filter finds a packet that has just been received: otherwise a large capture
 * measures the memory, which is the same for both.
 */
#include "comparison.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_PACKETS 1024u
#define CACHE_LINE_BYTES 64u
#define HEADERS_BYTES 256u

/* One of the two that are compared. */
struct contender {
    const struct bpf_program *program; /* NULL: the code */
    bpf_jit_function function;
    uint32_t *verdicts;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void warm(const struct packets *packets, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        const volatile uint8_t *bytes = packets->bytes + packets->list[i].offset;

        for (uint32_t at = 0; at < packets->list[i].caplen && at < HEADERS_BYTES; at += CACHE_LINE_BYTES)
            (void)bytes[at];
    }
}

static void run_code(const struct contender *contender, const struct packets *packets, size_t first,
                     size_t end)
{
    bpf_jit_function function = contender->function;

    for (size_t i = first; i < end; i++) {
        const struct packet *packet = &packets->list[i];

        contender->verdicts[i] = function(packets->bytes + packet->offset, packet->caplen, packet->wirelen);
    }
}

static void run_interpreter(const struct contender *contender, const struct packets *packets, size_t first,
                            size_t end)
{
    const struct bpf_insn *program = contender->program->bf_insns;

    for (size_t i = first; i < end; i++) {
        const struct packet *packet = &packets->list[i];

        contender->verdicts[i] =
            bpf_filter(program, packets->bytes + packet->offset, packet->wirelen, packet->caplen);
    }
}

/* The time that all packets took. */
static uint64_t pass(const struct contender *contender, const struct packets *packets)
{
    uint64_t total = 0;

    for (size_t first = 0; first < packets->count; first += SLICE_PACKETS) {
        size_t end = packets->count - first < SLICE_PACKETS ? packets->count : first + SLICE_PACKETS;
        uint64_t start;

        warm(packets, first, end);
        start = now_ns();
        if (contender->program)
            run_interpreter(contender, packets, first, end);
        else
            run_code(contender, packets, first, end);
        total += now_ns() - start;
    }
    return total;
}

static void compare(struct comparison *comparison, const uint32_t *code, const uint32_t *libpcap,
                    size_t count)
{
    size_t matches = 0;
    size_t mismatches = 0;

    for (size_t i = 0; i < count; i++) {
        matches += code[i] != 0;
        if (code[i] == libpcap[i])
            continue;
        if (mismatches++ == 0) {
            comparison->mismatch_first = i;
            comparison->mismatch_code = code[i];
            comparison->mismatch_libpcap = libpcap[i];
        }
    }
    comparison->matches = matches;
    if (mismatches > comparison->mismatches)
        comparison->mismatches = mismatches;
}

static void keep_fastest(uint64_t *best, uint64_t time)
{
    if (*best == 0 || time < *best)
        *best = time;
}

int comparison_run(struct comparison *comparison, const struct packets *packets,
                   const struct bpf_program *program, bpf_jit_function function, unsigned rounds)
{
    size_t count = packets->count;
    struct contender code = {.function = function, .verdicts = calloc(count + 1, sizeof(uint32_t))};
    struct contender libpcap = {.program = program, .verdicts = calloc(count + 1, sizeof(uint32_t))};
    int r = -ENOMEM;

    *comparison = (struct comparison){0};
    if (code.verdicts && libpcap.verdicts) {
        for (unsigned round = 0; round < rounds; round++) {
            /* Two fillings, so that a verdict that was never stored shows. */
            memset(code.verdicts, 0xc0, count * sizeof(uint32_t));
            memset(libpcap.verdicts, 0x11, count * sizeof(uint32_t));
            keep_fastest(&comparison->code_ns, pass(&code, packets));
            keep_fastest(&comparison->interpreter_ns, pass(&libpcap, packets));
            compare(comparison, code.verdicts, libpcap.verdicts, count);
        }
        r = 0;
    }
    free(code.verdicts);
    free(libpcap.verdicts);
    return r;
}
