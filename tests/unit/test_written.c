/* SPDX-License-Identifier: MIT */
/* What was written once: compared with a byte a granule. */
#include <stdlib.h>
#include <string.h>

#include "daemon/written.h"
#include "proto/limits.h"
#include "tests/harness/suite.h"
#include "tests/unit/dice.h"

#define ARENA_BYTES (4 * (uint64_t)BLOCK_BYTES)

static uint64_t seed;

START_TEST(granules_are_marked_and_cleared_exactly)
{
    uint64_t words[ARENA_BYTES / 64 / 64] = {0};
    struct written written = {words, 64};

    written_set(&written, 64, 1);
    ck_assert(!written_any(&written, 0, 64));
    ck_assert(written_any(&written, 0, 65));
    ck_assert(written_any(&written, 127, 1));
    ck_assert(!written_any(&written, 128, ARENA_BYTES - 128));
    ck_assert(!written_any(&written, 64, 0));
    written_set(&written, 64 * 64 - 1, 2); /* across two words */
    ck_assert(written_any(&written, 63 * 64, 1) && written_any(&written, 64 * 64, 1));
    ck_assert(!written_any(&written, 62 * 64, 64) && !written_any(&written, 65 * 64, 64));
    written_clear(&written, 64 * 64, 64);
    ck_assert(written_any(&written, 63 * 64, 64) && !written_any(&written, 64 * 64, 64));
    written_set(&written, ARENA_BYTES - 1, 1);
    ck_assert(written_any(&written, ARENA_BYTES - 64, 64));
}
END_TEST

START_TEST(without_a_map_nothing_is_noted)
{
    struct written written = {0};

    written_set(&written, 0, 64);
    written_clear(&written, 0, 64);
    ck_assert(!written_any(&written, 0, 64));
}
END_TEST

START_TEST(random_ranges_are_as_in_a_model)
{
    struct dice dice = {seed};

    for (uint32_t granularity = 64; granularity <= 256; granularity *= 2) {
        uint64_t granules = ARENA_BYTES / granularity;
        uint8_t *model = calloc(granules, 1);
        uint64_t words[ARENA_BYTES / 64 / 64] = {0};
        struct written written = {words, granularity};

        ck_assert_ptr_nonnull(model);
        for (int i = 0; i < 20000; i++) {
            uint64_t offset = dice_below(&dice, ARENA_BYTES);
            uint64_t most = ARENA_BYTES - offset < 20000 ? ARENA_BYTES - offset : 20000;
            uint64_t bytes = dice_below(&dice, most + 1);
            uint64_t first = offset / granularity;
            uint64_t end = bytes == 0 ? first : (offset + bytes - 1) / granularity + 1;

            switch (dice_below(&dice, 4)) {
            case 0:
                written_set(&written, offset, bytes);
                memset(model + first, 1, end - first);
                break;
            case 1:
                written_clear(&written, first * granularity, (end - first) * granularity);
                memset(model + first, 0, end - first);
                break;
            default:
                ck_assert_int_eq(written_any(&written, offset, bytes),
                                 memchr(model + first, 1, end - first) != NULL);
            }
        }
        free(model);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("written");
    TCase *tcase = tcase_create("granules");

    seed = dice_seed();
    tcase_add_test(tcase, granules_are_marked_and_cleared_exactly);
    tcase_add_test(tcase, without_a_map_nothing_is_noted);
    tcase_add_test(tcase, random_ranges_are_as_in_a_model);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
