/* SPDX-License-Identifier: MIT */
/* The ring's content, both sides in one process: its layout, entries and results. */
#include <string.h>
#include <sys/mman.h>

#include "proto/ring.h"
#include "tests/harness/suite.h"

static struct ring ring;
static struct ring_header *header;

static void map_ring(void)
{
    void *memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(memory, MAP_FAILED);
    ring_attach(&ring, memory);
    header = ring.header;
}

/* ---- Layout -------------------------------------------------------------------------- */

/* Both sides were built on their own, perhaps: these are numbers, not what the structures have today. */
START_TEST(every_part_and_field_is_where_the_protocol_has_it)
{
    const uint8_t *memory = (const uint8_t *)ring.header;

    ck_assert_uint_eq(RING_BYTES, 413696);
    ck_assert_uint_eq(RING_ENTRIES, 512);
    ck_assert_uint_eq(RING_STAGING_BYTES, 262144);
    ck_assert_ptr_eq(ring.entries, memory + 4096);
    ck_assert_ptr_eq(ring.results, memory + 20480);
    ck_assert_ptr_eq(ring.staging, memory + 151552);

    ck_assert_uint_eq(offsetof(struct ring_header, tail), 0);
    ck_assert_uint_eq(offsetof(struct ring_header, head), 128);
    ck_assert_uint_eq(offsetof(struct ring_header, refused), 136);
    ck_assert_uint_eq(offsetof(struct ring_header, asleep), 256);
    ck_assert_uint_eq(offsetof(struct ring_header, daemon_cpu), 260);
    ck_assert_uint_eq(offsetof(struct ring_header, waiting), 384);
    ck_assert_uint_eq(offsetof(struct ring_header, client_cpu), 388);

    ck_assert_uint_eq(sizeof(struct ring_entry), 32);
    ck_assert_uint_eq(offsetof(struct ring_entry, operation), 0);
    ck_assert_uint_eq(offsetof(struct ring_entry, width), 1);
    ck_assert_uint_eq(offsetof(struct ring_entry, flags), 2);
    ck_assert_uint_eq(offsetof(struct ring_entry, bytes), 4);
    ck_assert_uint_eq(offsetof(struct ring_entry, span), 8);
    ck_assert_uint_eq(offsetof(struct ring_entry, number), 16);
    ck_assert_uint_eq(offsetof(struct ring_entry, data), 24);

    ck_assert_uint_eq(sizeof(struct ring_result), 256);
    ck_assert_uint_eq(offsetof(struct ring_result, number), 0);
    ck_assert_uint_eq(offsetof(struct ring_result, status), 8);
    ck_assert_uint_eq(offsetof(struct ring_result, flags), 12);
    ck_assert_uint_eq(offsetof(struct ring_result, offset), 16);
    ck_assert_uint_eq(offsetof(struct ring_result, size), 24);
    ck_assert_uint_eq(offsetof(struct ring_result, found), 32);
    ck_assert_uint_eq(offsetof(struct ring_result, field), 40);
    ck_assert_uint_eq(offsetof(struct ring_result, text), 56);
    ck_assert_uint_eq(offsetof(struct ring_result, usage), 56);
}
END_TEST

/* ---- Entries ------------------------------------------------------------------------- */

static struct request there_and_back(uint64_t number, struct request request, uint64_t data)
{
    struct request back;

    memset(&back, 0xEE, sizeof back);
    ring_encode(&ring, number, &request, data);
    ck_assert(ring_decode(&ring, number, &back));
    ck_assert_int_eq(back.operation, request.operation);
    ck_assert_uint_eq(back.span, request.span);
    ck_assert_uint_eq(back.filled, request.filled);
    return back;
}

/* No field of it is left over from somewhere, except those that the test sets. */
static void assert_plain(const struct request *back)
{
    ck_assert_ptr_null(back->data);
    ck_assert_uint_eq(back->data_bytes, 0);
    ck_assert_uint_eq(back->at, 0);
    ck_assert_uint_eq(back->width, 0);
    ck_assert_uint_eq(back->expected, 0);
    ck_assert_uint_eq(back->desired, 0);
    ck_assert_uint_eq(back->kind, 0);
}

