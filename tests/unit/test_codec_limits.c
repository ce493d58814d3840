/* SPDX-License-Identifier: MIT */
/* Decoding what is no message, and more than there is room for. */
#include "tests/unit/codec_steps.h"
#include "tests/unit/dice.h"

static uint64_t seed;

/* ---- What is no message ---------------------------------------------------------------- */

START_TEST(a_record_that_was_cut_is_refused_or_ends_between_two_fields)
{
    size_t whole;
    size_t boundaries = 0;

    begin();
    put_samples();
    whole = out.used;
    for (out.used = 0; out.used < whole; out.used++) {
        if (!decode())
            continue;
        /* It ends where an operation ended: those before are there as they were. */
        boundaries++;
        ck_assert_uint_lt(in.operations_count, SAMPLES);
        for (size_t i = 0; i < in.operations_count; i++) {
            result_init(&result);
            ck_assert_int_eq(codec_operation(&in, i, &request, &result), STATUS_OK);
            assert_same_request(&request, &samples[i]);
        }
    }
    ck_assert_uint_eq(boundaries, SAMPLES + 1); /* nothing, the id, and all operations but the last */
}
END_TEST

START_TEST(a_reply_that_was_cut_is_refused_or_ends_between_two_fields)
{
    const struct welcome welcome = {.version = 1, .session = 300, .daemon = "jitbrokerd"};
    size_t whole;
    size_t boundaries = 0;

    begin();
    ck_assert(codec_put_reply(&out, 300));
    result.has_span = true;
    result.offset = 1000;
    ck_assert(codec_put_result(&out, &result));
    ck_assert(codec_put_welcome(&out, &welcome));
    (void)result_refuse(&result, STATUS_SEALED, "span", "a reason");
    ck_assert(codec_put_error(&out, &result));
    whole = out.used;
    for (out.used = 0; out.used < whole; out.used++)
        boundaries += decode_reply();
    ck_assert_uint_eq(boundaries, 4);
}
END_TEST

START_TEST(what_says_a_wrong_length_or_type_is_refused)
{
    const struct {
        const char *bytes;
        size_t count;
    } bad[] = {
        {"\x08", 1},                                              /* no value */
        {"\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12}, /* a number of 11 bytes */
        {"\x1A\x05\x0A", 3},                                      /* longer than the record */
        {"\x1A\xFF\xFF\xFF\xFF\x0F", 6},                          /* of 4 GiB */
        {"\x1A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11},     /* of 16 EiB */
        {"\x1A\x04\x0A\x05\x08\x40", 6},                          /* the part longer than the operation */
        {"\x1B", 1},                                              /* a group */
        {"\x1C", 1},
        {"\x0E", 1}, /* types 6 and 7 */
        {"\x0F", 1},
        {"\x00\x01", 2}, /* field 0 */
        {"\xFF", 1},
        {"\xFF\xFF\xFF\xFF\xFF\xFF", 6},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin();
        put_bytes(bad[i].bytes, bad[i].count);
        ck_assert_msg(!decode(), "%zu", i);
        ck_assert_msg(!decode_reply(), "%zu", i);
    }
}
END_TEST

START_TEST(random_bytes_never_crash)
{
    struct dice dice = {seed};
    unsigned decoded = 0;

    for (int round = 0; round < 200000; round++) {
        uint64_t length = dice_below(&dice, round % 100 == 0 ? 5000 : 40);
        bool likely = dice_percent(&dice, 70);

        begin();
        while (out.used < length) {
            /* What a message is made of, so that some are one. */
            static const uint8_t pieces[] = {0x08, 0x10, 0x12, 0x1A, 0x0A, 0x22, 0x2A,
                                             0x4A, 0,    1,    2,    4,    0x80};

            record_bytes[out.used++] =
                likely ? pieces[dice_below(&dice, sizeof pieces)] : (uint8_t)dice_next(&dice);
        }
        if (decode()) {
            decoded++;
            for (size_t i = 0; i < in.operations_count; i++) {
                result_init(&result);
                (void)codec_operation(&in, i, &request, &result);
            }
        }
        if (decode_reply()) {
            decoded++;
            for (size_t i = 0; i < reply.results_count; i++)
                codec_result(&reply, i, &result);
        }
    }
    ck_assert_uint_gt(decoded, 100);
}
END_TEST

START_TEST(a_message_with_some_bytes_changed_never_crashes)
{
    static uint8_t original[1024];
    struct dice dice = {seed};
    size_t whole;

    begin();
    put_samples();
    whole = out.used;
    ck_assert_uint_le(whole, sizeof original);
    memcpy(original, record_bytes, whole);
    for (int round = 0; round < 200000; round++) {
        memcpy(record_bytes, original, whole);
        for (uint64_t i = 1 + dice_below(&dice, 4); i > 0; i--)
            record_bytes[dice_below(&dice, whole)] = (uint8_t)dice_next(&dice);
        out.used = whole;
        if (!decode())
            continue;
        for (size_t i = 0; i < in.operations_count; i++) {
            result_init(&result);
            if (codec_operation(&in, i, &request, &result) == STATUS_OK && request.data_bytes > whole)
                ck_abort_msg("%zu bytes of data in a record of %zu", request.data_bytes, whole);
        }
    }
}
END_TEST

START_TEST(nothing_nests_deeper_than_the_messages_do)
{
    size_t lengths[64];
    size_t inner = 0;

    /* Operation in operation in ..., as deep as it goes: fields of no known message, kept as bytes. */
    begin();
    for (size_t i = 0; i < 64; i++) {
        lengths[i] = inner;
        inner += inner < 128 ? 2 : 3;
    }
    for (size_t i = 64; i-- > 0;) {
        put_byte(i == 63 ? 0x1A : 0x3A); /* operations, then field 7 */
        if (lengths[i] < 128) {
            put_byte((uint8_t)lengths[i]);
        } else {
            put_byte((uint8_t)(0x80 | (lengths[i] & 0x7F)));
            put_byte((uint8_t)(lengths[i] >> 7));
        }
    }
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, 1);
    result_init(&result);
    ck_assert_int_ne(codec_operation(&in, 0, &request, &result), STATUS_OK);
}
END_TEST

/* ---- Room ---------------------------------------------------------------------------- */

START_TEST(more_empty_operations_than_the_pool_holds_are_refused)
{
    begin();
    while (out.used + 2 <= out.capacity)
        put_bytes("\x1A\x00", 2);
    ck_assert_uint_eq(out.used / 2, 65536);
    ck_assert(!decode());
    ck_assert_uint_le(pool.used, pool.capacity);
    /* The pool is as good as before. */
    begin();
    put_samples();
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, SAMPLES);
}
END_TEST

