/* SPDX-License-Identifier: MIT */
#include "proto/huge_page.h"

#include <errno.h>
#include <sys/mman.h>

void *huge_page_map(int fd, size_t bytes, int protection, int flags)
{
    size_t room_bytes = bytes + HUGE_PAGE_BYTES;
    uint8_t *room = mmap(NULL, room_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t before = -(uintptr_t)room % HUGE_PAGE_BYTES;
    void *memory;

    if (room == MAP_FAILED)
        return MAP_FAILED;
    memory = mmap(room + before, bytes, protection, MAP_SHARED | MAP_FIXED | flags, fd, 0);
    if (memory == MAP_FAILED) {
        int error = errno;

        (void)munmap(room, room_bytes);
        errno = error;
        return MAP_FAILED;
    }
    if (before > 0)
        (void)munmap(room, before);
    (void)munmap(room + before + bytes, HUGE_PAGE_BYTES - before);
    return memory;
}
