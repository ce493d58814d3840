/* SPDX-License-Identifier: MIT */
/* Encoding and decoding: what goes in comes out, and what is not known is refused. */
#include "tests/unit/codec_steps.h"

/* ---- Round trips --------------------------------------------------------------------- */

START_TEST(every_operation_comes_out_as_it_went_in)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        begin();
        ck_assert(codec_put_request(&out, i + 1));
        ck_assert(codec_put_operation(&out, &samples[i]));
        ck_assert(decode());
        ck_assert_uint_eq(in.id, i + 1);
        ck_assert(!in.has_hello && !in.has_unknown_fields);
        ck_assert_uint_eq(in.operations_count, 1);
        ck_assert_int_eq(codec_operation(&in, 0, &request, &result), STATUS_OK);
        assert_same_request(&request, &samples[i]);
    }
}
END_TEST

START_TEST(operations_that_were_appended_come_out_in_order)
{
    begin();
    put_samples();
    ck_assert(decode());
    ck_assert_uint_eq(in.id, 99);
    ck_assert_uint_eq(in.operations_count, SAMPLES);
    for (size_t i = 0; i < SAMPLES; i++) {
        ck_assert_int_eq(codec_operation(&in, i, &request, &result), STATUS_OK);
        assert_same_request(&request, &samples[i]);
    }
}
END_TEST

START_TEST(ids_of_any_size_come_back)
{
    const uint64_t ids[] = {0, 1, 127, 128, UINT64_C(1) << 32, U64};

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        begin();
        ck_assert(codec_put_request(&out, ids[i]));
        ck_assert(decode());
        ck_assert_uint_eq(in.id, ids[i]);
        ck_assert_uint_eq(in.operations_count, 0);
        begin();
        ck_assert(codec_put_reply(&out, ids[i]));
        ck_assert(decode_reply());
        ck_assert_uint_eq(reply.id, ids[i]);
        ck_assert(!reply.has_error && !reply.has_welcome);
        ck_assert_uint_eq(reply.results_count, 0);
    }
}
END_TEST

START_TEST(open_executor_comes_out_as_it_went_in)
{
    ck_assert(codec_put_request(&out, 7));
    ck_assert(decode());
    ck_assert(!in.has_open_executor);
    ck_assert(codec_put_open_executor(&out));
    ck_assert(decode());
    ck_assert_uint_eq(in.id, 7);
    ck_assert(in.has_open_executor && !in.has_hello && !in.has_unknown_fields);
    ck_assert_uint_eq(in.operations_count, 0);
    /* Said twice it is one; beside an operation, both are there. */
    ck_assert(codec_put_open_executor(&out));
    ck_assert(codec_put_operation(&out, &samples[0]));
    ck_assert(decode());
    ck_assert(in.has_open_executor && !in.has_unknown_fields);
    ck_assert_uint_eq(in.operations_count, 1);
    /* It takes two bytes, and no fewer. */
    begin();
    out.capacity = 1;
    ck_assert(!codec_put_open_executor(&out));
    ck_assert_uint_eq(out.used, 0);
    out.capacity = 2;
    ck_assert(codec_put_open_executor(&out));
    ck_assert_uint_eq(out.used, 2);
    /* A field in it that we do not know, as one of the request. */
    begin();
    put_bytes("\x08\x01\x22\x02\x08\x01", 6);
    ck_assert(decode());
    ck_assert(in.has_open_executor && in.has_unknown_fields);
}
END_TEST

