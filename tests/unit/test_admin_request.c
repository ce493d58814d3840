/* SPDX-License-Identifier: MIT */
/* What a request on the admin socket may say: each verb with each field, and levels at their bounds. */
#include <check.h>
#include <string.h>

#include "proto/admin.h"
#include "tests/harness/suite.h"

static const struct {
    Admin__Verb verb;
    bool session;
    bool offset;
    bool level;
} takes[] = {
    {ADMIN__VERB__STATUS, false, false, false},     {ADMIN__VERB__SESSIONS, false, false, false},
    {ADMIN__VERB__OPERATIONS, false, false, false}, {ADMIN__VERB__SPANS, true, false, false},
    {ADMIN__VERB__CODE, true, true, false},         {ADMIN__VERB__REVOKE, true, false, false},
    {ADMIN__VERB__RELOAD, false, false, false},     {ADMIN__VERB__LOG_LEVEL, false, false, true},
};

static Admin__Request plain(size_t row)
{
    Admin__Request request = ADMIN__REQUEST__INIT;

    request.id = 1;
    request.verb = takes[row].verb;
    request.session = takes[row].session;
    request.level = takes[row].level ? 6 : 0;
    return request;
}

static const char *refusal(const Admin__Request *request)
{
    static char reason[128];

    return admin_validate(request, reason, sizeof reason) ? NULL : reason;
}

START_TEST(every_verb_takes_what_it_needs_and_nothing_else)
{
    for (size_t row = 0; row < sizeof takes / sizeof takes[0]; row++) {
        Admin__Request request = plain(row);

        ck_assert_ptr_null(refusal(&request));
        request.session = UINT64_MAX - request.session * UINT64_MAX; /* the other way about */
        ck_assert_ptr_nonnull(refusal(&request));
        request = plain(row);
        request.offset = UINT64_MAX;
        ck_assert_int_eq(refusal(&request) == NULL, takes[row].offset);
        request = plain(row);
        request.level = takes[row].level ? 0 : 6;
        ck_assert_ptr_nonnull(refusal(&request));
    }
}
END_TEST

START_TEST(a_verb_that_is_not_there_is_refused)
{
    Admin__Request request = ADMIN__REQUEST__INIT;

    ck_assert_str_eq(refusal(&request), "verb 0 is not known here");
    request.verb = (Admin__Verb)9;
    ck_assert_str_eq(refusal(&request), "verb 9 is not known here");
    request.verb = (Admin__Verb)-1;
    ck_assert_str_eq(refusal(&request), "verb 4294967295 is not known here");
}
END_TEST

START_TEST(levels_are_from_error_to_debug)
{
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};

    for (uint32_t level = 3; level <= 7; level++) {
        ck_assert_str_eq(admin_level_name(level), names[level - 3]);
        ck_assert_uint_eq(admin_level(names[level - 3]), level);
    }
    ck_assert_ptr_null(admin_level_name(2));
    ck_assert_ptr_null(admin_level_name(8));
    ck_assert_uint_eq(admin_level("debug2"), 0);
    ck_assert_uint_eq(admin_level(""), 0);
}
END_TEST

START_TEST(the_largest_request_fits_a_record)
{
    Admin__Request request = ADMIN__REQUEST__INIT;

    request.id = UINT64_MAX;
    request.verb = (Admin__Verb)-1;
    request.session = UINT64_MAX;
    request.offset = UINT64_MAX;
    request.level = UINT32_MAX;
    ck_assert_uint_le(admin__request__get_packed_size(&request), ADMIN_REQUEST_MAX_BYTES);
}
END_TEST

START_TEST(what_has_no_room_is_left_out_whole)
{
    uint8_t bytes[16];
    struct buffer out = {.bytes = bytes, .capacity = 3};
    Admin__Reply part = ADMIN__REPLY__INIT;

    part.id = 200; /* three bytes */
    ck_assert(admin_put(&out, &part));
    ck_assert_uint_eq(out.used, 3);
    ck_assert(!admin_put(&out, &part));
    ck_assert_uint_eq(out.used, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin_request");
    TCase *tests = tcase_create("admin_request");

    tcase_add_test(tests, every_verb_takes_what_it_needs_and_nothing_else);
    tcase_add_test(tests, a_verb_that_is_not_there_is_refused);
    tcase_add_test(tests, levels_are_from_error_to_debug);
    tcase_add_test(tests, the_largest_request_fits_a_record);
    tcase_add_test(tests, what_has_no_room_is_left_out_whole);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
