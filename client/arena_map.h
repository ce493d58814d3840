/* SPDX-License-Identifier: MIT */
/*
 * An arena as this process sees it: one read+execute mapping, made once, and in
 * direct mode a writable one elsewhere.
 */
#ifndef CLIENT_ARENA_MAP_H
#define CLIENT_ARENA_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_map {
    struct arena_map *next; /* of all in this process */
    struct arena_map *prev;
    uint8_t *rx;
    uint8_t *rw; /* NULL unless direct */
    size_t bytes;
    int fd; /* read-only, of the arena */
    bool is_near;
    bool is_sealed; /* mseal()ed: can't be unmapped any more */
};

/*
 * Maps `bytes` of fd read+execute, which it takes over on success; of fd_direct, unless that
 * is -1, read+write. Near `near_to` where that is not NULL; `near_required` makes it fail
 * otherwise. `is_huge`: so that huge pages fit, if that can be had beside `near_to`.
 * JITC_OK, or a status with its detail set and *map without a mapping.
 */
int arena_map_init(struct arena_map *map, int fd, int fd_direct, size_t bytes, const void *near_to,
                   bool near_required, bool is_huge);
/* In a child (`inherited`) the writable view is not there, and what is in its place is not ours. */
void arena_map_deinit(struct arena_map *map, bool inherited);

/*
 * Copies out what the arena holds at [offset, offset + bytes), also where nothing is any more:
 * then it returns false, where reading the mapping would be SIGBUS.
 */
bool arena_map_read(const struct arena_map *map, uint64_t offset, void *to, size_t bytes);

/* The offset in the arena of a pointer into either view; false if it is into neither. */
bool arena_map_offset(const struct arena_map *map, const void *pointer, uint64_t *offset);

/* Makes every arena of this process impossible to unmap, move or map over. 0 or -errno (-ENOSYS:
 * before 6.10). */
int arena_map_seal_all(void);

#endif
