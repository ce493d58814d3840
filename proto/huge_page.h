/* SPDX-License-Identifier: MIT */
/* Where a file must be mapped so that a huge page of it can be mapped as one: on either side. */
#ifndef PROTO_HUGE_PAGE_H
#define PROTO_HUGE_PAGE_H

#include <stddef.h>
#include <stdint.h>

/* What one takes on x86-64, and on aarch64 with pages of 4 KiB. */
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

/* As mmap() of `bytes` of the file, shared, from its start on, but at a multiple of HUGE_PAGE_BYTES. `flags`
 * are further MAP_* flags. MAP_FAILED with errno set. */
void *huge_page_map(int fd, size_t bytes, int protection, int flags);

#endif
