/* SPDX-License-Identifier: MIT */
#include "daemon/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/audit.h"
#include "daemon/log_journal.h"
#include "daemon/peer.h"

#define LINE_MAX_BYTES LOG_JOURNAL_VALUE_MAX_BYTES

struct event {
    const char *name;
    enum log_priority priority;
    bool is_clients; /* caused by one, so its lines are bounded */
};

static const struct event events[LOG_EVENT_COUNT] = {
    [LOG_STARTED] = {"started", LOG_NOTICE, false},
    [LOG_ADOPTED] = {"adopted", LOG_NOTICE, false},
    [LOG_STOPPING] = {"stopping", LOG_NOTICE, false},
    [LOG_POLICY_LOADED] = {"policy_loaded", LOG_NOTICE, false},
    [LOG_POLICY_REFUSED] = {"policy_refused", LOG_ERROR, false},
    [LOG_SESSION_STARTED] = {"session_started", LOG_INFO, true},
    [LOG_SESSION_ENDED] = {"session_ended", LOG_INFO, true},
    [LOG_SESSION_REFUSED] = {"session_refused", LOG_NOTICE, true},
    [LOG_CONNECTION_ENDED] = {"connection_ended", LOG_NOTICE, true},
    [LOG_EXECUTOR_STARTED] = {"executor_started", LOG_INFO, true},
    [LOG_EXECUTOR_ENDED] = {"executor_ended", LOG_INFO, true},
    [LOG_OPERATION_REFUSED] = {"operation_refused", LOG_INFO, true},
    [LOG_OPERATION_REFUSED_AGAIN] = {"operation_refused_again", LOG_DEBUG, true},
    [LOG_FINDING] = {"finding", LOG_NOTICE, true},
    [LOG_REQUEST_PUT_OFF] = {"request_put_off", LOG_DEBUG, true},
    [LOG_ADMIN_DONE] = {"admin_done", LOG_NOTICE, false},
    [LOG_ADMIN_REFUSED] = {"admin_refused", LOG_NOTICE, true},
};

static enum log_priority level = LOG_INFO;
static uint64_t counts[LOG_EVENT_COUNT];
static struct log_journal journal = {.fd = -1};

struct line {
    char text[LINE_MAX_BYTES];
    size_t used;
};

static void append(struct line *line, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What has no room is cut. */
static void append(struct line *line, const char *format, va_list args)
{
    size_t left = sizeof line->text - line->used;
    int added = vsnprintf(line->text + line->used, left, format, args);

    if (added > 0)
        line->used += (size_t)added < left ? (size_t)added : left - 1;
}

static void add(struct line *line, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    append(line, format, args);
    va_end(args);
}

/* In quotes: whatever bytes it has, it can't be taken for another field or line. */
static void add_quoted(struct line *line, const char *name, const char *value)
{
    add(line, " %s=\"", name);
    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;

        if (byte < 0x20 || byte == 0x7f)
            add(line, "\\x%02x", byte);
        else
            add(line, byte == '"' || byte == '\\' ? "\\%c" : "%c", byte);
    }
    add(line, "\"");
}

static bool is_plain(const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value <= ' ' || *value > '~' || *value == '"' || *value == '\\' || *value == '=')
            return false;
    }
    return true;
}

static void add_name(struct line *line, const char *name, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return;
    if (is_plain(value))
        add(line, " %s=%s", name, value);
    else
        add_quoted(line, name, value);
}

static void write_to_stderr(enum log_priority priority, const struct line *line)
{
    char text[LINE_MAX_BYTES + 8];
    int used = isatty(STDERR_FILENO) ? 0 : snprintf(text, sizeof text, "<%d>", (int)priority);

    memcpy(text + used, line->text, line->used);
    used += (int)line->used;
    text[used++] = '\n';
    /* Who does not read the log must not hold us up. A pipe that is writable has room for a line. */
    if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) != 1)
        return;
    /* One write a line, so that lines of several processes don't mix; a lost line is no error. */
    if (write(STDERR_FILENO, text, (size_t)used) < 0)
        return;
}

static void emit(enum log_priority priority, const struct line *line, const struct log_journal_entry *entry)
{
    struct log_journal_entry whole = *entry;

    whole.priority = (int)priority;
    whole.message = line->text;
    if (!log_journal_send(&journal, &whole))
        write_to_stderr(priority, line);
}

/* Whether there may be one more line in this second that a client has caused. */
static bool may_tell(void)
{
    static time_t second;
    static unsigned lines;
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec != second) {
        if (lines > LOG_BURST)
            log_line(LOG_WARNING, "%u more lines about clients were not logged", lines - LOG_BURST);
        second = now.tv_sec;
        lines = 0;
    }
    return ++lines <= LOG_BURST;
}

void log_init(void)
{
    log_journal_init(&journal, AUDIT_JOURNAL_SOCKET);
}

void log_event(enum log_event number, const struct log_subject *subject, const char *reason,
               const char *format, ...)
{
    static const struct log_subject nobody;
    const struct event *event = &events[number];
    const struct log_subject *of = subject != NULL ? subject : &nobody;
    const char *unit = of->peer != NULL ? of->peer->unit : NULL;
    struct line line = {.used = 0};
    va_list args;

    counts[number]++;
    if (event->priority > level || (event->is_clients && !may_tell()))
        return;
    add(&line, "%s:", event->name);
    if (of->session != 0)
        add(&line, " session=%" PRIu64, of->session);
    if (of->peer != NULL)
        add(&line, " uid=%u pid=%d", (unsigned)of->peer->uid, (int)of->peer->pid);
    add_name(&line, "unit", unit);
    add_name(&line, "class", of->class);
    add(&line, " ");
    va_start(args, format);
    append(&line, format, args);
    va_end(args);
    if (reason != NULL)
        add_quoted(&line, "reason", reason);
    emit(event->priority, &line,
         &(struct log_journal_entry){.event = event->name, .subject = of, .reason = reason});
}

uint64_t log_count(enum log_event event)
{
    return counts[event];
}

const char *log_event_name(enum log_event event)
{
    return events[event].name;
}

static void tell(enum log_priority priority, const char *format, va_list args)
{
    static const struct log_journal_entry plain;
    struct line line = {.used = 0};

    append(&line, format, args);
    emit(priority, &line, &plain);
}

void log_line(enum log_priority priority, const char *format, ...)
{
    va_list args;

    if (priority > level)
        return;
    va_start(args, format);
    tell(priority, format, args);
    va_end(args);
}

void log_client(enum log_priority priority, const char *format, ...)
{
    va_list args;

    if (priority > level || !may_tell())
        return;
    va_start(args, format);
    tell(priority, format, args);
    va_end(args);
}

void log_set_level(enum log_priority priority)
{
    level = priority;
}

enum log_priority log_level(void)
{
    return level;
}
