/* SPDX-License-Identifier: MIT */
/*
 * What is found and what is not, at exact boundaries; and that the quick way of looking finds what
 * the plain one does, in random bytes and in real code, at every length and alignment.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/scan.h"
#include "proto/hello.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"

#define ALL (SCAN_SYSCALL | SCAN_PKU | SCAN_SEGMENT | SCAN_FAR)
#define LENGTH_MAX 200u

static uint64_t seed;

START_TEST(a_set_is_found_by_its_name_only)
{
    ck_assert_uint_eq(scan_set("syscall"), SCAN_SYSCALL);
    ck_assert_uint_eq(scan_set("pku"), SCAN_PKU);
    ck_assert_uint_eq(scan_set("segment"), SCAN_SEGMENT);
    ck_assert_uint_eq(scan_set("far"), SCAN_FAR);
    ck_assert_uint_eq(scan_set(""), 0);
    ck_assert_uint_eq(scan_set("Syscall"), 0);
    ck_assert_uint_eq(scan_set("syscalls"), 0);
}
END_TEST

/* ---- One instruction ------------------------------------------------------------------------ */

struct instruction {
    uint32_t set; /* 0: none */
    const char *name;
    uint8_t count;
    uint8_t bytes[4];
};

/* The first and the last of what belongs to it, and its neighbours, which do not. */
static const struct instruction instructions[] = {
#if defined(__aarch64__)
    {SCAN_SYSCALL, "svc", 4, {0x01, 0x00, 0x00, 0xD4}},
    {SCAN_SYSCALL, "svc", 4, {0xE1, 0xFF, 0x1F, 0xD4}},
    {0, "hvc", 4, {0x02, 0x00, 0x00, 0xD4}},
    {0, "brk", 4, {0x00, 0x00, 0x20, 0xD4}},
    {SCAN_PKU, "msr POR_EL0", 4, {0x80, 0xA2, 0x1B, 0xD5}},
    {SCAN_PKU, "msr POR_EL0", 4, {0x9F, 0xA2, 0x1B, 0xD5}},
    {0, "mrs of it", 4, {0x80, 0xA2, 0x3B, 0xD5}},
    {SCAN_SEGMENT, "msr TPIDR_EL0", 4, {0x40, 0xD0, 0x1B, 0xD5}},
    {SCAN_SEGMENT, "msr TPIDR_EL0", 4, {0x5F, 0xD0, 0x1B, 0xD5}},
    {0, "mrs of it", 4, {0x40, 0xD0, 0x3B, 0xD5}},
#else
    {SCAN_SYSCALL, "syscall", 2, {0x0F, 0x05}},
    {0, "0F 04", 2, {0x0F, 0x04}},
    {0, "clts", 2, {0x0F, 0x06}},
    {0, "sysret", 2, {0x0F, 0x07}},
    {SCAN_SYSCALL, "sysenter", 2, {0x0F, 0x34}},
    {0, "rdpmc", 2, {0x0F, 0x33}},
    {0, "sysexit", 2, {0x0F, 0x35}},
    {SCAN_SYSCALL, "int 0x80", 2, {0xCD, 0x80}},
    {0, "int 0x7F", 2, {0xCD, 0x7F}},
    {0, "int 0x81", 2, {0xCD, 0x81}},
    {0, "int3 and 80", 2, {0xCC, 0x80}},
    {SCAN_PKU, "wrpkru", 3, {0x0F, 0x01, 0xEF}},
    {0, "rdpkru", 3, {0x0F, 0x01, 0xEE}},
    {0, "0F 01 F0", 3, {0x0F, 0x01, 0xF0}},
    {SCAN_PKU, "xrstor", 3, {0x0F, 0xAE, 0x28}},
    {SCAN_PKU, "xrstor", 3, {0x0F, 0xAE, 0x2F}},
    {SCAN_PKU, "xrstor", 3, {0x0F, 0xAE, 0x68}},
    {SCAN_PKU, "xrstor", 3, {0x0F, 0xAE, 0xAF}},
    {0, "xsave", 3, {0x0F, 0xAE, 0x27}},
    {0, "xsaveopt", 3, {0x0F, 0xAE, 0x30}},
    {0, "lfence", 3, {0x0F, 0xAE, 0xE8}},
    {SCAN_PKU, "xrstors", 3, {0x0F, 0xC7, 0x18}},
    {SCAN_PKU, "xrstors", 3, {0x0F, 0xC7, 0x9F}},
    {0, "0F C7 /2", 3, {0x0F, 0xC7, 0x17}},
    {0, "xsavec", 3, {0x0F, 0xC7, 0x20}},
    {0, "cmpxchg16b", 3, {0x0F, 0xC7, 0x08}},
    {0, "0F C7 /3 of a register", 3, {0x0F, 0xC7, 0xD8}},
    {SCAN_SEGMENT, "wrfsbase", 3, {0x0F, 0xAE, 0xD0}},
    {SCAN_SEGMENT, "wrfsbase", 3, {0x0F, 0xAE, 0xD7}},
    {SCAN_SEGMENT, "wrgsbase", 3, {0x0F, 0xAE, 0xD8}},
    {SCAN_SEGMENT, "wrgsbase", 3, {0x0F, 0xAE, 0xDF}},
    {0, "rdgsbase", 3, {0x0F, 0xAE, 0xCF}},
    {0, "0F AE /4 of a register", 3, {0x0F, 0xAE, 0xE0}},
    {0, "ldmxcsr", 3, {0x0F, 0xAE, 0x10}},
    {SCAN_FAR, "far call", 2, {0xFF, 0x18}},
    {SCAN_FAR, "far call", 2, {0xFF, 0x9F}},
    {SCAN_FAR, "far jmp", 2, {0xFF, 0x28}},
    {SCAN_FAR, "far jmp", 2, {0xFF, 0xAF}},
    {0, "call", 2, {0xFF, 0x17}},
    {0, "jmp", 2, {0xFF, 0x20}},
    {0, "jmp", 2, {0xFF, 0x27}},
    {0, "push", 2, {0xFF, 0x30}},
    {0, "FF /3 of a register", 2, {0xFF, 0xD8}},
    {0, "FF /5 of a register", 2, {0xFF, 0xE8}},
    {SCAN_SYSCALL, "syscall", 3, {0xD5, 0x80, 0x05}},
    {SCAN_SYSCALL, "syscall", 3, {0xD5, 0xFF, 0x05}},
    {0, "add by REX2", 3, {0xD5, 0x7F, 0x05}},
    {SCAN_PKU, "wrpkru", 4, {0xD5, 0x80, 0x01, 0xEF}},
    {0, "rdpkru", 4, {0xD5, 0x80, 0x01, 0xEE}},
    {SCAN_SEGMENT, "wrgsbase", 4, {0xD5, 0x98, 0xAE, 0xDF}},
#endif
};