START_TEST(operations_with_a_span_and_a_size_arrive_as_they_were)
{
    const enum operation all[] = {OPERATION_ALLOC, OPERATION_RELEASE, OPERATION_SHRINK,
                                  OPERATION_QUERY, OPERATION_SEAL,    OPERATION_LEASE,
                                  OPERATION_CARVE, OPERATION_RETURN,  OPERATION_STATISTICS};
    const uint64_t values[] = {0, 1, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX - 1, UINT64_MAX};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (size_t j = 0; j < sizeof values / sizeof values[0]; j++) {
            const struct request request = {.operation = all[i], .span = values[j], .size = ~values[j]};
            struct request back = there_and_back(i * 100 + j, request, 0);

            ck_assert_uint_eq(back.size, request.size);
            ck_assert(!back.filled);
            assert_plain(&back);
        }
    }
}
END_TEST

START_TEST(filled_arrives_as_it_was)
{
    for (unsigned filled = 0; filled < 2; filled++) {
        (void)there_and_back(0, (struct request){.operation = OPERATION_RELEASE, .filled = filled}, 0);
        (void)there_and_back(1, (struct request){.operation = OPERATION_SHRINK, .filled = filled}, 0);
        ck_assert_uint_eq(ring.entries[0].flags, filled);
    }
}
END_TEST

START_TEST(a_write_arrives_with_its_bytes)
{
    const struct request request = {
        .operation = OPERATION_WRITE, .span = 7, .at = UINT64_MAX, .data_bytes = 5};
    struct request back;

    memcpy(ring.staging + 100, "hello", 5);
    back = there_and_back(3, request, 100);
    ck_assert_uint_eq(back.at, UINT64_MAX);
    ck_assert_uint_eq(back.data_bytes, 5);
    ck_assert_ptr_eq(back.data, ring.staging + 100);
    ck_assert_mem_eq(back.data, "hello", 5);
}
END_TEST

START_TEST(a_patch_arrives_with_its_values)
{
    const uint64_t values[2] = {UINT64_C(0x0123456789ABCDEF), UINT64_MAX - 5};
    struct request request = {.operation = OPERATION_PATCH, .span = 9, .at = 77};
    const uint32_t widths[] = {0, 1, 2, 4, 8, 255};

    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        struct request back;

        request.width = widths[i];
        memcpy(ring.staging + 1, values, sizeof values); /* nobody promised alignment */
        back = there_and_back(i, request, 1);
        ck_assert_uint_eq(back.at, 77);
        ck_assert_uint_eq(back.width, widths[i]);
        ck_assert_uint_eq(back.expected, values[0]);
        ck_assert_uint_eq(back.desired, values[1]);
        ck_assert_ptr_null(back.data);
    }
}
END_TEST

START_TEST(a_width_that_an_entry_cannot_hold_becomes_none_that_is_accepted)
{
    const uint32_t widths[] = {256, 257, 264, UINT32_MAX};

    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        const struct request request = {.operation = OPERATION_PATCH, .width = widths[i]};

        ck_assert_uint_eq(there_and_back(0, request, 0).width, 0);
    }
}
END_TEST

START_TEST(a_reset_arrives_with_its_kind)
{
    const uint32_t kinds[] = {RESET_SOFT, RESET_HARD, 2, UINT32_MAX};
    struct request back;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        back = there_and_back(i, (struct request){.operation = OPERATION_RESET, .kind = kinds[i]}, 0);
        ck_assert_uint_eq(back.kind, kinds[i]);
    }
    /* One that is too large is not cut into one that is known. */
    ring.entries[0].number = UINT64_C(1) << 32;
    ck_assert(ring_decode(&ring, 0, &back));
    ck_assert_uint_eq(back.kind, UINT32_MAX);
    ring.entries[0].number = (UINT64_C(1) << 32) + RESET_HARD;
    ck_assert(ring_decode(&ring, 0, &back));
    ck_assert_uint_eq(back.kind, UINT32_MAX);
}
END_TEST

START_TEST(entries_follow_each_other_round_and_round)
{
    const uint64_t numbers[] = {0, 1, 511, 512, 513, 1023, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX - 1};
    const uint64_t at[] = {0, 1, 511, 0, 1, 511, 511, 0, 510};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct request request = {.operation = OPERATION_ALLOC, .size = 1000 + i};

        ck_assert_uint_eq(there_and_back(numbers[i], request, 0).size, 1000 + i);
        ck_assert_uint_eq(ring.entries[at[i]].number, 1000 + i);
    }
}
END_TEST