START_TEST(hello_comes_out_as_it_went_in)
{
    const struct hello hellos[] = {
        {0},
        {.version_min = 1,
         .version_max = 2,
         .features = 3,
         .write_mode = WRITE_DIRECT,
         .arena_bytes = 65536,
         .granularity = 64,
         .fill_pattern = FILL_PATTERN_DEFAULT},
        {U32, U32, U64, U32, U64, U32, U32},
        {.write_mode = 3},
    };

    for (size_t i = 0; i < sizeof hellos / sizeof hellos[0]; i++) {
        begin();
        ck_assert(codec_put_request(&out, 1));
        ck_assert(codec_put_hello(&out, &hellos[i]));
        ck_assert(decode());
        ck_assert(in.has_hello);
        ck_assert_uint_eq(in.operations_count, 0);
        ck_assert_uint_eq(in.hello.version_min, hellos[i].version_min);
        ck_assert_uint_eq(in.hello.version_max, hellos[i].version_max);
        ck_assert_uint_eq(in.hello.features, hellos[i].features);
        ck_assert_uint_eq(in.hello.write_mode, hellos[i].write_mode);
        ck_assert_uint_eq(in.hello.arena_bytes, hellos[i].arena_bytes);
        ck_assert_uint_eq(in.hello.granularity, hellos[i].granularity);
        ck_assert_uint_eq(in.hello.fill_pattern, hellos[i].fill_pattern);
    }
}
END_TEST

START_TEST(welcome_comes_out_as_it_went_in)
{
    struct welcome welcome = {1, 2, U64, WRITE_DIRECT, U64 - 1, 256, 0xF4F4F4F4u, true, U64 - 2, 6,
                              7, 8, 9,   10,           true,    ""};

    for (size_t length = 0; length <= VERSION_TEXT_MAX_BYTES; length += VERSION_TEXT_MAX_BYTES) {
        memset(welcome.daemon, 'v', length);
        begin();
        ck_assert(codec_put_reply(&out, 5));
        ck_assert(codec_put_welcome(&out, &welcome));
        ck_assert(decode_reply());
        ck_assert_uint_eq(reply.id, 5);
        ck_assert(reply.has_welcome && !reply.has_error);
        ck_assert_uint_eq(reply.welcome.version, 1);
        ck_assert_uint_eq(reply.welcome.features, 2);
        ck_assert_uint_eq(reply.welcome.session, U64);
        ck_assert_uint_eq(reply.welcome.write_mode, WRITE_DIRECT);
        ck_assert_uint_eq(reply.welcome.arena_bytes, U64 - 1);
        ck_assert_uint_eq(reply.welcome.granularity, 256);
        ck_assert_uint_eq(reply.welcome.fill_pattern, 0xF4F4F4F4u);
        ck_assert_int_eq(reply.welcome.sealed, true);
        ck_assert_uint_eq(reply.welcome.span_max_bytes, U64 - 2);
        ck_assert_uint_eq(reply.welcome.spans_max, 6);
        ck_assert_uint_eq(reply.welcome.record_max_bytes, 7);
        ck_assert_uint_eq(reply.welcome.write_max_bytes, 8);
        ck_assert_uint_eq(reply.welcome.operations_max, 9);
        ck_assert_uint_eq(reply.welcome.ring_bytes, 10);
        ck_assert_int_eq(reply.welcome.executor, true);
        ck_assert_str_eq(reply.welcome.daemon, welcome.daemon);
    }
}
END_TEST