/* What stands around it, and is part of nothing. */
#define PADDING 0x90u

START_TEST(each_is_found_in_its_set_only_where_it_lies_whole)
{
    const struct instruction *instruction = &instructions[_i];
    uint8_t bytes[LENGTH_MAX];
    struct scan_hit hit;

    memset(bytes, PADDING, sizeof bytes);
    for (size_t at = 0; at + instruction->count <= sizeof bytes; at += SCAN_STEP_BYTES) {
        size_t end = at + instruction->count;

        memcpy(bytes + at, instruction->bytes, instruction->count);
        for (size_t count = end; count <= sizeof bytes && count < end + 70; count++) {
            if (instruction->set == 0) {
                ck_assert_msg(!scan_find(bytes, count, ALL, &hit), "%s is taken for %s", instruction->name,
                              hit.name);
                continue;
            }
            ck_assert_msg(scan_find(bytes, count, instruction->set, &hit), "%s at %zu of %zu is not found",
                          instruction->name, at, count);
            ck_assert_uint_eq(hit.index, at);
            ck_assert_uint_eq(hit.length, instruction->count);
            ck_assert_uint_eq(hit.set, instruction->set);
            ck_assert_str_eq(hit.name, instruction->name);
            ck_assert(!scan_find(bytes, count, ALL & ~instruction->set, &hit));
        }
        for (size_t cut = 1; cut < instruction->count; cut++)
            ck_assert(!scan_find(bytes, end - cut, ALL, &hit));
        memset(bytes + at, PADDING, instruction->count);
    }
}
END_TEST

START_TEST(none_reaches_further_than_it_is_said)
{
    ck_assert_uint_le(instructions[_i].count, SCAN_REACH_BYTES + 1);
}
END_TEST

