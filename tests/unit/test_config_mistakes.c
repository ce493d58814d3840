/* SPDX-License-Identifier: MIT */
/* The configuration: every kind of mistake is told with its file, line and reason, and nothing is taken over.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/config_steps.h"
#include "tests/unit/dice.h"

#define FILE_MAX ((size_t)1 << 20)

static uint64_t seed;

/* ---- What is not --------------------------------------------------------------------- */

START_TEST(bad_numbers_are_told)
{
    const char *const bad[] = {"",    "-1",  "+1", "x",     "1x",       "0x10", "1e3", "1.0",
                               "1 2", "1,0", "''", "\"5\"", "\xD9\xA1", "--1",  "1-2", "true"};
    char text[128];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text, "[daemon]\nsessions_max=%s\n", bad[i]);
        assert_mistake(text, 2, "not a whole number");
        (void)snprintf(text, sizeof text, "# one\n# two\n[class default]\nbytes_max=%s\n", bad[i]);
        assert_mistake(text, 4, "not a whole number");
    }
}
END_TEST

START_TEST(numbers_beyond_64_bits_are_too_large_and_not_something_else)
{
    assert_mistake("[class default]\nrate=18446744073709551615\n", 2, "not between");
    assert_mistake("[class default]\nrate=18446744073709551616\n", 2, "too large");
    assert_mistake("[class default]\nrate=99999999999999999999999999\n", 2, "too large");
    assert_mistake("[class default]\nbytes_max=18446744073709551616\n", 2, "too large");
    /* Leading zeros are no harm. */
    assert_reads("[class default]\nrate=00000000000000000000000000000012\n");
    ck_assert_uint_eq(class_default()->rate, 12);
}
END_TEST

START_TEST(unknown_keys_and_sections_are_told)
{
    assert_mistake("[daemon]\n\nnonsense=1\n", 3, "[daemon] has no key nonsense");
    assert_mistake("[daemon]\nrate=1\n", 2, "[daemon] has no key rate");
    assert_mistake("[class default]\nsessions_max=1\n", 2, "[class default] has no key sessions_max");
    assert_mistake("[class default]\nRate=1\n", 2, "has no key Rate");
    assert_mistake("[class default]\n=1\n", 2, "has no key");
    assert_mistake("[nonsense]\nrate=1\n", 1, "[nonsense] is no section");
    assert_mistake("[class]\nrate=1\n", 1, "[class] is no section");
    assert_mistake("[class ]\nrate=1\n", 1, "1 to 31 characters");
    assert_mistake("[class a b]\nrate=1\n", 1, "letters, digits");
    assert_mistake("[class web]\nrate=1\n", 1, "[class web] does not say who is in it");
    assert_mistake("[class web]\nuid=1\nnonsense=1\n", 3, "[class web] has no key nonsense");
    assert_mistake("[Daemon]\nsessions_max=1\n", 1, "[Daemon] is no section");
    assert_mistake("[daemo]\nsessions_max=1\n", 1, "[daemo] is no section");
    assert_mistake("[daemons]\nsessions_max=1\n", 1, "[daemons] is no section");
    assert_mistake("[daemon ]\nsessions_max=1\n", 1, "[daemon ] is no section");
    assert_mistake("[]\nrate=1\n", 1, "[] is no section");
    assert_mistake("[daemon]garbage\n", 1, "behind the ]");
    assert_mistake("[daemon] sessions_max=1\n", 1, "behind the ]");
    assert_mistake("rate=1\n", 1, "before any section");
}
END_TEST

START_TEST(an_unknown_section_is_told_although_it_is_empty)
{
    assert_mistake("[daemon]\n[clas default]\n#rate=1\n", 2, "[clas default] is no section");
    assert_mistake("[nonsense]", 1, "[nonsense] is no section");
}
END_TEST

START_TEST(a_byte_order_mark_hides_no_mistake_behind_it)
{
    assert_mistake("\xEF\xBB\xBF[nonsense]\n", 1, "[nonsense] is no section");
    assert_mistake("\xEF\xBB\xBFrate=1\n", 1, "before any section");
}
END_TEST