START_TEST(results_come_out_as_they_went_in_and_in_order)
{
    struct result done;
    struct result span;
    struct result mismatch;
    struct result usage;

    result_init(&done);
    result_init(&span);
    span.has_span = true;
    span.offset = U64;
    span.size = U64 - 1;
    span.flags = SPAN_ICACHE_CLEAN | SPAN_SEALED;
    result_init(&mismatch);
    (void)result_refuse(&mismatch, STATUS_MISMATCH, "expected", "found %d", 5);
    mismatch.found = 5;
    result_init(&usage);
    usage.has_usage = true;
    usage.usage = (struct usage){1, 2, 3, 4, 5, U64, 7, 8, 9, U64 - 1};
    begin();
    ck_assert(codec_put_reply(&out, 1));
    ck_assert(codec_put_result(&out, &done) && codec_put_result(&out, &span));
    ck_assert(codec_put_result(&out, &mismatch) && codec_put_result(&out, &usage));
    ck_assert(decode_reply());
    ck_assert_uint_eq(reply.results_count, 4);
    codec_result(&reply, 0, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert(!result.has_span && !result.has_usage);
    ck_assert_str_eq(result.text, "");
    codec_result(&reply, 1, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert(result.has_span && !result.has_usage);
    ck_assert_uint_eq(result.offset, U64);
    ck_assert_uint_eq(result.size, U64 - 1);
    ck_assert_uint_eq(result.flags, SPAN_ICACHE_CLEAN | SPAN_SEALED);
    codec_result(&reply, 2, &result);
    ck_assert_int_eq(result.status, STATUS_MISMATCH);
    ck_assert_str_eq(result.field, "expected");
    ck_assert_str_eq(result.text, "found 5");
    ck_assert_uint_eq(result.found, 5);
    ck_assert(!result.has_span && !result.has_usage);
    codec_result(&reply, 3, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert(!result.has_span && result.has_usage);
    ck_assert_uint_eq(result.usage.blocks, 1);
    ck_assert_uint_eq(result.usage.spans, 2);
    ck_assert_uint_eq(result.usage.used_bytes, 3);
    ck_assert_uint_eq(result.usage.reserved_bytes, 4);
    ck_assert_uint_eq(result.usage.overhead_bytes, 5);
    ck_assert_uint_eq(result.usage.reserved_peak_bytes, U64);
    ck_assert_uint_eq(result.usage.huge_bytes, 7);
    ck_assert_uint_eq(result.usage.leased_bytes, 8);
    ck_assert_uint_eq(result.usage.largest_free_bytes, 9);
    ck_assert_uint_eq(result.usage.free_runs, U64 - 1);
}
END_TEST

START_TEST(every_status_comes_out_as_an_error_of_the_whole)
{
    for (int status = 1; status < STATUS_COUNT; status++) {
        begin();
        (void)result_refuse(&result, (enum status)status, "field", "reason %d", status);
        ck_assert(codec_put_reply(&out, 3) && codec_put_error(&out, &result));
        ck_assert(decode_reply());
        ck_assert(reply.has_error && !reply.has_welcome);
        ck_assert_int_eq(reply.error.status, status);
        ck_assert_str_eq(reply.error.field, "field");
        ck_assert_str_eq(reply.error.text, result.text);
    }
}
END_TEST

START_TEST(an_error_without_a_code_is_still_an_error)
{
    static const uint8_t refusal[] = {0x08, 0x05, 0x12, 0x00}; /* id 5, an error of no bytes */

    begin();
    put_bytes(refusal, sizeof refusal);
    ck_assert(decode_reply());
    ck_assert(reply.has_error);
    ck_assert_int_ne(reply.error.status, STATUS_OK);
    ck_assert_str_eq(reply.error.text, "");
}
END_TEST

START_TEST(texts_longer_than_ours_are_cut)
{
    uint8_t letters[1000];

    memset(letters, 'e', sizeof letters);
    /* error { text } of 1000 bytes, welcome { daemon } of 1000 bytes */
    begin();
    put_bytes("\x12\xEB\x07\x12\xE8\x07", 6);
    put_bytes(letters, sizeof letters);
    put_bytes("\x1A\xEB\x07\x72\xE8\x07", 6);
    put_bytes(letters, sizeof letters);
    ck_assert(decode_reply());
    ck_assert(reply.has_error && reply.has_welcome);
    ck_assert_uint_eq(strlen(reply.error.text), ERROR_TEXT_MAX_BYTES - 1);
    ck_assert_uint_eq(strlen(reply.welcome.daemon), VERSION_TEXT_MAX_BYTES);
}
END_TEST

/* ---- What is not known --------------------------------------------------------------- */

START_TEST(an_empty_operation_is_refused)
{
    begin();
    put_bytes("\x08\x01\x1A\x00", 4);
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, 1);
    assert_refused(0, STATUS_INVALID, "operation 0 is empty");
}
END_TEST

START_TEST(an_operation_of_another_version_is_refused_and_named)
{
    begin();
    put_bytes("\x08\x01\x1A\x02\x72\x00", 6);     /* operation 14, without fields */
    put_bytes("\x1A\x05\xA2\x06\x02\x08\x01", 7); /* operation 100, with one */
    put_bytes("\x1A\x02\x70\x05", 4);             /* field 14, but a number */
    ck_assert(decode());
    ck_assert(!in.has_unknown_fields);
    ck_assert_uint_eq(in.operations_count, 3);
    assert_refused(0, STATUS_UNKNOWN_OPERATION, "number 14");
    assert_refused(1, STATUS_UNKNOWN_OPERATION, "number 100");
    assert_refused(2, STATUS_UNKNOWN_OPERATION, "number 14");
}
END_TEST

START_TEST(an_unknown_field_of_an_operation_is_refused_wherever_it_stands)
{
    begin();
    put_bytes("\x1A\x06\x0A\x04\x08\x40\x10\x01", 8);         /* alloc { size, 2 } */
    put_bytes("\x1A\x06\x0A\x02\x08\x40\x70\x01", 8);         /* alloc { size }, 14 */
    put_bytes("\x1A\x05\x70\x01\x4A\x01", 6), put_byte(0x10); /* statistics cut in the middle of a field */
    ck_assert(!decode());
    out.used -= 7;
    put_bytes("\x1A\x04\x4A\x02\x08\x01", 6); /* statistics { 1 } */
    put_bytes("\x1A\x04\x0A\x02\x08\x40", 6); /* alloc { size }: good */
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, 4);
    assert_refused(0, STATUS_UNKNOWN_FIELD, "field 2 of alloc");
    assert_refused(1, STATUS_UNKNOWN_FIELD, "field 14 of alloc");
    assert_refused(2, STATUS_UNKNOWN_FIELD, "field 1 of statistics");
    result_init(&result);
    ck_assert_int_eq(codec_operation(&in, 3, &request, &result), STATUS_OK);
    ck_assert_uint_eq(request.size, 64);
}
END_TEST

START_TEST(every_operation_notices_a_field_too_many)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        uint8_t encoded[128];
        struct buffer one = {.bytes = encoded, .capacity = sizeof encoded};

        ck_assert(codec_put_operation(&one, &samples[i]));
        ck_assert_uint_lt(one.used, 120);
        /* 0x1A, length, tag, length, the part: one field 15 more at the end of the part. */
        encoded[1] = (uint8_t)(encoded[1] + 2);
        encoded[3] = (uint8_t)(encoded[3] + 2);
        encoded[one.used++] = 0x78;
        encoded[one.used++] = 0x01;
        begin();
        put_bytes(encoded, one.used);
        ck_assert(decode());
        assert_refused(0, STATUS_UNKNOWN_FIELD, operation_name(samples[i].operation));
        ck_assert(strstr(result.text, "field 15") != NULL);
    }
}
END_TEST