START_TEST(the_first_of_several_is_told)
{
    uint8_t bytes[LENGTH_MAX];
    struct scan_hit hit;
    const struct instruction *instruction = &instructions[0];

    memset(bytes, PADDING, sizeof bytes);
    for (size_t last = 192; last > 0; last -= 4) {
        memcpy(bytes + last, instruction->bytes, instruction->count);
        ck_assert(scan_find(bytes, sizeof bytes, ALL, &hit));
        ck_assert_uint_eq(hit.index, last);
    }
}
END_TEST

START_TEST(nothing_is_found_in_nothing)
{
    const uint8_t byte = 0x0F;
    struct scan_hit hit;

    ck_assert(!scan_find(NULL, 0, ALL, &hit));
    ck_assert(!scan_find(&byte, 1, ALL, &hit));
    ck_assert(!scan_find(instructions[0].bytes, instructions[0].count, 0, &hit));
}
END_TEST

/*
 * So that what is released, shrunk off or reset beside code completes nothing there: that is filled by whole
 * granules, so an instruction with a byte of it would begin or end with one.
 */
START_TEST(no_instruction_begins_or_ends_with_trap_fill)
{
#if defined(__aarch64__)
    const uint32_t fill = FILL_PATTERN_DEFAULT;
    struct scan_hit hit;

    ck_assert(!scan_find((const uint8_t *)&fill, sizeof fill, ALL, &hit)); /* granules are whole words */
#else
    unsigned fills = 0;

    for (unsigned fill = 1; fill < 256; fill++) {
        if (!fill_pattern_traps(fill * 0x01010101u))
            continue;
        fills++;
        for (uint32_t others = 0; others < 1u << 16; others++) {
            const uint8_t low = (uint8_t)others;
            const uint8_t high = (uint8_t)(others >> 8);
            /* Alone behind D5 there are four bytes. */
            const uint8_t ended[] = {0xD5, low, high, (uint8_t)fill};
            const uint8_t begun[] = {(uint8_t)fill, low, high, 0x05};
            struct scan_hit hit;

            for (size_t from = 0; from < 3; from++)
                ck_assert_msg(!scan_find(ended + from, 4 - from, ALL, &hit) ||
                                  hit.index + hit.length < 4 - from,
                              "%s ends with fill %02x", hit.name, fill);
            ck_assert_msg(!scan_find(begun, 4, ALL, &hit) || hit.index > 0, "%s begins with fill %02x",
                          hit.name, fill);
        }
    }
    ck_assert_uint_eq(fills, 2);
#endif
}
END_TEST

static void expect_not_at(const uint8_t bytes[4], size_t place)
{
    struct scan_hit hit;

    ck_assert_msg(!scan_find(bytes, 4, ALL, &hit) || hit.index > place || hit.index + hit.length <= place,
                  "%s has a neutral byte", hit.name);
}

/* So that what is half replaced by it is nothing that neither the old bytes nor the new ones were. */
START_TEST(no_instruction_has_the_neutral_byte)
{
#if defined(__aarch64__)
    for (size_t i = 0; i < sizeof instructions / sizeof instructions[0]; i++) {
        for (unsigned places = 1; places < 16; places++) {
            uint8_t bytes[4];

            /* Byte 1 of svc is operand and nothing else: whatever it is, it is no less that svc, and no more.
             */
            if (places == 2 && instructions[i].set == SCAN_SYSCALL)
                continue;
            memcpy(bytes, instructions[i].bytes, sizeof bytes);
            for (size_t place = 0; place < 4; place++)
                bytes[place] = (places >> place & 1) != 0 ? SCAN_NEUTRAL_BYTE : bytes[place];
            expect_not_at(bytes, (size_t)__builtin_ctz(places));
        }
    }
#else
    static const uint8_t first[] = {0x0F, 0xD5, 0xCD, 0xFF, SCAN_NEUTRAL_BYTE};

    for (size_t i = 0; i < sizeof first; i++) {
        for (uint32_t others = 0; others < 1u << 16; others++) {
            const uint8_t low = (uint8_t)others;
            const uint8_t high = (uint8_t)(others >> 8);

            expect_not_at((const uint8_t[]){first[i], SCAN_NEUTRAL_BYTE, low, high}, 1);
            expect_not_at((const uint8_t[]){first[i], low, SCAN_NEUTRAL_BYTE, high}, 2);
            expect_not_at((const uint8_t[]){first[i], low, high, SCAN_NEUTRAL_BYTE}, 3);
            if (first[i] == SCAN_NEUTRAL_BYTE)
                expect_not_at((const uint8_t[]){first[i], low, high, 0x05}, 0);
        }
    }
#endif
}
END_TEST

