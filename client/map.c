/* SPDX-License-Identifier: MIT */
/* Spans at addresses of the caller's choosing. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/failure.h"
#include "client/span.h"

int jitc_map(jitc_client *client, const jitc_span *span, size_t offset, size_t size, void *address,
             uint32_t flags)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    int kind = (flags & JITC_MAP_PRIVATE) != 0 ? MAP_PRIVATE : MAP_SHARED;
    uint64_t start;

    if (client == NULL)
        return client_check(client);
    start = (uintptr_t)span->rx - (uintptr_t)client->map.rx; /* the daemon isn't asked: a child may, too */
    if (start >= client->map.bytes)
        return span_refuse_pointer(client, span->rx);
    if (span->size > client->map.bytes - start || offset > span->size || size > span->size - offset)
        return span_refuse_range(client, span, offset, size);
    if ((flags & ~JITC_MAP_PRIVATE) != 0)
        return failure_set(JITC_E_INVALID, "flags 0x%x: there is JITC_MAP_PRIVATE only", flags);
    start += offset;
    if ((start | size | (uintptr_t)address) % page != 0)
        return failure_set(JITC_E_MISALIGNED,
                           "rx + offset (%p), size (%zu) and address (%p) must be multiples of %zu",
                           (const void *)(client->map.rx + start), size, address, (size_t)page);
    if (size == 0 || address == NULL)
        return failure_set(JITC_E_INVALID, "there is nothing to map, or nowhere to");
    if (mmap(address, size, PROT_READ | PROT_EXEC, kind | MAP_FIXED, client->map.fd, (off_t)start) ==
        MAP_FAILED)
        return failure_set(JITC_E_SYSTEM, "mapping %zu bytes of the arena at %p: %m", size, address);
    return JITC_OK;
}