START_TEST(a_record_of_other_small_parts_than_the_pool_holds_is_refused)
{
    const char *const parts[] = {"\x20\x00", "\x12\x00", "\x22\x00", "\x08\x01"};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        begin();
        while (out.used + 2 <= out.capacity)
            put_bytes(parts[i], 2);
        (void)decode();
        ck_assert_uint_le(pool.used, pool.capacity);
        (void)decode_reply();
        ck_assert_uint_le(pool.used, pool.capacity);
    }
}
END_TEST

START_TEST(a_full_batch_fits_the_pool)
{
    static uint8_t data[RECORD_MAX_BYTES];
    struct request write = {.operation = OPERATION_WRITE, .span = U64, .at = U64, .data = data};
    struct request patch = {OPERATION_PATCH, U64, 0, U64, NULL, 0, U32, U64, U64, 0, false};

    ck_assert_uint_eq(OPERATIONS_MAX, 256);
    /* Every operation a write, all of the record used. */
    begin();
    ck_assert(codec_put_request(&out, U64));
    write.data_bytes = (RECORD_MAX_BYTES - 16) / OPERATIONS_MAX - 32;
    for (unsigned i = 0; i < OPERATIONS_MAX - 1; i++)
        ck_assert(codec_put_operation(&out, &write));
    write.data_bytes = out.capacity - out.used - 40;
    ck_assert(codec_put_operation(&out, &write));
    ck_assert_uint_gt(out.used, RECORD_MAX_BYTES - 40);
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, OPERATIONS_MAX);
    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        ck_assert_int_eq(codec_operation(&in, i, &request, &result), STATUS_OK);
    ck_assert_uint_eq(request.data_bytes, write.data_bytes);
    /* Every operation the one with the most fields. */
    begin();
    ck_assert(codec_put_request(&out, U64));
    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        ck_assert(codec_put_operation(&out, &patch));
    ck_assert(decode());
    ck_assert_uint_eq(in.operations_count, OPERATIONS_MAX);
    /* The largest write, twice less what goes around it. */
    begin();
    write.data_bytes = WRITE_MAX_BYTES;
    ck_assert(codec_put_operation(&out, &write));
    ck_assert(decode());
    ck_assert_int_eq(codec_operation(&in, 0, &request, &result), STATUS_OK);
    ck_assert_uint_eq(request.data_bytes, WRITE_MAX_BYTES);
}
END_TEST

