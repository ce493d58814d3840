/* SPDX-License-Identifier: MIT */
/* Huge pages behind an arena: no byte changes or appears by them, and the count of them is true. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "daemon/arena.h"
#include "proto/limits.h"
#include "tests/harness/smaps.h"
#include "tests/harness/suite.h"

#define UNIT ((uint64_t)BLOCK_BYTES)
#define HUGE HUGE_PAGE_BYTES
#define RESERVED (4 * HUGE)
#define TRAP 0xCCCCCCCCu

static struct arena arena;
static const uint8_t *rx; /* all of it, as the client has it */

/* False, after saying so, where there are none. */
static bool begin(int kind)
{
    uint8_t *room;
    int fd;

    if (!arena_can_be_huge()) {
        printf("skipped: this kernel has no huge pages for arenas\n");
        return false;
    }
    ck_assert_int_eq(arena_init(&arena, (enum arena_kind)kind, RESERVED, TRAP, true), 0);
    ck_assert_uint_eq((uintptr_t)arena.bytes % HUGE, 0);
    fd = arena_open_read_only(&arena);
    ck_assert_int_ge(fd, 0);
    room = mmap(NULL, RESERVED + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(room, MAP_FAILED);
    room += -(uintptr_t)room % HUGE;
    rx = mmap(room, RESERVED, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0);
    ck_assert_ptr_eq(rx, room);
    return true;
}

static void end(void)
{
    arena_deinit(&arena);
}

static void grow(uint64_t bytes)
{
    ck_assert_int_eq(arena_grow(&arena, bytes), 0);
}

/* Collapses all that can be; returns how many calls did something. */
static unsigned collapse_all(void)
{
    unsigned calls = 0;

    for (uint64_t before = UINT64_MAX; before != arena.huge_bytes; calls++) {
        before = arena.huge_bytes;
        ck_assert_int_eq(arena_collapse(&arena), 0);
    }
    return calls - 1;
}

static void assert_filled(uint64_t from, uint64_t to)
{
    static const uint8_t trap[64] = {[0 ... 63] = TRAP & 0xFF};

    for (uint64_t at = from; at < to; at += sizeof trap) {
        if (memcmp(rx + at, trap, sizeof trap) != 0)
            ck_abort_msg("no trap fill at 0x%" PRIx64, at);
    }
}

static uint64_t file_bytes(void)
{
    struct stat status;

    ck_assert_int_eq(fstat(arena.fd, &status), 0);
    return (uint64_t)status.st_size;
}

/* ---- Every kind ---------------------------------------------------------------------- */

START_TEST(an_extent_gets_its_huge_page_when_all_of_it_has_grown)
{
    if (!begin(_i))
        return;
    grow(HUGE - UNIT);
    ck_assert_uint_eq(collapse_all(), 0);
    ck_assert_uint_eq(arena.huge_bytes, 0);
    grow(HUGE);
    ck_assert_uint_eq(collapse_all(), 1);
    ck_assert_uint_eq(arena.huge_bytes, HUGE);
    grow(2 * HUGE - UNIT);
    ck_assert_uint_eq(collapse_all(), 0);
    ck_assert_uint_eq(file_bytes(), 2 * HUGE - UNIT);
}
END_TEST

START_TEST(the_kernel_says_that_both_views_have_it)
{
    if (!begin(_i))
        return;
    grow(2 * HUGE);
    assert_filled(0, 2 * HUGE);
    ck_assert_uint_eq(smaps_huge_bytes(rx), 0);
    ck_assert_uint_eq(collapse_all(), 2);
    assert_filled(0, 2 * HUGE);
    ck_assert_uint_eq(smaps_huge_bytes(rx), 2 * HUGE);
    ck_assert_uint_eq(smaps_huge_bytes(arena.bytes), 2 * HUGE);
}
END_TEST

START_TEST(no_byte_changes_by_it)
{
    if (!begin(_i))
        return;
    grow(HUGE + UNIT);
    for (uint64_t at = 0; at < HUGE; at += UNIT)
        arena_write(&arena, at + at / 1024, &at, sizeof at);
    ck_assert_uint_eq(collapse_all(), 1);
    for (uint64_t at = 0; at < HUGE; at += UNIT)
        ck_assert_mem_eq(rx + at + at / 1024, &at, sizeof at);
    arena_fill(&arena, 0, HUGE);
    assert_filled(0, HUGE + UNIT);
    /* What is written, filled and patched from here on arrives as before. */
    arena_write(&arena, HUGE - 4, "new code", 8);
    ck_assert_mem_eq(rx + HUGE - 4, "new code", 8);
    ck_assert_uint_eq(arena_patch(&arena, 4096, 4, TRAP, 7), TRAP);
    ck_assert_uint_eq(rx[4096], 7);
}
END_TEST

START_TEST(a_call_makes_one)
{
    if (!begin(_i))
        return;
    grow(RESERVED);
    for (uint64_t pages = 1; pages <= 4; pages++) {
        ck_assert_int_eq(arena_collapse(&arena), 0);
        ck_assert_uint_eq(arena.huge_bytes, pages * HUGE);
    }
    ck_assert_int_eq(arena_collapse(&arena), 0);
    ck_assert_uint_eq(arena.huge_bytes, RESERVED);
}
END_TEST

START_TEST(what_the_kernel_refuses_is_tried_again_after_as_much_growth)
{
    if (!begin(_i))
        return;
    grow(HUGE + UNIT);
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    ck_assert_int_eq(arena_collapse(&arena), -EINVAL);
    ck_assert_int_eq(arena_collapse(&arena), 0); /* not tried */
    ck_assert_uint_eq(arena.huge_bytes, 0);
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
    ck_assert_uint_eq(collapse_all(), 0);
    grow(2 * HUGE);
    ck_assert_uint_eq(collapse_all(), 2);
    assert_filled(0, 2 * HUGE);
}
END_TEST

START_TEST(it_gets_none_that_asked_for_none)
{
    ck_assert_int_eq(arena_init(&arena, (enum arena_kind)_i, RESERVED, TRAP, false), 0);
    grow(2 * HUGE);
    ck_assert_int_eq(arena_collapse(&arena), 0);
    ck_assert_uint_eq(arena.huge_bytes, 0);
}
END_TEST

START_TEST(what_was_revoked_leaves_nothing_unless_it_is_sealed)
{
    struct stat status;

    if (!begin(_i))
        return;
    grow(2 * HUGE);
    ck_assert_uint_eq(collapse_all(), 2);
    arena_revoke(&arena);
    ck_assert_int_eq(fstat(arena.fd, &status), 0);
    ck_assert_uint_eq((uint64_t)status.st_blocks * 512, _i == ARENA_SEALED ? 2 * HUGE : 0);
}
END_TEST

/* ---- One kind ------------------------------------------------------------------------ */

START_TEST(a_huge_page_is_given_back_whole)
{
    if (!begin(ARENA_THROUGH))
        return;
    grow(3 * HUGE + 5 * UNIT);
    ck_assert_uint_eq(collapse_all(), 3);
    ck_assert(arena_trim(&arena, 3 * HUGE + UNIT));
    ck_assert_uint_eq(arena.grown_bytes, 3 * HUGE + UNIT);
    ck_assert(arena_trim(&arena, HUGE + UNIT));
    ck_assert_uint_eq(arena.grown_bytes, 2 * HUGE);
    ck_assert_uint_eq(arena.huge_bytes, 2 * HUGE);
    ck_assert_uint_eq(file_bytes(), 2 * HUGE);
    ck_assert(arena_trim(&arena, HUGE));
    ck_assert_uint_eq(arena.huge_bytes, HUGE);
    assert_filled(0, HUGE);
    ck_assert_uint_eq(smaps_huge_bytes(rx), HUGE);
    ck_assert(arena_trim(&arena, 1 * UNIT));
    ck_assert_uint_eq(arena.grown_bytes, HUGE);
    ck_assert(arena_trim(&arena, 0));
    ck_assert_uint_eq(arena.grown_bytes, 0);
    ck_assert_uint_eq(arena.huge_bytes, 0);
    ck_assert_uint_eq(file_bytes(), 0);
}
END_TEST

START_TEST(what_grows_again_is_trap_fill_and_gets_a_huge_page_again)
{
    if (!begin(ARENA_THROUGH))
        return;
    grow(2 * HUGE);
    ck_assert_uint_eq(collapse_all(), 2);
    arena_write(&arena, 2 * HUGE - 4, "gone", 4);
    arena_write(&arena, HUGE - 4, "kept", 4);
    ck_assert(arena_trim(&arena, HUGE));
    grow(HUGE + UNIT);
    ck_assert_uint_eq(collapse_all(), 0);
    grow(2 * HUGE);
    assert_filled(HUGE, 2 * HUGE);
    ck_assert_uint_eq(collapse_all(), 1);
    assert_filled(HUGE, 2 * HUGE);
    ck_assert_mem_eq(rx + HUGE - 4, "kept", 4);
    ck_assert_uint_eq(smaps_huge_bytes(rx), 2 * HUGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena: huge pages");
    TCase *every = tcase_create("every kind");
    TCase *one = tcase_create("one kind");
    const int kinds = ARENA_DIRECT + 1;

    tcase_add_checked_fixture(every, NULL, end);
    tcase_add_loop_test(every, an_extent_gets_its_huge_page_when_all_of_it_has_grown, 0, kinds);
    tcase_add_loop_test(every, the_kernel_says_that_both_views_have_it, 0, kinds);
    tcase_add_loop_test(every, no_byte_changes_by_it, 0, kinds);
    tcase_add_loop_test(every, a_call_makes_one, 0, kinds);
    tcase_add_loop_test(every, what_the_kernel_refuses_is_tried_again_after_as_much_growth, 0, kinds);
    tcase_add_loop_test(every, it_gets_none_that_asked_for_none, 0, kinds);
    tcase_add_loop_test(every, what_was_revoked_leaves_nothing_unless_it_is_sealed, 0, kinds);
    suite_add_tcase(suite, every);
    tcase_add_checked_fixture(one, NULL, end);
    tcase_add_test(one, a_huge_page_is_given_back_whole);
    tcase_add_test(one, what_grows_again_is_trap_fill_and_gets_a_huge_page_again);
    suite_add_tcase(suite, one);
    return suite_run(suite);
}