/* ---- Quick and plain -------------------------------------------------------------------------- */

static void compare(const uint8_t *bytes, size_t count, uint32_t sets)
{
    struct scan_hit quick = {.index = 0};
    struct scan_hit plain = {.index = 0};
    bool found = scan_find_plainly(bytes, count, sets, &plain);

    ck_assert_msg(scan_find(bytes, count, sets, &quick) == found, "%zu bytes, sets %x: plainly %s", count,
                  sets, found ? "found" : "not found");
    if (!found)
        return;
    ck_assert_uint_eq(quick.index, plain.index);
    ck_assert_uint_eq(quick.length, plain.length);
    ck_assert_str_eq(quick.name, plain.name);
}

/* As random bytes, but with many that instructions begin with. */
static void roll(struct dice *dice, uint8_t *bytes, size_t count, unsigned percent)
{
    static const uint8_t likely[] = {0x0F, 0x0F, 0xCD, 0xFF, 0xD5, 0x01, 0x05, 0x34, 0x80,
                                     0xAE, 0xC7, 0xEF, 0x28, 0xD8, 0x18, 0x00, 0xD4, 0x1B};

    for (size_t i = 0; i < count; i++)
        bytes[i] =
            dice_percent(dice, percent) ? likely[dice_below(dice, sizeof likely)] : (uint8_t)dice_next(dice);
}

START_TEST(it_finds_what_the_plain_way_finds_at_every_length_and_alignment)
{
    struct dice dice = {seed + (uint64_t)_i};

    for (size_t count = 0; count <= LENGTH_MAX; count++) {
        for (size_t align = 0; align < 16; align += SCAN_STEP_BYTES) {
            uint8_t *bytes = malloc(align + count);

            ck_assert_ptr_nonnull(bytes);
            roll(&dice, bytes, align + count, (unsigned)dice_below(&dice, 60));
            compare(bytes + align, count, (uint32_t)dice_below(&dice, ALL + 1));
            free(bytes);
        }
    }
}
END_TEST

START_TEST(it_finds_what_the_plain_way_finds_in_changed_code)
{
    static uint8_t code[1 << 18];
    struct dice dice = {seed};
    FILE *file = fopen("/proc/self/exe", "re");
    size_t count;
    size_t windows = 0;

    ck_assert_ptr_nonnull(file);
    count = fread(code, 1, sizeof code, file);
    (void)fclose(file);
    for (size_t at = 0; at + 4096 <= count; at += 4096) {
        uint32_t sets = (uint32_t)dice_below(&dice, ALL) + 1;
        size_t from = 0;
        struct scan_hit hit;

        for (unsigned i = dice_below(&dice, 8) > 0 ? 16 : 0; i > 0; i--)
            roll(&dice, code + at + dice_below(&dice, 4093), 3, 80);
        while (from < 4096) {
            compare(code + at + from, 4096 - from, sets);
            if (!scan_find(code + at + from, 4096 - from, sets, &hit))
                break;
            from += hit.index + SCAN_STEP_BYTES;
        }
        windows++;
    }
    ck_assert_uint_gt(windows, 16);
}
END_TEST

int main(void)
{
    const int count = sizeof instructions / sizeof instructions[0];
    Suite *suite = suite_create("scan");
    TCase *one = tcase_create("one instruction");
    TCase *quick = tcase_create("quick and plain");

    seed = dice_seed();
    tcase_set_timeout(one, 0);
    tcase_add_test(one, a_set_is_found_by_its_name_only);
    tcase_add_loop_test(one, each_is_found_in_its_set_only_where_it_lies_whole, 0, count);
    tcase_add_loop_test(one, none_reaches_further_than_it_is_said, 0, count);
    tcase_add_test(one, the_first_of_several_is_told);
    tcase_add_test(one, nothing_is_found_in_nothing);
    tcase_add_test(one, no_instruction_has_the_neutral_byte);
    tcase_add_test(one, no_instruction_begins_or_ends_with_trap_fill);
    suite_add_tcase(suite, one);
    tcase_set_timeout(quick, 0);
    tcase_add_loop_test(quick, it_finds_what_the_plain_way_finds_at_every_length_and_alignment, 0, 5);
    tcase_add_test(quick, it_finds_what_the_plain_way_finds_in_changed_code);
    suite_add_tcase(suite, quick);
    return suite_run(suite);
}