START_TEST(an_operation_that_is_none_is_refused)
{
    struct request request;

    for (unsigned operation = 0; operation <= UINT8_MAX; operation++) {
        ring.entries[0] = (struct ring_entry){.operation = (uint8_t)operation};
        ck_assert_uint_eq(ring_decode(&ring, 0, &request), operation < OPERATION_COUNT);
    }
}
END_TEST

START_TEST(a_flag_that_is_none_is_refused_of_every_operation)
{
    struct request request;

    for (unsigned operation = 0; operation < OPERATION_COUNT; operation++) {
        unsigned accepted = 0;

        ring.entries[0] = (struct ring_entry){.operation = (uint8_t)operation};
        for (unsigned flags = 0; flags <= UINT16_MAX; flags++) {
            ring.entries[0].flags = (uint16_t)flags;
            accepted += ring_decode(&ring, 0, &request);
        }
        ck_assert_uint_eq(accepted, 2);
        ring.entries[0].flags = 0;
        ck_assert(ring_decode(&ring, 0, &request));
        ring.entries[0].flags = RING_FILLED;
        ck_assert(ring_decode(&ring, 0, &request));
    }
}
END_TEST

START_TEST(staged_data_ends_with_the_staging)
{
    const struct {
        uint64_t data;
        uint32_t bytes;
        bool passes;
    } cases[] = {
        {0, 0, true},
        {0, RING_STAGING_BYTES, true},
        {0, RING_STAGING_BYTES + 1, false},
        {0, UINT32_MAX, false},
        {1, RING_STAGING_BYTES - 1, true},
        {1, RING_STAGING_BYTES, false},
        {RING_STAGING_BYTES - 1, 0, true},
        {RING_STAGING_BYTES - 1, 1, true},
        {RING_STAGING_BYTES - 1, 2, false},
        {RING_STAGING_BYTES - 1, UINT32_MAX, false},
        {RING_STAGING_BYTES, RING_STAGING_BYTES, true},
        {RING_STAGING_BYTES, RING_STAGING_BYTES + 1, false},
        {UINT64_C(7) * RING_STAGING_BYTES + 5, RING_STAGING_BYTES - 5, true},
        {UINT64_C(7) * RING_STAGING_BYTES + 5, RING_STAGING_BYTES - 4, false},
        {UINT64_MAX, 1, true},
        {UINT64_MAX, 2, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request request;

        ring.entries[0] =
            (struct ring_entry){.operation = OPERATION_WRITE, .bytes = cases[i].bytes, .data = cases[i].data};
        ck_assert_msg(ring_decode(&ring, 0, &request) == cases[i].passes, "case %zu", i);
        if (cases[i].passes) {
            ck_assert_ptr_eq(request.data, ring.staging + cases[i].data % RING_STAGING_BYTES);
            ck_assert_uint_eq(request.data_bytes, cases[i].bytes);
        }
    }
}
END_TEST

START_TEST(a_patchs_values_end_with_the_staging)
{
    struct request request;

    for (uint64_t before = 0; before <= 2 * RING_PATCH_BYTES; before++) {
        ring.entries[0] = (struct ring_entry){.operation = OPERATION_PATCH,
                                              .data = UINT64_C(3) * RING_STAGING_BYTES - before};
        /* 0 bytes before the end is the beginning. */
        ck_assert_uint_eq(ring_decode(&ring, 0, &request), before == 0 || before >= RING_PATCH_BYTES);
    }
}
END_TEST

START_TEST(where_nothing_is_staged_any_place_will_do)
{
    struct request request;

    ring.entries[0] =
        (struct ring_entry){.operation = OPERATION_SEAL, .bytes = UINT32_MAX, .data = UINT64_MAX};
    ck_assert(ring_decode(&ring, 0, &request));
    assert_plain(&request);
}
END_TEST

START_TEST(what_becomes_of_an_entry_afterwards_changes_nothing)
{
    const uint64_t values[2] = {11, 22};
    struct request write;
    struct request patch;

    memcpy(ring.staging + 64, values, sizeof values);
    ring_encode(&ring, 0,
                &(struct request){.operation = OPERATION_WRITE, .span = 1, .at = 2, .data_bytes = 3}, 9);
    ring_encode(&ring, 1, &(struct request){.operation = OPERATION_PATCH, .span = 4, .at = 5, .width = 8},
                64);
    ck_assert(ring_decode(&ring, 0, &write));
    ck_assert(ring_decode(&ring, 1, &patch));
    memset(ring.entries, 0xFF, RING_ENTRIES * sizeof *ring.entries);
    memset(ring.staging, 0xAB, RING_STAGING_BYTES);

    ck_assert_int_eq(write.operation, OPERATION_WRITE);
    ck_assert_uint_eq(write.span, 1);
    ck_assert_uint_eq(write.at, 2);
    ck_assert_uint_eq(write.data_bytes, 3);
    ck_assert_ptr_eq(write.data, ring.staging + 9);
    ck_assert_uint_eq(write.data[0], 0xAB); /* the bytes themselves: as the header says */
    ck_assert_int_eq(patch.operation, OPERATION_PATCH);
    ck_assert_uint_eq(patch.span, 4);
    ck_assert_uint_eq(patch.at, 5);
    ck_assert_uint_eq(patch.width, 8);
    ck_assert_uint_eq(patch.expected, 11);
    ck_assert_uint_eq(patch.desired, 22);
}
END_TEST

START_TEST(a_tail_that_runs_backwards_or_leaps_is_more_than_the_ring_holds)
{
    const struct {
        uint64_t head;
        uint64_t tail;
        uint64_t pending;
    } good[] = {
        {0, 0, 0},
        {0, 1, 1},
        {0, RING_ENTRIES, RING_ENTRIES},
        {1000, 1000, 0},
        {1000, 1000 + RING_ENTRIES, RING_ENTRIES},
        {UINT32_MAX, (uint64_t)UINT32_MAX + 2, 2},
    };
    const struct {
        uint64_t head;
        uint64_t tail;
    } nonsense[] = {
        {0, RING_ENTRIES + 1},
        {0, UINT64_MAX},
        {0, UINT64_C(1) << 32},
        {1, 0},
        {1000, 999},
        {1000, 1000 - RING_ENTRIES},
        {1000, 0},
        {1000, 1000 + RING_ENTRIES + 1},
        {UINT32_MAX, 0},
    };

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        (void)ring_publish(&ring, good[i].tail);
        ck_assert_uint_eq(ring_pending(&ring, good[i].head), good[i].pending);
    }
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        (void)ring_publish(&ring, nonsense[i].tail);
        ck_assert_uint_gt(ring_pending(&ring, nonsense[i].head), RING_ENTRIES);
    }
}
END_TEST