START_TEST(an_unknown_field_of_the_request_is_noticed)
{
    begin();
    put_samples();
    ck_assert(decode());
    ck_assert(!in.has_unknown_fields);
    put_bytes("\x28\x01", 2);
    ck_assert(decode());
    ck_assert(in.has_unknown_fields);
    ck_assert_uint_eq(in.operations_count, SAMPLES);
}
END_TEST

START_TEST(of_two_parts_of_one_operation_the_last_counts)
{
    begin();
    put_bytes("\x1A\x08\x0A\x02\x08\x40\x12\x02\x08\x41", 10); /* alloc { 64 }, release { 65 } */
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, 1);
    ck_assert_int_eq(codec_operation(&in, 0, &request, &result), STATUS_OK);
    ck_assert_int_eq(request.operation, OPERATION_RELEASE);
    ck_assert_uint_eq(request.span, 65);
    ck_assert_uint_eq(request.size, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec");

    ADD_TESTS(suite, "round trips", every_operation_comes_out_as_it_went_in,
              operations_that_were_appended_come_out_in_order, ids_of_any_size_come_back,
              open_executor_comes_out_as_it_went_in, hello_comes_out_as_it_went_in,
              welcome_comes_out_as_it_went_in, results_come_out_as_they_went_in_and_in_order,
              every_status_comes_out_as_an_error_of_the_whole, an_error_without_a_code_is_still_an_error,
              texts_longer_than_ours_are_cut);
    ADD_TESTS(suite, "not known", an_empty_operation_is_refused,
              an_operation_of_another_version_is_refused_and_named,
              an_unknown_field_of_an_operation_is_refused_wherever_it_stands,
              every_operation_notices_a_field_too_many, an_unknown_field_of_the_request_is_noticed,
              of_two_parts_of_one_operation_the_last_counts);
    return suite_run(suite);
}
