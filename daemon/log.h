/* SPDX-License-Identifier: MIT */
/*
 * One line an event to stderr, with the <N> priority that the journal understands
 * (left out on a terminal). Never waits for whoever reads it, and what clients can cause is
 * bounded: past LOG_BURST lines in a second the rest is counted, and the count told.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

enum log_priority { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6 };

#define LOG_BURST 200u

/* For what the daemon itself does. No newline in the format. */
void log_line(enum log_priority priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For what a client causes: the same, but bounded. */
void log_client(enum log_priority priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of a lower urgency than this are dropped; LOG_INFO at first. */
void log_set_level(enum log_priority priority);

#endif
