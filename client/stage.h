/* SPDX-License-Identifier: MIT */
/* Copies into staging: what the daemon's processor, and not ours, reads next. */
#ifndef CLIENT_STAGE_H
#define CLIENT_STAGE_H

#include <stddef.h>

/* Staged runs begin with a line of their own, which the daemon does not read while the next one is written.
 */
#define STAGE_LINE_BYTES 64u

/* `to` begins with a line, and nothing else lies in the last one. */
void stage_copy(void *to, const void *from, size_t bytes);

#endif
