/* SPDX-License-Identifier: MIT */
/*
 * One line an event: to the journal with its fields where systemd connects stderr to that, otherwise to
 * stderr, with the <N> priority that a manager understands (left out on a terminal). Never waits for whoever
 * reads it, and what clients can cause is bounded: past LOG_BURST lines in a second the rest is counted, and
 * the count told.
 *
 * A line about clients or operators has a name, which stays, and says whom it is about, then its own fields,
 * then why:
 *   session_ended: session=7 uid=1000 pid=712 class=default operations=301 ... reason="closed by the client"
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdint.h>

struct peer;

enum log_priority { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };

enum log_event {
    LOG_STARTED,
    LOG_ADOPTED,
    LOG_STOPPING,
    LOG_POLICY_LOADED,
    LOG_POLICY_REFUSED,
    LOG_SESSION_STARTED,
    LOG_SESSION_ENDED,
    LOG_SESSION_REFUSED,  /* a peer gets none; its connection ends */
    LOG_CONNECTION_ENDED, /* before there was a session */
    LOG_EXECUTOR_STARTED,
    LOG_EXECUTOR_ENDED,
    LOG_OPERATION_REFUSED,
    LOG_OPERATION_REFUSED_AGAIN, /* those of a connection that come behind the first ones */
    LOG_FINDING,                 /* code with a forbidden instruction, which the class only reports */
    LOG_REQUEST_PUT_OFF,         /* its slice was over */
    LOG_ADMIN_DONE,              /* something was changed */
    LOG_ADMIN_REFUSED,
    LOG_EVENT_COUNT
};

/* Whom an event is about: what is 0 or NULL is not known, or does not apply. */
struct log_subject {
    uint64_t session;
    const struct peer *peer;
    const char *class;
};

#define LOG_BURST 200u

/* Finds out where lines go. Without it: to stderr. */
void log_init(void);

/* `subject` and `reason` may be NULL; the format is that of fields, name=value with a space between. */
void log_event(enum log_event event, const struct log_subject *subject, const char *reason,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

/* How often it has happened, told or not. */
uint64_t log_count(enum log_event event);
/* "session_started", ... */
const char *log_event_name(enum log_event event);

/* For troubles of the daemon itself. No newline in the format. */
void log_line(enum log_priority priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For those that a client causes: the same, but bounded. */
void log_client(enum log_priority priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What is less urgent is dropped; LOG_INFO at first. */
void log_set_level(enum log_priority priority);
enum log_priority log_level(void);

#endif