/* ---- Results ------------------------------------------------------------------------- */

static struct result answer;
static struct result got;
static char field[16];

static void begin_answer(enum status status, const char *name)
{
    result_init(&answer);
    answer.status = status;
    answer.field = name;
    memset(&got, 0xEE, sizeof got);
    memset(field, 'x', sizeof field);
}

START_TEST(a_slot_that_was_never_written_says_that_all_went_well)
{
    for (uint64_t number = 0; number < 2 * RING_ENTRIES; number++) {
        memset(&got, 0xEE, sizeof got);
        ck_assert(!ring_result(&ring, number, OPERATION_STATISTICS, &got, field));
        ck_assert_int_eq(got.status, STATUS_OK);
        ck_assert_str_eq(got.field, "");
        ck_assert_str_eq(got.text, "");
        ck_assert(!got.has_span && !got.has_usage);
        ck_assert_uint_eq(got.found, 0);
    }
}
END_TEST

START_TEST(a_span_arrives_as_it_is)
{
    const enum operation all[] = {OPERATION_ALLOC, OPERATION_SHRINK, OPERATION_QUERY,
                                  OPERATION_SEAL,  OPERATION_LEASE,  OPERATION_CARVE};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        begin_answer(STATUS_OK, "");
        answer.has_span = true;
        answer.offset = UINT64_C(0x1122334455667788) + i;
        answer.size = UINT64_C(0x99AABBCCDDEEFF00) + i;
        answer.flags = 0xFEDCBA98u;
        ring_answer(&ring, i, &answer);
        ck_assert(ring_result(&ring, i, all[i], &got, field));
        ck_assert_int_eq(got.status, STATUS_OK);
        ck_assert(got.has_span && !got.has_usage);
        ck_assert_uint_eq(got.offset, answer.offset);
        ck_assert_uint_eq(got.size, answer.size);
        ck_assert_uint_eq(got.flags, answer.flags);
        ck_assert_str_eq(got.text, "");
        ck_assert_str_eq(got.field, "");
    }
}
END_TEST

START_TEST(an_answer_without_a_span_has_none)
{
    begin_answer(STATUS_OK, "");
    answer.size = 4096; /* of no meaning without has_span */
    ring_answer(&ring, 0, &answer);
    ck_assert(ring_result(&ring, 0, OPERATION_QUERY, &got, field));
    ck_assert(!got.has_span && !got.has_usage);
}
END_TEST

