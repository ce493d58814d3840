/* SPDX-License-Identifier: MIT */
/* The sentence of this thread's last failure, for jitc_error_detail(). */
#ifndef CLIENT_FAILURE_H
#define CLIENT_FAILURE_H

void failure_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Remembers the sentence and yields `status`. %m is errno's text. A macro, so that whatever reads the code
 * after it knows that this is not JITC_OK.
 */
#define failure_set(status, ...) (failure_note(__VA_ARGS__), (int)(status))

#endif
