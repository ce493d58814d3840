/* SPDX-License-Identifier: MIT */
/*
 * How long the call that a thread is in may still wait: options.timeout_ms in all, however many answers it
 * needs. The clock is first read when the call waits for the first time, so what need not wait pays nothing.
 */
#ifndef CLIENT_PATIENCE_H
#define CLIENT_PATIENCE_H

#include <stdint.h>

/* Private; 0: the call has not waited yet. */
extern _Thread_local uint64_t patience_until_ns __attribute__((tls_model("initial-exec")));

/* Every public function that may wait begins with it; in a longer one it is said again at each step that
 * went well. */
static inline void patience_begin(void)
{
    patience_until_ns = 0;
}

/* What is left of timeout_ms, rounded up; 0 when it is over. */
uint32_t patience_left_ms(uint32_t timeout_ms);

uint64_t patience_now_ns(void);

#endif