START_TEST(a_full_reply_fits_a_record_and_the_pool)
{
    begin();
    (void)result_refuse(&result, STATUS_QUOTA_SESSIONS, "operations", "%0*d", (int)ERROR_TEXT_MAX_BYTES, 7);
    result.has_span = true;
    result.offset = result.size = U64;
    result.flags = U32;
    result.found = U64;
    result.has_usage = true;
    result.usage = (struct usage){U64, U64, U64, U64, U64, U64, U64, U64, U64, U64};
    ck_assert(codec_put_reply(&out, U64));
    for (unsigned i = 0; i < OPERATIONS_MAX; i++)
        ck_assert(codec_put_result(&out, &result));
    ck_assert(decode_reply());
    ck_assert_uint_eq(reply.results_count, OPERATIONS_MAX);
    codec_result(&reply, OPERATIONS_MAX - 1, &result);
    ck_assert_uint_eq(strlen(result.text), ERROR_TEXT_MAX_BYTES - 1);
    ck_assert_uint_eq(result.usage.reserved_peak_bytes, U64);
}
END_TEST

START_TEST(what_has_no_room_is_not_appended_at_all)
{
    const struct hello hello = {.version_min = 1, .version_max = 1};
    const struct welcome welcome = {.version = 1, .daemon = "jitbrokerd"};
    uint8_t exact[256];
    size_t needed[6];

    (void)result_refuse(&result, STATUS_REFUSED, "", "a reason");
    for (int what = 0; what < 6; what++) {
        for (int pass = 0; pass < 3; pass++) {
            size_t room = pass == 0 ? sizeof exact : pass == 1 ? needed[what] : needed[what] - 1;
            struct buffer small = {.bytes = exact, .capacity = room};
            bool fits = false;

            memset(exact, 0xAA, sizeof exact);
            switch (what) {
            case 0:
                fits = codec_put_request(&small, U64);
                break;
            case 1:
                fits = codec_put_hello(&small, &hello);
                break;
            case 2:
                fits = codec_put_operation(&small, &samples[11]);
                break;
            case 3:
                fits = codec_put_welcome(&small, &welcome);
                break;
            case 4:
                fits = codec_put_error(&small, &result);
                break;
            case 5:
                fits = codec_put_result(&small, &result);
                break;
            default:
                break;
            }
            ck_assert_int_eq(fits, pass < 2);
            if (pass == 0)
                needed[what] = small.used;
            ck_assert_uint_eq(small.used, fits ? needed[what] : 0);
            ck_assert_uint_eq(exact[room < sizeof exact ? room : sizeof exact - 1], 0xAA);
            ck_assert(fits || exact[0] == 0xAA);
        }
    }
}
END_TEST

START_TEST(a_pool_too_small_for_a_record_refuses_it)
{
    struct codec_pool small = {.bytes = pool_bytes};
    size_t enough = 0;

    begin();
    put_samples();
    for (small.capacity = 0; small.capacity < 65536; small.capacity += 16) {
        /* What lies behind the pool is not touched. */
        pool_bytes[small.capacity] = 0xAA;
        if (codec_decode_request(&small, out.bytes, out.used, &in)) {
            enough = small.capacity;
            break;
        }
        ck_assert_uint_eq(pool_bytes[small.capacity], 0xAA);
    }
    ck_assert_uint_gt(enough, 0);
    ck_assert_uint_eq(in.operations_count, SAMPLES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec: limits");

    seed = dice_seed();
    ADD_TESTS(suite, "no message", a_record_that_was_cut_is_refused_or_ends_between_two_fields,
              a_reply_that_was_cut_is_refused_or_ends_between_two_fields,
              what_says_a_wrong_length_or_type_is_refused, random_bytes_never_crash,
              a_message_with_some_bytes_changed_never_crashes, nothing_nests_deeper_than_the_messages_do);
    ADD_TESTS(suite, "room", more_empty_operations_than_the_pool_holds_are_refused,
              a_record_of_other_small_parts_than_the_pool_holds_is_refused, a_full_batch_fits_the_pool,
              a_full_reply_fits_a_record_and_the_pool, what_has_no_room_is_not_appended_at_all,
              a_pool_too_small_for_a_record_refuses_it);
    return suite_run(suite);
}