START_TEST(usage_arrives_for_whom_asked_for_it)
{
    begin_answer(STATUS_OK, "");
    answer.has_usage = true;
    for (size_t i = 0; i < sizeof answer.usage; i++)
        ((uint8_t *)&answer.usage)[i] = (uint8_t)(i + 1);
    ring_answer(&ring, 600, &answer);
    ck_assert(ring_result(&ring, 600, OPERATION_STATISTICS, &got, field));
    ck_assert(got.has_usage && !got.has_span);
    ck_assert_mem_eq(&got.usage, &answer.usage, sizeof got.usage);
    ck_assert(ring_result(&ring, 600, OPERATION_QUERY, &got, field));
    ck_assert(!got.has_usage);
}
END_TEST

START_TEST(every_refusal_arrives_with_field_and_text)
{
    for (int status = STATUS_OK + 1; status < STATUS_COUNT; status++) {
        begin_answer(STATUS_OK, "");
        (void)result_refuse(&answer, (enum status)status, "span", "text %d", status);
        ring_answer(&ring, (uint64_t)status, &answer);
        ck_assert(ring_result(&ring, (uint64_t)status, OPERATION_ALLOC, &got, field));
        ck_assert_int_eq(got.status, status);
        ck_assert_ptr_eq(got.field, field);
        ck_assert_str_eq(got.field, "span");
        ck_assert_str_eq(got.text, answer.text);
        ck_assert(!got.has_span && !got.has_usage);
    }
}
END_TEST

START_TEST(a_mismatch_tells_what_was_found)
{
    begin_answer(STATUS_MISMATCH, "expected");
    answer.found = UINT64_C(0xFEDCBA9876543210);
    ring_answer(&ring, 0, &answer);
    ck_assert(ring_result(&ring, 0, OPERATION_PATCH, &got, field));
    ck_assert_int_eq(got.status, STATUS_MISMATCH);
    ck_assert_uint_eq(got.found, answer.found);
}
END_TEST

START_TEST(a_text_of_full_length_arrives_whole)
{
    begin_answer(STATUS_INVALID, "");
    for (size_t length = ERROR_TEXT_MAX_BYTES - 3; length < ERROR_TEXT_MAX_BYTES; length++) {
        memset(answer.text, 'a', length);
        answer.text[length] = '\0';
        ring_answer(&ring, 0, &answer);
        ck_assert(ring_result(&ring, 0, OPERATION_ALLOC, &got, field));
        ck_assert_str_eq(got.field, "");
        ck_assert_uint_eq(strlen(got.text), length);
        ck_assert_str_eq(got.text, answer.text);
    }
}
END_TEST

