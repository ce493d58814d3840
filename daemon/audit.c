/* SPDX-License-Identifier: MIT */
#include "daemon/audit.h"

#include <assert.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/audit_file.h"
#include "daemon/audit_journal.h"
#include "daemon/log.h"

#define NS_PER_S UINT64_C(1000000000)
#define RECORD_NS (NS_PER_S / AUDIT_RATE)
/* With so many the thread is woken at once. */
#define ENOUGH (AUDIT_BURST / 4)
/* How often it is said that the trail has no place. */
#define COMPLAINT_NS (10 * NS_PER_S)

_Static_assert(SHA256_DIGEST_SIZE == AUDIT_DIGEST_BYTES, "the digest is SHA-256");

struct half {
    struct audit_record *records;
    size_t count;
    /* Missing, and told by none of the records: of sessions that ended when there was no room. */
    uint64_t lost_to_file;
    uint64_t lost_to_journal;
};

struct audit {
    struct half halves[2];
    unsigned filling; /* which one; the thread has the other */
    bool is_busy;     /* the thread */
    uv_thread_t thread;
    uv_sem_t ready;   /* the thread has the other half; to an empty one it ends */
    uv_async_t done;  /* it is written out */
    uv_timer_t delay; /* the first record has waited */
    unsigned handles; /* of libuv's, still to be closed */
    struct audit_user *users;
    bool has_file;
    int next_fd; /* of a file that the thread will go on in; -1: none */
    uint64_t complained_at_ns;
    /* The thread's, while it is busy. */
    struct audit_file file;
    struct audit_journal journal;
    int file_error;
    int journal_error;
};

/* ---- Writing out ------------------------------------------------------------------------ */

static void write_out(struct audit *audit, struct half *half)
{
    audit->file_error = audit_file_write(&audit->file, half->records, half->count, half->lost_to_file);
    audit->journal_error =
        audit_journal_write(&audit->journal, half->records, half->count, half->lost_to_journal);
    half->count = 0;
    half->lost_to_file = 0;
    half->lost_to_journal = 0;
}

static void run_thread(void *user)
{
    struct audit *audit = user;

    for (;;) {
        struct half *half;

        uv_sem_wait(&audit->ready);
        half = &audit->halves[1 - audit->filling];
        if (half->count == 0)
            return;
        write_out(audit, half);
        (void)uv_async_send(&audit->done);
    }
}

static void hand_over(struct audit *audit)
{
    (void)uv_timer_stop(&audit->delay);
    audit->filling = 1 - audit->filling;
    audit->is_busy = true;
    uv_sem_post(&audit->ready);
}

static void complain(struct audit *audit)
{
    uint64_t now = uv_hrtime();

    if (audit->file_error == 0 && audit->journal_error == 0)
        return;
    if (audit->complained_at_ns != 0 && now - audit->complained_at_ns < COMPLAINT_NS)
        return;
    audit->complained_at_ns = now;
    if (audit->file_error != 0)
        log_line(LOG_ERROR, "audit: records are lost, the file takes none: %s", strerror(-audit->file_error));
    if (audit->journal_error != 0)
        log_line(LOG_ERROR, "audit: records are lost, the journal takes none: %s",
                 strerror(-audit->journal_error));
}

static void replace_file(struct audit *audit)
{
    if (audit->next_fd >= 0)
        audit_file_replace(&audit->file, audit->next_fd);
    audit->next_fd = -1;
}

static void on_done(uv_async_t *handle)
{
    struct audit *audit = handle->data;

    audit->is_busy = false;
    complain(audit);
    replace_file(audit);
    if (audit->halves[audit->filling].count > 0)
        hand_over(audit);
}

static void on_delay(uv_timer_t *timer)
{
    struct audit *audit = timer->data;

    if (!audit->is_busy)
        hand_over(audit);
}

/* ---- Users ---------------------------------------------------------------------------- */

/* Those that have no session, and of whom nothing need be known at `now_ns`. */
static void forget_users(struct audit *audit, uint64_t now_ns)
{
    struct audit_user **link = &audit->users;

    while (*link != NULL) {
        struct audit_user *user = *link;

        if (user->sessions > 0 || user->due_ns > now_ns) {
            link = &user->next;
            continue;
        }
        *link = user->next;
        free(user);
    }
}

static struct audit_user *find_user(struct audit *audit, uid_t uid)
{
    struct audit_user *user = audit->users;

    while (user != NULL && user->uid != uid)
        user = user->next;
    if (user != NULL)
        return user;
    user = calloc(1, sizeof *user);
    if (user == NULL)
        return NULL;
    user->uid = uid;
    user->next = audit->users;
    audit->users = user;
    return user;
}