START_TEST(what_is_no_ini_line_is_told)
{
    assert_mistake("[daemon]\nsessions_max\n", 2, "neither");
    assert_mistake("[daemon\nsessions_max=1\n", 1, "neither");
    assert_mistake("[daemon]\n\n\nhello there\n", 4, "neither");
}
END_TEST

START_TEST(a_line_that_starts_with_a_blank_is_told)
{
    assert_mistake("[class default]\nrate=6\n  7\n", 3, "starts with a blank");
    assert_mistake("[class default]\n rate=6\n", 2, "starts with a blank");
    assert_mistake("[class default]\nrate=6\n\tspan_max=7\n", 3, "starts with a blank");
    assert_mistake(" [class default]\n", 1, "starts with a blank");
    assert_mistake("\xEF\xBB\xBF\n [class default]\n", 2, "starts with a blank");
}
END_TEST

START_TEST(the_first_mistake_is_the_one_told)
{
    assert_mistake("[daemon]\nsessions_max=x\nnonsense=1\nwhat\n", 2, "not a whole number");
    assert_mistake("[daemon]\nwhat\nsessions_max=x\n", 2, "neither");
    assert_mistake("[daemon]\nnonsense=1\nwhat\nsessions_max=x\n", 2, "no key nonsense");
    /* Before what only the file as a whole shows. */
    assert_mistake("[class default]\narena=2G\nrate=x\n", 3, "not a whole number");
}
END_TEST

START_TEST(an_arena_above_the_largest_is_told)
{
    assert_mistake("[class default]\narena=2G\n", 2, "above arena_max");
    assert_mistake("[class default]\narena_max=32M\n", 1, "above arena_max");
    assert_mistake("[class default]\narena_max=1M\narena=1088K\n", 3, "above arena_max");
    assert_reads("[class default]\narena_max=1M\narena=1M\n");
}
END_TEST

/* name=000...01 with so many characters before the newline. */
static size_t long_line(char *text, size_t characters)
{
    size_t at = (size_t)sprintf(text, "[class default]\nrate=");

    memset(text + at, '0', characters - 5);
    at += characters - 5;
    text[at - 1] = '1';
    return at;
}

START_TEST(a_line_has_at_most_198_characters)
{
    char text[4096];
    size_t used = long_line(text, 198);

    assert_reads_bytes(text, used);
    ck_assert_uint_eq(class_default()->rate, 1);
    text[used] = '\n';
    assert_reads_bytes(text, used + 1);
    ck_assert_uint_eq(class_default()->rate, 1);
    for (size_t characters = 199; characters < 1000; characters += characters < 205 ? 1 : 97) {
        used = long_line(text, characters);
        write_bytes(text, used);
        assert_told(2, "longer than 198 characters");
        text[used++] = '\n';
        write_bytes(text, used);
        assert_told(2, "longer than 198 characters");
        /* A comment, too: its rest must not be read as a line. */
        memcpy(text + 16, "#####", 5);
        write_bytes(text, used);
        assert_told(2, "longer than 198 characters");
    }
}
END_TEST

START_TEST(a_byte_0_does_not_hide_the_rest_of_its_line)
{
    static const char hidden[] = "[class default]\nrate=1\0000000\nspan_max=5\n";
    static const char comment[] = "# \0\n[class default]\nrate=1\n";

    write_bytes(hidden, sizeof hidden - 1);
    assert_told(2, "byte 0");
    write_bytes(comment, sizeof comment - 1);
    assert_told(1, "byte 0");
}
END_TEST

START_TEST(a_long_line_with_a_byte_0_is_not_read_as_two)
{
    char text[1024];
    size_t used = long_line(text, 400);

    text[60] = '\0';
    memcpy(text + 16 + 199, "span_max=7\n", 11); /* where a buffer of 200 ends */
    write_bytes(text, used);
    assert_told(2, "byte 0");
}
END_TEST

