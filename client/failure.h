/* SPDX-License-Identifier: MIT */
/* The sentence of this thread's last failure, for jitc_error_detail(). */
#ifndef CLIENT_FAILURE_H
#define CLIENT_FAILURE_H

/* Remembers the sentence and returns `status`. %m is errno's text. */
int failure_set(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