/* ---- Beginning and end --------------------------------------------------------------------- */

static void release(struct audit *audit)
{
    audit_file_deinit(&audit->file);
    audit_journal_deinit(&audit->journal);
    free(audit->halves[0].records);
    free(audit->halves[1].records);
    while (audit->users != NULL) {
        struct audit_user *user = audit->users;

        audit->users = user->next;
        free(user);
    }
    free(audit);
}

static void on_closed(uv_handle_t *handle)
{
    struct audit *audit = handle->data;

    if (--audit->handles == 0)
        release(audit);
}

static bool open_all(struct audit *audit, const char *file, const char *journal)
{
    int error = audit_journal_init(&audit->journal, journal);

    if (error == 0) {
        for (unsigned i = 0; i < 2; i++) {
            audit->halves[i].records = calloc(AUDIT_HALF, sizeof *audit->halves[i].records);
            error = audit->halves[i].records == NULL ? -ENOMEM : error;
        }
    }
    if (error != 0) {
        log_line(LOG_ERROR, "audit: %s", strerror(-error));
        return false;
    }
    return file == NULL || audit_reopen(audit, file);
}

/* The thread, and by what it and the loop tell each other. */
static bool start_thread(struct audit *audit, uv_loop_t *loop)
{
    int error = uv_sem_init(&audit->ready, 0);

    if (error == 0) {
        error = uv_thread_create(&audit->thread, run_thread, audit);
        if (error != 0)
            uv_sem_destroy(&audit->ready);
    }
    if (error != 0) {
        log_line(LOG_ERROR, "audit: no thread: %s", uv_strerror(error));
        return false;
    }
    (void)uv_timer_init(loop, &audit->delay);
    audit->delay.data = audit;
    uv_unref((uv_handle_t *)&audit->delay);
    audit->handles++;
    return true;
}

static bool start(struct audit *audit, uv_loop_t *loop)
{
    int error = uv_async_init(loop, &audit->done, on_done);

    if (error != 0) {
        log_line(LOG_ERROR, "audit: %s", uv_strerror(error));
        return false;
    }
    audit->done.data = audit;
    uv_unref((uv_handle_t *)&audit->done);
    audit->handles++;
    if (start_thread(audit, loop))
        return true;
    uv_close((uv_handle_t *)&audit->done, on_closed); /* which frees all */
    return false;
}

struct audit *audit_new(struct uv_loop_s *loop, const char *file, const char *journal)
{
    struct audit *audit = calloc(1, sizeof *audit);

    if (audit == NULL) {
        log_line(LOG_ERROR, "audit: %s", strerror(ENOMEM));
        return NULL;
    }
    audit->next_fd = -1;
    audit->journal.fd = -1;
    audit_file_init(&audit->file, -1);
    if (!open_all(audit, file, journal)) {
        release(audit);
        return NULL;
    }
    return start(audit, loop) ? audit : NULL;
}

struct audit *audit_free(struct audit *audit)
{
    if (audit == NULL)
        return NULL;
    uv_sem_post(&audit->ready);
    (void)uv_thread_join(&audit->thread);
    uv_sem_destroy(&audit->ready);
    if (audit->is_busy)
        complain(audit);
    replace_file(audit);
    write_out(audit, &audit->halves[audit->filling]);
    complain(audit);
    uv_close((uv_handle_t *)&audit->delay, on_closed);
    uv_close((uv_handle_t *)&audit->done, on_closed);
    return NULL;
}

bool audit_reopen(struct audit *audit, const char *file)
{
    int fd = audit_file_open(file);

    if (fd < 0)
        return false;
    if (audit->next_fd >= 0)
        (void)close(audit->next_fd);
    audit->next_fd = fd;
    audit->has_file = true;
    if (!audit->is_busy)
        replace_file(audit);
    return true;
}

bool audit_has_file(const struct audit *audit)
{
    return audit->has_file;
}

/* ---- Filling ------------------------------------------------------------------------------- */

bool audit_may_cause(uint64_t *due_ns, uint64_t now_ns)
{
    if (*due_ns < now_ns)
        *due_ns = now_ns;
    if (*due_ns - now_ns > (AUDIT_BURST - 1) * RECORD_NS)
        return false;
    *due_ns += RECORD_NS;
    return true;
}