START_TEST(binary_garbage_is_refused)
{
    struct dice dice = {seed};
    uint8_t bytes[5000];

    for (int round = 0; round < 300; round++) {
        size_t count = 20 + (size_t)dice_below(&dice, sizeof bytes - 20);

        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)dice_next(&dice);
        bytes[0] = '!'; /* no comment */
        bytes[1] = '\n';
        write_bytes(bytes, count);
        assert_told(1, "");
    }
}
END_TEST

/* ---- Files --------------------------------------------------------------------------- */

START_TEST(a_file_that_is_not_there_is_told)
{
    assert_told(0, strerror(ENOENT));
    ck_assert_int_eq(symlink("nowhere", path), 0);
    assert_told(0, strerror(ENOENT));
}
END_TEST

START_TEST(what_is_no_file_is_told_and_does_not_hang)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
    assert_told(0, "not a regular file");
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    assert_told(0, "not a regular file");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/zero", path), 0);
    assert_told(0, "not a regular file");
}
END_TEST

START_TEST(a_file_that_may_not_be_read_is_told)
{
    if (geteuid() == 0) {
        printf("a_file_that_may_not_be_read_is_told: skipped, root may read everything\n");
        return;
    }
    write_bytes("", 0);
    ck_assert_int_eq(chmod(path, 0), 0);
    assert_told(0, strerror(EACCES));
}
END_TEST

START_TEST(a_file_of_1_mib_is_read_and_no_larger_one)
{
    char *text = malloc(FILE_MAX + 1);
    const char last[] = "[daemon]\nwhat";

    ck_assert_ptr_nonnull(text);
    memset(text, '\n', FILE_MAX + 1);
    assert_reads_bytes(text, FILE_MAX); /* a million lines */
    assert_defaults();
    write_bytes(text, FILE_MAX + 1);
    assert_told(0, "larger than 1048576 bytes");
    memcpy(text + FILE_MAX - strlen(last), last, strlen(last));
    write_bytes(text, FILE_MAX);
    assert_told((int)(FILE_MAX - strlen(last)) + 2, "neither");
    free(text);
}
END_TEST

START_TEST(a_huge_file_is_not_read_at_all)
{
    write_bytes("", 0);
    ck_assert_int_eq(truncate(path, (off_t)1 << 40), 0);
    assert_told(0, "larger than");
}
END_TEST

START_TEST(a_short_buffer_gets_the_beginning)
{
    char small[16];

    write_bytes("what\n", 5);
    memset(small, 0xAA, sizeof small);
    ck_assert_ptr_null(config_read(path, false, small, 8));
    ck_assert_uint_eq(strlen(small), 7);
    ck_assert_mem_eq(small, path, 7);
    ck_assert_uint_eq((uint8_t)small[8], 0xAA);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config: mistakes");

    seed = dice_seed();
    ADD_TESTS(suite, "lines", bad_numbers_are_told,
              numbers_beyond_64_bits_are_too_large_and_not_something_else, unknown_keys_and_sections_are_told,
              an_unknown_section_is_told_although_it_is_empty, a_byte_order_mark_hides_no_mistake_behind_it,
              what_is_no_ini_line_is_told, a_line_that_starts_with_a_blank_is_told,
              the_first_mistake_is_the_one_told, an_arena_above_the_largest_is_told,
              a_line_has_at_most_198_characters, a_byte_0_does_not_hide_the_rest_of_its_line,
              a_long_line_with_a_byte_0_is_not_read_as_two, binary_garbage_is_refused);
    ADD_TESTS(suite, "files", a_file_that_is_not_there_is_told, what_is_no_file_is_told_and_does_not_hang,
              a_file_that_may_not_be_read_is_told, a_file_of_1_mib_is_read_and_no_larger_one,
              a_huge_file_is_not_read_at_all, a_short_buffer_gets_the_beginning);
    return suite_run(suite);
}