START_TEST(a_longer_field_is_cut_at_15)
{
    static const struct {
        const char *name;
        const char *arrives;
    } cases[] = {
        {"", ""},
        {"a", "a"},
        {"fourteen_chars", "fourteen_chars"},
        {"fifteen_chars__", "fifteen_chars__"},
        {"sixteen_chars___", "sixteen_chars__"},
        {"a_field_of_a_name_that_is_far_too_long", "a_field_of_a_na"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin_answer(STATUS_INVALID, cases[i].name);
        ring_answer(&ring, 0, &answer);
        ck_assert(ring_result(&ring, 0, OPERATION_ALLOC, &got, field));
        ck_assert_str_eq(got.field, cases[i].arrives);
    }
}
END_TEST

START_TEST(a_slot_without_an_end_of_its_strings_is_read_no_further)
{
    begin_answer(STATUS_INVALID, "span");
    ring_answer(&ring, 0, &answer);
    memset(ring.results[0].field, 'f', sizeof ring.results[0].field);
    memset(ring.results[0].text, 't', sizeof ring.results[0].text);
    ck_assert(ring_result(&ring, 0, OPERATION_ALLOC, &got, field));
    ck_assert_uint_eq(strlen(got.field), 15);
    ck_assert_uint_eq(strlen(got.text), ERROR_TEXT_MAX_BYTES - 1);
}
END_TEST

START_TEST(a_slot_of_an_earlier_lap_is_no_answer)
{
    begin_answer(STATUS_INVALID, "span");
    ring_answer(&ring, 3, &answer);
    ck_assert(ring_result(&ring, 3, OPERATION_ALLOC, &got, field));
    ck_assert(!ring_result(&ring, 3 + RING_ENTRIES, OPERATION_ALLOC, &got, field));
    ck_assert_int_eq(got.status, STATUS_OK);
    ring_answer(&ring, 3 + RING_ENTRIES, &answer);
    ck_assert(!ring_result(&ring, 3, OPERATION_ALLOC, &got, field));
    ck_assert(ring_result(&ring, 3 + RING_ENTRIES, OPERATION_ALLOC, &got, field));
    ck_assert(!ring_result(&ring, 3 + (UINT64_C(1) << 32), OPERATION_ALLOC, &got, field));
}
END_TEST

START_TEST(an_answer_has_nothing_of_the_one_before_it_in_its_slot)
{
    begin_answer(STATUS_MISMATCH, "expected");
    answer.found = 5;
    memset(answer.text, 'a', ERROR_TEXT_MAX_BYTES - 1);
    answer.text[ERROR_TEXT_MAX_BYTES - 1] = '\0';
    ring_answer(&ring, 7, &answer);

    begin_answer(STATUS_OK, "");
    answer.has_span = true;
    answer.offset = 64;
    answer.size = 128;
    ring_answer(&ring, 7 + RING_ENTRIES, &answer);
    ck_assert(ring_result(&ring, 7 + RING_ENTRIES, OPERATION_ALLOC, &got, field));
    ck_assert_int_eq(got.status, STATUS_OK);
    ck_assert_str_eq(got.field, "");
    ck_assert_str_eq(got.text, "");
    ck_assert_uint_eq(got.found, 0);

    begin_answer(STATUS_INVALID, "at");
    ring_answer(&ring, 7 + 2 * RING_ENTRIES, &answer);
    ck_assert(ring_result(&ring, 7 + 2 * RING_ENTRIES, OPERATION_ALLOC, &got, field));
    ck_assert_str_eq(got.field, "at");
    ck_assert_str_eq(got.text, "");
    ck_assert(!got.has_span);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *entries = tcase_create("entries");
    TCase *results = tcase_create("results");

    tcase_add_checked_fixture(entries, map_ring, NULL);
    tcase_add_test(entries, every_part_and_field_is_where_the_protocol_has_it);
    tcase_add_test(entries, operations_with_a_span_and_a_size_arrive_as_they_were);
    tcase_add_test(entries, filled_arrives_as_it_was);
    tcase_add_test(entries, a_write_arrives_with_its_bytes);
    tcase_add_test(entries, a_patch_arrives_with_its_values);
    tcase_add_test(entries, a_width_that_an_entry_cannot_hold_becomes_none_that_is_accepted);
    tcase_add_test(entries, a_reset_arrives_with_its_kind);
    tcase_add_test(entries, entries_follow_each_other_round_and_round);
    tcase_add_test(entries, an_operation_that_is_none_is_refused);
    tcase_add_test(entries, a_flag_that_is_none_is_refused_of_every_operation);
    tcase_add_test(entries, staged_data_ends_with_the_staging);
    tcase_add_test(entries, a_patchs_values_end_with_the_staging);
    tcase_add_test(entries, where_nothing_is_staged_any_place_will_do);
    tcase_add_test(entries, what_becomes_of_an_entry_afterwards_changes_nothing);
    tcase_add_test(entries, a_tail_that_runs_backwards_or_leaps_is_more_than_the_ring_holds);
    suite_add_tcase(suite, entries);

    tcase_add_checked_fixture(results, map_ring, NULL);
    tcase_add_test(results, a_slot_that_was_never_written_says_that_all_went_well);
    tcase_add_test(results, a_span_arrives_as_it_is);
    tcase_add_test(results, an_answer_without_a_span_has_none);
    tcase_add_test(results, usage_arrives_for_whom_asked_for_it);
    tcase_add_test(results, every_refusal_arrives_with_field_and_text);
    tcase_add_test(results, a_mismatch_tells_what_was_found);
    tcase_add_test(results, a_text_of_full_length_arrives_whole);
    tcase_add_test(results, a_longer_field_is_cut_at_15);
    tcase_add_test(results, a_slot_without_an_end_of_its_strings_is_read_no_further);
    tcase_add_test(results, a_slot_of_an_earlier_lap_is_no_answer);
    tcase_add_test(results, an_answer_has_nothing_of_the_one_before_it_in_its_slot);
    suite_add_tcase(suite, results);
    return suite_run(suite);
}