/* The next of the half, of which there is room for one. */
static struct audit_record *take(struct audit *audit, const struct audit_source *source)
{
    struct half *half = &audit->halves[audit->filling];
    struct audit_record *record = &half->records[half->count++];
    size_t unit = strnlen(source->unit, sizeof record->unit - 1);
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    record->to = source->to;
    record->time_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    record->session = source->session;
    record->uid = source->uid;
    memcpy(record->unit, source->unit, unit);
    record->unit[unit] = '\0';
    return record;
}

/* Makes sure that what was taken is written out. */
static void took(struct audit *audit)
{
    if (audit->is_busy)
        return; /* when it is done it asks for more */
    if (audit->halves[audit->filling].count >= ENOUGH)
        hand_over(audit);
    else if (!uv_is_active((uv_handle_t *)&audit->delay))
        (void)uv_timer_start(&audit->delay, on_delay, AUDIT_DELAY_MS, 0);
}

static void tell_lost(struct audit *audit, struct audit_source *source)
{
    take(audit, source)->lost = source->lost;
    source->lost = 0;
}

size_t audit_note(struct audit *audit, struct audit_source *source, const struct request *request,
                  const char *verdict, const uint8_t *written)
{
    struct half *half = &audit->halves[audit->filling];
    struct audit_record *record;

    if (source->user == NULL || half->count + (source->lost > 0) >= AUDIT_HALF ||
        !audit_may_cause(&source->user->due_ns, uv_hrtime())) {
        source->lost++;
        return 0;
    }
    if (source->lost > 0)
        tell_lost(audit, source);
    record = take(audit, source);
    record->lost = 0;
    record->operation = operation_name(request->operation);
    record->verdict = verdict;
    if (__builtin_add_overflow(request->span, request->at, &record->offset))
        record->offset = UINT64_MAX; /* refused as well */
    record->size = request->operation == OPERATION_PATCH ? request->width : request->data_bytes;
    record->has_digest = written != NULL;
    if (written != NULL) {
        struct sha256_ctx digest;

        sha256_init(&digest);
        sha256_update(&digest, record->size, written);
        sha256_digest(&digest, sizeof record->digest, record->digest);
    }
    took(audit);
    return written != NULL ? record->size : 0;
}

/* What is missing of a session that is over. */
static void tell_rest(struct audit *audit, struct audit_source *source)
{
    struct half *half = &audit->halves[audit->filling];

    if (half->count < AUDIT_HALF)
        tell_lost(audit, source);
    else if (source->to == AUDIT_FILE)
        half->lost_to_file += source->lost;
    else
        half->lost_to_journal += source->lost;
    source->lost = 0;
    took(audit);
}

void audit_begin(struct audit *audit, struct audit_source *source)
{
    forget_users(audit, uv_hrtime());
    source->user = find_user(audit, source->uid); /* without memory for one nothing of it is recorded */
    if (source->user != NULL)
        source->user->sessions++;
    source->lost = 0;
}

void audit_end(struct audit *audit, struct audit_source *source)
{
    if (source->user != NULL)
        source->user->sessions--;
    source->user = NULL;
    if (source->lost > 0)
        tell_rest(audit, source);
}

const char *audit_verdict(enum status status)
{
    static const char *const names[] = {
        [STATUS_OK] = "ok",
        [STATUS_MALFORMED] = "malformed",
        [STATUS_PROTOCOL] = "protocol",
        [STATUS_VERSION] = "version",
        [STATUS_UNKNOWN_OPERATION] = "unknown_operation",
        [STATUS_UNKNOWN_FIELD] = "unknown_field",
        [STATUS_REFUSED] = "refused",
        [STATUS_INVALID] = "invalid",
        [STATUS_MISALIGNED] = "misaligned",
        [STATUS_NO_SPAN] = "no_span",
        [STATUS_OUT_OF_RANGE] = "out_of_range",
        [STATUS_SEALED] = "sealed",
        [STATUS_MISMATCH] = "mismatch",
        [STATUS_TOO_LARGE] = "too_large",
        [STATUS_ARENA_FULL] = "arena_full",
        [STATUS_QUOTA_SPANS] = "quota_spans",
        [STATUS_QUOTA_BYTES] = "quota_bytes",
        [STATUS_QUOTA_SESSIONS] = "quota_sessions",
        [STATUS_NO_MEMORY] = "no_memory",
        [STATUS_HELLO_TIMEOUT] = "hello_timeout",
        [STATUS_STOPPING] = "stopping",
        [STATUS_FORBIDDEN] = "forbidden",
        [STATUS_FROZEN] = "frozen",
    };
    _Static_assert(sizeof names / sizeof names[0] == STATUS_COUNT, "each status has a name");

    return names[status];
}
