/* SPDX-License-Identifier: MIT */
#include "daemon/scan.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static const struct {
    const char *name;
    uint32_t set;
} sets_by_name[] = {
    {"syscall", SCAN_SYSCALL},
    {"pku", SCAN_PKU},
    {"segment", SCAN_SEGMENT},
    {"far", SCAN_FAR},
};

uint32_t scan_set(const char *name)
{
    for (size_t i = 0; i < sizeof sets_by_name / sizeof sets_by_name[0]; i++) {
        if (strcmp(name, sets_by_name[i].name) == 0)
            return sets_by_name[i].set;
    }
    return 0;
}

#if defined(__aarch64__)

static const struct pattern {
    const char *name;
    uint32_t set;
    uint32_t mask;
    uint32_t value;
} patterns[] = {
    {"svc", SCAN_SYSCALL, 0xFFE0001Fu, 0xD4000001u},
    {"msr POR_EL0", SCAN_PKU, 0xFFFFFFE0u, 0xD51BA280u},
    {"msr TPIDR_EL0", SCAN_SEGMENT, 0xFFFFFFE0u, 0xD51BD040u},
};

/* The length by which the pattern is known, or 0 where it does not start at `at`. */
static size_t match(const struct pattern *pattern, const uint8_t *at, size_t left)
{
    uint32_t word;

    if (left < sizeof word)
        return 0;
    /* Instructions are little-endian, whatever data is. */
    word = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    return (word & pattern->mask) == pattern->value ? sizeof word : 0;
}

#else

/* What has to follow the opcode: nothing, this byte, or a ModRM byte with this number in its middle. */
enum then { THEN_NOTHING, THEN_BYTE, THEN_MEMORY, THEN_REGISTER };

static const struct pattern {
    const char *name;
    uint32_t set;
    bool is_two_byte; /* the opcode stands behind 0F, or REX2 */
    uint8_t opcode;
    uint8_t operand;
    enum then then;
} patterns[] = {
    {"syscall", SCAN_SYSCALL, true, 0x05, 0, THEN_NOTHING},
    {"sysenter", SCAN_SYSCALL, true, 0x34, 0, THEN_NOTHING},
    {"int 0x80", SCAN_SYSCALL, false, 0xCD, 0x80, THEN_BYTE},
    {"wrpkru", SCAN_PKU, true, 0x01, 0xEF, THEN_BYTE},
    {"xrstor", SCAN_PKU, true, 0xAE, 5, THEN_MEMORY},
    {"xrstors", SCAN_PKU, true, 0xC7, 3, THEN_MEMORY},
    {"wrfsbase", SCAN_SEGMENT, true, 0xAE, 2, THEN_REGISTER},
    {"wrgsbase", SCAN_SEGMENT, true, 0xAE, 3, THEN_REGISTER},
    {"far call", SCAN_FAR, false, 0xFF, 3, THEN_MEMORY},
    {"far jmp", SCAN_FAR, false, 0xFF, 5, THEN_MEMORY},
};

/* The bytes before a two-byte opcode, or 0. */
static size_t escape_at(const uint8_t *at, size_t left)
{
    if (at[0] == 0x0F)
        return 1;
    return left >= 2 && at[0] == 0xD5 && (at[1] & 0x80) != 0 ? 2 : 0;
}

static bool follows(const struct pattern *pattern, uint8_t byte)
{
    bool is_register = byte >= 0xC0;
    unsigned number = byte >> 3 & 7u;

    switch (pattern->then) {
    case THEN_MEMORY:
        return !is_register && number == pattern->operand;
    case THEN_REGISTER:
        return is_register && number == pattern->operand;
    case THEN_BYTE:
        return byte == pattern->operand;
    case THEN_NOTHING:
        break;
    }
    return true;
}

/* The length by which the pattern is known, or 0 where it does not start at `at`. */
static size_t match(const struct pattern *pattern, const uint8_t *at, size_t left)
{
    size_t escape = pattern->is_two_byte ? escape_at(at, left) : 0;
    size_t length = escape + (pattern->then == THEN_NOTHING ? 1 : 2);

    if (pattern->is_two_byte && escape == 0)
        return 0;
    if (left < length || at[escape] != pattern->opcode || !follows(pattern, at[length - 1]))
        return 0;
    return length;
}

#endif

static bool find_at(const uint8_t *bytes, size_t count, size_t index, uint32_t sets, struct scan_hit *hit)
{
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        const struct pattern *pattern = &patterns[i];
        size_t length = (pattern->set & sets) == 0 ? 0 : match(pattern, bytes + index, count - index);

        if (length == 0)
            continue;
        *hit = (struct scan_hit){index, length, pattern->set, pattern->name};
        return true;
    }
    return false;
}

