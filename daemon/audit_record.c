/* SPDX-License-Identifier: MIT */
#include "daemon/audit_record.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What `journalctl MESSAGE_ID=` finds all of them by. */
#define MESSAGE_ID "307c61b7f7fb4558b61762a8d5e318a9"
/* syslog(3)'s: of one that was refused, and of one that was done. */
#define PRIORITY_REFUSED 5
#define PRIORITY_DONE 6

struct text {
    char *bytes;
    size_t used;
};

static void put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *text, const char *format, ...)
{
    size_t left = AUDIT_LINE_MAX_BYTES - text->used;
    va_list args;
    int added;

    va_start(args, format);
    added = vsnprintf(text->bytes + text->used, left, format, args);
    va_end(args);
    assert(added >= 0 && (size_t)added < left); /* by AUDIT_LINE_MAX_BYTES */
    text->used += (size_t)added;
}

static void put_bytes(struct text *text, const void *bytes, size_t count)
{
    assert(count <= AUDIT_LINE_MAX_BYTES - text->used);
    memcpy(text->bytes + text->used, bytes, count);
    text->used += count;
}

static void put_hex(struct text *text, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        const char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};

        put_bytes(text, pair, sizeof pair);
    }
}

/* A unit's name is ASCII; a byte that is not is given as the character of its number. */
static void put_json_string(struct text *text, const char *string)
{
    put_bytes(text, "\"", 1);
    for (; *string != '\0'; string++) {
        unsigned char byte = (unsigned char)*string;

        if (byte < 0x20 || byte > 0x7e)
            put(text, "\\u%04x", byte);
        else if (byte == '"' || byte == '\\')
            put(text, "\\%c", byte);
        else
            put_bytes(text, string, 1);
    }
    put_bytes(text, "\"", 1);
}

static void put_json_time(struct text *text, uint64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000);
    char date[sizeof "2026-11-24T12:34:56" + 16] = "";
    struct tm parts;

    if (gmtime_r(&seconds, &parts) != NULL)
        (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
    put(text, "\"time\":\"%s.%06uZ\"", date, (unsigned)(time_us % 1000000));
}

uint64_t audit_record_weight(const struct audit_record *record)
{
    return record->lost > 0 ? record->lost : 1;
}

size_t audit_record_to_json(const struct audit_record *record, char *to)
{
    struct text text = {.bytes = to};

    put(&text, "{");
    put_json_time(&text, record->time_us);
    if (record->session != 0) {
        put(&text, ",\"session\":%" PRIu64 ",\"uid\":%u,\"unit\":", record->session, (unsigned)record->uid);
        put_json_string(&text, record->unit);
    }
    if (record->lost != 0) {
        put(&text, ",\"lost\":%" PRIu64 "}\n", record->lost);
        return text.used;
    }
    put(&text,
        ",\"operation\":\"%s\",\"offset\":%" PRIu64 ",\"size\":%" PRIu64 ",\"digest\":", record->operation,
        record->offset, record->size);
    if (record->has_digest) {
        put(&text, "\"sha256:");
        put_hex(&text, record->digest, sizeof record->digest);
        put(&text, "\"");
    } else {
        put(&text, "null");
    }
    put(&text, ",\"verdict\":\"%s\"}\n", record->verdict);
    return text.used;
}

/* With its length before it: then its bytes, a newline say, begin no other field. */
static void put_field(struct text *text, const char *name, const char *value)
{
    uint64_t bytes = htole64(strlen(value));

    put(text, "%s\n", name);
    put_bytes(text, &bytes, sizeof bytes);
    put_bytes(text, value, strlen(value));
    put_bytes(text, "\n", 1);
}

size_t audit_record_to_journal(const struct audit_record *record, char *to)
{
    bool done = record->has_digest;
    struct text text = {.bytes = to};

    put(&text, "SYSLOG_IDENTIFIER=jitbrokerd\nMESSAGE_ID=" MESSAGE_ID "\n");
    if (record->session != 0) {
        put(&text, "JITBROKER_SESSION=%" PRIu64 "\nJITBROKER_UID=%u\n", record->session,
            (unsigned)record->uid);
        put_field(&text, "JITBROKER_UNIT", record->unit);
    }
    if (record->lost != 0) {
        put(&text,
            "PRIORITY=%d\nJITBROKER_LOST=%" PRIu64 "\nMESSAGE=audit: %" PRIu64
            " code writes were not recorded",
            PRIORITY_REFUSED, record->lost, record->lost);
        if (record->session != 0)
            put(&text, ", of session %" PRIu64, record->session);
        put(&text, "\n");
        return text.used;
    }
    put(&text,
        "PRIORITY=%d\nJITBROKER_OPERATION=%s\nJITBROKER_OFFSET=%" PRIu64 "\nJITBROKER_SIZE=%" PRIu64
        "\nJITBROKER_VERDICT=%s\nMESSAGE=audit: session %" PRIu64 ": %s of %" PRIu64 " bytes at 0x%" PRIx64
        ": %s\n",
        done ? PRIORITY_DONE : PRIORITY_REFUSED, record->operation, record->offset, record->size,
        record->verdict, record->session, record->operation, record->size, record->offset, record->verdict);
    if (done) {
        put(&text, "JITBROKER_DIGEST=sha256:");
        put_hex(&text, record->digest, sizeof record->digest);
        put(&text, "\n");
    }
    return text.used;
}
