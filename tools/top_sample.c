/* SPDX-License-Identifier: MIT */
#include "tools/top_sample.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void find_parts(struct top_sample *sample)
{
    for (size_t i = 0; i < sample->status_answer.count; i++) {
        if (sample->status_answer.parts[i]->status != NULL)
            sample->status = sample->status_answer.parts[i]->status;
    }
    for (size_t i = 0; i < sample->operations_answer.count; i++) {
        const Admin__Reply *part = sample->operations_answer.parts[i];

        for (size_t j = 0; j < part->n_operations && sample->operations_count < TOP_OPERATIONS_MAX; j++)
            sample->operations[sample->operations_count++] = part->operations[j];
    }
}

int top_sample_take(struct top_sample *sample, struct ask *ask)
{
    struct timespec now;
    int status;

    *sample = (struct top_sample){.status = NULL};
    status = ask_for(ask, ADMIN__VERB__STATUS, 0, 0, 0, &sample->status_answer);
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    sample->at_s = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    if (status == EXIT_YES)
        status = ask_for(ask, ADMIN__VERB__OPERATIONS, 0, 0, 0, &sample->operations_answer);
    if (status == EXIT_YES)
        status = ask_for(ask, ADMIN__VERB__SESSIONS, 0, 0, 0, &sample->sessions_answer);
    find_parts(sample);
    if (status == EXIT_YES &&
        (sample->status == NULL || !session_list_init(&sample->sessions, &sample->sessions_answer)))
        status = EXIT_NO;
    return status;
}

void top_sample_free(struct top_sample *sample)
{
    session_list_deinit(&sample->sessions);
    answer_free(&sample->status_answer);
    answer_free(&sample->operations_answer);
    answer_free(&sample->sessions_answer);
    *sample = (struct top_sample){.status = NULL};
}

/* What a daemon that was started anew says is all new. */
static uint64_t difference(uint64_t before, uint64_t now)
{
    return now >= before ? now - before : now;
}

/* A time that `part` of those between the two samples took no longer than: the middle of its bucket. */
static double quantile(const Admin__Operation *before, const Admin__Operation *now, double part)
{
    uint64_t counts[BUCKETS_COUNT] = {0};
    double all = 0;
    double sum = 0;

    for (size_t i = 0; i < now->n_buckets && i < BUCKETS_COUNT; i++) {
        uint64_t earlier = before != NULL && i < before->n_buckets ? before->buckets[i] : 0;

        counts[i] = difference(earlier, now->buckets[i]);
        all += (double)counts[i];
    }
    for (uint32_t i = 0; i < BUCKETS_COUNT; i++) {
        sum += (double)counts[i];
        if (counts[i] > 0 && sum >= part * all)
            return (double)(bucket_from_ns(i) + bucket_from_ns(i + 1)) / 2;
    }
    return 0;
}

static void compare_operations(struct top_frame *frame, const struct top_sample *before,
                               const struct top_sample *now)
{
    for (size_t i = 0; i < now->operations_count; i++) {
        const Admin__Operation *to = now->operations[i];
        const Admin__Operation *from = i < before->operations_count ? before->operations[i] : NULL;
        struct top_operation *operation = &frame->operations[i];

        *operation = (struct top_operation){
            .name = to->name,
            .done_per_s = (double)difference(from != NULL ? from->done : 0, to->done) / frame->seconds,
            .refused_per_s =
                (double)difference(from != NULL ? from->refused : 0, to->refused) / frame->seconds,
            .p50_ns = quantile(from, to, 0.5),
            .p99_ns = quantile(from, to, 0.99),
        };
        frame->operations_per_s += operation->done_per_s + operation->refused_per_s;
        frame->refused_per_s += operation->refused_per_s;
    }
    frame->operations_count = now->operations_count;
}

static int busiest_first(const void *a, const void *b)
{
    const struct top_session *left = a;
    const struct top_session *right = b;

    if (left->operations_per_s != right->operations_per_s)
        return left->operations_per_s > right->operations_per_s ? -1 : 1;
    return left->row->end->session < right->row->end->session ? -1 : 1;
}

/* Both lists are by the sessions' numbers. */
static void compare_sessions(struct top_frame *frame, const struct top_sample *before,
                             const struct top_sample *now)
{
    size_t j = 0;

    for (size_t i = 0; i < now->sessions.count; i++) {
        const struct session_row *row = &now->sessions.rows[i];
        uint64_t earlier = 0;

        while (j < before->sessions.count && before->sessions.rows[j].end->session < row->end->session)
            j++;
        if (j < before->sessions.count && before->sessions.rows[j].end->session == row->end->session)
            earlier = before->sessions.rows[j].end->operations;
        frame->sessions[i] = (struct top_session){
            .row = row,
            .operations_per_s = (double)difference(earlier, row->end->operations) / frame->seconds,
        };
    }
    frame->sessions_count = now->sessions.count;
    qsort(frame->sessions, frame->sessions_count, sizeof *frame->sessions, busiest_first);
}

bool top_frame_init(struct top_frame *frame, const struct top_sample *before, const struct top_sample *now)
{
    *frame = (struct top_frame){.status = now->status, .seconds = now->at_s - before->at_s};
    if (frame->seconds <= 0)
        frame->seconds = 1e-9;
    frame->sessions = calloc(now->sessions.count + 1, sizeof *frame->sessions);
    if (frame->sessions == NULL)
        return false;
    compare_operations(frame, before, now);
    compare_sessions(frame, before, now);
    return true;
}

void top_frame_deinit(struct top_frame *frame)
{
    free(frame->sessions);
    *frame = (struct top_frame){.status = NULL};
}