static bool find_from(const uint8_t *bytes, size_t count, size_t from, uint32_t sets, struct scan_hit *hit)
{
    for (size_t index = from; index < count; index += SCAN_STEP_BYTES) {
        if (find_at(bytes, count, index, sets, hit))
            return true;
    }
    return false;
}

bool scan_find_plainly(const uint8_t *bytes, size_t count, uint32_t sets, struct scan_hit *hit)
{
    return find_from(bytes, count, 0, sets, hit);
}

#if defined(__SSE2__)

static __m128i load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static __m128i equal(__m128i bytes, unsigned value)
{
    return _mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)value));
}

#define LANES ((size_t)16)
/* Offsets that are looked at in one go. Each needs the byte that follows as well. */
#define STRIDE (4 * LANES)

/*
 * Of LANES offsets, those where a pattern may start, by its first two bytes: bit 7 of each lane. Where it
 * does is for find_at() to say, so it matters only that none is left out.
 */
static inline __attribute__((always_inline)) __m128i candidates(const uint8_t *at, bool far)
{
    __m128i first = load(at);
    __m128i second = load(at + 1);
    __m128i opcode = _mm_or_si128(_mm_or_si128(equal(second, 0x05), equal(second, 0x34)),
                                  _mm_or_si128(equal(second, 0x01), equal(second, 0xAE)));
    __m128i found = _mm_and_si128(equal(first, 0x0F), _mm_or_si128(opcode, equal(second, 0xC7)));

    found = _mm_or_si128(found, _mm_and_si128(equal(first, 0xD5), second));
    found = _mm_or_si128(found, _mm_and_si128(equal(first, 0xCD), equal(second, 0x80)));
    if (far) {
        __m128i number = _mm_and_si128(second, _mm_set1_epi8(0x38));
        __m128i is_far = _mm_or_si128(equal(number, 3 << 3), equal(number, 5 << 3));
        /* C0 and up, which as a signed byte is negative and not below -64. */
        __m128i is_register = _mm_andnot_si128(_mm_cmpgt_epi8(_mm_set1_epi8(-64), second), second);

        found = _mm_or_si128(found, _mm_and_si128(equal(first, 0xFF), _mm_andnot_si128(is_register, is_far)));
    }
    return found;
}

/* Of STRIDE offsets, the first that find_at() takes. */
static inline __attribute__((always_inline)) bool find_in(const uint8_t *bytes, size_t count, size_t index,
                                                          uint32_t sets, bool far, struct scan_hit *hit)
{
    const uint8_t *at = bytes + index;
    const __m128i parts[] = {candidates(at, far), candidates(at + LANES, far),
                             candidates(at + 2 * LANES, far), candidates(at + 3 * LANES, far)};
    uint64_t mask;

    if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(parts[0], parts[1]), _mm_or_si128(parts[2], parts[3]))) ==
        0)
        return false;
    mask = (uint64_t)(unsigned)_mm_movemask_epi8(parts[0]) |
           (uint64_t)(unsigned)_mm_movemask_epi8(parts[1]) << LANES |
           (uint64_t)(unsigned)_mm_movemask_epi8(parts[2]) << 2 * LANES |
           (uint64_t)(unsigned)_mm_movemask_epi8(parts[3]) << 3 * LANES;
    for (; mask != 0; mask &= mask - 1) {
        size_t candidate = index + (unsigned)__builtin_ctzll(mask);

        if (candidate < count && find_at(bytes, count, candidate, sets, hit))
            return true;
    }
    return false;
}

static inline __attribute__((always_inline)) bool find(const uint8_t *bytes, size_t count, uint32_t sets,
                                                       bool far, struct scan_hit *hit)
{
    uint8_t few[STRIDE + 1];
    size_t index = 0;

    if (count > STRIDE) {
        for (; index < count - STRIDE; index += STRIDE) {
            if (find_in(bytes, count, index, sets, far, hit))
                return true;
        }
        /* The rest once more with some that came before. The last byte alone is no instruction. */
        return find_in(bytes, count, count - STRIDE - 1, sets, far, hit);
    }
    memset(few, 0, sizeof few);
    if (count > 0)
        memcpy(few, bytes, count);
    return find_in(few, count, 0, sets, far, hit);
}

bool scan_find(const uint8_t *bytes, size_t count, uint32_t sets, struct scan_hit *hit)
{
    /* Far pointers cost more, and are asked for less. */
    return (sets & SCAN_FAR) != 0 ? find(bytes, count, sets, true, hit)
                                  : find(bytes, count, sets, false, hit);
}

#else

bool scan_find(const uint8_t *bytes, size_t count, uint32_t sets, struct scan_hit *hit)
{
    return scan_find_plainly(bytes, count, sets, hit);
}

#endif
